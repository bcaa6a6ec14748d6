import type { Backend, MapRequest, Stat } from '../../src/kernel/backend.ts';
import type { Mapping } from '../../src/kernel/memory.ts';

/** A back end that answers what it is told and writes down what it was asked: for the rules of KernelCore alone. */
export class FakeBackend implements Backend {
  readonly kind = 'native';
  readonly release = '0.0-fake';
  readonly features = { async: true, kick: true, guard: true, exactAccess: true, maxView: 2 ** 30, simulated: false };
  readonly log: string[] = [];
  /** Answers for ioctl, by request; default 0. */
  readonly answers = new Map<number, (arg: number | bigint | Uint8Array) => number>();
  readonly runs: { fd: number; done: (result: number, error?: unknown) => void }[] = [];
  readonly waits: { fd: number; done: (revents: number) => void; cancelled: boolean }[] = [];
  next = 10;
  #address = 0x7000_0000_0000n;

  open = (path: string): number => (path.startsWith('/dev/') ? this.#new(`open ${path}`) : -2);
  close = (fd: number): number => this.#say(`close ${fd}`);
  dup = (fd: number): number => this.#new(`dup ${fd}`);
  fcntl = (fd: number, command: number): number =>
    command === 0 || command === 1030 ? this.#new(`dupfd ${fd}`) : this.#say(`fcntl ${fd} ${command}`);
  ioctl = (fd: number, request: number, arg: number | bigint | Uint8Array): number => {
    this.log.push(`ioctl ${fd} 0x${request.toString(16)}`);
    return this.answers.get(request)?.(arg) ?? 0;
  };
  read = (fd: number): number => this.#say(`read ${fd}`);
  write = (fd: number): number => this.#say(`write ${fd}`);
  pread = (fd: number): number => this.#say(`pread ${fd}`);
  pwrite = (fd: number): number => this.#say(`pwrite ${fd}`);
  eventfd = (): number => this.#new('eventfd');
  memfdCreate = (): number => this.#new('memfd');
  ftruncate = (fd: number, length: bigint): number => this.#say(`ftruncate ${fd} ${length}`);
  fallocate = (fd: number, mode: number, offset: bigint, length: bigint): number =>
    this.#say(`fallocate ${fd} ${mode} ${offset} ${length}`);
  fstat = (fd: number): Stat | number => (fd === 99 ? ({} as Stat) : -9);
  poll = (fds: Int32Array): number => {
    for (let i = 0; i < fds.length; i += 3) fds[i + 2] = fds[i + 1]!;
    return fds.length / 3;
  };
  readlink = (): string => 'anon_inode:kvm-vm';
  readdir = (path: string): string[] | number => (path === '/sys' ? ['kernel', 'bus'] : -20);
  run = (fd: number, budget: number): number => this.#say(`run ${fd} ${budget}`);
  runAsync = (fd: number, _budget: number, done: (result: number, error?: unknown) => void): number => {
    this.runs.push({ fd, done });
    return this.#say(`runAsync ${fd}`);
  };
  kick = (fd: number): number => this.#say(`kick ${fd}`);
  kicker = (): undefined => undefined;
  forget = (fd: number): void => {
    this.log.push(`forget ${fd}`);
  };
  own = (fd: number, on: boolean): void => {
    this.log.push(`${on ? 'own' : 'disown'} ${fd}`);
  };
  wait = (fd: number, _events: number, _ref: boolean, done: (revents: number) => void): { cancel(): void } => {
    const entry = { fd, done, cancelled: false };
    this.waits.push(entry);
    return {
      cancel: () => {
        entry.cancelled = true;
      },
    };
  };
  dispose = (): void => {
    this.log.push('dispose');
  };

  mmap = ({ length, view }: MapRequest): Mapping => {
    // Larger than that: what lies beyond is never touched here.
    const bytes = new Uint8Array(new SharedArrayBuffer(Math.min(length, 2 ** 20)));
    const address = this.#address;
    this.#address += BigInt(Math.ceil(length / 4096) * 4096) + 0x1_0000n;
    const name = address.toString(16);
    this.log.push(`mmap ${name}`);
    const view8 = new DataView(bytes.buffer);
    return {
      address,
      length,
      bytes: view ? bytes : undefined,
      load: (offset, width) =>
        offset >= 4096
          ? -14
          : width === 8
            ? view8.getBigUint64(offset, true)
            : width === 4
              ? view8.getUint32(offset, true)
              : view8.getUint8(offset),
      store: (offset, _width, value) => {
        view8.setBigUint64(offset, BigInt(value), true);
        return 0;
      },
      copyOut: (offset, into) => {
        into.set(bytes.subarray(offset, offset + into.length));
        return 0;
      },
      copyIn: (offset, from) => {
        bytes.set(from, offset);
        return 0;
      },
      protect: (offset, length, prot) => this.#say(`mprotect ${offset} ${length} ${prot}`),
      advise: (offset, length, advice) => this.#say(`madvise ${offset} ${length} ${advice}`),
      unmap: () => {
        this.log.push(`munmap ${name}`);
      },
    };
  };

  #say(what: string): number {
    this.log.push(what);
    return 0;
  }

  #new(what: string): number {
    this.log.push(`${what} = ${this.next}`);
    return this.next++;
  }
}
