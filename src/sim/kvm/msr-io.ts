import { kvm_msr_entry, kvm_msr_list, kvm_msrs } from '../../uapi/kvm.ts';
import { E2BIG, EFAULT } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';

/** MSRs one call may name, plus one. */
const MAX_IO_MSRS = 256;
const HEADER: number = kvm_msrs.offsetOf('entries');
const ENTRY: number = kvm_msr_entry.size;

/**
 * KVM_GET_MSRS and KVM_SET_MSRS: entries in order up to the first that fails; the number of those before it is the result. A GET
 * writes all entries back, the failing one with data 0.
 */
export function msrIo(
  p: Process,
  arg: bigint,
  one: { get(index: number): bigint | undefined } | { set(index: number, value: bigint): boolean },
): number {
  const nmsrs = p.mm.read32(arg);
  if (nmsrs === null || p.mm.copyFrom(arg, HEADER) === null) return -EFAULT;
  if (nmsrs >= MAX_IO_MSRS) return -E2BIG;
  const entries = p.mm.copyFrom(arg + BigInt(HEADER), nmsrs * ENTRY);
  if (entries === null) return -EFAULT;
  const view = new DataView(entries.buffer);
  let done = 0;
  for (; done < nmsrs; done++) {
    const at = done * ENTRY;
    const index = view.getUint32(at, true);
    if ('set' in one) {
      if (!one.set(index, view.getBigUint64(at + 8, true))) break;
    } else {
      const value = one.get(index);
      view.setBigUint64(at + 8, value ?? 0n, true);
      if (value === undefined) break;
    }
  }
  return 'get' in one && !p.mm.copyTo(arg + BigInt(HEADER), entries) ? -EFAULT : done;
}

/** KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST: the true count is always written back, indices only where they all fit. */
export function getIndexList(p: Process, arg: bigint, indices: readonly number[]): number {
  const room = p.mm.read32(arg);
  if (room === null || !p.mm.write32(arg, indices.length)) return -EFAULT;
  if (room < indices.length) return -E2BIG;
  const bytes = new Uint8Array(Uint32Array.from(indices).buffer);
  return p.mm.copyTo(arg + BigInt(kvm_msr_list.offsetOf('indices')), bytes) ? 0 : -EFAULT;
}
