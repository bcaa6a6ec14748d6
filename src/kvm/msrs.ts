import { KvioError, typeError } from '../kernel/errors.ts';
import type { Handle } from '../kernel/handle.ts';
import { hex } from '../kernel/inspect.ts';
import { KVM_GET_MSRS, KVM_SET_MSRS, kvm_msrs } from '../uapi/kvm.ts';
import type { Input } from '../uapi/struct.ts';
import { counted } from './counted.ts';

/** `struct kvm_msrs` as it is returned: `entries` of `{ index, reserved, data }`. */
export type Msrs = kvm_msrs;

/** `struct kvm_msrs` as it is taken: `nmsrs` may be left out, the length of `entries` says it. */
export type MsrsInput = Omit<Input<kvm_msrs>, 'nmsrs'> & { readonly nmsrs?: number };

/**
 * KVM_GET_MSRS and KVM_SET_MSRS work through the list and stop at the first MSR they cannot read or write; the call itself
 * succeeds and returns how many were done. That is an error here, with the progress in it: the first `done` entries are read
 * (written); `index` is the MSR that stopped it.
 */
export class MsrsIncomplete extends KvioError {
  /** Entries that were read or written. */
  readonly done: number;
  readonly total: number;
  /** The MSR that could not be read or written. */
  readonly index: number;
  /** What was read (KVM_GET_MSRS) or applied (KVM_SET_MSRS): `done` entries. */
  readonly msrs: Msrs;

  constructor(request: 'KVM_GET_MSRS' | 'KVM_SET_MSRS', done: number, msrs: Msrs) {
    const { index, data } = msrs.entries[done]!;
    const what = request === 'KVM_GET_MSRS' ? 'cannot be read' : `does not take ${hex(data)}`;
    super(
      'ERR_KVIO_MSRS_INCOMPLETE',
      `${request} stopped after ${done} of ${msrs.entries.length} entries: MSR ${hex(index)} ${what}`,
    );
    this.name = 'MsrsIncomplete';
    this.done = done;
    this.total = msrs.entries.length;
    this.index = index;
    this.msrs = { ...msrs, nmsrs: done, entries: msrs.entries.slice(0, done) };
  }
}

/** KVM_GET_MSRS on the system or a vCPU descriptor. */
export function readMsrs(handle: Handle, indices: readonly number[]): Msrs {
  if (!Array.isArray(indices)) throw typeError('indices must be an array of MSR numbers');
  const bytes = kvm_msrs.encode({ nmsrs: indices.length, entries: indices.map((index) => ({ index, data: 0n })) });
  const done = handle.ioctl(KVM_GET_MSRS, bytes);
  const msrs = kvm_msrs.decode(bytes);
  if (done < indices.length) throw new MsrsIncomplete('KVM_GET_MSRS', done, msrs);
  return msrs;
}

/** KVM_SET_MSRS on a vCPU descriptor. */
export function writeMsrs(handle: Handle, msrs: MsrsInput): void {
  const bytes = kvm_msrs.encode(counted(msrs, 'nmsrs', 'kvm_msrs'));
  const done = handle.ioctl(KVM_SET_MSRS, bytes);
  if (done < msrs.entries.length) throw new MsrsIncomplete('KVM_SET_MSRS', done, kvm_msrs.decode(bytes));
}
