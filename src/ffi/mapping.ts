import { loadWidth } from '../kernel/by-width.ts';
import type { Mapping, Width } from '../kernel/memory.ts';
import type { Libc } from './libc.ts';

const EFAULT = 14;

/**
 * A mapping without a view. Every touch goes through process_vm_readv/writev on our own process: where a load would raise
 * SIGSEGV or SIGBUS (protection, past the end of the file), these answer EFAULT, and no signal handler is needed. Two limits:
 * - The kernel copies as it likes, so the width of one access is not promised (`features.exactAccess` is false).
 * - It reads pages that are memory. Device registers mapped by VFIO (VM_PFNMAP) are EFAULT here: use pread/pwrite on the device
 *   descriptor, which VFIO offers for every region that can be mapped.
 */
export class GuardedMapping implements Mapping {
  readonly address: bigint;
  readonly length: number;
  readonly bytes: undefined = undefined;
  readonly #libc: Libc;
  readonly #span: bigint;
  readonly #word: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(8));
  readonly #wordBytes: Uint8Array = new Uint8Array(this.#word.buffer);

  constructor(libc: Libc, address: bigint, length: number, span: bigint) {
    this.#libc = libc;
    this.address = address;
    this.length = length;
    this.#span = span;
  }

  load(offset: number, width: Width): number | bigint {
    const result = this.copyOut(offset, this.#wordBytes.subarray(0, width));
    if (result < 0) return result;
    return loadWidth(this.#word, 0, width);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    this.#word.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    return this.copyIn(offset, this.#wordBytes.subarray(0, width));
  }

  copyOut(offset: number, into: Uint8Array): number {
    return this.#copy('process_vm_readv', offset, into);
  }

  copyIn(offset: number, from: Uint8Array): number {
    return this.#copy('process_vm_writev', offset, from);
  }

  protect(offset: number, length: number, prot: number): number {
    return this.#libc.call('mprotect', this.address + BigInt(offset), BigInt(length), prot);
  }

  advise(offset: number, length: number, advice: number): number {
    return this.#libc.call('madvise', this.address + BigInt(offset), BigInt(length), advice);
  }

  unmap(): void {
    this.#libc.call('munmap', this.address, this.#span);
  }

  /** The kernel stops short of a page that faults, and also when it has moved 2 GiB: only no progress at all is a fault. */
  #copy(call: 'process_vm_readv' | 'process_vm_writev', offset: number, bytes: Uint8Array): number {
    const local = this.#libc.addressOf(bytes);
    const remote = this.address + BigInt(offset);
    for (let done = 0; done < bytes.byteLength; ) {
      const length = BigInt(bytes.byteLength - done);
      const [ours, theirs] = [iovec(local + BigInt(done), length), iovec(remote + BigInt(done), length)];
      const copied = this.#libc.call(call, process.pid, ours, 1n, theirs, 1n, 0n);
      if (copied <= 0) return copied === 0 ? -EFAULT : copied;
      done += copied;
    }
    return 0;
  }
}

/** One `struct iovec`. */
function iovec(base: bigint, length: bigint): Uint8Array {
  const words = new BigUint64Array([base, length]);
  return new Uint8Array(words.buffer);
}
