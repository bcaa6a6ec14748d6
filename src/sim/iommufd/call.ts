import { EFAULT } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import type { IommufdContext } from './context.ts';

/** `struct iommufd_ucmd`: one request, its struct copied in and filled up with zeros. */
export class Call {
  readonly ctx: IommufdContext;
  readonly p: Process;
  /** The whole struct, as this kernel has it. */
  readonly bytes: Uint8Array;
  readonly #arg: bigint;
  /** What the user said in the struct's first word. */
  readonly size: number;

  constructor(ctx: IommufdContext, p: Process, arg: bigint, bytes: Uint8Array, size: number) {
    this.ctx = ctx;
    this.p = p;
    this.bytes = bytes;
    this.#arg = arg;
    this.size = size;
  }

  /** iommufd_ucmd_respond: as much of the struct as the user has room for. */
  respond(): number {
    return this.p.mm.copyTo(this.#arg, this.bytes.subarray(0, Math.min(this.size, this.bytes.length))) ? 0 : -EFAULT;
  }

  /** Writes back a part of the struct only. */
  respondPart(from: number, length: number): number {
    return this.p.mm.copyTo(this.#arg + BigInt(from), this.bytes.subarray(from, from + length)) ? 0 : -EFAULT;
  }
}

/** A request of /dev/iommu: ≥ 0 or −errno. `cmd` is a live view of the struct: what is written to it goes back with `respond`. */
export type Handler<T> = (call: Call, cmd: T) => number;
