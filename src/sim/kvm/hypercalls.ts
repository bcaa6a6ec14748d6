/** Hypercalls of the guest: those KVM answers itself, and the one that can go to userspace. */
import {
  KVM_ENOSYS,
  KVM_EOPNOTSUPP,
  KVM_EPERM,
  KVM_FEATURE_PV_SCHED_YIELD,
  KVM_FEATURE_PV_SEND_IPI,
  KVM_FEATURE_PV_UNHALT,
  KVM_HC_CLOCK_PAIRING,
  KVM_HC_KICK_CPU,
  KVM_HC_MAP_GPA_RANGE,
  KVM_HC_SCHED_YIELD,
  KVM_HC_SEND_IPI,
  KVM_HC_VAPIC_POLL_IRQ,
  kvm_run,
} from '../../uapi/kvm.ts';
import { EINVAL } from '../../uapi/sys.ts';
import type { Hypercall } from '../cpu/bus.ts';
import { deliverIrq } from './apic-map.ts';
import { notModelled } from './ioctl-table.ts';
import type { Vcpu } from './vcpu.ts';

const RET: number = kvm_run.offsetOf('hypercall.ret');
const PAGE_MASK = 0xfffn;
/** Of an ICR: the destination mode and the shorthand, which KVM_HC_SEND_IPI has no use for. */
const APIC_DEST_AND_SHORTHAND = 0xc0800n;
const APIC_VECTOR_MASK = 0xff;
const APIC_MODE_MASK = 0x700;
const APIC_DM_REMRD = 0x300;

/** A paravirtual feature: with KVM_CAP_ENFORCE_PV_FEATURE_CPUID only what the guest's CPUID has. */
const offers = (vcpu: Vcpu, feature: number): boolean => !vcpu.pvCpuidEnforced || vcpu.cpuid.has(0x4000_0001, 0, 'eax', feature);

type Handler = (vcpu: Vcpu, call: Hypercall) => number | 'exit';

const arg = (call: Hypercall, n: number): bigint => call.args[n]!;

const kick: Handler = (vcpu, call) => {
  if (!offers(vcpu, KVM_FEATURE_PV_UNHALT)) return -KVM_ENOSYS;
  const destId = Number(arg(call, 1) & 0xffffffffn);
  const plain = { vector: 0, destMode: 'physical', level: false, levelTriggered: false, shorthand: 'none' } as const;
  deliverIrq(vcpu.vm, undefined, { ...plain, deliveryMode: APIC_DM_REMRD, destId });
  return 0;
};

/** Two words of destinations, bit n for APIC id min + n; the number of those that took it, or −EOPNOTSUPP without any LAPIC. */
const sendIpi: Handler = (vcpu, call) => {
  if (!offers(vcpu, KVM_FEATURE_PV_SEND_IPI)) return -KVM_ENOSYS;
  const icr = arg(call, 3);
  if (icr & APIC_DEST_AND_SHORTHAND) return -EINVAL;
  if (vcpu.lapic === undefined) return -KVM_EOPNOTSUPP;
  const vector = Number(icr) & APIC_VECTOR_MASK;
  const deliveryMode = Number(icr) & APIC_MODE_MASK;
  const width = call.longMode ? 64 : 32;
  const min = Number(arg(call, 2) & 0xffffffffn);
  let count = 0;
  for (const word of [0, 1]) {
    const bits = arg(call, word);
    for (let n = 0; n < width; n++) {
      if (!((bits >> BigInt(n)) & 1n)) continue;
      const target = { destId: min + word * width + n, destMode: 'physical', shorthand: 'none' } as const;
      count += Math.max(
        0,
        deliverIrq(vcpu.vm, undefined, { ...target, vector, deliveryMode, level: false, levelTriggered: false }),
      );
    }
  }
  return count;
};

/** The page attributes of a range: with KVM_CAP_EXIT_HYPERCALL userspace is asked to change them. */
const mapGpaRange: Handler = (vcpu, call) => {
  if (!(vcpu.vm.caps.hypercallExitEnabled & (1n << BigInt(KVM_HC_MAP_GPA_RANGE)))) return -KVM_ENOSYS;
  const [gpa, npages] = [arg(call, 0), arg(call, 1)];
  const gfn = gpa >> 12n;
  if (gpa & PAGE_MASK || npages === 0n || BigInt.asUintN(64, gfn + npages) <= gfn) return -EINVAL;
  return 'exit';
};

const handlers: Readonly<Record<number, Handler>> = {
  [KVM_HC_VAPIC_POLL_IRQ]: () => 0,
  [KVM_HC_KICK_CPU]: kick,
  [KVM_HC_CLOCK_PAIRING]: (_vcpu, call) => (arg(call, 1) === 0n ? notModelled('KVM_HC_CLOCK_PAIRING') : -KVM_EOPNOTSUPP),
  [KVM_HC_SEND_IPI]: sendIpi,
  [KVM_HC_SCHED_YIELD]: (vcpu) => (offers(vcpu, KVM_FEATURE_PV_SCHED_YIELD) ? 0 : -KVM_ENOSYS),
  [KVM_HC_MAP_GPA_RANGE]: mapGpaRange,
};

/** What RAX becomes; undefined: KVM_EXIT_HYPERCALL. The answer is left in kvm_run also where there is no exit. */
export function hypercall(vcpu: Vcpu, call: Hypercall): bigint | undefined {
  const answer = call.cpl > 0 ? -KVM_EPERM : (handlers[Number(call.nr)]?.(vcpu, call) ?? -KVM_ENOSYS);
  if (answer === 'exit') return undefined;
  vcpu.run.view.setBigInt64(RET, BigInt(answer), true);
  return BigInt(answer);
}
