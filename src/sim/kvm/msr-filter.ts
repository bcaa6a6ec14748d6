import {
  KVM_MSR_FILTER_DEFAULT_DENY,
  KVM_MSR_FILTER_MAX_BITMAP_SIZE,
  KVM_MSR_FILTER_MAX_RANGES,
  KVM_MSR_FILTER_RANGE_VALID_MASK,
  KVM_MSR_FILTER_READ,
  KVM_MSR_FILTER_VALID_MASK,
  KVM_MSR_FILTER_WRITE,
  kvm_msr_filter,
} from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import type { Vm } from './vm.ts';

/** MSRs of an x2APIC, which no filter stops. */
const X2APIC_FIRST = 0x800;
const X2APIC_LAST = 0x8ff;

interface Range {
  readonly flags: number;
  readonly base: number;
  readonly nmsrs: number;
  /** One bit an MSR: 1 is allowed. */
  readonly bitmap: Uint8Array;
}

/** `struct kvm_x86_msr_filter`. Of the ranges that speak of this kind of access the first that has the MSR decides. */
export interface MsrFilter {
  readonly defaultAllow: boolean;
  readonly ranges: readonly Range[];
}

export const ALLOW_ALL: MsrFilter = { defaultAllow: true, ranges: [] };

/** kvm_msr_allowed: for what the guest does, never for userspace. */
export function msrAllowed({ defaultAllow, ranges }: MsrFilter, index: number, access: 'read' | 'write'): boolean {
  if (index >= X2APIC_FIRST && index <= X2APIC_LAST) return true;
  const flag = access === 'read' ? KVM_MSR_FILTER_READ : KVM_MSR_FILTER_WRITE;
  for (const { flags, base, nmsrs, bitmap } of ranges) {
    const at = index - base;
    if (at >= 0 && at < nmsrs && flags & flag) return ((bitmap[at >> 3]! >>> (at & 7)) & 1) === 1;
  }
  return defaultAllow;
}

/** KVM_X86_SET_MSR_FILTER. Ranges without MSRs are skipped unseen; one that is refused leaves the old filter. */
export function setMsrFilter(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_msr_filter.size);
  if (bytes === null) return -EFAULT;
  const { flags, ranges } = kvm_msr_filter.decode(bytes);
  if (flags & ~KVM_MSR_FILTER_VALID_MASK) return -EINVAL;
  const defaultAllow = (flags & KVM_MSR_FILTER_DEFAULT_DENY) === 0;
  const used = ranges.slice(0, KVM_MSR_FILTER_MAX_RANGES).filter(({ nmsrs }) => nmsrs !== 0);
  // Nothing at all would be allowed.
  if (used.length === 0 && !defaultAllow) return -EINVAL;
  const taken: Range[] = [];
  for (const range of used) {
    if (range.flags === 0 || range.flags & ~KVM_MSR_FILTER_RANGE_VALID_MASK) return -EINVAL;
    // BITS_TO_LONGS: the bitmap is read in whole longs.
    const size = Math.ceil(range.nmsrs / 64) * 8;
    if (size > KVM_MSR_FILTER_MAX_BITMAP_SIZE) return -EINVAL;
    const bitmap = p.mm.copyFrom(range.bitmap, size);
    if (bitmap === null) return -EFAULT;
    taken.push({ flags: range.flags, base: range.base, nmsrs: range.nmsrs, bitmap });
  }
  vm.caps.msrFilter = { defaultAllow, ranges: taken };
  return 0;
}
