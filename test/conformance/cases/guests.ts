/** Guests of a few instructions: what each exit shows, and every register at it. */
import { KVM_MEM_READONLY, KVM_SET_REGS, kvm_regs, kvm_run } from 'kvio/uapi';
import { type Case, define, nonZero, type Observer, toFact } from '../case.ts';
import { type Guest, type GuestOptions, noteMemory, type Play, play, startGuest } from '../guest.ts';
import { addRam, getRegs, type Sregs, setRegion } from '../machine.ts';

const HLT = 0xf4;

/** One guest: its code, the state it starts with, how it is answered, and what to look at afterwards. */
interface Program {
  readonly name: string;
  readonly section: string;
  readonly code: readonly number[];
  readonly start?: GuestOptions;
  readonly play?: Play;
  readonly before?: (guest: Guest) => void;
  readonly after?: (guest: Guest, see: Observer) => void;
  /** Backends on which it never leaves KVM_RUN. */
  readonly endless?: readonly string[];
}

const io = 'Completing I/O';
const mm = 'Completing MMIO';

const programs: readonly Program[] = [
  { name: 'hello', section: io, code: [0xba, 0xf8, 0x03, 0xb0, 0x48, 0xee, 0xb0, 0x69, 0xee, HLT] },
  { name: 'out-imm8', section: io, code: [0xb8, 0x34, 0x12, 0xe6, 0x80, 0xe7, 0x81, 0x66, 0xe7, 0x82, HLT] },
  { name: 'out-dx', section: io, code: [0xba, 0x34, 0x12, 0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, 0xee, 0xef, 0x66, 0xef, HLT] },
  { name: 'out-port-0x7e', section: io, code: [0xb0, 1, 0xe6, 0x7e, HLT] },
  {
    name: 'in-widths',
    section: io,
    code: [0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, 0xe4, 0x10, 0xe5, 0x12, 0x66, 0xe5, 0x14, HLT],
    play: { ports: [[0xaa], [0xbb, 0xcc], [1, 2, 3, 4]] },
    start: { regs: { rax: 0xffffffffffffffffn } },
  },
  { name: 'in-dx', section: io, code: [0xba, 0xff, 0xff, 0xec, HLT], play: { ports: [[0x5a]] } },
  {
    name: 'outsb',
    section: io,
    code: [0xba, 0x10, 0, 0xbe, 0, 0x20, 0x6e, 0x6e, HLT],
    start: { data: { 8192: [0x41, 0x42] } },
  },
  {
    name: 'rep-outsb',
    section: io,
    code: [0xba, 0x10, 0, 0xbe, 0, 0x20, 0xb9, 3, 0, 0xf3, 0x6e, HLT],
    start: { data: { 8192: [0x41, 0x42, 0x43] } },
  },
  {
    name: 'rep-outsw-backwards',
    section: io,
    code: [0xfd, 0xba, 0x10, 0, 0xbe, 4, 0x20, 0xb9, 2, 0, 0xf3, 0x6f, HLT],
    start: { data: { 8192: [1, 2, 3, 4, 5, 6] } },
  },
  { name: 'rep-outsb-of-none', section: io, code: [0xba, 0x10, 0, 0x31, 0xc9, 0xf3, 0x6e, HLT] },
  {
    name: 'insb',
    section: io,
    code: [0xba, 0x10, 0, 0xbf, 0, 0x20, 0x6c, 0x6d, HLT],
    play: { ports: [[0x11], [0x22, 0x33]] },
    after: noteMemory([0x2000, 4]),
  },
  {
    name: 'rep-insb',
    section: io,
    code: [0xba, 0x10, 0, 0xbf, 0, 0x20, 0xb9, 5, 0, 0xf3, 0x6c, HLT],
    play: { ports: [[1, 2, 3, 4, 5]] },
    after: noteMemory([0x2000, 6]),
  },
  {
    name: 'rep-insb-2000',
    section: io,
    code: [0xba, 0x10, 0, 0xbf, 0, 0x20, 0xb9, 0xd0, 0x07, 0xf3, 0x6c, HLT],
    play: { ports: [[1, 2, 3], [9]] },
    after: noteMemory([0x23f8, 16], [0x27c8, 16]),
  },
  {
    name: 'rep-insw-across-a-page',
    section: io,
    code: [0xba, 0x10, 0, 0xbf, 0, 0x2f, 0xb9, 0x58, 0x02, 0xf3, 0x6d, HLT],
    play: {
      ports: [
        [1, 2],
        [3, 4],
      ],
    },
    after: noteMemory([0x2ffc, 8]),
  },
  {
    name: 'rep-insd-backwards',
    section: io,
    code: [0xfd, 0xba, 0x10, 0, 0xbf, 0x10, 0x20, 0xb9, 5, 0, 0xf3, 0x66, 0x6d, HLT],
    play: { ports: [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]] },
    after: noteMemory([0x2000, 24]),
  },
  {
    name: 'rep-insw-odd-end-of-page',
    section: io,
    code: [0xba, 0x10, 0, 0xbf, 0xff, 0x2f, 0xb9, 2, 0, 0xf3, 0x6d, HLT],
    play: {
      ports: [
        [1, 2, 3, 4],
        [5, 6],
      ],
    },
    after: noteMemory([0x2ffc, 8]),
  },
  {
    name: 'mmio-write',
    section: mm,
    code: [0xbb, 0, 0, 0xb8, 0x34, 0x12, 0x88, 7, 0x89, 7, 0x66, 0x89, 7, HLT],
    start: { sregs: dsOutside },
  },
  {
    name: 'mmio-read',
    section: mm,
    code: [0xbb, 8, 0, 0x8a, 7, 0x8b, 7, 0x66, 0x8b, 7, HLT],
    start: { sregs: dsOutside, regs: { rax: 0xffffffffffffffffn } },
    play: { mmio: [[0x12], [0x34, 0x56], [1, 2, 3, 4]] },
  },
  {
    name: 'mmio-inc',
    section: mm,
    code: [0xbb, 0, 0, 0xfe, 7, 0xff, 7, HLT],
    start: { sregs: dsOutside },
    play: { mmio: [[0xff], [0xff, 0x00]] },
  },
  {
    name: 'mmio-add',
    section: mm,
    code: [0xbb, 0, 0, 0xb0, 0x80, 0, 7, 2, 7, HLT],
    start: { sregs: dsOutside },
    play: { mmio: [[0x80], [1]] },
  },
  {
    name: 'mmio-xchg',
    section: mm,
    code: [0xbb, 0, 0, 0xb0, 0x99, 0x86, 7, HLT],
    start: { sregs: dsOutside },
    play: { mmio: [[0x11]] },
  },
  {
    name: 'mmio-movs',
    section: mm,
    code: [0xbe, 0, 0x20, 0xbf, 0, 0, 0xa4, 0xa5, HLT],
    start: { sregs: esOutside, data: { 8192: [1, 2, 3] } },
  },
  {
    name: 'mmio-stos',
    section: mm,
    code: [0xb8, 0xcd, 0xab, 0xbf, 0, 0, 0xb9, 2, 0, 0xf3, 0xab, HLT],
    start: { sregs: esOutside },
  },
  {
    name: 'mmio-lods',
    section: mm,
    code: [0xbe, 0, 0, 0xac, 0xad, HLT],
    start: { sregs: dsOutside },
    play: { mmio: [[0x77], [0x88, 0x99]] },
  },
  {
    name: 'mmio-push',
    section: mm,
    code: [0xb8, 0x34, 0x12, 0x50, HLT],
    start: { sregs: (s) => Object.assign(s.ss, { base: 0x30000n, selector: 0x3000 }) },
  },
  {
    name: 'mmio-write-across-pages',
    section: mm,
    code: [0xbb, 0xfe, 0x0f, 0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, 0x66, 0x89, 7, HLT],
    start: { sregs: dsOutside },
  },
  {
    name: 'mmio-read-across-pages',
    section: mm,
    code: [0xbb, 0xff, 0x0f, 0x66, 0x8b, 7, HLT],
    start: { sregs: dsOutside },
    play: { mmio: [[0x11], [0x22, 0x33, 0x44]] },
  },
  {
    name: 'mmio-write-from-ram-into-nothing',
    section: mm,
    code: [0xbb, 0xfe, 0xff, 0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, 0x66, 0x67, 0x89, 3, HLT],
    start: { regs: { rbx: 0n }, sregs: (s) => Object.assign(s.ds, { limit: 0xffffffff }) },
    after: noteMemory([0xfffc, 4]),
  },
  {
    name: 'mmio-read-from-ram-into-nothing',
    section: mm,
    code: [0xbb, 0xfd, 0xff, 0x66, 0x67, 0x8b, 3, HLT],
    start: { sregs: (s) => Object.assign(s.ds, { limit: 0xffffffff }), data: { 65533: [0xa1, 0xa2, 0xa3] } },
    play: { mmio: [[0xa4]] },
  },
  {
    name: 'readonly-slot',
    section: mm,
    code: [0xbb, 0, 0, 0x8a, 7, 0xb0, 0x55, 0x88, 7, 0x8a, 0x27, HLT],
    start: { sregs: (s) => Object.assign(s.ds, { base: 0x40000n, selector: 0x4000 }) },
    before: (guest) => {
      addRam(guest.kernel, guest.vm, 1, 0x40000n, 0x1000, KVM_MEM_READONLY).write(0, Uint8Array.of(0x21));
    },
  },
  {
    name: 'slot-of-a-bad-hva',
    section: mm,
    code: [0xbb, 0, 0, 0x8a, 7, 0x88, 7, HLT],
    start: { sregs: (s) => Object.assign(s.ds, { base: 0x40000n, selector: 0x4000 }) },
    before: (guest) => {
      setRegion(guest.kernel, guest.vm, { slot: 1, guest_phys_addr: 0x40000n, memory_size: 0x1000n, userspace_addr: 0n });
    },
    play: { mmio: [[0x31]] },
  },
  { name: 'hlt', section: 'KVM_EXIT_HLT', code: [HLT, 0x40, HLT, 0x40, HLT], play: { past: 2 } },
  { name: 'hlt-with-interrupts-on', section: 'KVM_EXIT_HLT', code: [0xfb, HLT, 0xfa, HLT], play: { past: 1 } },
  // Protected mode, and no interrupt can be delivered: the first exception becomes a triple fault.
  { name: 'shutdown', section: 'KVM_EXIT_SHUTDOWN', code: [0x40, 0x0f, 0x0b], start: { sregs: withoutIdt } },
  {
    name: 'shutdown-run-again',
    section: 'KVM_EXIT_SHUTDOWN',
    code: [0x0f, 0x0b],
    start: { sregs: withoutIdt },
    play: { past: 2 },
    endless: ['svm'],
  },
  {
    name: 'real-mode-beyond-the-idt-limit',
    section: 'KVM_EXIT_SHUTDOWN',
    code: [0xcd, 0x20, HLT],
    start: { sregs: (s) => Object.assign(s.idt, { base: 0n, limit: 0 }), data: { 128: [0, 0x30, 0, 0], 12288: [HLT] } },
  },
  {
    name: 'real-mode-without-room-on-the-stack',
    section: 'KVM_EXIT_SHUTDOWN',
    code: [0xcd, 0x20, HLT],
    start: { regs: { rsp: 1n }, data: { 128: [0, 0x30, 0, 0], 12288: [HLT], 48: [0, 0x31, 0, 0], 12544: [HLT] } },
    play: { past: 1 },
    endless: ['svm'],
  },
  {
    name: 'interrupt-through-the-ivt',
    section: 'KVM_EXIT_HLT',
    code: [0xcd, 0x20, HLT],
    start: { data: { 128: [0, 0x30, 0, 0], 12288: [0xb0, 7, 0xcf] } },
    after: noteMemory([0x7ffa, 6]),
  },
  {
    name: 'divide-by-zero',
    section: 'KVM_EXIT_HLT',
    code: [0x31, 0xc0, 0xf7, 0xf0],
    start: { data: { 0: [0, 0x30, 0, 0], 12288: [HLT] } },
    after: noteMemory([0x7ffa, 6]),
  },
  { name: 'fetch-from-nothing', section: 'INTERNAL_ERROR', code: [0xea, 0, 0, 0, 0x50], play: { past: 1 } },
  {
    name: 'an-instruction-that-cannot-be-emulated',
    section: 'INTERNAL_ERROR',
    code: [0xf3, 0x0f, 0xb8, 0xc1, HLT],
    play: { past: 1 },
  },
  {
    name: 'int-in-protected-mode',
    section: 'INTERNAL_ERROR',
    code: [0x40, 0xcd, 0x20],
    start: { sregs: withoutIdt },
    play: { past: 1 },
    endless: ['svm'],
  },
  {
    name: 'above-the-segment-limit',
    section: 'KVM_EXIT_HLT',
    code: [0x66, 0xbb, 0, 0, 1, 0, 0x67, 0x8a, 3],
    start: { data: { 52: [0, 0x30, 0, 0], 12288: [HLT] } },
  },
  {
    // Flags are pushed only where the architecture defines them all.
    name: 'arithmetic',
    section: 'KVM_EXIT_HLT',
    code: [
      ...[0xb8, 0xff, 0x7f, 0x05, 0x01, 0x00, 0x9c], // mov ax,0x7fff; add ax,1; pushf
      ...[0x2d, 0x01, 0x00, 0x9c], // sub ax,1; pushf
      ...[0xbb, 0x34, 0x12, 0xf7, 0xe3, 0x05, 0x00, 0x00, 0x9c], // mov bx,0x1234; mul bx; add ax,0; pushf
      ...[0xc1, 0xe0, 0x03, 0xd1, 0xd8, 0x50], // shl ax,3; rcr ax,1; push ax
      ...[0x31, 0xc9, 0x49, 0x9c, HLT], // xor cx,cx; dec cx; pushf; hlt
    ],
    after: noteMemory([0x7ff0, 16]),
  },
  {
    name: 'protected-mode',
    section: 'KVM_EXIT_HLT',
    code: [0xb8, 0x78, 0x56, 0x34, 0x12, 0xa3, 0, 0x20, 0, 0, 0xe7, 0x10, HLT], // mov eax,…; mov [0x2000],eax; out 0x10,eax; hlt
    start: { sregs: protectedMode },
    after: noteMemory([0x2000, 4]),
  },
];

