/** GET/SET_REGS and GET/SET_SREGS: what is stored, what is checked, in which order. */
import { KVM_GET_REGS, KVM_GET_SREGS, KVM_SET_REGS, KVM_SET_SREGS } from 'kvio/uapi';
import { type Case, changes, define, hex, nonZero, toFact } from '../case.ts';
import { getRegs, getSregs, mapRun, newVcpu, RunPage, type Sregs, setMsr, setRegs, setSregs } from '../machine.ts';

const regs = 'General registers';
const sregsSection = 'Special registers';

const CR0 = { PE: 1n, NW: 1n << 29n, CD: 1n << 30n, PG: 1n << 31n, ET: 1n << 4n };
const CR4_PAE = 1n << 5n;
const EFER = { SCE: 1n, LME: 1n << 8n, LMA: 1n << 10n, NXE: 1n << 11n };

/** One attempt on a fresh state: the errno and, where accepted, what reads back differently from before. */
type Edit = (sregs: Sregs) => void;

const edits: readonly (readonly [string, Edit])[] = [
  ['nothing changed', () => {}],
  ['LME+PG without PAE', (s) => Object.assign(s, { efer: EFER.LME | EFER.LMA, cr0: CR0.PE | CR0.PG | CR0.ET })],
  ['LME+PG without LMA', (s) => Object.assign(s, { efer: EFER.LME, cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE })],
  ['long mode', (s) => Object.assign(s, { efer: EFER.LME | EFER.LMA, cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE })],
  [
    'long mode, CR3 bit 35',
    (s) => Object.assign(s, { efer: EFER.LME | EFER.LMA, cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE, cr3: 1n << 35n }),
  ],
  [
    'long mode, CR3 bit 36',
    (s) => Object.assign(s, { efer: EFER.LME | EFER.LMA, cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE, cr3: 1n << 36n }),
  ],
  [
    'long mode, CR3 bit 63',
    (s) => Object.assign(s, { efer: EFER.LME | EFER.LMA, cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE, cr3: 1n << 63n }),
  ],
  [
    'long mode, CR3 low bits',
    (s) => Object.assign(s, { efer: EFER.LME | EFER.LMA, cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE, cr3: 0xfffn }),
  ],
  ['LMA without LME', (s) => Object.assign(s, { efer: EFER.LMA })],
  ['LMA and LME without PG', (s) => Object.assign(s, { efer: EFER.LME | EFER.LMA })],
  ['LME without PG', (s) => Object.assign(s, { efer: EFER.LME })],
  ['SCE', (s) => Object.assign(s, { efer: EFER.SCE })],
  ['EFER bit 1', (s) => Object.assign(s, { efer: 2n })],
  ['EFER bit 63', (s) => Object.assign(s, { efer: 1n << 63n })],
  ['cs.l outside long mode', (s) => void (s.cs.l = 1)],
  ['CR3 ~0 without paging', (s) => Object.assign(s, { cr3: (1n << 64n) - 1n })],
  ['CR4 bit 63', (s) => Object.assign(s, { cr4: 1n << 63n })],
  ['CR4 bit 32', (s) => Object.assign(s, { cr4: 1n << 32n })],
  ['CR4 bit 15', (s) => Object.assign(s, { cr4: 1n << 15n })],
  ['CR4 VMXE', (s) => Object.assign(s, { cr4: 1n << 13n })],
  ['CR4 SMXE', (s) => Object.assign(s, { cr4: 1n << 14n })],
  ['CR4 VME|PVI|TSD|DE|PSE|PAE|MCE|PGE|PCE|OSFXSR|OSXMMEXCPT', (s) => Object.assign(s, { cr4: 0x7ffn })],
  ['CR0 bit 32', (s) => void (s.cr0 |= 1n << 32n)],
  ['CR0 bit 63', (s) => void (s.cr0 |= 1n << 63n)],
  ['CR0 NW without CD', (s) => Object.assign(s, { cr0: CR0.ET | CR0.NW })],
  ['CR0 CD without NW', (s) => Object.assign(s, { cr0: CR0.ET | CR0.CD })],
  ['CR0 PG without PE', (s) => Object.assign(s, { cr0: CR0.ET | CR0.PG })],
  ['CR0 PE', (s) => Object.assign(s, { cr0: CR0.ET | CR0.PE })],
  ['CR0 PE without ET', (s) => Object.assign(s, { cr0: CR0.PE })],
  ['CR0 0', (s) => Object.assign(s, { cr0: 0n })],
  ['CR0 undefined low bits', (s) => void (s.cr0 |= 0x10ffc0n & ~(1n << 16n))],
  ['PE+PG, 32-bit paging', (s) => Object.assign(s, { cr0: CR0.PE | CR0.PG | CR0.ET, cr3: 0x5000n })],
  [
    'PAE paging, no memory for the PDPTRs',
    (s) => Object.assign(s, { cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE, cr3: 0x5000n }),
  ],
  ['CR2', (s) => Object.assign(s, { cr2: 0xdeadbeefcafen })],
  ['CR2 non-canonical', (s) => Object.assign(s, { cr2: 1n << 62n })],
  ['cr8 5', (s) => Object.assign(s, { cr8: 5n })],
  ['cr8 15', (s) => Object.assign(s, { cr8: 15n })],
  ['cr8 16', (s) => Object.assign(s, { cr8: 16n })],
  ['cr8 ~0', (s) => Object.assign(s, { cr8: (1n << 64n) - 1n })],
  ['apic_base without enable', (s) => Object.assign(s, { apic_base: 0xfee00000n })],
  ['apic_base bit 0', (s) => void (s.apic_base |= 1n)],
  ['apic_base bit 9', (s) => void (s.apic_base |= 1n << 9n)],
  ['apic_base bit 35', (s) => void (s.apic_base |= 1n << 35n)],
  ['apic_base bit 36', (s) => void (s.apic_base |= 1n << 36n)],
  ['apic_base bit 63', (s) => void (s.apic_base |= 1n << 63n)],
  ['apic_base x2APIC', (s) => void (s.apic_base |= 1n << 10n)],
  ['apic_base x2APIC without enable', (s) => Object.assign(s, { apic_base: 0xfee00400n })],
  ['apic_base without BSP', (s) => Object.assign(s, { apic_base: 0xfee00800n })],
  ['apic_base elsewhere', (s) => Object.assign(s, { apic_base: 0x12345900n })],
  [
    'an absurd segment',
    (s) =>
      Object.assign(s.ds, {
        base: 0xdeadbeef000n,
        limit: 0x12345,
        selector: 0xffff,
        type: 15,
        present: 0,
        dpl: 3,
        db: 1,
        s: 0,
        l: 1,
        g: 1,
        avl: 1,
      }),
  ],
  ['segment base non-canonical', (s) => void (s.fs.base = 1n << 60n)],
  ['an unusable segment', (s) => Object.assign(s.gs, { unusable: 1, present: 1 })],
  ['an unusable segment that is not present', (s) => Object.assign(s.gs, { unusable: 1, present: 0 })],
  ['cs: flat 32-bit', (s) => Object.assign(s.cs, { base: 0n, limit: 0xffffffff, db: 1, g: 1, selector: 8, type: 11 })],
  ['cs: type without accessed', (s) => Object.assign(s.cs, { type: 10 })],
  [
    'tr and ldt',
    (s) => {
      Object.assign(s.tr, { base: 0x1000n, limit: 0x67, selector: 0x18, type: 11 });
      Object.assign(s.ldt, { base: 0x2000n, selector: 0x20 });
    },
  ],
  [
    'gdt and idt',
    (s) => {
      Object.assign(s.gdt, { base: 0x3000n, limit: 0x7f });
      Object.assign(s.idt, { base: 0x4000n, limit: 0x3ff });
    },
  ],
  ['interrupt_bitmap, two bits', (s) => void ((s.interrupt_bitmap as bigint[])[0] = (1n << 33n) | (1n << 40n))],
  ['interrupt_bitmap, vector 255', (s) => void ((s.interrupt_bitmap as bigint[])[3] = 1n << 63n)],
  ['bad CR4 and bad CR0', (s) => Object.assign(s, { cr4: 1n << 63n, cr0: 1n << 63n })],
];

