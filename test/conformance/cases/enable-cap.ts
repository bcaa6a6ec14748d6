/** KVM_ENABLE_CAP on a VM and on a vCPU: which capabilities it knows, and what arguments they take. */
import type { Kernel } from 'kvio';
import {
  KVM_CAP_DISABLE_QUIRKS,
  KVM_CAP_DISABLE_QUIRKS2,
  KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
  KVM_CAP_EXCEPTION_PAYLOAD,
  KVM_CAP_EXIT_HYPERCALL,
  KVM_CAP_EXIT_ON_EMULATION_FAILURE,
  KVM_CAP_HALT_POLL,
  KVM_CAP_MAX_VCPU_ID,
  KVM_CAP_MSR_PLATFORM_INFO,
  KVM_CAP_PMU_CAPABILITY,
  KVM_CAP_VM_DISABLE_NX_HUGE_PAGES,
  KVM_CAP_X86_APIC_BUS_CYCLES_NS,
  KVM_CAP_X86_BUS_LOCK_EXIT,
  KVM_CAP_X86_NOTIFY_VMEXIT,
  KVM_CAP_X86_TRIPLE_FAULT_EVENT,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_VCPU_EVENTS,
  KVM_SET_BOOT_CPU_ID,
  KVM_SET_VCPU_EVENTS,
  kvm_enable_cap,
  kvm_vcpu_events,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import { startGuest } from '../guest.ts';
import { getMsr, getRegs, newVcpu, newVm } from '../machine.ts';

const section = 'ENABLE_CAP';

const enable = (kernel: Kernel, fd: number, cap: number, args: readonly bigint[] = [], flags = 0): number =>
  kernel.ioctl(
    fd,
    KVM_ENABLE_CAP,
    kvm_enable_cap.encode({ cap, flags, args: [0, 1, 2, 3].map((i) => args[i] ?? 0n), pad: new Uint8Array(64) } as never),
  );

const ALL = (1n << 64n) - 1n;
/** Name, number, arguments to try. Those of memory and interrupt controllers have cases elsewhere. */
const ofVm: readonly (readonly [string, number, readonly bigint[]])[] = [
  ['HALT_POLL', KVM_CAP_HALT_POLL, [0n, 200_000n, 0xffffffffn, 1n << 32n, ALL]],
  ['DISABLE_QUIRKS2', KVM_CAP_DISABLE_QUIRKS2, [0n, 1n, 1n << 12n, 1n << 63n, ALL]],
  ['DISABLE_QUIRKS', KVM_CAP_DISABLE_QUIRKS, [0n, 1n, ALL]],
  ['MSR_PLATFORM_INFO', KVM_CAP_MSR_PLATFORM_INFO, [0n, 1n, 2n, ALL]],
  ['EXCEPTION_PAYLOAD', KVM_CAP_EXCEPTION_PAYLOAD, [0n, 1n, 2n, ALL]],
  ['TRIPLE_FAULT_EVENT', KVM_CAP_X86_TRIPLE_FAULT_EVENT, [0n, 1n, 2n, ALL]],
  ['USER_SPACE_MSR', KVM_CAP_X86_USER_SPACE_MSR, [0n, 1n, 7n, 8n, 15n, 1n << 32n]],
  ['BUS_LOCK_EXIT', KVM_CAP_X86_BUS_LOCK_EXIT, [0n, 1n, 2n, 3n, 4n, 1n << 32n]],
  ['EXIT_HYPERCALL', KVM_CAP_EXIT_HYPERCALL, [0n, 0x1000n, 1n, 0x1001n, 1n << 32n]],
  ['EXIT_ON_EMULATION_FAILURE', KVM_CAP_EXIT_ON_EMULATION_FAILURE, [0n, 1n, 2n]],
  ['PMU_CAPABILITY', KVM_CAP_PMU_CAPABILITY, [0n, 1n, 2n]],
  ['NOTIFY_VMEXIT', KVM_CAP_X86_NOTIFY_VMEXIT, [0n, 1n, 3n, 4n, 0x1000000001n]],
  ['VM_DISABLE_NX_HUGE_PAGES', KVM_CAP_VM_DISABLE_NX_HUGE_PAGES, [0n, 1n]],
  ['APIC_BUS_CYCLES_NS', KVM_CAP_X86_APIC_BUS_CYCLES_NS, [0n, 1n, 10n, 33554432n, 33554433n, ALL]],
];

export const enableCapCases: Case[] = [
  define('kvm/enable-cap/argument', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    see.call('VM: pointer 0', () => kernel.ioctl(vm, KVM_ENABLE_CAP, 0));
    see.call('vCPU: pointer 0', () => kernel.ioctl(vcpu, KVM_ENABLE_CAP, 0));
    for (const cap of [0, 1, 3, 9, 100, 244, 245, 1000, 0xffffffff]) {
      see.call(`VM: ${cap}`, () => enable(kernel, vm, cap));
      see.call(`vCPU: ${cap}`, () => enable(kernel, vcpu, cap));
    }
    see.call('VM: with flags', () => enable(kernel, vm, KVM_CAP_EXCEPTION_PAYLOAD, [1n], 1));
    see.call('VM: HALT_POLL with flags', () => enable(kernel, vm, KVM_CAP_HALT_POLL, [1n], 1));
    see.call('VM: an unknown one with flags', () => enable(kernel, vm, 1000, [], 1));
    see.call('vCPU: ENFORCE_PV_FEATURE_CPUID', () => enable(kernel, vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, [1n]));
    see.call('vCPU: ENFORCE_PV_FEATURE_CPUID with flags', () => enable(kernel, vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, [1n], 1));
    see.call('vCPU: a capability of the VM', () => enable(kernel, vcpu, KVM_CAP_EXCEPTION_PAYLOAD, [1n]));
    see.call('VM: a capability of the vCPU', () => enable(kernel, vm, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, [1n]));
  }),
  ...ofVm.map(([name, cap, values]) =>
    define(`kvm/enable-cap/${name}`, section, (kernel, see) => {
      const vm = newVm(kernel);
      for (const value of values) see.call(hex(value), () => enable(kernel, vm, cap, [value]));
      see.call('other arguments are not looked at', () => enable(kernel, vm, cap, [values[0]!, 1n, 2n, 3n]));
      see.call('flags', () => enable(kernel, vm, cap, [values[0]!], 0x80000000));
      kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
      for (const value of values) see.call(`with a vCPU: ${hex(value)}`, () => enable(kernel, vm, cap, [value]));
    }),
  ),
  define('kvm/enable-cap/DISABLE_QUIRKS2, each', section, (kernel, see) => {
    const vm = newVm(kernel);
    const valid = BigInt(kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2));
    for (let bit = 0n; bit < 14n; bit++) {
      const value = 1n << bit;
      let answer = '0';
      try {
        enable(kernel, vm, KVM_CAP_DISABLE_QUIRKS2, [value]);
      } catch (error) {
        answer = (error as { code: string }).code;
      }
      see.note(`bit ${bit} as the capability says`, answer === ((valid & value) === 0n ? 'EINVAL' : '0'));
    }
  }),
  define('kvm/enable-cap/MAX_VCPU_ID', section, (kernel, see) => {
    const set = (vm: number, label: string, value: bigint): void => {
      see.call(label, () => enable(kernel, vm, KVM_CAP_MAX_VCPU_ID, [value]));
    };
    const vm = newVm(kernel);
    set(vm, '4097', 4097n);
    set(vm, '0', 0n);
    set(vm, '2', 2n);
    set(vm, '2 again', 2n);
    set(vm, 'another', 3n);
    set(vm, '0 then', 0n);
    see.note('CHECK_EXTENSION', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPU_ID));
    see.descriptor('vCPU 1', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 1));
    see.descriptor('vCPU 2', () => kernel.ioctl(vm, KVM_CREATE_VCPU, 2));
    set(vm, '2 with a vCPU', 2n);
    const boot = newVm(kernel);
    kernel.ioctl(boot, KVM_SET_BOOT_CPU_ID, 5);
    set(boot, 'below the boot id', 5n);
    set(boot, 'above the boot id', 6n);
    const limited = newVm(kernel);
    set(limited, 'for the boot id', 4n);
    see.call('SET_BOOT_CPU_ID at the limit', () => kernel.ioctl(limited, KVM_SET_BOOT_CPU_ID, 4));
    see.call('SET_BOOT_CPU_ID below it', () => kernel.ioctl(limited, KVM_SET_BOOT_CPU_ID, 3));
    see.call('SET_BOOT_CPU_ID above it', () => kernel.ioctl(limited, KVM_SET_BOOT_CPU_ID, 5));
    const made = newVm(kernel);
    kernel.ioctl(made, KVM_CREATE_VCPU, 0);
    set(made, 'after a vCPU: 4096', 4096n);
    set(made, 'after a vCPU: 4095', 4095n);
    const zero = newVm(kernel);
    kernel.ioctl(zero, KVM_SET_BOOT_CPU_ID, 0);
    set(zero, '1', 1n);
    see.descriptor('vCPU 0', () => kernel.ioctl(zero, KVM_CREATE_VCPU, 0));
  }),
  define('kvm/enable-cap/APIC_BUS_CYCLES_NS with an irqchip', section, (kernel, see) => {
    const vm = newVm(kernel);
    kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
    see.note('CHECK_EXTENSION', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_APIC_BUS_CYCLES_NS));
    see.call('10', () => enable(kernel, vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, [10n]));
    see.note('CHECK_EXTENSION then', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_X86_APIC_BUS_CYCLES_NS));
    see.call('0', () => enable(kernel, vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, [0n]));
    see.call('the largest', () => enable(kernel, vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, [33554432n]));
    see.call('one more', () => enable(kernel, vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, [33554433n]));
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    see.call('with a vCPU', () => enable(kernel, vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, [10n]));
  }),
  define('kvm/enable-cap/MSR_PLATFORM_INFO in the guest', section, (kernel, see) => {
    for (const value of [0n, 1n]) {
      // mov ecx, 0xce; rdmsr; out 0x10, al; hlt; #GP: out 0x13, al
      const guest = startGuest(kernel, [0x66, 0xb9, 0xce, 0, 0, 0, 0x0f, 0x32, 0xe6, 0x10, 0xf4], {
        data: { [13 * 4]: [0x00, 0x30, 0, 0], [0x3000]: [0xe6, 0x13, 0xf4] },
      });
      see.call(`ENABLE_CAP ${value}`, () => enable(kernel, guest.vm, KVM_CAP_MSR_PLATFORM_INFO, [value]));
      see.note(`${value}: userspace reads`, getMsr(kernel, guest.vcpu, 0xce));
      see.call(`${value}: KVM_RUN`, () => kernel.run(guest.vcpu));
      see.note(`${value}: port`, guest.run.get('io.port'));
      see.note(`${value}: rax`, getRegs(kernel, guest.vcpu).rax);
    }
  }),
  define('kvm/enable-cap/events', section, (kernel, see) => {
    const { vm, vcpu } = newVcpu(kernel);
    const get = (): ReturnType<typeof kvm_vcpu_events.decode> => {
      const bytes = kvm_vcpu_events.alloc();
      kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
      return kvm_vcpu_events.decode(bytes);
    };
    const set = (label: string, edit: (events: ReturnType<typeof get>) => void): void => {
      const events = kvm_vcpu_events.decode(kvm_vcpu_events.alloc());
      edit(events);
      see.call(label, () => kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode(events)));
      see.note(`${label}: then`, nonZero(get()));
    };
    set('payload without the capability', (e) => Object.assign(e, { flags: 0x10 }));
    set('triple fault without the capability', (e) => Object.assign(e, { flags: 0x20 }));
    see.call('EXCEPTION_PAYLOAD', () => enable(kernel, vm, KVM_CAP_EXCEPTION_PAYLOAD, [1n]));
    see.note('EXCEPTION_PAYLOAD: flags', get().flags);
    set('a pending #PF', (e) => {
      Object.assign(e.exception, { nr: 14, has_error_code: 1, pending: 1, error_code: 5 });
      Object.assign(e, { flags: 0x10, exception_has_payload: 1, exception_payload: 0xdead000n });
    });
    set('an injected #PF with a payload', (e) => {
      Object.assign(e.exception, { nr: 14, has_error_code: 1, injected: 1, error_code: 5 });
      Object.assign(e, { flags: 0x10, exception_has_payload: 1, exception_payload: 0xdead000n });
    });
    set('both pending and injected', (e) => {
      Object.assign(e.exception, { nr: 13, injected: 1, pending: 1 });
      Object.assign(e, { flags: 0x10 });
    });
    set('pending, number 32', (e) => {
      Object.assign(e.exception, { nr: 32, pending: 1 });
      Object.assign(e, { flags: 0x10 });
    });
    set('pending, number 2', (e) => {
      Object.assign(e.exception, { nr: 2, pending: 1 });
      Object.assign(e, { flags: 0x10 });
    });
    set('a payload without an exception', (e) => {
      Object.assign(e, { flags: 0x10, exception_has_payload: 1, exception_payload: 5n });
    });
    set('pending without the flag', (e) => {
      Object.assign(e.exception, { nr: 13, pending: 1 });
    });
    set('injected without the flag, with a payload', (e) => {
      Object.assign(e.exception, { nr: 13, injected: 1 });
      Object.assign(e, { exception_has_payload: 1, exception_payload: 5n });
    });
    set('nothing', () => {});
    see.call('TRIPLE_FAULT_EVENT', () => enable(kernel, vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, [1n]));
    see.note('TRIPLE_FAULT_EVENT: flags', get().flags);
    set('a triple fault', (e) => Object.assign(e, { flags: 0x20, triple_fault: { pending: 1 } }));
    set('none', (e) => Object.assign(e, { flags: 0x20, triple_fault: { pending: 0 } }));
    set('a triple fault, 2', (e) => Object.assign(e, { flags: 0x20, triple_fault: { pending: 2 } }));
    set('without the flag it stays', () => {});
    see.call('TRIPLE_FAULT_EVENT off', () => enable(kernel, vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, [0n]));
    see.note('off: flags', get().flags);
  }),
  define('kvm/enable-cap/a triple fault runs', section, (kernel, see) => {
    const guest = startGuest(kernel, [0xe6, 0x10, 0xf4]);
    enable(kernel, guest.vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, [1n]);
    const events = kvm_vcpu_events.decode(kvm_vcpu_events.alloc());
    Object.assign(events, { flags: 0x20, triple_fault: { pending: 1 } });
    kernel.ioctl(guest.vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode(events));
    see.call('KVM_RUN', () => kernel.run(guest.vcpu));
    see.note('exit reason', guest.run.get('exit_reason'));
    see.note('rip', getRegs(kernel, guest.vcpu).rip);
    const bytes = kvm_vcpu_events.alloc();
    kernel.ioctl(guest.vcpu, KVM_GET_VCPU_EVENTS, bytes);
    see.note('it is gone', kvm_vcpu_events.decode(bytes).triple_fault);
  }),
];