/** DS at 0x20000, where nothing is. */
function dsOutside(s: Sregs): void {
  Object.assign(s.ds, { base: 0x20000n, selector: 0x2000 });
}

/** ES at 0x20000, where nothing is. */
function esOutside(s: Sregs): void {
  Object.assign(s.es, { base: 0x20000n, selector: 0x2000 });
}

/** Flat 32-bit segments, no paging. */
function protectedMode(s: Sregs): void {
  s.cr0 |= 1n;
  Object.assign(s.cs, { base: 0n, limit: 0xffffffff, selector: 8, type: 11, present: 1, dpl: 0, db: 1, s: 1, l: 0, g: 1 });
  for (const segment of [s.ds, s.es, s.ss]) {
    Object.assign(segment, { base: 0n, limit: 0xffffffff, selector: 16, type: 3, present: 1, dpl: 0, db: 1, s: 1, g: 1 });
  }
}

function withoutIdt(s: Sregs): void {
  protectedMode(s);
  Object.assign(s.idt, { base: 0n, limit: 0 });
}

/** Milliseconds for a run of a guest that never leaves on some kernel: it is where it stays long before. */
const ENDLESS = { budget: 2000 };

export const guestCases: Case[] = [
  ...programs.map((program) =>
    define(
      `kvm/guest/${program.name}`,
      program.section,
      (kernel, see) => {
        const guest = startGuest(kernel, program.code, program.start);
        program.before?.(guest);
        play(guest, see, { ...(program.endless && ENDLESS), ...program.play });
        see.note('regs at the end', nonZero(getRegs(kernel, guest.vcpu)));
        program.after?.(guest, see);
      },
      program.endless === undefined ? {} : { needs: { endless: program.endless } },
    ),
  ),
  define('kvm/guest/finish-without-running', io, (kernel, see) => {
    const guest = startGuest(kernel, [0xe4, 0x10, 0xe6, 0x11, 0xa0, 0, 0, HLT], { sregs: dsOutside });
    const { run, vcpu } = guest;
    const finish = (label: string): void => {
      run.set('immediate_exit', 1);
      see.call(label, () => kernel.run(vcpu));
      run.set('immediate_exit', 0);
      see.note(`${label}: exit_reason`, run.get('exit_reason'));
      see.note(`${label}: regs`, nonZero(getRegs(kernel, vcpu)));
    };
    kernel.run(vcpu);
    run.bytes[0x1000] = 0x42;
    finish('IN');
    kernel.run(vcpu);
    finish('OUT');
    kernel.run(vcpu);
    run.bytes[kvm_run.offsetOf('mmio.data')] = 0x24;
    finish('MMIO read');
    see.call('on to the end', () => kernel.run(vcpu));
    see.note('exit_reason', run.get('exit_reason'));
  }),
  define('kvm/guest/finish-page-crossing', mm, (kernel, see) => {
    const guest = startGuest(kernel, [0xbb, 0xff, 0x0f, 0x89, 7, HLT], { sregs: dsOutside, regs: { rax: 0x1234n } });
    const { run, vcpu } = guest;
    const shown = (label: string) =>
      see.note(label, [
        run.get('mmio.phys_addr'),
        run.get('mmio.len'),
        run.slice(kvm_run.offsetOf('mmio.data'), Number(run.get('mmio.len'))),
      ]);
    see.call('first fragment', () => kernel.run(vcpu));
    shown('first');
    run.set('immediate_exit', 1);
    see.call('immediate_exit, but another fragment is due', () => kernel.run(vcpu));
    shown('second');
    see.call('then none', () => kernel.run(vcpu));
    see.note('rip', getRegs(kernel, vcpu).rip);
  }),
  define('kvm/guest/stale-exit-bytes', io, (kernel, see) => {
    const guest = startGuest(kernel, [0xbb, 0, 0, 0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, 0x66, 0x89, 7, 0x8a, 7, 0xe6, 0x10, HLT], {
      sregs: dsOutside,
    });
    const { run, vcpu } = guest;
    const union = () => run.slice(32, 32);
    kernel.run(vcpu);
    see.note('MMIO write of 4', union());
    kernel.run(vcpu);
    see.note('MMIO read of 1: data is stale', union());
    run.bytes[kvm_run.offsetOf('mmio.data')] = 0x99;
    kernel.run(vcpu);
    see.note('OUT', union());
    kernel.run(vcpu);
    see.note('HLT leaves all', union());
  }),
  define('kvm/guest/set-regs-at-an-exit', io, (kernel, see) => {
    const out = startGuest(kernel, [0xe6, 0x10, 0xb3, 1, HLT]);
    kernel.run(out.vcpu);
    see.call('SET_REGS at an OUT', () =>
      kernel.ioctl(out.vcpu, KVM_SET_REGS, kvm_regs.encode({ ...getRegs(kernel, out.vcpu), rcx: 5n })),
    );
    see.call('goes on', () => kernel.run(out.vcpu));
    see.note('regs after OUT', nonZero(getRegs(kernel, out.vcpu)));
    const read = startGuest(kernel, [0xa0, 0, 0, 0xb3, 1, HLT], { sregs: dsOutside });
    kernel.run(read.vcpu);
    see.note('regs at an MMIO read', nonZero(getRegs(kernel, read.vcpu)));
    read.run.bytes[kvm_run.offsetOf('mmio.data')] = 0x66;
    see.call('goes on from an MMIO read', () => kernel.run(read.vcpu));
    see.note('regs after the read', nonZero(getRegs(kernel, read.vcpu)));
  }),
  define('kvm/guest/slot-changes-while-pending', mm, (kernel, see) => {
    const guest = startGuest(kernel, [0xa0, 0, 0, 0x8a, 0x26, 0, 0, HLT], { sregs: dsOutside });
    kernel.run(guest.vcpu);
    addRam(kernel, guest.vm, 1, 0x20000n, 0x1000).write(0, Uint8Array.of(0x12));
    guest.run.bytes[kvm_run.offsetOf('mmio.data')] = 0x34;
    see.call('to the end', () => kernel.run(guest.vcpu));
    see.note('exit_reason', guest.run.get('exit_reason'));
    see.note('the pending read took the page, the next one memory', getRegs(kernel, guest.vcpu).rax);
    see.call('slot deleted', () => setRegion(kernel, guest.vm, { slot: 1 }));
    setAgain(guest);
    see.call('MMIO again', () => kernel.run(guest.vcpu));
    see.note('exit_reason then', guest.run.get('exit_reason'));
  }),
  define('kvm/guest/memory-both-ways', 'Guest memory', (kernel, see) => {
    // mov al,[0x2000]; inc al; mov [0x2000],al; out 0x10,al; jmp back
    const guest = startGuest(kernel, [0xa0, 0, 0x20, 0xfe, 0xc0, 0xa2, 0, 0x20, 0xe6, 0x10, 0xeb, 0xf4]);
    for (const value of [0x10, 0x7f, 0xff]) {
      guest.ram.write8(0x2000, value);
      kernel.run(guest.vcpu);
      see.note(`given 0x${value.toString(16)}`, toFact([guest.ram.read8(0x2000), guest.run.bytes[0x1000]!]));
    }
  }),
  define('kvm/guest/self-modifying', 'Guest memory', (kernel, see) => {
    const guest = startGuest(kernel, [0xc6, 0x06, 0x06, 0x10, 0x42, 0xb0, 0x41, 0xe6, 0x10, 0xeb, 0xf5]); // mov byte [0x1006],0x42; mov al,0x41; out; jmp
    kernel.run(guest.vcpu);
    see.note('code changed by the guest', guest.run.bytes[0x1000]);
    guest.ram.write8(0x1004, 0x43);
    kernel.run(guest.vcpu);
    see.note('code changed by the host', guest.run.bytes[0x1000]);
    guest.ram.write(0x1009, Uint8Array.of(HLT));
    see.call('and again', () => kernel.run(guest.vcpu));
    see.note('exit_reason', guest.run.get('exit_reason'));
  }),
  define('kvm/guest/two-slots-one-memory', 'Guest memory', (kernel, see) => {
    // mov byte [bx],0x5a with ds = 0x2000; then read at ds = 0 through the other slot
    const guest = startGuest(kernel, [0xc6, 0x06, 0, 0x20, 0x5a, HLT], {
      sregs: (s) => Object.assign(s.ds, { base: 0x20000n, selector: 0x2000 }),
    });
    see.call('the same host pages at 0x20000', () =>
      setRegion(kernel, guest.vm, {
        slot: 1,
        guest_phys_addr: 0x20000n,
        memory_size: 0x10000n,
        userspace_addr: guest.ram.address,
      }),
    );
    see.call('KVM_RUN', () => kernel.run(guest.vcpu));
    see.note('written through slot 1', guest.ram.read8(0x2000));
  }),
];

function setAgain(guest: Guest): void {
  guest.kernel.ioctl(guest.vcpu, KVM_SET_REGS, kvm_regs.encode({ ...getRegs(guest.kernel, guest.vcpu), rip: guest.entry }));
}
