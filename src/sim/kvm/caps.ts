import { KVM_CAP_NR_VCPUS } from '../../uapi/kvm.ts';
import { guestMemfdV13 } from '../../uapi/tee-io.ts';
import type { Machine } from '../machine.ts';
import { absentCapabilities } from './absent.ts';

/** RFC, `capNumbering: 'v13'`: what guest_memfd brought is numbered one less than in mainline. */
const V13_FIRST = BigInt(guestMemfdV13.KVM_CAP_USER_MEMORY2);
const V13_LAST = BigInt(guestMemfdV13.KVM_CAP_VM_TYPES);

/** The capability userspace means by a number: mainline's number of it; undefined: there is none. */
export function askedCapability({ teeIo }: Machine, cap: bigint): bigint | undefined {
  if (teeIo?.capNumbering !== 'v13' || cap < V13_FIRST || cap > V13_LAST + 1n) return cap;
  return cap > V13_LAST ? undefined : cap + 1n;
}

/** KVM_CHECK_EXTENSION on a VM of this type. */
export function vmCapability(machine: Machine, cap: number, vmType: number): number {
  return machine.kvm.vmTypeCapabilities[vmType]?.[cap] ?? checkExtension(machine, BigInt(cap), 'vm');
}

/** KVM_CHECK_EXTENSION: never fails, 0 for what there is not. The capability number is compared as a whole unsigned long. */
export function checkExtension(machine: Machine, cap: bigint, on: 'system' | 'vm'): number {
  if (cap === BigInt(KVM_CAP_NR_VCPUS)) return machine.cpus;
  const value = cap > 0xffffn ? undefined : machine.kvm.capabilities[Number(cap)];
  if (value === undefined || absentCapabilities.has(Number(cap))) return 0;
  return typeof value === 'number' ? value : value[on === 'system' ? 0 : 1];
}