export const registerCases: Case[] = [
  define('kvm/regs/set', regs, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.call('GET_REGS, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_REGS, 0));
    see.call('SET_REGS, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_REGS, 0));
    see.call('GET_REGS, pointer in the kernel half', () => kernel.ioctl(vcpu, KVM_GET_REGS, 0xffff800000000000n));
    const all = {
      rax: 0x1111111111111111n, rbx: 0x2222222222222222n, rcx: 3n, rdx: 4n, rsi: 5n, rdi: 6n, rsp: 7n, rbp: 8n,
      r8: 9n, r9: 10n, r10: 11n, r11: 12n, r12: 13n, r13: 14n, r14: 15n, r15: (1n << 64n) - 1n, rip: 0x1234n, rflags: 2n,
    }; // biome-ignore format: one row a register group
    see.call('SET_REGS', () => setRegs(kernel, vcpu, all));
    see.note('all read back', nonZero(getRegs(kernel, vcpu)));
    see.call('rip non-canonical', () => setRegs(kernel, vcpu, { rip: 1n << 62n }));
    see.note('rip reads back', getRegs(kernel, vcpu).rip);
    for (const rflags of [0n, 2n, 0x246n, 0x200n, 0x3f7fd7n, 0x8000n, 0x20000n, 0x100n, 1n << 32n, (1n << 64n) - 1n]) {
      see.call(`rflags ${hex(rflags)}`, () => setRegs(kernel, vcpu, { rflags }));
      see.note(`rflags ${hex(rflags)} reads back`, getRegs(kernel, vcpu).rflags);
    }
  }),
  define('kvm/regs/two-vcpus', regs, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const other = newVcpu(kernel).vcpu;
    setRegs(kernel, vcpu, { rax: 1n });
    see.note('another vCPU is not touched', getRegs(kernel, other).rax);
  }),
  define('kvm/sregs/argument', sregsSection, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.call('GET_SREGS, pointer 0', () => kernel.ioctl(vcpu, KVM_GET_SREGS, 0));
    see.call('SET_SREGS, pointer 0', () => kernel.ioctl(vcpu, KVM_SET_SREGS, 0));
  }),
  ...edits.map(([name, edit]) =>
    define(`kvm/sregs/set: ${name}`, sregsSection, (kernel, see) => {
      const { vcpu } = newVcpu(kernel);
      const before = toFact(getSregs(kernel, vcpu));
      see.call('SET_SREGS', () => setSregs(kernel, vcpu, edit));
      see.note('changed', changes(before, toFact(getSregs(kernel, vcpu))));
    }),
  ),
  define('kvm/sregs/interrupt-bitmap', sregsSection, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const bitmap = () => getSregs(kernel, vcpu).interrupt_bitmap;
    setSregs(kernel, vcpu, (s) => void ((s.interrupt_bitmap as bigint[])[0] = 1n << 32n));
    see.note('set', bitmap());
    setSregs(kernel, vcpu, (s) => void ((s.interrupt_bitmap as bigint[])[0] = 0n));
    see.note('an empty bitmap cancels nothing', bitmap());
    setSregs(kernel, vcpu, (s) => void ((s.interrupt_bitmap as bigint[])[0] = 1n << 33n));
    see.note('another vector replaces', bitmap());
  }),
  define('kvm/sregs/refused-changes-nothing', sregsSection, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const before = toFact(getSregs(kernel, vcpu));
    for (const [label, edit] of [
      ['bad CR0', (s: Sregs) => Object.assign(s, { cr0: 1n << 63n, cr2: 1n, idt: { ...s.idt, base: 0x5000n } })],
      ['bad EFER', (s: Sregs) => Object.assign(s, { efer: 1n << 63n, cr2: 1n })],
      ['bad apic_base', (s: Sregs) => Object.assign(s, { apic_base: 1n, cr2: 1n, cr8: 3n, cr0: 0x11n })],
    ] as const) {
      see.call(label, () => setSregs(kernel, vcpu, edit));
      see.note(`${label}: changed`, changes(before, toFact(getSregs(kernel, vcpu))));
    }
  }),
  define('kvm/sregs/cr8-and-run', sregsSection, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const run = new RunPage(mapRun(kernel, vcpu));
    setSregs(kernel, vcpu, (s) => void (s.cr8 = 7n));
    see.note('run.cr8 is not written by SET_SREGS', run.get('cr8'));
    run.set('immediate_exit', 1);
    see.call('KVM_RUN', () => kernel.run(vcpu));
    see.note('cr8 afterwards: run.cr8 won', getSregs(kernel, vcpu).cr8);
    run.set('cr8', 9n);
    kernel.run(vcpu);
    see.note('cr8 from run.cr8', getSregs(kernel, vcpu).cr8);
    setSregs(kernel, vcpu, (s) => void (s.cr8 = 3n));
    see.note('and SET_SREGS again', getSregs(kernel, vcpu).cr8);
  }),
  define('kvm/sregs/long-mode-and-efer', sregsSection, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    see.call('long mode', () =>
      setSregs(kernel, vcpu, (s) =>
        Object.assign(s, { efer: EFER.LME | EFER.LMA, cr0: CR0.PE | CR0.PG | CR0.ET, cr4: CR4_PAE, cs: { ...s.cs, l: 1 } }),
      ),
    );
    see.call('cs.l and cs.db', () => setSregs(kernel, vcpu, (s) => Object.assign(s.cs, { l: 1, db: 1 })));
    see.call('leave it: PG off, LMA kept', () => setSregs(kernel, vcpu, (s) => void (s.cr0 = CR0.PE)));
    see.call('leave it: PG off, LMA off, cs.l kept', () =>
      setSregs(kernel, vcpu, (s) => Object.assign(s, { cr0: CR0.PE, efer: EFER.LME })),
    );
    see.call('leave it wholly', () =>
      setSregs(kernel, vcpu, (s) => Object.assign(s, { cr0: CR0.PE, efer: 0n, cs: { ...s.cs, l: 0, db: 0 } })),
    );
    see.call('EFER by SET_MSRS: LME', () => setMsr(kernel, vcpu, 0xc0000080, EFER.LME));
    see.note('EFER in sregs', getSregs(kernel, vcpu).efer);
  }),
];
