import {
  KVM_CAP_PMU_EVENT_MASKED_EVENTS,
  KVM_PMU_EVENT_DENY,
  KVM_PMU_EVENT_FLAG_MASKED_EVENTS,
  KVM_PMU_EVENT_FLAGS_VALID_MASK,
  KVM_PMU_MASKED_ENTRY_EVENT_SELECT,
  KVM_PMU_MASKED_ENTRY_EXCLUDE,
  KVM_PMU_MASKED_ENTRY_UMASK_MASK,
  KVM_PMU_MASKED_ENTRY_UMASK_MATCH,
  kvm_pmu_event_filter,
} from '../../uapi/kvm.ts';
import { E2BIG, EFAULT, EINVAL } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { capability } from './ioctl-table.ts';
import type { Vm } from './vm.ts';

const HEADER: number = kvm_pmu_event_filter.size;
const AT = { action: 0, nevents: 4, flags: 12 };
const MAX_EVENTS = 300;
const UMASKS: bigint = KVM_PMU_MASKED_ENTRY_UMASK_MASK | KVM_PMU_MASKED_ENTRY_UMASK_MATCH | KVM_PMU_MASKED_ENTRY_EXCLUDE;

/**
 * KVM_SET_PMU_EVENT_FILTER. Only masked events are looked at, padding never. No simulated guest has a PMU to be filtered: what is accepted has
 * nothing to act on.
 */
export function setPmuEventFilter(vm: Vm, p: Process, arg: bigint): number {
  const header = p.mm.copyFrom(arg, HEADER);
  if (header === null) return -EFAULT;
  const view = new DataView(header.buffer);
  const flags = view.getUint32(AT.flags, true);
  const nevents = view.getUint32(AT.nevents, true);
  if (view.getUint32(AT.action, true) > KVM_PMU_EVENT_DENY) return -EINVAL;
  const masked = capability(vm.machine, KVM_CAP_PMU_EVENT_MASKED_EVENTS) !== 0;
  if (flags & ~(masked ? KVM_PMU_EVENT_FLAGS_VALID_MASK : 0)) return -EINVAL;
  if (nevents > MAX_EVENTS) return -E2BIG;
  const events = p.mm.copyFrom(arg + BigInt(HEADER), nevents * 8);
  if (events === null) return -EFAULT;
  if (!(flags & KVM_PMU_EVENT_FLAG_MASKED_EVENTS)) return 0;
  // AMD's event numbers have four bits more.
  const select = KVM_PMU_MASKED_ENTRY_EVENT_SELECT & (vm.machine.backend === 'svm' ? ~0n : 0xffn);
  const words = new BigUint64Array(events.buffer);
  return words.every((event) => (event & ~(select | UMASKS)) === 0n) ? 0 : -EINVAL;
}
