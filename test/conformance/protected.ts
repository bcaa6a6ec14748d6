/** Guests in protected and long mode, with descriptor tables, a task state segment and a handler for every vector. */
import type { Kernel } from 'kvio';
import { type Guest, type GuestOptions, startGuest } from './guest.ts';
import { giveHostCpuid } from './long-mode.ts';
import { type Sregs, setSregs } from './machine.ts';

/** Where things are; code is at 0x1000, the stack ends at 0x8000. RAM: 0x20000. */
export const AT = {
  gdt: 0x2000,
  idt: 0x2800,
  tss: 0x3800,
  /** Handler of vector v: 16 bytes at handlers + 16 × v. */
  handlers: 0x4000,
  /** Stack of privilege level 0 in the TSS. */
  innerStack: 0x9000,
  /** Interrupt stack 1 of long mode, not aligned on purpose. */
  ist: 0x9808,
  /** Stack of code at privilege level 3. */
  userStack: 0xa000,
  pageTables: 0x10000,
} as const;

export const HLT = 0xf4;

/** Selectors of the table every such guest has. */
export const SEL = {
  code: 0x08,
  data: 0x10,
  userCode: 0x1b,
  userData: 0x23,
  tss: 0x28,
  /** 28 and 30: the TSS of long mode takes two entries. */
  conforming: 0x38,
  absentCode: 0x40,
  code16: 0x48,
  code64: 0x50,
  userCode64: 0x5b,
  readOnly: 0x60,
  absentData: 0x68,
} as const;

export type Bytes = readonly number[];

/** Little-endian. The operator takes the value modulo 2³²: no byte of it is lost. */
const bytesOf = (value: number, length: number): number[] => Array.from({ length }, (_, i) => (value / 256 ** i) & 0xff);

export const u16 = (value: number): number[] => bytesOf(value, 2);
export const u32 = (value: number): number[] => bytesOf(value, 4);
export const u64 = (value: number): number[] => bytesOf(value, 8);

/** A segment descriptor: access byte (P, DPL, S, type) and flags (G, D/B, L, AVL). */
export const descriptor = (base: number, limit: number, access: number, flags: number): number[] => [
  ...u16(limit & 0xffff),
  ...bytesOf(base, 3),
  access,
  ((limit >> 16) & 15) | (flags << 4),
  base >>> 24,
];

export interface Gate {
  readonly selector?: number;
  readonly offset?: number;
  /** 14: 32- or 64-bit interrupt gate, 15: trap gate, 6 and 7: 16-bit. */
  readonly type?: number;
  readonly dpl?: number;
  readonly present?: number;
  readonly ist?: number;
}

export const gate = (long: boolean, vector: number, options: Gate = {}): number[] => {
  const {
    selector = long ? SEL.code64 : SEL.code,
    offset = AT.handlers + 16 * vector,
    type = 14,
    dpl = 0,
    present = 1,
    ist = 0,
  } = options;
  const low = [...u16(offset & 0xffff), ...u16(selector), ist, (present << 7) | (dpl << 5) | type, ...u16(offset >>> 16)];
  return long ? [...low, ...u64(0)] : low;
};

/** Gates an interrupt table has room for: all 256 of long mode would reach into the TSS. */
const GATES = 0x90;

const plainTables = [false, true].map((long) => Uint8Array.from(Array.from({ length: GATES }, (_, v) => gate(long, v)).flat()));

/** OUT to the port that is the vector, HLT. */
const plainHandlers = Uint8Array.from({ length: 0x1000 }, (_, at) => [0xe6, at >> 4, HLT][at & 15] ?? 0);

/** A copy of entries with some of them replaced. */
function replaced(plain: Uint8Array, size: number, entries: readonly (readonly [number, Bytes])[]): Uint8Array {
  const copy = plain.slice();
  for (const [at, bytes] of entries) copy.set(bytes, at * size);
  return copy;
}

const numbered = <T>(record: Readonly<Record<number, T>> = {}): [number, T][] =>
  Object.entries(record).map(([at, value]) => [Number(at), value]);

export interface ProtectedOptions {
  /** Gates that differ from an interrupt gate of privilege 0 to the vector's handler. */
  readonly gates?: Readonly<Record<number, Gate>>;
  /** Code of handlers; default: OUT to the port that is the vector, HLT. */
  readonly handlers?: Readonly<Record<number, Bytes>>;
  /** Starts at privilege level 3. */
  readonly user?: boolean;
  readonly idtLimit?: number;
  readonly gdt?: Readonly<Record<number, Bytes>>;
  readonly tssLimit?: number;
  /** Bytes of the TSS, by offset. */
  readonly tss?: Readonly<Record<number, Bytes>>;
  readonly rflags?: bigint;
  readonly regs?: GuestOptions['regs'];
  readonly data?: GuestOptions['data'];
  readonly sregs?: (sregs: Sregs) => void;
}

