/** The VM's clock and the TSC's rate. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_ADJUST_CLOCK,
  KVM_CHECK_EXTENSION,
  KVM_CLOCK_HOST_TSC,
  KVM_CLOCK_REALTIME,
  KVM_CREATE_VCPU,
  KVM_GET_CLOCK,
  KVM_GET_TSC_KHZ,
  KVM_KVMCLOCK_CTRL,
  KVM_SET_CLOCK,
  KVM_SET_TSC_KHZ,
  kvm_clock_data,
} from 'kvio/uapi';
import { type Case, define } from '../case.ts';
import { addRam, newVcpu, newVm, setMsr } from '../machine.ts';

type Clock = ReturnType<typeof kvm_clock_data.decode>;

function getClock(kernel: Kernel, vm: number): Clock {
  const bytes = kvm_clock_data.alloc().fill(0xee);
  kernel.ioctl(vm, KVM_GET_CLOCK, bytes);
  return kvm_clock_data.decode(bytes);
}

const similar = (khz: number, other: number): boolean => Math.abs(khz - other) < other / 50;
const SECOND = 1_000_000_000n;
const near = (value: bigint, about: bigint): boolean => value >= about && value < about + 60n * SECOND;
const data = (change: Partial<Clock>): Uint8Array =>
  kvm_clock_data.encode({ clock: 0n, flags: 0, pad0: 0, realtime: 0n, host_tsc: 0n, pad: [0, 0, 0, 0], ...change } as Clock);

export const clockCases: Case[] = [
  define('kvm/clock/get', 'Clock and TSC', (kernel, see) => {
    const vm = newVm(kernel);
    see.note('ADJUST_CLOCK', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK));
    see.call('GET_CLOCK, pointer 0', () => kernel.ioctl(vm, KVM_GET_CLOCK, 0));
    const { clock, ...rest } = getClock(kernel, vm);
    see.note('before any vCPU it is near 0', near(clock, 0n));
    see.note('before any vCPU', rest);
    const later = getClock(kernel, vm).clock;
    see.note('it never goes back', later >= clock);
  }),
  define('kvm/clock/set', 'Clock and TSC', (kernel, see) => {
    const vm = newVm(kernel);
    see.call('SET_CLOCK, pointer 0', () => kernel.ioctl(vm, KVM_SET_CLOCK, 0));
    const set = (label: string, change: Partial<Clock>, about: bigint): void => {
      see.call(label, () => kernel.ioctl(vm, KVM_SET_CLOCK, data(change)));
      const { clock, flags, realtime, host_tsc, ...rest } = getClock(kernel, vm);
      see.note(`${label}: near what was asked`, near(clock, about));
      see.note(`${label}: flags`, flags & ~(KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC | 2));
      see.note(`${label}: realtime is told with its flag`, (realtime !== 0n) === ((flags & KVM_CLOCK_REALTIME) !== 0));
      see.note(`${label}: host_tsc is told with its flag`, (host_tsc !== 0n) === ((flags & KVM_CLOCK_HOST_TSC) !== 0));
      see.note(`${label}: the rest`, rest);
    };
    set('an hour', { clock: 3600n * SECOND }, 3600n * SECOND);
    set('flags 1', { flags: 1 }, 3600n * SECOND);
    set('flags 0x10', { flags: 0x10 }, 3600n * SECOND);
    set('flags above the known ones', { flags: 0x80000000 }, 3600n * SECOND);
    set('back to 0', {}, 0n);
    set('TSC_STABLE and HOST_TSC', { clock: 5n * SECOND, flags: 0xa }, 5n * SECOND);
    set('padding', { clock: 7n * SECOND, pad0: 1, pad: [1, 2, 3, 4] }, 7n * SECOND);
    set('a realtime that is yet to come', { clock: 100n * SECOND, flags: 4, realtime: (1n << 62n) - 1n }, 100n * SECOND);
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    set('with a vCPU', { clock: 1n * SECOND }, 1n * SECOND);
    const hourAgo = getClock(kernel, vm).realtime - 3600n * SECOND;
    set('a realtime an hour ago', { clock: 100n * SECOND, flags: 4, realtime: hourAgo }, 3700n * SECOND);
    set('the largest', { clock: (1n << 63n) - 1n - 3600n * SECOND }, (1n << 63n) - 1n - 3600n * SECOND);
  }),
  define('kvm/clock/master', 'Clock and TSC', (kernel, see) => {
    const vm = newVm(kernel);
    see.note('flags before any vCPU', getClock(kernel, vm).flags);
    kernel.ioctl(vm, KVM_SET_CLOCK, data({ clock: SECOND }));
    see.note('flags after SET_CLOCK without a vCPU', getClock(kernel, vm).flags);
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    see.note('flags after CREATE_VCPU', getClock(kernel, vm).flags);
    kernel.ioctl(vm, KVM_SET_CLOCK, data({ clock: SECOND }));
    see.note('flags after SET_CLOCK with one', getClock(kernel, vm).flags);
    kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    see.note('flags after a second vCPU', getClock(kernel, vm).flags);
    kernel.ioctl(vm, KVM_SET_CLOCK, data({ clock: SECOND }));
    see.note('flags after SET_CLOCK with two', getClock(kernel, vm).flags);
  }),
  define('kvm/clock/kvmclock-ctrl', 'Clock and TSC', (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    see.call('without a clock page', () => kernel.ioctl(vcpu, KVM_KVMCLOCK_CTRL));
    see.call('an argument is not looked at', () => kernel.ioctl(vcpu, KVM_KVMCLOCK_CTRL, 5));
    addRam(kernel, vm, 0, 0n, 0x4000);
    see.note('SYSTEM_TIME', setMsr(kernel, vcpu, 0x4b564d01, 0x1001n));
    see.call('with one', () => kernel.ioctl(vcpu, KVM_KVMCLOCK_CTRL));
    see.note('SYSTEM_TIME off', setMsr(kernel, vcpu, 0x4b564d01, 0x1000n));
    see.call('switched off', () => kernel.ioctl(vcpu, KVM_KVMCLOCK_CTRL));
    see.note('SYSTEM_TIME where there is no memory', setMsr(kernel, vcpu, 0x4b564d01, 0x10000001n));
    see.call('with one that is nowhere', () => kernel.ioctl(vcpu, KVM_KVMCLOCK_CTRL));
  }),
  define('kvm/clock/tsc-khz', 'Clock and TSC', (kernel, see) => {
    const vm = newVm(kernel);
    const host = kernel.ioctl(vm, KVM_GET_TSC_KHZ);
    see.note('a rate', host > 100_000);
    see.call('VM: SET_TSC_KHZ 0', () => kernel.ioctl(vm, KVM_SET_TSC_KHZ, 0));
    // The host may have calibrated its TSC anew since KVM was loaded.
    see.note('VM: the rate then', similar(kernel.ioctl(vm, KVM_GET_TSC_KHZ), host));
    see.call('VM: SET_TSC_KHZ 1000000', () => kernel.ioctl(vm, KVM_SET_TSC_KHZ, 1_000_000));
    see.note('VM: it is kept', kernel.ioctl(vm, KVM_GET_TSC_KHZ));
    see.call('VM: SET_TSC_KHZ above 32 bits', () => kernel.ioctl(vm, KVM_SET_TSC_KHZ, (1n << 32n) | 2_000_000n));
    see.note('VM: the lower half counts', kernel.ioctl(vm, KVM_GET_TSC_KHZ));
    const fast = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    see.note('a vCPU made then', kernel.ioctl(fast, KVM_GET_TSC_KHZ));
    see.call('VM: SET_TSC_KHZ with a vCPU', () => kernel.ioctl(vm, KVM_SET_TSC_KHZ, 1_000_000));
    const other = newVcpu(kernel).vcpu;
    see.note("a vCPU of another VM has the host's", kernel.ioctl(other, KVM_GET_TSC_KHZ) === host);
    for (const [label, khz] of [
      ['0', 0],
      ['half', Math.floor(host / 2)],
      ['twice', host * 2],
    ] as const) {
      const { vcpu } = newVcpu(kernel);
      see.call(`vCPU: SET_TSC_KHZ ${label}`, () => kernel.ioctl(vcpu, KVM_SET_TSC_KHZ, khz));
      see.note(`vCPU: SET_TSC_KHZ ${label}: kept`, similar(kernel.ioctl(vcpu, KVM_GET_TSC_KHZ), khz || host));
    }
  }),
];
