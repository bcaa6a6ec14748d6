import { KVM_CAP_TSC_CONTROL } from '../../uapi/kvm.ts';
import { EINVAL } from '../../uapi/sys.ts';
import type { Machine } from '../machine.ts';
import { capability } from './ioctl-table.ts';

/** tsc_tolerance_ppm: a rate this near to the host's needs no scaling. */
const TOLERANCE_PPM = 250;
/** The highest rate a host that can scale gives. */
const MAX_GUEST_TSC_KHZ = 0x7fff_ffff;

function scales(machine: Machine): boolean {
  return capability(machine, KVM_CAP_TSC_CONTROL) !== 0;
}

/** The rate KVM_SET_TSC_KHZ asks for: a u32, 0 for the host's; −EINVAL above what scaling reaches. */
export function askedKhz(machine: Machine, arg: bigint): number {
  const khz = Number(arg & 0xffff_ffffn);
  if (scales(machine) && khz >= MAX_GUEST_TSC_KHZ) return -EINVAL;
  return khz === 0 ? machine.kvm.tscKhz : khz;
}

/** Whether a vCPU can be given this rate: without scaling the host's or a faster one (KVM then catches up), but no slower one. */
export function rateWorks(machine: Machine, khz: number): boolean {
  return scales(machine) || khz >= Math.floor((machine.kvm.tscKhz * (1_000_000 - TOLERANCE_PPM)) / 1_000_000);
}
