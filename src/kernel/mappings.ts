import {
  EBADF,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HWPOISON,
  MADV_SOFT_OFFLINE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_NORESERVE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from '../uapi/sys.ts';
import * as check from './arguments.ts';
import type { Backend, KernelFeatures } from './backend.ts';
import { KernelError, rangeError, typeError } from './errors.ts';
import type { MemoryRange, MmapOptions } from './kernel.ts';
import { LiveMemory } from './live-memory.ts';
import { MappedMemory } from './mapped-memory.ts';
import type { Memory, Ram } from './memory.ts';

const PROT_RW = PROT_READ | PROT_WRITE;

/** A later touch would end the process. */
const deadlyAdvice: ReadonlySet<number> = new Set([MADV_HWPOISON, MADV_SOFT_OFFLINE, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE]);

/** mmap(2) and its kin: what a program has mapped through one kernel, and the rules by which nothing else of the process is touched. */
export class Mappings {
  readonly #backend: Backend;
  readonly #features: KernelFeatures;
  readonly #live: LiveMemory = new LiveMemory();

  constructor(backend: Backend) {
    this.#backend = backend;
    this.#features = backend.features;
  }

  guestRam(length: number | bigint): Ram {
    const bytes = check.pageMultiple(check.length(length, 'length'), 'length');
    const { maxView } = this.#features;
    if (bytes > maxView) {
      throw rangeError(
        `guestRam: length must be at most features.maxView (${maxView}), not ${bytes}; mmap({ length }) gives more, without bytes`,
      );
    }
    const flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    return this.#map('mmap (guestRam)', { length: bytes, prot: PROT_RW, flags, fd: -1, offset: 0n, view: true }) as Ram;
  }

  mmap({ length, prot = PROT_RW, flags = MAP_SHARED, fd = -1, offset = 0, view = true }: MmapOptions): Memory {
    check.int32(prot, 'prot');
    check.int32(flags, 'flags');
    if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) !== 0)
      throw rangeError('mmap: flags must not have MAP_FIXED: kvio chooses the address');
    return this.#map('mmap', {
      length: check.length(length, 'length'),
      prot,
      flags: fd === -1 ? flags | MAP_ANONYMOUS : flags,
      fd,
      offset: check.word(offset, 'offset'),
      view: view && (prot & PROT_RW) === PROT_RW,
    });
  }

  munmap(memory: Memory): void {
    this.#own(memory).close();
  }

  mprotect(memory: Memory, prot: number, range?: MemoryRange): void {
    const { mapping } = this.#own(memory);
    check.int32(prot, 'prot');
    if (mapping.bytes !== undefined && (prot & PROT_RW) !== PROT_RW) {
      throw rangeError(
        'mprotect: Memory with bytes stays readable and writable; map it with { view: false } for other protections',
      );
    }
    const [offset, length] = this.#part(memory, range);
    const result = mapping.protect(offset, length, prot);
    if (result < 0) throw new KernelError(result, 'mprotect');
  }

  madvise(memory: Memory, advice: number, range?: MemoryRange): void {
    const { mapping } = this.#own(memory);
    check.int32(advice, 'advice');
    if (deadlyAdvice.has(advice)) throw rangeError(`madvise: advice ${advice} would let a later touch end the process`);
    const [offset, length] = this.#part(memory, range);
    const result = mapping.advise(offset, length, advice);
    if (result < 0) throw new KernelError(result, 'madvise');
  }

  /** The one that holds all of [address, address + length). */
  find(address: bigint, length: bigint): MappedMemory | undefined {
    return this.#live.find(address, length);
  }

  /** Of one that may be given to the kernel: ours, and open. */
  addressOf(memory: Memory): bigint {
    if (memory.closed) throw new KernelError(EBADF, 'Memory', { note: 'this Memory is closed' });
    return this.#own(memory).address;
  }

  closeAll(): void {
    for (const memory of this.#live.all()) memory.close();
  }

  #map(call: string, request: Parameters<Backend['mmap']>[0]): Memory {
    const mapping = this.#backend.mmap(request);
    if (typeof mapping === 'number') throw new KernelError(mapping, call, request.fd < 0 ? {} : { fd: request.fd });
    return this.#live.add(new MappedMemory(mapping, (memory) => this.#live.remove(memory)));
  }

  #own(memory: Memory): MappedMemory {
    if (!(memory instanceof MappedMemory))
      throw typeError(`memory must be a Memory of this kernel, not ${check.describe(memory)}`);
    if (!memory.closed && !this.#live.has(memory))
      throw rangeError('memory belongs to another kernel, where its address means something else');
    return memory;
  }

  #part(memory: Memory, range: MemoryRange | undefined): [offset: number, length: number] {
    this.addressOf(memory);
    const offset =
      range === undefined ? 0 : check.pageMultiple(check.integer(range.offset, 'range.offset', 0, memory.length), 'range.offset');
    const length = range === undefined ? memory.length : check.integer(range.length, 'range.length', 0, memory.length);
    if (offset + length > memory.length)
      throw rangeError(`range passes the end of the Memory (${offset} + ${length} > ${memory.length})`);
    return [offset, length];
  }
}
