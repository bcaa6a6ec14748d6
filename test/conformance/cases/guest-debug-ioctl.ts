/** KVM_SET_GUEST_DEBUG: what the ioctl itself says and does. What the guest's instructions do then has cases of its own. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_SET_GUEST_DEBUG2,
  KVM_CHECK_EXTENSION,
  KVM_GET_DEBUGREGS,
  KVM_GET_VCPU_EVENTS,
  KVM_SET_GUEST_DEBUG,
  KVM_SET_VCPU_EVENTS,
  kvm_debugregs,
  kvm_guest_debug,
  kvm_vcpu_events,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import { getRegs, newVcpu, setRegs } from '../machine.ts';

const section = 'Guest debugging';
const ENABLE = 1;
const SINGLESTEP = 2;
const INJECT_DB = 0x40000;
const INJECT_BP = 0x80000;

const debug = (kernel: Kernel, vcpu: number, control: number, debugreg: readonly bigint[] = []): number =>
  kernel.ioctl(
    vcpu,
    KVM_SET_GUEST_DEBUG,
    kvm_guest_debug.encode({ control, pad: 0, arch: { debugreg: Array.from({ length: 8 }, (_, i) => debugreg[i] ?? 0n) } }),
  );
const events = (kernel: Kernel, vcpu: number): ReturnType<typeof kvm_vcpu_events.decode> => {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  return kvm_vcpu_events.decode(bytes);
};

export const guestDebugIoctlCases: Case[] = [
  define('kvm/guest-debug-ioctl/control', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    see.note('SET_GUEST_DEBUG2', hex(kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2)));
    see.call('pointer 0', () => kernel.ioctl(vcpu, KVM_SET_GUEST_DEBUG, 0));
    for (const control of [0, 1, 2, 3, 0x10001, 0x20001, 0x30003, 0x100001, 0x200001, 0x400001, 0x80000001, 0xfff3ffff])
      see.call(`control ${hex(control)}`, () => debug(kernel, vcpu, control));
  }),
  define('kvm/guest-debug-ioctl/inject', section, (kernel, see) => {
    for (const [name, control] of [
      ['DB', INJECT_DB],
      ['BP', INJECT_BP],
      ['both', INJECT_DB | INJECT_BP],
      ['DB with ENABLE', INJECT_DB | ENABLE],
      ['BP with SINGLESTEP', INJECT_BP | ENABLE | SINGLESTEP],
    ] as const) {
      const { vcpu } = newVcpu(kernel);
      see.call(`${name}`, () => debug(kernel, vcpu, control));
      see.note(`${name}: events`, nonZero(events(kernel, vcpu)));
      see.call(`${name}: again`, () => debug(kernel, vcpu, control));
      see.call(`${name}: no injection meanwhile`, () => debug(kernel, vcpu, ENABLE));
    }
    const { vcpu } = newVcpu(kernel);
    const pending = kvm_vcpu_events.decode(kvm_vcpu_events.alloc());
    pending.exception.injected = 1;
    pending.exception.nr = 13;
    pending.exception.has_error_code = 1;
    kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode(pending));
    see.call('DB over #GP', () => debug(kernel, vcpu, INJECT_DB));
    see.call('a refused one changes nothing', () => debug(kernel, vcpu, INJECT_DB | ENABLE | SINGLESTEP));
    see.note('the events', nonZero(events(kernel, vcpu).exception));
  }),
  define('kvm/guest-debug-ioctl/flags', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const flags = (): bigint => getRegs(kernel, vcpu).rflags;
    debug(kernel, vcpu, ENABLE | SINGLESTEP);
    see.note('single-stepping: rflags', flags());
    setRegs(kernel, vcpu, { rflags: 0x102n });
    see.note('a TF that userspace sets', flags());
    debug(kernel, vcpu, ENABLE);
    see.note('no longer stepping', flags());
    setRegs(kernel, vcpu, { rflags: 0x102n });
    see.note('TF then', flags());
    debug(kernel, vcpu, ENABLE | SINGLESTEP);
    see.note('stepping hides it', flags());
    debug(kernel, vcpu, SINGLESTEP);
    see.note('without ENABLE', flags());
  }),
  define('kvm/guest-debug-ioctl/registers', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const registers = (): ReturnType<typeof kvm_debugregs.decode> => {
      const bytes = kvm_debugregs.alloc();
      kernel.ioctl(vcpu, KVM_GET_DEBUGREGS, bytes);
      return kvm_debugregs.decode(bytes);
    };
    see.call('hardware breakpoints', () => debug(kernel, vcpu, 0x20001, [0x1000n, 0x2000n, 0n, 0n, 0n, 0n, 0n, 0x403n]));
    see.note("the guest's own registers", nonZero(registers()));
    see.call('a DR7 above 32 bits', () => debug(kernel, vcpu, 0x20001, [0n, 0n, 0n, 0n, 0n, 0n, 0n, 1n << 40n]));
  }),
];
