import type { Hypercall } from '../cpu/bus.ts';
import { notModelled } from './ioctl-table.ts';
import type { Vcpu } from './vcpu.ts';

// Hypercall numbers and answers of linux/kvm_para.h, which is no part of what userspace programs ask KVM with.
const KVM_HC_VAPIC_POLL_IRQ = 1n;
const KVM_HC_MAP_GPA_RANGE = 12n;
const KVM_EPERM = 1n;
const KVM_EINVAL = 22n;
const KVM_ENOSYS = 1000n;

/** Those that reach other vCPUs or host clocks. */
const ELSEWHERE: ReadonlyMap<bigint, string> = new Map([
  [5n, 'KVM_HC_KICK_CPU'],
  [9n, 'KVM_HC_CLOCK_PAIRING'],
  [10n, 'KVM_HC_SEND_IPI'],
  [11n, 'KVM_HC_SCHED_YIELD'],
]);

/** kvm_emulate_hypercall: what RAX becomes; undefined where userspace answers (KVM_EXIT_HYPERCALL). */
export function hypercall(vcpu: Vcpu, { nr, args, cpl }: Hypercall): bigint | undefined {
  if (cpl !== 0) return -KVM_EPERM;
  if (nr === KVM_HC_VAPIC_POLL_IRQ) return 0n;
  const name = ELSEWHERE.get(nr);
  if (name !== undefined) notModelled(`the guest's ${name}`);
  if (nr !== KVM_HC_MAP_GPA_RANGE) return -KVM_ENOSYS;
  if (((vcpu.vm.caps.hypercallExitEnabled >> nr) & 1n) === 0n) return -KVM_ENOSYS;
  const [gpa = 0n, npages = 0n] = args;
  const gfn = gpa >> 12n;
  if (gpa & 0xfffn || BigInt.asUintN(64, gfn + npages) <= gfn) return -KVM_EINVAL;
  return undefined;
}