const globalTable = (long: boolean, more: ProtectedOptions): Record<number, Bytes> => ({
  [SEL.code]: descriptor(0, 0xfffff, 0x9b, 0xc),
  [SEL.data]: descriptor(0, 0xfffff, 0x93, 0xc),
  [SEL.userCode & ~3]: descriptor(0, 0xfffff, 0xfb, 0xc),
  [SEL.userData & ~3]: descriptor(0, 0xfffff, 0xf3, 0xc),
  [SEL.tss]: [...descriptor(AT.tss, more.tssLimit ?? 0x67, 0x8b, 0), ...(long ? u64(0) : [])],
  [SEL.conforming]: descriptor(0, 0xfffff, 0x9f, 0xc),
  [SEL.absentCode]: descriptor(0, 0xfffff, 0x1b, 0xc),
  [SEL.code16]: descriptor(0, 0xffff, 0x9b, 0),
  [SEL.code64]: descriptor(0, 0xfffff, 0x9b, 0xa),
  [SEL.userCode64 & ~3]: descriptor(0, 0xfffff, 0xfb, 0xa),
  [SEL.readOnly]: descriptor(0, 0xfffff, 0x91, 0xc),
  [SEL.absentData]: descriptor(0, 0xfffff, 0x13, 0xc),
  ...more.gdt,
});

const segmentOf = (selector: number, type: number, dpl: number, rest: object): object => ({
  base: 0n,
  limit: 0xffffffff,
  selector,
  type,
  present: 1,
  dpl,
  db: 1,
  s: 1,
  l: 0,
  g: 1,
  avl: 0,
  unusable: 0,
  ...rest,
});

function tables(long: boolean, options: ProtectedOptions): Record<number, ArrayLike<number>> {
  const data: Record<number, ArrayLike<number>> = { ...options.data };
  for (const [selector, bytes] of numbered(globalTable(long, options))) data[AT.gdt + selector] = bytes;
  const gates = numbered(options.gates).filter(([v]) => v < GATES);
  data[AT.idt] = replaced(
    plainTables[Number(long)]!,
    long ? 16 : 8,
    gates.map(([v, of]) => [v, gate(long, v, of)]),
  );
  data[AT.handlers] = replaced(plainHandlers, 16, numbered(options.handlers));
  const tss = long
    ? { 4: u64(AT.innerStack), 36: u64(AT.ist), 102: u16(0x68) }
    : { 4: u32(AT.innerStack), 8: u32(SEL.data), 102: u16(0x68) };
  for (const [offset, bytes] of numbered<Bytes>({ ...tss, ...options.tss })) data[AT.tss + offset] = bytes;
  return data;
}

/** Flat 32-bit segments, no paging, interrupts off. */
export function startProtected(kernel: Kernel, code: Bytes, options: ProtectedOptions = {}): Guest {
  const { user = false } = options;
  return startGuest(kernel, code, {
    ram: 0x20000,
    data: tables(false, options),
    regs: { rsp: BigInt(user ? AT.userStack : 0x8000), rflags: options.rflags ?? 2n, ...options.regs },
    sregs(s) {
      const dpl = user ? 3 : 0;
      s.cr0 |= 1n;
      Object.assign(s.cs, segmentOf(user ? SEL.userCode : SEL.code, 11, dpl, {}));
      for (const segment of [s.ds, s.es, s.ss, s.fs, s.gs]) {
        Object.assign(segment, segmentOf(user ? SEL.userData : SEL.data, 3, dpl, {}));
      }
      taskAndTables(s, options, GATES * 8 - 1);
    },
  });
}

/** 64-bit code, the first 2 MiB mapped to themselves for everyone, interrupts off. */
export function startLong(kernel: Kernel, code: Bytes, options: ProtectedOptions = {}): Guest {
  const { user = false } = options;
  const data = tables(true, options);
  data[AT.pageTables] = u64(AT.pageTables + 0x1007);
  data[AT.pageTables + 0x1000] = u64(AT.pageTables + 0x2007);
  data[AT.pageTables + 0x2000] = u64(0x87);
  const regs = { rsp: BigInt(user ? AT.userStack : 0x8000), rflags: options.rflags ?? 2n, ...options.regs };
  const guest = startGuest(kernel, code, { ram: 0x20000, data, regs });
  giveHostCpuid(kernel, guest.vcpu);
  setSregs(kernel, guest.vcpu, (s) => {
    const dpl = user ? 3 : 0;
    s.cr0 = 0x80000011n;
    s.cr3 = BigInt(AT.pageTables);
    s.cr4 = 0x20n;
    s.efer = 0x500n;
    Object.assign(s.cs, segmentOf(user ? SEL.userCode64 : SEL.code64, 11, dpl, { db: 0, l: 1 }));
    for (const segment of [s.ds, s.es, s.ss, s.fs, s.gs]) {
      Object.assign(segment, segmentOf(user ? SEL.userData : SEL.data, 3, dpl, {}));
    }
    taskAndTables(s, options, GATES * 16 - 1);
  });
  return guest;
}

function taskAndTables(s: Sregs, options: ProtectedOptions, idtLimit: number): void {
  const limit = options.tssLimit ?? 0x67;
  // Available, not busy: QEMU, the lab's processor, gives up on a busy one when the privilege level changes.
  Object.assign(s.tr, { ...segmentOf(SEL.tss, 9, 0, {}), base: BigInt(AT.tss), limit, s: 0, db: 0, g: 0 });
  Object.assign(s.gdt, { base: BigInt(AT.gdt), limit: 0x7f });
  Object.assign(s.idt, { base: BigInt(AT.idt), limit: options.idtLimit ?? idtLimit });
  options.sregs?.(s);
}
