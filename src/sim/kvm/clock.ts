import {
  KVM_CAP_ADJUST_CLOCK,
  KVM_CLOCK_HOST_TSC,
  KVM_CLOCK_REALTIME,
  KVM_CLOCK_TSC_STABLE,
  KVM_VCPU_TSC_CTRL,
  KVM_VCPU_TSC_OFFSET,
  kvm_clock_data,
  kvm_device_attr,
} from '../../uapi/kvm.ts';
import { EFAULT, EINVAL, ENXIO } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { capability } from './ioctl-table.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const SET_FLAGS: number = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;

/**
 * KVM's own clock, in simulated time: 0 when the VM is made. It is read from the host's TSC, and its readings come with it, once the
 * master clock is in use: that is looked at when the clock is set, and as a new vCPU is entered.
 */
export class VmClock {
  readonly #vm: Vm;
  /** CLOCK_MONOTONIC at which the clock was 0, in nanoseconds. */
  #zero: bigint;
  masterClock = false;

  constructor(vm: Vm, now: bigint) {
    this.#vm = vm;
    this.#zero = now;
  }

  /** At the host's time `now`. */
  at(now: bigint): bigint {
    return BigInt.asUintN(64, now - this.#zero);
  }

  set(now: bigint, value: bigint): void {
    this.#zero = now - value;
    this.updateMasterClock();
    for (const { pvRequests } of this.#vm.vcpus.values()) pvRequests.clock = true;
  }

  /** kvm_update_masterclock: the TSCs of all vCPUs are the host's, or offset alike. */
  updateMasterClock(): void {
    const [first, ...others] = [...this.#vm.vcpus.values()];
    const masterClock = first !== undefined && others.every((vcpu) => vcpu.tscOffset === first.tscOffset);
    if (masterClock === this.masterClock) return;
    this.masterClock = masterClock;
    for (const { pvRequests } of this.#vm.vcpus.values()) pvRequests.clock = true;
  }
}

/** KVM_GET_CLOCK. */
export function getClock(vm: Vm, p: Process, arg: bigint): number {
  const { runner } = p.system;
  const master = vm.clock.masterClock;
  const host = vm.vcpus.values().next().value;
  const bytes = kvm_clock_data.alloc();
  const view = new DataView(bytes.buffer);
  const put = (field: string, value: bigint): void => view.setBigUint64(kvm_clock_data.offsetOf(field), value, true);
  put('clock', vm.clock.at(runner.now));
  if (master && host !== undefined) {
    view.setUint32(kvm_clock_data.offsetOf('flags'), capability(vm.machine, KVM_CAP_ADJUST_CLOCK), true);
    put('realtime', p.system.realtime());
    put('host_tsc', host.hostTsc());
  }
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_CLOCK. With KVM_CLOCK_REALTIME the time since that reading is added; a reading yet to come takes nothing away. */
export function setClock(vm: Vm, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_clock_data.size);
  if (bytes === null) return -EFAULT;
  const { clock, flags, realtime } = kvm_clock_data.decode(bytes);
  if (flags & ~SET_FLAGS) return -EINVAL;
  const now = p.system.realtime();
  const since = flags & KVM_CLOCK_REALTIME && now > realtime ? now - realtime : 0n;
  vm.clock.set(p.system.runner.now, clock + since);
  return 0;
}

/** Device attributes of a vCPU: group KVM_VCPU_TSC_CTRL, attribute KVM_VCPU_TSC_OFFSET. `flags` is not looked at. */
export function vcpuDeviceAttr(access: 'has' | 'get' | 'set') {
  return (vcpu: Vcpu, p: Process, arg: bigint): number => {
    const bytes = p.mm.copyFrom(arg, kvm_device_attr.size);
    if (bytes === null) return -EFAULT;
    const { group, attr, addr } = kvm_device_attr.decode(bytes);
    if (group !== KVM_VCPU_TSC_CTRL || attr !== BigInt(KVM_VCPU_TSC_OFFSET)) return -ENXIO;
    if (access === 'has') return 0;
    if (access === 'get') return p.mm.write64(addr, vcpu.tscOffset) ? 0 : -EFAULT;
    const offset = p.mm.read64(addr);
    if (offset === null) return -EFAULT;
    if (!vcpu.backend.hostTsc) vcpu.tscOffset = offset;
    return 0;
  };
}
