import { hex } from '../kernel/inspect.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { KvmExit } from '../kvm/exits.ts';
import { describeExit } from '../kvm/show.ts';
import { Kvm } from '../kvm/system.ts';
import type { Vcpu } from '../kvm/vcpu.ts';

/** A guest of a few instructions, and what plays the devices it talks to. */
export interface Guest {
  readonly name: string;
  readonly listing: string;
  /** Put at guest-physical 0x1000, where the vCPU starts. */
  readonly code: readonly number[];
  readonly answer?: (exit: KvmExit) => void;
  readonly prepare?: (vcpu: Vcpu) => void;
}

/** What was seen of a guest: one line per exit, then the registers. */
export interface Observed {
  readonly exits: readonly string[];
  readonly registers: readonly string[];
  /** Why it could not be run to its end. */
  readonly error?: string;
}

const CODE = 0x1000;
const RAM_SIZE = 0x2000;
/** A guest that has not stopped by then is not one of these. */
const MAX_EXITS = 64;

const text = (value: string): number[] => [...new TextEncoder().encode(value), 0];

/** Bytes 1, 2, 3 … into whatever the guest reads. */
function count(exit: KvmExit): void {
  const reads = (exit.reason === 'io' && exit.direction === 0) || (exit.reason === 'mmio' && !exit.is_write);
  if (reads) exit.data.set(exit.data.map((_, index) => index + 1));
}

export const guests: readonly Guest[] = [
  {
    name: 'hello',
    listing: 'lodsb; out dx, al; until NUL',
    // mov si, 0x100f; mov dx, 0x3f8; l: lodsb; test al, al; jz end; out dx, al; jmp l; end: hlt
    code: [0xbe, 0x0f, 0x10, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xf4, ...text('Hello')],
  },
  {
    name: 'ports',
    listing: 'in and out of 8, 16, 32 bits',
    // in al, 0x10; out 0x11, al; in ax, 0x12; out 0x14, ax; in eax, 0x18; out 0x1c, eax; hlt
    code: [0xe4, 0x10, 0xe6, 0x11, 0xe5, 0x12, 0xe7, 0x14, 0x66, 0xe5, 0x18, 0x66, 0xe7, 0x1c, 0xf4],
    answer: count,
  },
  {
    name: 'string I/O',
    listing: 'rep insb; rep outsw',
    // mov di, 0x1800; mov cx, 6; mov dx, 0x60; rep insb; mov si, 0x1800; mov cx, 3; mov dx, 0x3f8; rep outsw; hlt
    code: [
      0xbf, 0x00, 0x18, 0xb9, 6, 0, 0xba, 0x60, 0x00, 0xf3, 0x6c, 0xbe, 0x00, 0x18, 0xb9, 3, 0, 0xba, 0xf8, 0x03, 0xf3, 0x6f,
      0xf4,
    ],
    answer: count,
  },
  {
    name: 'MMIO',
    listing: 'mov and inc where no memslot is',
    // mov ax, [0xd000]; mov [0xd004], ax; inc byte [0xd008]; hlt
    code: [0xa1, 0x00, 0xd0, 0xa3, 0x04, 0xd0, 0xfe, 0x06, 0x08, 0xd0, 0xf4],
    answer: count,
  },
  {
    name: 'shutdown',
    listing: 'protected mode, empty IDT: ud2 is a triple fault',
    code: [0x0f, 0x0b],
    prepare: (vcpu) => {
      const sregs = vcpu.getSregs();
      const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 0, db: 1, s: 1, l: 0, g: 1, avl: 0, unusable: 0 };
      const data = { ...flat, selector: 0x10, type: 3 };
      const [ds, es, fs, gs, ss] = [data, data, data, data, data];
      vcpu.setSregs({
        ...sregs,
        ...{ ds, es, fs, gs, ss, cs: { ...flat, selector: 8, type: 11 } },
        ...{ cr0: sregs.cr0 | 1n, idt: { base: 0n, limit: 0 } },
      });
    },
  },
];

const shownRegisters = ['rip', 'rflags', 'rax', 'rcx', 'rdx', 'rsi', 'rdi'] as const;

/** Runs the guest until it halts, shuts down or does something unforeseen. */
export function observe(kernel: Kernel, guest: Guest): Observed {
  const exits: string[] = [];
  let registers: string[] = [];
  try {
    using kvm = Kvm.open(kernel);
    using vm = kvm.createVm();
    using ram = kernel.guestRam(RAM_SIZE);
    ram.write(0, Uint8Array.from(guest.code));
    vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: BigInt(CODE), memory: ram });
    using vcpu = vm.createVcpu(0);
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
    guest.prepare?.(vcpu);
    vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rflags: 2n });
    for (const exit of vcpu.exits()) {
      exits.push(describeExit(exit));
      if (exit.reason !== 'io' && exit.reason !== 'mmio') break;
      if (exits.length === MAX_EXITS) throw new Error(`not finished after ${MAX_EXITS} exits`);
      guest.answer?.(exit);
    }
    const regs = vcpu.getRegs();
    registers = shownRegisters.map((name) => `${name} ${hex(regs[name])}`);
  } catch (error) {
    return { exits, registers, error: `${(error as Error).name}: ${(error as Error).message}` };
  }
  return { exits, registers };
}
