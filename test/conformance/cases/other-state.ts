/** More of a vCPU's state: SREGS2, debug registers, pending events. */
import {
  KVM_GET_DEBUGREGS,
  KVM_GET_SREGS2,
  KVM_GET_VCPU_EVENTS,
  KVM_SET_DEBUGREGS,
  KVM_SET_SREGS2,
  KVM_SET_VCPU_EVENTS,
  kvm_debugregs,
  kvm_run,
  kvm_sregs2,
  kvm_vcpu_events,
} from 'kvio/uapi';
import { type Case, define, hex, nonZero } from '../case.ts';
import { getSregs, mapRun, newVcpu, RunPage } from '../machine.ts';

export const otherStateCases: Case[] = [
  define('kvm/sregs2', 'Special registers', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const bytes = kvm_sregs2.alloc();
    see.call('GET_SREGS2, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_SREGS2, 0));
    see.call('GET_SREGS2', () => kernel.ioctl(vcpu, KVM_GET_SREGS2, bytes));
    const now = kvm_sregs2.decode(bytes);
    const { flags, pdptrs, ...rest } = now;
    const { interrupt_bitmap: _, ...sregs } = getSregs(kernel, vcpu);
    see.note('flags and PDPTRs of a new vCPU', [flags, ...pdptrs]);
    see.note('the rest is SREGS', JSON.stringify(nonZero(rest)) === JSON.stringify(nonZero(sregs)));
    const set = (label: string, change: object): void => {
      see.call(label, () => kernel.ioctl(vcpu, KVM_SET_SREGS2, kvm_sregs2.encode({ ...now, ...change })));
    };
    set('unchanged', {});
    set('flags 1 without PAE paging', { flags: 1n });
    set('flags 2', { flags: 2n });
    set('flags above 32 bits', { flags: 1n << 40n });
    set('PDPTRs without the flag', { pdptrs: [1n, 2n, 3n, 4n] });
    set('PAE paging with PDPTRs', { flags: 1n, cr0: 0x80000011n, cr4: 0x20n, cr3: 0x1000n, pdptrs: [0x2001n, 0x3001n, 0n, 0n] });
    kernel.ioctl(vcpu, KVM_GET_SREGS2, bytes);
    see.note('PDPTRs read back', [kvm_sregs2.decode(bytes).flags, ...kvm_sregs2.decode(bytes).pdptrs]);
    set('a bad CR4', { cr4: 1n << 63n });
  }),
  define('kvm/debugregs', 'Debug registers', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const bytes = kvm_debugregs.alloc();
    const get = () => {
      kernel.ioctl(vcpu, KVM_GET_DEBUGREGS, bytes);
      return nonZero(kvm_debugregs.decode(bytes));
    };
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_DEBUGREGS, 0));
    see.call('SET, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_DEBUGREGS, 0));
    see.call('of a new vCPU', get);
    const set = (label: string, change: object): void => {
      const value = { db: [0n, 0n, 0n, 0n], dr6: 0xffff0ff0n, dr7: 0x400n, flags: 0n, ...change };
      see.call(label, () => kernel.ioctl(vcpu, KVM_SET_DEBUGREGS, kvm_debugregs.encode(value)));
      see.call(`${label}: reads`, get);
    };
    set('addresses', { db: [1n, 2n, 1n << 63n, (1n << 64n) - 1n] });
    set('dr6 0', { dr6: 0n });
    set('dr7 0', { dr7: 0n });
    set('dr6 above 32 bits', { dr6: 1n << 32n });
    set('dr7 above 32 bits', { dr7: 1n << 32n });
    set('flags', { flags: 1n });
    set('all of dr7', { dr7: 0xffffffffn });
  }),
  define('kvm/events', 'Pending events', (kernel, see) => {
    const bytes = kvm_vcpu_events.alloc();
    const vcpu = newVcpu(kernel).vcpu;
    see.call('GET, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, 0));
    see.call('SET, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, 0));
    see.call('GET of a new vCPU', () => kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes));
    const fresh = kvm_vcpu_events.decode(bytes);
    see.note('of a new vCPU', nonZero(fresh));
    for (const [label, change] of [
      ['unchanged', {}],
      ['flags 0', { flags: 0 }],
      ['flags 0x40', { flags: 0x40 }],
      ['flags 0x10 without the capability', { flags: 0x10 }],
      ['flags 0x20 without the capability', { flags: 0x20 }],
      ['exception 13', { exception: { ...fresh.exception, injected: 1, nr: 13, has_error_code: 1, error_code: 5 } }],
      ['exception 2', { exception: { ...fresh.exception, injected: 1, nr: 2 } }],
      ['exception 32', { exception: { ...fresh.exception, injected: 1, nr: 32 } }],
      ['exception 200, not injected', { exception: { ...fresh.exception, nr: 200 } }],
      ['interrupt 0x20', { interrupt: { ...fresh.interrupt, injected: 1, nr: 0x20 } }],
      ['interrupt shadow with flag 4', { flags: 4, interrupt: { ...fresh.interrupt, shadow: 1 } }],
      ['NMI pending and masked', { flags: 1, nmi: { ...fresh.nmi, pending: 1, masked: 1 } }],
    ] as const) {
      const { vcpu: one } = newVcpu(kernel);
      see.call(label, () => kernel.ioctl(one, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode({ ...fresh, ...change })));
      kernel.ioctl(one, KVM_GET_VCPU_EVENTS, bytes);
      see.note(`${label}: reads`, nonZero(kvm_vcpu_events.decode(bytes)));
    }
  }),
  define('kvm/events/synced', 'Pending events', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    const at = kvm_run.offsetOf('s.regs.events');
    run.set('immediate_exit', 1);
    run.set('kvm_valid_regs', 4n);
    see.call('valid EVENTS', () => kernel.run(vcpu));
    const events = kvm_vcpu_events.decode(run.bytes, at);
    see.note('stored', nonZero(events));
    kvm_vcpu_events.encode({ ...events, flags: 0x40 }, run.bytes, at);
    run.set('kvm_dirty_regs', 4n);
    see.call('bad EVENTS dirty', () => kernel.run(vcpu));
    see.note('the bit stays', hex(run.get('kvm_dirty_regs')));
    kvm_vcpu_events.encode({ ...events, flags: 0, interrupt: { ...events.interrupt, injected: 1, nr: 0x21 } }, run.bytes, at);
    see.call('EVENTS dirty', () => kernel.run(vcpu));
    see.note('the bit is cleared', hex(run.get('kvm_dirty_regs')));
    see.note('the injected interrupt', getSregs(kernel, vcpu).interrupt_bitmap);
  }),
];
