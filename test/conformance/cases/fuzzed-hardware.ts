/** What fuzzing found where guests run on the processor itself, in the fewest calls that show it. */
import type { Kernel } from 'kvio';
import { type Case, define, type Observer, result } from '../case.ts';
import { startGuest } from '../guest.ts';
import {
  addRam,
  getMsr,
  getRegs,
  getSregs,
  mapRun,
  newVcpu,
  RunPage,
  type Sregs,
  setMsr,
  setRegs,
  setSregs,
} from '../machine.ts';

const HLT = 0xf4;
const SYSENTER_CS = 0x174;

const BASED = ['ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt', 'gdt', 'idt'] as const;

/** Notes the bases of all but CS. */
function noteBases(kernel: Kernel, vcpu: number, see: Observer, label: string): void {
  const sregs = getSregs(kernel, vcpu);
  see.note(label, Object.fromEntries(BASED.map((name) => [name, sregs[name].base])));
}

const setBases =
  (base: bigint) =>
  (sregs: Sregs): void => {
    for (const name of BASED) sregs[name].base = base;
  };

export const fuzzedHardwareCases: Case[] = [
  define('kvm/fuzzed-hardware/bases-that-are-not-canonical', 'KVM_SET_SREGS', (kernel, see) => {
    for (const base of [0x4bed_5aff_0000_1000n, 0xbded_5aff_0000_1000n, 0x0080_0000_0000_1000n]) {
      const label = base.toString(16);
      const guest = startGuest(kernel, [HLT], { sregs: setBases(base) });
      noteBases(kernel, guest.vcpu, see, `${label}: set`);
      see.call(`${label}: run`, () => result(kernel.run(guest.vcpu)));
      noteBases(kernel, guest.vcpu, see, `${label}: run, bases`);
    }
  }),
  define('kvm/fuzzed-hardware/bases-of-a-run-that-does-not-enter', 'KVM_SET_SREGS', (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    setSregs(kernel, vcpu, setBases(0x4bed_5aff_0000_1000n));
    run.set('immediate_exit', 1);
    see.call('run with immediate_exit', () => result(kernel.run(vcpu)));
    noteBases(kernel, vcpu, see, 'bases');
    run.set('immediate_exit', 0);
    see.call('run without memory', () => result(kernel.run(vcpu)));
    noteBases(kernel, vcpu, see, 'then');
  }),
  define('kvm/fuzzed-hardware/the-end-of-16-bit-code', 'KVM_EXIT_INTERNAL_ERROR', (kernel, see) => {
    // From the reset vector on nothing but NOPs, up to the last byte of the segment.
    const { vm, vcpu } = newVcpu(kernel);
    const ram = addRam(kernel, vm, 0, 0n, 0x10000);
    for (let n = 0; n < 256; n++) ram.write(4 * n, Uint8Array.of(n, 6, 0, 0));
    ram.write(0x600, new Uint8Array(256).fill(HLT));
    addRam(kernel, vm, 1, 0xffff_f000n, 0x1000).write(0, new Uint8Array(0x1000).fill(0x90));
    setRegs(kernel, vcpu, { rip: 0xfff0n, rsp: 0x8000n, rflags: 2n });
    const run = new RunPage(mapRun(kernel, vcpu));
    see.call('run', () => result(kernel.run(vcpu)));
    see.note('exit_reason', run.get('exit_reason'));
    see.note('rip', getRegs(kernel, vcpu).rip);
    see.note('CS', getSregs(kernel, vcpu).cs.base);
    see.note('stack', ram.read(0x7ff8, 8));
  }),
  define('kvm/fuzzed-hardware/sysenter-cs-is-wide', 'KVM_SET_MSRS', (kernel, see) => {
    // MOV ECX, SYSENTER_CS; MOV EAX, 0x89abcdef; MOV EDX, 0x12; WRMSR; HLT
    const write = [0x66, 0xb9, 0x74, 1, 0, 0, 0x66, 0xb8, 0xef, 0xcd, 0xab, 0x89, 0x66, 0xba, 0x12, 0, 0, 0, 0x0f, 0x30, HLT];
    const { vcpu } = startGuest(kernel, [HLT, ...write]);
    see.note('set', setMsr(kernel, vcpu, SYSENTER_CS, 0xff_ffff_ffffn));
    see.note('is', getMsr(kernel, vcpu, SYSENTER_CS));
    see.call('run', () => result(kernel.run(vcpu)));
    see.note('then', getMsr(kernel, vcpu, SYSENTER_CS));
    see.call('run, the guest writes', () => result(kernel.run(vcpu)));
    see.note('at last', getMsr(kernel, vcpu, SYSENTER_CS));
  }),
];
