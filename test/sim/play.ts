import type { Backend } from '../../src/kernel/backend.ts';
import { errnoName } from '../../src/kernel/errno.ts';
import type { Mapping, Width } from '../../src/kernel/memory.ts';
import type { Script } from './script.ts';

/** What a step gave: 'EINVAL', a number, bytes in hex, what fstat says … */
export type Observation = unknown;

/** Calls with an address that is not a whole mapping: only the simulator's address space takes them. */
export interface RawMemory {
  munmap(address: bigint, length: number): number;
  mprotect(address: bigint, length: number, prot: number): number;
  madvise(address: bigint, length: number, advice: number): number;
}

const named = (result: number): Observation => (result < 0 ? errnoName(result) : result);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Plays a script on a back end. Views are not asked for, so that every access goes through the accessors. */
export function play(script: Script, backend: Backend, raw: RawMemory): Observation[] {
  const names = new Map<string, number | Mapping>();
  const value = (given: unknown): never => {
    if (typeof given !== 'string') return given as never;
    if (given.startsWith('$')) return names.get(given.slice(1)) as never;
    if (given.startsWith('#')) return BigInt(given.slice(1)) as never;
    return given.replace(/\$(\w+)/, (_, name: string) => String(names.get(name))) as never;
  };
  const wide = (given: number | bigint): bigint => BigInt.asIntN(64, BigInt(given));
  const memory = (map: Mapping | number, act: (map: Mapping) => Observation): Observation =>
    typeof map === 'number' ? 'unmapped' : act(map);
  const got = (result: number, bytes: Uint8Array): Observation =>
    result < 0 ? errnoName(result) : hex(bytes.subarray(0, result));
  const from = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

  const calls: Record<string, (...args: never[]) => Observation> = {
    open: (path: string, flags: number) => named(backend.open(path, flags, 0)),
    close: (fd: number) => named(backend.close(fd)),
    dup: (fd: number) => named(backend.dup(fd)),
    fcntl: (fd: number, command: number, arg: number) => named(backend.fcntl(fd, command, arg)),
    eventfd: (initval: number, flags: number) => named(backend.eventfd(initval, flags)),
    memfd: (name: string, flags: number) => named(backend.memfdCreate(name, flags)),
    read: (fd: number, length: number) => {
      const bytes = new Uint8Array(length);
      return got(backend.read(fd, bytes), bytes);
    },
    pread: (fd: number, length: number, offset: number | bigint) => {
      const bytes = new Uint8Array(length);
      return got(backend.pread(fd, bytes, wide(offset)), bytes);
    },
    write: (fd: number, text: string) => named(backend.write(fd, from(text))),
    pwrite: (fd: number, text: string, offset: number | bigint) => named(backend.pwrite(fd, from(text), wide(offset))),
    pwriteZeros: (fd: number, length: number, offset: number) => named(backend.pwrite(fd, new Uint8Array(length), wide(offset))),
    ftruncate: (fd: number, length: number | bigint) => named(backend.ftruncate(fd, wide(length))),
    fallocate: (fd: number, mode: number, offset: number | bigint, length: number | bigint) =>
      named(backend.fallocate(fd, mode, wide(offset), wide(length))),
    ioctl: (fd: number, request: number, arg: number) => named(backend.ioctl(fd, request, arg)),
    fstat: (fd: number) => {
      const stat = backend.fstat(fd);
      if (typeof stat === 'number') return errnoName(stat);
      const { mode, nlink, rdev, size, blksize, blocks } = stat;
      return { mode: mode.toString(8), nlink, rdev: Number(rdev), size: String(size), blksize, blocks: Number(blocks) };
    },
    poll: (fds: readonly [fd: string | number, events: number][]) => {
      const words = new Int32Array(fds.flatMap(([fd, events]) => [value(fd) as number, events, 0]));
      const ready = named(backend.poll(words, 0));
      return [ready, ...fds.map((_, i) => words[i * 3 + 2])];
    },
    readlink: (path: string) => {
      const target = backend.readlink(path);
      return typeof target === 'number' ? errnoName(target) : target;
    },
    munmap: (map: Mapping) =>
      memory(map, () => {
        map.unmap();
        return 0;
      }),
    munmapPart: (map: Mapping, offset: number, length: number | bigint) =>
      memory(map, () => named(raw.munmap(map.address + BigInt(offset), Number(length)))),
    mprotect: (map: Mapping, offset: number, length: number, prot: number) =>
      memory(map, () => named(raw.mprotect(map.address + BigInt(offset), unsigned(length), prot))),
    madvise: (map: Mapping, offset: number, length: number, advice: number) =>
      memory(map, () => named(raw.madvise(map.address + BigInt(offset), unsigned(length), advice))),
    load: (map: Mapping, offset: number, width: Width) =>
      memory(map, () => {
        const loaded = map.load(offset, width);
        return typeof loaded === 'number' && loaded < 0 ? errnoName(loaded) : `0x${loaded.toString(16)}`;
      }),
    store: (map: Mapping, offset: number, width: Width, stored: number | bigint) =>
      memory(map, () => named(map.store(offset, width, stored))),
    /** nr, free, resv and surplus of the pool of 2 MiB pages. */
    pool: () =>
      ['nr', 'free', 'resv', 'surplus'].map((name) => {
        const fd = backend.open(`/sys/kernel/mm/hugepages/hugepages-2048kB/${name}_hugepages`, 0, 0);
        const bytes = new Uint8Array(32);
        const length = backend.read(fd, bytes);
        backend.close(fd);
        return Number(Buffer.from(bytes.subarray(0, length)).toString());
      }),
    fill: (fd: number) => {
      for (let count = 0; ; count++) {
        const result = backend.dup(fd);
        if (result < 0) return [count, errnoName(result)];
      }
    },
  };

  return script.steps.map(([name, call, ...args]) => {
    if (call === 'mmap') {
      const [length, prot, flags, fd, offset] = args.map(value) as never as [number, number, number, number, number];
      const map = backend.mmap({
        length: Number(length),
        prot,
        flags,
        fd,
        offset: BigInt.asUintN(64, BigInt(offset)),
        view: false,
      });
      if (name !== '') names.set(name, map);
      else if (typeof map !== 'number') map.unmap();
      return typeof map === 'number' ? errnoName(map) : 'mapped';
    }
    const result = calls[call]!(...args.map(value));
    // A failed call leaves −1, as it does in C.
    if (name !== '') names.set(name, typeof result === 'number' ? result : -1);
    return result;
  });
}

function unsigned(length: number): number {
  return Number(BigInt.asUintN(64, BigInt(length)));
}
