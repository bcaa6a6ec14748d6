/** MP states with an in-kernel local APIC: who sleeps, what wakes, INIT and SIPI. Interrupts are sent by userspace, through the x2APIC's ICR. */

import type { Kernel } from 'kvio';
import {
  KVM_CAP_X86_SMM,
  KVM_CREATE_VCPU,
  KVM_GET_VCPU_EVENTS,
  KVM_INTERRUPT,
  KVM_NMI,
  KVM_SET_MP_STATE,
  KVM_SET_VCPU_EVENTS,
  kvm_vcpu_events,
} from 'kvio/uapi';
import {
  type ApicVcpu,
  apicGuest,
  apicRam,
  cli,
  ENABLE,
  getLapic,
  handler,
  hlt,
  irqchipVm,
  lapicRegisters,
  mpState,
  nop,
  setApicCpuid,
  setLapic,
  step,
  sti,
  story,
  write,
} from '../apic-guest.ts';
import { type Case, define, hex, nonZero, toFact } from '../case.ts';
import { getRegs, getSregs, mapRun, newVcpu, RunPage, setMsr, setRegs, setSregs, withU32 } from '../machine.ts';

const section = 'MP states';
const guest = { needs: { features: ['kick'] } } as const;
const INIT = 0x4500n;
const STARTUP = 0x4600n;
const RUNNABLE = 0;
const UNINITIALIZED = 1;
const INIT_RECEIVED = 2;
const HALTED = 3;
const SIPI_RECEIVED = 4;

type Events = ReturnType<typeof kvm_vcpu_events.decode>;

function getEvents(kernel: Kernel, vcpu: number): Events {
  const bytes = kvm_vcpu_events.alloc();
  kernel.ioctl(vcpu, KVM_GET_VCPU_EVENTS, bytes);
  return kvm_vcpu_events.decode(bytes);
}

function setEvents(kernel: Kernel, vcpu: number, edit: (events: Events) => void): number {
  const events = getEvents(kernel, vcpu);
  edit(events);
  return kernel.ioctl(vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode(events));
}

const setState = (kernel: Kernel, vcpu: number, state: number): number => kernel.ioctl(vcpu, KVM_SET_MP_STATE, withU32(state));

interface Pair {
  readonly vm: number;
  /** Sends by MSR. */
  readonly bsp: number;
  readonly ap: ApicVcpu;
  /** IPI to the AP: ICR's low half. */
  readonly send: (icr: bigint) => number;
}

/** A boot processor in x2APIC mode and an AP, with RAM that has code at 0x9000 (SIPI vector 9) and 0xa000. */
function pair(kernel: Kernel): Pair {
  const vm = irqchipVm(kernel, 'kernel');
  const ram = apicRam(kernel, vm);
  // mov al, page; out 0x40…: it says where it has begun, then halts.
  for (const page of [9, 10]) ram.write(page << 12, Uint8Array.from([0xb0, page, 0xe6, 0x90, hlt]));
  const bsp = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
  const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
  setApicCpuid(kernel, bsp);
  setApicCpuid(kernel, vcpu);
  setMsr(kernel, bsp, 0x1b, 0xfee00d00n);
  const ap = { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)) };
  return { vm, bsp, ap, send: (icr) => setMsr(kernel, bsp, 0x830, (1n << 32n) | icr) };
}

