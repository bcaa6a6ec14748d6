/** What fuzzing found where guests run on the processor itself, in the fewest calls that show it. */
import type { Kernel } from 'kvio';
import { type Case, define, type Observer, result } from '../case.ts';
import { startGuest } from '../guest.ts';
import { addRam, getRegs, getSregs, mapRun, newVcpu, RunPage, type Sregs, setRegs, setSregs } from '../machine.ts';

const HLT = 0xf4;

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
];
