import { EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { readGuest, writeGuest } from './guest-memory.ts';
import type { Vcpu } from './vcpu.ts';

/** Numbers of the paravirtual MSRs, as KVM stores them: the clock has two of each, and keeps the old one. */
const MSR = { systemTime: 0x12, asyncPfEn: 0x4b564d02, stealTime: 0x4b564d03, pvEoi: 0x4b564d04 };
/** KVM_MSR_ENABLED. */
const ENABLED = 1n;
const NANOSECONDS = 1_000_000_000n;
const PAGE = 4096n;

/** KVM_FEATURE_* bit of CPUID 0x40000001 EAX that each MSR needs under KVM_CAP_ENFORCE_PV_FEATURE_CPUID. */
const FEATURES: ReadonlyMap<number, number> = new Map([
  [0x11, 0],
  [0x12, 0],
  [0x4b564d00, 3],
  [0x4b564d01, 3],
  [0x4b564d02, 4],
  [0x4b564d03, 5],
  [0x4b564d04, 6],
  [0x4b564d05, 12],
  [0x4b564d06, 14],
  [0x4b564d07, 14],
]);

/** guest_pv_has, the other way round: there is no such MSR for this guest. */
export function pvDenied(vcpu: Vcpu, index: number): boolean {
  const bit = FEATURES.get(index);
  return bit !== undefined && vcpu.pvCpuidEnforced && !vcpu.cpuid.has(0x4000_0001, 0, 'eax', bit);
}

const is = (vcpu: Vcpu, index: number): bigint => vcpu.msrs.get(index) ?? 0n;

/** `struct pvclock_vcpu_time_info`. */
const CLOCK = { tsc: 8, time: 16, mul: 24, shift: 28, flags: 29, size: 32 };
const PVCLOCK_TSC_STABLE = 1;
const PVCLOCK_GUEST_STOPPED = 2;

/** Where the guest wants its clock page: nowhere, or not across two pages. */
function clockPage(vcpu: Vcpu): bigint | undefined {
  const value = is(vcpu, MSR.systemTime);
  const gpa = value & ~ENABLED;
  return value & ENABLED && (gpa % PAGE) + BigInt(CLOCK.size) <= PAGE ? gpa : undefined;
}

/** KVM_KVMCLOCK_CTRL: tells the guest through its clock page that it was stopped, when it is entered. */
export function kvmclockCtrl(vcpu: Vcpu): number {
  const active = has(vcpu.vm.machine, 'clockInOnePage') ? clockPage(vcpu) !== undefined : is(vcpu, MSR.systemTime) & ENABLED;
  if (!active) return -EINVAL;
  vcpu.pvRequests.guestStopped = vcpu.pvRequests.clock = true;
  return 0;
}

/** MSR_KVM_SYSTEM_TIME: any value; every vCPU's page is written anew. */
export function setSystemTime(value: bigint, { vm }: Vcpu): bigint {
  for (const vcpu of vm.vcpus.values()) vcpu.pvRequests.clock = true;
  return value;
}

/** kvm_get_time_scale: TSC ticks to nanoseconds, as a 32-bit fraction of `tsc << shift`. */
function timeScale(khz: number): { mul: number; shift: number } {
  const high = 0xffff_ffff_0000_0000n;
  let scaled = NANOSECONDS;
  let hz = BigInt(khz) * 1000n;
  let shift = 0;
  while (hz > scaled * 2n || hz & high) {
    hz >>= 1n;
    shift--;
  }
  while (hz <= scaled || scaled & high) {
    if (scaled & high || hz & 0x8000_0000n) scaled >>= 1n;
    else hz <<= 1n;
    shift++;
  }
  return { mul: Number((scaled << 32n) / hz), shift };
}

/** kvm_guest_time_update. The version is odd while it is written: it comes out even, two or three further. */
function updateClock(vcpu: Vcpu): void {
  const { vm, pvRequests } = vcpu;
  const gpa = clockPage(vcpu);
  const old = gpa === undefined ? null : readGuest(vm, gpa, CLOCK.size);
  if (gpa === undefined || old === null) return;
  const before = new DataView(old.buffer);
  const page = new Uint8Array(CLOCK.size);
  const view = new DataView(page.buffer);
  const { mul, shift } = timeScale(vcpu.tscKhz);
  let flags = before.getUint8(CLOCK.flags) & PVCLOCK_GUEST_STOPPED;
  if (pvRequests.guestStopped) flags |= PVCLOCK_GUEST_STOPPED;
  if (vm.clock.masterClock) flags |= PVCLOCK_TSC_STABLE;
  pvRequests.guestStopped = false;
  view.setUint32(0, ((before.getUint32(0, true) + 1) | 1) + 1, true);
  view.setBigUint64(CLOCK.tsc, vcpu.tsc(), true);
  view.setBigUint64(CLOCK.time, vm.clock.at(vcpu.nanoseconds()), true);
  view.setUint32(CLOCK.mul, mul, true);
  view.setInt8(CLOCK.shift, shift);
  view.setUint8(CLOCK.flags, flags);
  writeGuest(vm, gpa, page, vcpu);
}

/** `struct kvm_steal_time`: KVM writes its first 17 bytes. */
const STEAL = { version: 8, preempted: 16, size: 17 };
const STEAL_ADDRESS = ~0x3fn;

/** record_steal_time: no simulated vCPU waits for a processor, so that only the version goes on. */
function recordSteal(vcpu: Vcpu): void {
  const value = is(vcpu, MSR.stealTime);
  if (!(value & ENABLED)) return;
  const gpa = value & STEAL_ADDRESS;
  const bytes = readGuest(vcpu.vm, gpa, STEAL.size);
  if (bytes === null) return;
  const view = new DataView(bytes.buffer);
  const version = view.getUint32(STEAL.version, true);
  view.setUint32(STEAL.version, version + (version & 1) + 2, true);
  view.setUint8(STEAL.preempted, 0);
  writeGuest(vcpu.vm, gpa, bytes, vcpu);
}

/** What vcpu_enter_guest does for the guest's paravirtual pages before it enters. */
export function updateParavirt(vcpu: Vcpu): void {
  const { pvRequests, vm } = vcpu;
  if (pvRequests.masterClock) {
    pvRequests.masterClock = false;
    vm.clock.updateMasterClock();
  }
  if (pvRequests.clock) {
    pvRequests.clock = false;
    updateClock(vcpu);
  }
  if (pvRequests.steal) {
    pvRequests.steal = false;
    recordSteal(vcpu);
  }
}

/** `struct pvclock_wall_clock`: version, seconds, nanoseconds. */
const WALL_CLOCK_SIZE = 12;

/** MSR_KVM_WALL_CLOCK: the time at which KVM's clock was 0 is written at once, if there is memory; the MSR keeps the address. */
export function writeWallClock(value: bigint, { vm, system }: Vcpu): bigint {
  vm.wallClock = value;
  const old = value === 0n ? null : readGuest(vm, value, 4);
  if (old === null) return value;
  const version = new DataView(old.buffer).getUint32(0, true);
  const page = new Uint8Array(WALL_CLOCK_SIZE);
  const view = new DataView(page.buffer);
  const zero = system.realtime() - vm.clock.at(system.runner.now);
  view.setUint32(0, version + (version & 1) + 2, true);
  view.setUint32(4, Number(BigInt.asUintN(32, zero / NANOSECONDS)), true);
  view.setUint32(8, Number(BigInt.asUintN(32, zero % NANOSECONDS)), true);
  writeGuest(vm, value, page);
  return value;
}

/** MSR_KVM_STEAL_TIME: bits 5:1 are reserved; the page is written as the guest is entered. */
export function setStealTime(value: bigint, vcpu: Vcpu): bigint | undefined {
  if (value & 0x3en) return undefined;
  vcpu.pvRequests.steal = true;
  return value;
}

const ASYNC_PF_RESERVED = 0x30n;
const ASYNC_PF_ENABLED = 9n;

/** MSR_KVM_ASYNC_PF_EN: enabled by bits 0 and 3 together, which needs memory at the address. Nothing of a simulated guest is ever paged out. */
export function setAsyncPf(value: bigint, vcpu: Vcpu): bigint | undefined {
  if (value & ASYNC_PF_RESERVED) return undefined;
  if (vcpu.lapic === undefined) return value === 0n ? value : undefined;
  if ((value & ASYNC_PF_ENABLED) !== ASYNC_PF_ENABLED || readGuest(vcpu.vm, value & STEAL_ADDRESS, 8) !== null) return value;
  if (!has(vcpu.vm.machine, 'asyncPfRefusedForgotten')) vcpu.msrs.set(MSR.asyncPfEn, value);
  return undefined;
}

/** MSR_KVM_ASYNC_PF_INT: a vector. */
export function setAsyncPfInt(value: bigint, vcpu: Vcpu): bigint | undefined {
  return vcpu.lapic === undefined || value > 0xffn ? undefined : value;
}

/** MSR_KVM_PV_EOI_EN: four bytes of memory, aligned, once enabled. */
export function setPvEoi(value: bigint, { vm }: Vcpu): bigint | undefined {
  const gpa = value & ~ENABLED;
  if (gpa % 4n !== 0n) return undefined;
  return value & ENABLED && vm.memslots.find(Number(gpa / PAGE)) === undefined ? undefined : value;
}