export const mpStateCases: Case[] = [
  define('kvm/mp-states/set-and-get', section, (kernel, see) => {
    for (const irqchip of ['none', 'kernel', 'split'] as const) {
      const vm = irqchipVm(kernel, irqchip);
      for (const id of [0, 1]) {
        const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, id);
        const name = `${irqchip}, vCPU ${id}`;
        see.note(`${name}: at first`, mpState(kernel, vcpu));
        for (const state of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0xffff_ffff]) {
          see.call(`${name}: SET ${state}`, () => setState(kernel, vcpu, state));
          see.note(`${name}: GET after ${state}`, mpState(kernel, vcpu));
        }
        see.call(`${name}: SET, pointer 0`, () => kernel.ioctl(vcpu, KVM_SET_MP_STATE, 0));
      }
    }
  }),
  define(
    'kvm/mp-states/sipi-received',
    section,
    (kernel, see) => {
      const { ap } = pair(kernel);
      setEvents(kernel, ap.vcpu, (events) => {
        events.sipi_vector = 9;
        events.flags = 2;
      });
      see.note('SET 4', setState(kernel, ap.vcpu, SIPI_RECEIVED));
      see.note('GET', mpState(kernel, ap.vcpu));
      const { cs } = getSregs(kernel, ap.vcpu);
      see.note('cs, rip', [hex(cs.selector), cs.base, getRegs(kernel, ap.vcpu).rip]);
      see.note('events.sipi_vector', getEvents(kernel, ap.vcpu).sipi_vector);
      see.note('without a GET in between', [setState(kernel, ap.vcpu, SIPI_RECEIVED), step(ap)]);
    },
    guest,
  ),
  define(
    'kvm/mp-states/uninitialized',
    section,
    (kernel, see) => {
      const { ap, send } = pair(kernel);
      see.note('kicked', step(ap, 50));
      ap.run.set('immediate_exit', 1);
      ap.run.set('exit_reason', 0x55);
      see.note('immediate_exit', step(ap, 50));
      ap.run.set('immediate_exit', 0);
      ap.run.set('kvm_valid_regs', 0x100n);
      see.note('a bad valid_regs, kicked', step(ap, 50));
      see.note('if_flag, ready, apic_base', [
        toFact(ap.run.get('if_flag')),
        toFact(ap.run.get('ready_for_interrupt_injection')),
        toFact(ap.run.get('apic_base')),
      ]);
      see.note('SIPI without INIT', [send(STARTUP | 9n), step(ap, 50), mpState(kernel, ap.vcpu)]);
      see.note('fixed interrupt', [send(0x41n), step(ap, 50), mpState(kernel, ap.vcpu)]);
      see.note('INIT', [send(INIT), step(ap, 50), mpState(kernel, ap.vcpu)]);
      ap.run.set('kvm_valid_regs', 0n);
      see.note('INIT_RECEIVED: kicked', [step(ap, 50), mpState(kernel, ap.vcpu)]);
      see.note('SIPI', [send(STARTUP | 9n), step(ap), mpState(kernel, ap.vcpu)]);
      see.note('and on', [step(ap, 50), mpState(kernel, ap.vcpu)]);
      see.note('INIT while it halts', [send(INIT), step(ap, 50), mpState(kernel, ap.vcpu)]);
      see.note('SIPI again', [send(STARTUP | 10n), step(ap), mpState(kernel, ap.vcpu)]);
      see.note('SIPI while it runs is lost', [send(STARTUP | 9n), step(ap, 50), mpState(kernel, ap.vcpu)]);
    },
    guest,
  ),
  define(
    'kvm/mp-states/uninitialized-nmi',
    section,
    (kernel, see) => {
      const { ap } = pair(kernel);
      see.note('NMI', kernel.ioctl(ap.vcpu, KVM_NMI));
      see.note('KVM_RUN', [step(ap, 50), mpState(kernel, ap.vcpu)]);
      see.note('and again', [step(ap, 50), mpState(kernel, ap.vcpu)]);
      see.note('events', nonZero(getEvents(kernel, ap.vcpu)));
    },
    guest,
  ),
  define(
    'kvm/mp-states/init-and-sipi-at-once',
    section,
    (kernel, see) => {
      const { ap, send } = pair(kernel);
      see.note('SIPI, INIT: the SIPI is forgotten', [send(STARTUP | 9n), send(INIT), mpState(kernel, ap.vcpu)]);
      see.note('SIPI', [send(STARTUP | 9n), mpState(kernel, ap.vcpu)]);
      see.note('runs', step(ap));
      see.note('INIT, SIPI, SIPI', [send(INIT), send(STARTUP | 9n), send(STARTUP | 10n), mpState(kernel, ap.vcpu)]);
      see.note('the last counts', step(ap));
      see.note('INIT, SIPI without a look', [send(INIT), send(STARTUP | 10n), step(ap)]);
      see.note('INIT level de-assert', [send(0x8500n), mpState(kernel, ap.vcpu)]);
      see.note('INIT level assert', [send(0xc500n), mpState(kernel, ap.vcpu)]);
    },
    guest,
  ),
  define('kvm/mp-states/latched-init', section, (kernel, see) => {
    const { ap, send } = pair(kernel);
    send(INIT);
    see.note('events with INIT pending', nonZero(getEvents(kernel, ap.vcpu)));
    see.note('SET_VCPU_EVENTS clears it', [
      setEvents(kernel, ap.vcpu, (events) => {
        events.smi.latched_init = 0;
        events.flags = 8;
      }),
      mpState(kernel, ap.vcpu),
    ]);
    see.note('and sets it', [
      setEvents(kernel, ap.vcpu, (events) => {
        events.smi.latched_init = 1;
        events.flags = 8;
      }),
      mpState(kernel, ap.vcpu),
    ]);
    send(INIT);
    see.note('without the flag it stays', [
      setEvents(kernel, ap.vcpu, (events) => {
        events.smi.latched_init = 0;
        events.flags = 0;
      }),
      nonZero(getEvents(kernel, ap.vcpu)),
    ]);
  }),
  define(
    'kvm/mp-states/init-blocked',
    section,
    (kernel, see) => {
      const { ap } = pair(kernel);
      const smi = (smm: number, pending: number): number =>
        setEvents(kernel, ap.vcpu, (events) => {
          Object.assign(events.smi, { smm, pending });
          events.flags = 8;
        });
      const set = (name: string, state: number): void => {
        see.call(`${name}: SET ${state}`, () => setState(kernel, ap.vcpu, state));
        see.note(`${name}: GET after ${state}`, mpState(kernel, ap.vcpu));
      };
      see.call('SMM', () => smi(1, 0));
      for (const state of [INIT_RECEIVED, SIPI_RECEIVED, HALTED, UNINITIALIZED]) {
        set('in SMM', state);
        if (state !== HALTED) see.note(`in SMM: KVM_RUN in ${state}`, step(ap, 50));
      }
      ap.run.set('immediate_exit', 1);
      setState(kernel, ap.vcpu, RUNNABLE);
      see.call('in SMM: SET 2 again', () => setState(kernel, ap.vcpu, INIT_RECEIVED));
      see.note('in SMM: immediate_exit', step(ap, 50));
      ap.run.set('immediate_exit', 0);
      see.call('left', () => smi(0, 0));
      see.note('and KVM_RUN', [mpState(kernel, ap.vcpu), ...(mpState(kernel, ap.vcpu) === RUNNABLE ? [] : [step(ap, 50)])]);
      see.call('an SMI', () => smi(0, 1));
      for (const state of [INIT_RECEIVED, SIPI_RECEIVED]) set('an SMI pending', state);
    },
    { needs: { features: ['kick'], capability: KVM_CAP_X86_SMM } },
  ),
  define('kvm/mp-states/init-resets', section, (kernel, see) => {
    const { bsp, ap, send } = pair(kernel);
    const dirty = (vcpu: number): void => {
      setRegs(kernel, vcpu, { rax: 0x1234n, rdx: 0x5678n, rip: 0x77n, rflags: 0x246n, rsp: 0x99n });
      setSregs(kernel, vcpu, (sregs) => {
        Object.assign(sregs.ds, { base: 0x1000n, selector: 0x100, limit: 0xfffff });
        sregs.gdt.base = 0x5000n;
        sregs.cr0 = 0x11n;
        sregs.cr2 = 0x123n;
        sregs.cr3 = 0x3000n;
        sregs.cr8 = 7n;
      });
      setMsr(kernel, vcpu, 0x174, 0x8n);
      kernel.ioctl(vcpu, KVM_NMI);
      setLapic(kernel, vcpu, (view) => {
        view.setUint32(0xf0, 0x1ff, true);
        view.setUint32(0x320, 0x41, true);
        view.setUint32(0x350, 0x42, true);
        view.setUint32(0x220, 2, true);
        view.setUint32(0x120, 2, true);
        view.setUint32(0xd0, 0x2200_0000, true);
        view.setUint32(0xe0, 0xfff_ffff, true);
      });
    };
    for (const [name, vcpu, id] of [
      ['AP', ap.vcpu, 1n],
      ['BSP', bsp, 0n],
    ] as const) {
      dirty(vcpu);
      see.note(`${name}: INIT`, [setMsr(kernel, bsp, 0x830, (id << 32n) | INIT), mpState(kernel, vcpu)]);
      see.note(`${name}: regs`, nonZero(getRegs(kernel, vcpu)));
      see.note(`${name}: sregs`, nonZero(getSregs(kernel, vcpu)));
      see.note(`${name}: LAPIC`, lapicRegisters(getLapic(kernel, vcpu)));
      see.note(`${name}: events`, nonZero(getEvents(kernel, vcpu)));
    }
    // Who is the boot processor is what APIC base says.
    setMsr(kernel, bsp, 0x1b, 0xfee00d00n);
    setSregs(kernel, ap.vcpu, (sregs) => {
      sregs.apic_base = 0xfee00900n;
    });
    see.note('an AP with the BSP bit', [send(INIT), mpState(kernel, ap.vcpu)]);
    setSregs(kernel, bsp, (sregs) => {
      sregs.apic_base = 0xfee00c00n;
    });
    see.note('a BSP without it', [setMsr(kernel, bsp, 0x830, INIT), mpState(kernel, bsp)]);
    see.note('its LINT0', lapicRegisters(getLapic(kernel, bsp))['0x350'] ?? 'nothing');
  }),
  define(
    'kvm/mp-states/halt',
    section,
    (kernel, see) => {
      const halts = apicGuest(kernel, [hlt, 0xe6, 0x90, hlt, 0xe6, 0x91], { handlers: { 2: handler(2, []) } });
      see.note('HLT, IF 0: kicked', [step(halts, 50), mpState(kernel, halts.vcpu), getRegs(kernel, halts.vcpu).rip]);
      see.note('still', [step(halts, 50), mpState(kernel, halts.vcpu)]);
      kernel.ioctl(halts.vcpu, KVM_NMI);
      see.note('NMI pending', mpState(kernel, halts.vcpu));
      see.note('woken by NMI', [step(halts), mpState(kernel, halts.vcpu)]);
      see.note('goes on', [step(halts), step(halts, 50)]);
      see.note('made RUNNABLE', [setState(kernel, halts.vcpu, RUNNABLE), step(halts)]);
      const waiting = apicGuest(kernel, [...ENABLE, ...write(0x300, 0x44041), hlt, 0xe6, 0x90]);
      see.note('an interrupt pending, IF 0', [step(waiting, 50), mpState(kernel, waiting.vcpu)]);
      setRegs(kernel, waiting.vcpu, { rflags: 0x202n });
      see.note('IF set', story(waiting, 2));
      const woken = apicGuest(kernel, [...ENABLE, cli, ...write(0x300, 0x44041), sti, hlt, 0xe6, 0x90, 0xe6, 0xff]);
      see.note('STI, HLT with an interrupt pending', story(woken));
      see.note('after it', mpState(kernel, woken.vcpu));
      const none = apicGuest(kernel, [hlt, 0xe6, 0x90], { irqchip: 'none' });
      see.note('without an in-kernel APIC', [step(none), mpState(kernel, none.vcpu), step(none)]);
    },
    guest,
  ),
  define(
    'kvm/mp-states/set-halted',
    section,
    (kernel, see) => {
      const halted = apicGuest(kernel, [0xe6, 0x90, 0xe6, 0x91, 0xe6, 0xff], { handlers: { 2: handler(2, []) } });
      setState(kernel, halted.vcpu, HALTED);
      see.note('kicked', [step(halted, 50), mpState(kernel, halted.vcpu), getRegs(kernel, halted.vcpu).rip]);
      kernel.ioctl(halted.vcpu, KVM_NMI);
      see.note('NMI', [step(halted), mpState(kernel, halted.vcpu)]);
      for (const state of [INIT_RECEIVED, 9]) {
        setState(kernel, halted.vcpu, state);
        see.note(`state ${state}: kicked`, [step(halted, 50), mpState(kernel, halted.vcpu)]);
        kernel.ioctl(halted.vcpu, KVM_NMI);
        see.note(`state ${state}: NMI`, [step(halted, 50), mpState(kernel, halted.vcpu)]);
      }
      setState(kernel, halted.vcpu, UNINITIALIZED);
      see.note('UNINITIALIZED, the boot processor', [step(halted, 50), mpState(kernel, halted.vcpu)]);
      // SET_SREGS to the reset vector unhalts a boot processor.
      setState(kernel, halted.vcpu, HALTED);
      setRegs(kernel, halted.vcpu, { rip: 0xfff0n });
      setSregs(kernel, halted.vcpu, (sregs) => {
        Object.assign(sregs.cs, { selector: 0xf000, base: 0xffff0000n });
      });
      see.note('SET_SREGS at the reset vector', mpState(kernel, halted.vcpu));
    },
    guest,
  ),
  define(
    'kvm/mp-states/ext-int',
    section,
    (kernel, see) => {
      const interrupt = (vcpu: number, vector: number): number => kernel.ioctl(vcpu, KVM_INTERRUPT, withU32(vector));
      const pic = apicGuest(kernel, [nop, 0xe6, 0x90], { irqchip: 'kernel' });
      see.call('PIC in the kernel', () => interrupt(pic.vcpu, 0x41));
      see.call('PIC in the kernel, vector 256', () => interrupt(pic.vcpu, 256));
      see.note('ready with IF 0', [
        step(pic),
        toFact(pic.run.get('ready_for_interrupt_injection')),
        toFact(pic.run.get('if_flag')),
      ]);
      pic.run.set('request_interrupt_window', 1);
      setRegs(kernel, pic.vcpu, { rip: 0x1000n, rflags: 0x202n });
      see.note('no window with a PIC', story(pic, 1));
      const split = apicGuest(kernel, [nop, 0xe6, 0x90, sti, nop, 0xe6, 0x91, 0xe6, 0xff], { irqchip: 'split' });
      see.call('split: the first', () => interrupt(split.vcpu, 0x41));
      see.call('split: the second', () => interrupt(split.vcpu, 0x42));
      see.note('split: events', nonZero(getEvents(kernel, split.vcpu)));
      see.note('split: IF 0', [step(split), toFact(split.run.get('ready_for_interrupt_injection'))]);
      see.note('split: delivered', story(split));
      see.note('split: ready afterwards', toFact(split.run.get('ready_for_interrupt_injection')));
      see.call('split: room again', () => interrupt(split.vcpu, 0x43));
      setRegs(kernel, split.vcpu, { rip: 0x1000n, rflags: 0x202n });
      see.note('split: IF 1', story(split));
      // ExtINT comes by LINT0: masked, it waits.
      const masked = apicGuest(
        kernel,
        [...ENABLE, ...write(0x350, 0x10700), sti, nop, 0xe6, 0x90, ...write(0x350, 0x700), nop, 0xe6, 0x91, 0xe6, 0xff],
        { irqchip: 'split' },
      );
      interrupt(masked.vcpu, 0x44);
      masked.run.set('request_interrupt_window', 1);
      see.note('split, LINT0 masked', [step(masked), toFact(masked.run.get('ready_for_interrupt_injection'))]);
      see.note('split, LINT0 open', story(masked));
      const window = apicGuest(kernel, [...ENABLE, nop, sti, nop, nop, 0xe6, 0x90, 0xe6, 0xff], { irqchip: 'split' });
      window.run.set('request_interrupt_window', 1);
      see.note('split: a window', step(window));
      interrupt(window.vcpu, 0x45);
      see.note('split: no window while one waits', story(window, 2));
      const none = newVcpu(kernel).vcpu;
      see.call('none: the first', () => interrupt(none, 0x20));
      see.call('none: the second', () => interrupt(none, 0x21));
    },
    guest,
  ),
];
