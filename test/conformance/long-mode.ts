/**
 * Guests in long mode and in paged protected mode: page tables, GDT, control registers and EFER set up through KVM_SET_SREGS, so that
 * the code begins in the mode it is about. Played like a real-mode guest (guest.ts).
 *
 * 256 KiB of RAM at 0, mapped at its own address and, in long mode, a second time at `HIGH`.
 */
import type { Kernel } from 'kvio';
import { KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2 } from 'kvio/uapi';
import { type Case, define, type Observer } from './case.ts';
import { type Guest, type Play, play } from './guest.ts';
import {
  addRam,
  cpuidBytes,
  getRegs,
  mapRun,
  newVcpu,
  openKvm,
  type Regs,
  RunPage,
  type Sregs,
  setRegs,
  setSregs,
} from './machine.ts';

export const RAM_SIZE = 0x40000;
/** Where the code is put and begins. */
export const CODE = 0x1000;
/** Free for data: one page mapped like all others. */
export const DATA = 0x2000;
/** Empty 64-bit TSS, zeroes: RSP0 … IST7 are the guest's to fill in. */
export const TSS = 0x4000;
/** Empty interrupt table of 256 16-byte gates. */
export const IDT = 0x5000;
export const GDT = 0x6000;
/** Top of the stack, which has the page below. */
export const STACK = 0x9000;
/** Page tables: level 4, 3, 2, and one of 4 KiB pages for the first 2 MiB. */
export const PML4 = 0x10000;
export const PDPT = 0x11000;
export const PD = 0x12000;
export const PT = 0x13000;
/** The second place where the first 2 MiB are mapped, by a large page. */
export const HIGH = 0xffff_ffff_8000_0000n;

/** Selectors of the table at `GDT`; code and data of level 3 in the order SYSRET and SYSEXIT want. */
export const SELECTORS = {
  code64: 0x08,
  data: 0x10,
  code32: 0x18,
  userCode32: 0x23,
  userData: 0x2b,
  userCode64: 0x33,
  tss: 0x40,
} as const;

const P = 1n;
const RW = 2n;
const US = 4n;
const PS = 0x80n;

export const CR0_PE = 1n;
export const CR0_ET = 0x10n;
export const CR0_WP = 0x1_0000n;
export const CR0_PG = 0x8000_0000n;
export const CR4_PSE = 0x10n;
export const CR4_PAE = 0x20n;
export const EFER_SCE = 1n;
export const EFER_LME = 0x100n;
export const EFER_LMA = 0x400n;
export const EFER_NX = 0x800n;

/** Flat descriptors: type, DPL, L and D differ. */
const descriptor = (type: number, dpl: number, l: number, d: number): bigint =>
  0x000f_0000_0000_ffffn | (BigInt(0x80 | (dpl << 5) | 0x10 | type) << 40n) | (BigInt(0x8 | (d << 2) | (l << 1)) << 52n);

const TABLE: readonly bigint[] = [
  0n,
  descriptor(0xb, 0, 1, 0),
  descriptor(3, 0, 0, 1),
  descriptor(0xb, 0, 0, 1),
  descriptor(0xb, 3, 0, 1),
  descriptor(3, 3, 0, 1),
  descriptor(0xb, 3, 1, 0),
  0n,
  // A busy TSS of 0x68 bytes.
  0x0000_8b00_0000_0067n | (BigInt(TSS) << 16n),
  0n,
];

export const segment = (selector: number, type: number, l: number, db: number): Sregs['cs'] => ({
  base: 0n,
  limit: 0xffffffff,
  selector,
  type,
  present: 1,
  dpl: selector & 3,
  db,
  s: 1,
  l,
  g: 1,
  avl: 0,
  unusable: 0,
  padding: 0,
});

/**
 * `long`: 64-bit code. `compat`: 32-bit code under long-mode paging. `pae`, `legacy`: 32-bit code under three-level and two-level
 * paging. `flat`: 32-bit code without paging.
 */
export type Mode = 'long' | 'compat' | 'pae' | 'legacy' | 'flat';

export interface LongModeOptions {
  /** Default 'long'. */
  readonly mode?: Mode;
  /** Default 0; 3 begins with the level-3 segments. */
  readonly cpl?: 0 | 3;
  /** Where in RAM the code lies and begins; default `CODE`. */
  readonly entry?: number;
  readonly regs?: Partial<Regs>;
  readonly sregs?: (sregs: Sregs) => void;
  /** Other bytes in RAM, by address. */
  readonly data?: Readonly<Record<number, readonly number[]>>;
  /** Page-table entries, by address: 8 bytes each (4 with two-level paging). Applied after those that map the RAM. */
  readonly entries?: Readonly<Record<number, bigint>>;
  /** Page tables of another mode than the guest begins in. */
  readonly tables?: Mode;
  /** Do not give the guest the host's CPUID: no feature that KVM asks CPUID for can then be used. */
  readonly noCpuid?: boolean;
}

function pages(mode: Mode): [number, bigint][] {
  const all = P | RW | US;
  const small = (size: number, from: number): [number, bigint][] =>
    Array.from({ length: RAM_SIZE / 0x1000 }, (_, n) => [from + n * size, BigInt(n * 0x1000) | all]);
  if (mode === 'flat') return [];
  if (mode === 'legacy') return [[PML4, BigInt(PT) | all], ...small(4, PT)];
  // Three-level paging: PDPTEs have no R/W and U/S.
  if (mode === 'pae') return [[PML4, BigInt(PD) | P], [PD, BigInt(PT) | all], ...small(8, PT)];
  return [
    [PML4, BigInt(PDPT) | all],
    [PML4 + 511 * 8, BigInt(PDPT) | all],
    [PDPT, BigInt(PD) | all],
    [PDPT + 510 * 8, BigInt(PD + 0x8000) | all],
    [PD, BigInt(PT) | all],
    [PD + 0x8000, all | PS],
    ...small(8, PT),
  ];
}

/** Gives the vCPU the CPUID the host supports. */
export function giveHostCpuid(kernel: Kernel, vcpu: number): void {
  const kvm = openKvm(kernel);
  const bytes = cpuidBytes([], 256, 256);
  kernel.ioctl(kvm, KVM_GET_SUPPORTED_CPUID, bytes);
  kernel.close(kvm);
  kernel.ioctl(vcpu, KVM_SET_CPUID2, bytes);
}

/** The state a guest of this mode begins in, as KVM_SET_SREGS takes it. */
export function enterMode(sregs: Sregs, mode: Mode, cpl: 0 | 3): void {
  const long = mode === 'long' || mode === 'compat';
  const user = cpl === 3;
  const code =
    mode === 'long' ? (user ? SELECTORS.userCode64 : SELECTORS.code64) : user ? SELECTORS.userCode32 : SELECTORS.code32;
  const data = segment(user ? SELECTORS.userData : SELECTORS.data, 3, 0, 1);
  Object.assign(sregs, { cs: segment(code, 0xb, Number(mode === 'long'), Number(mode !== 'long')) });
  for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) Object.assign(sregs, { [name]: { ...data } });
  Object.assign(sregs.tr, { base: BigInt(TSS), limit: 0x67, selector: SELECTORS.tss, type: 11, s: 0, present: 1, unusable: 0 });
  Object.assign(sregs.gdt, { base: BigInt(GDT), limit: TABLE.length * 8 - 1 });
  Object.assign(sregs.idt, { base: BigInt(IDT), limit: 0xfff });
  sregs.cr0 = CR0_PE | CR0_ET | (mode === 'flat' ? 0n : CR0_PG);
  sregs.cr3 = mode === 'flat' ? 0n : BigInt(PML4);
  sregs.cr4 = long || mode === 'pae' ? CR4_PAE : 0n;
  sregs.efer = long ? EFER_LME | EFER_LMA : 0n;
}

/** Starts `code` in long mode (or another `mode`). CPL 0, RSP at `STACK`, interrupts off. */
export function longModeGuest(kernel: Kernel, code: readonly number[], options: LongModeOptions = {}): Guest {
  const { mode = 'long', cpl = 0, entry = CODE } = options;
  const { vm, vcpu } = newVcpu(kernel);
  const ram = addRam(kernel, vm, 0, 0n, RAM_SIZE);
  const put64 = (at: number, value: bigint): void => ram.write(at, new Uint8Array(BigUint64Array.of(value).buffer));
  const put32 = (at: number, value: bigint): void => ram.write(at, new Uint8Array(Uint32Array.of(Number(value)).buffer));
  for (const [i, value] of TABLE.entries()) put64(GDT + i * 8, value);
  const entries = [
    ...pages(options.tables ?? mode),
    ...Object.entries(options.entries ?? {}).map(([at, value]) => [Number(at), value] as const),
  ];
  for (const [at, value] of entries) ((options.tables ?? mode) === 'legacy' ? put32 : put64)(at, value);
  for (const [at, bytes] of Object.entries(options.data ?? {})) ram.write(Number(at), Uint8Array.from(bytes));
  ram.write(entry, Uint8Array.from(code));
  if (!options.noCpuid) giveHostCpuid(kernel, vcpu);
  setSregs(kernel, vcpu, (sregs) => {
    enterMode(sregs, mode, cpl);
    options.sregs?.(sregs);
  });
  setRegs(kernel, vcpu, { rip: BigInt(entry), rflags: 2n, rsp: BigInt(STACK), ...options.regs });
  return { kernel, vm, vcpu, run: new RunPage(mapRun(kernel, vcpu)), ram, entry: BigInt(entry) };
}

/** Where the handler of vector 0 is: a HLT, sixteen bytes apart. */
export const HANDLERS = 0x3000;

/** Interrupt gates for the 32 exceptions, and their handlers, which halt. */
export function haltingHandlers(mode: Mode): Record<number, readonly number[]> {
  const long = mode === 'long' || mode === 'compat';
  const data: Record<number, readonly number[]> = {};
  for (let vector = 0; vector < 32; vector++) {
    const handler = HANDLERS + vector * 16;
    const gate = [handler & 0xff, handler >> 8, long ? SELECTORS.code64 : SELECTORS.code32, 0, 0, 0x8e, 0, 0];
    data[IDT + vector * (long ? 16 : 8)] = long ? [...gate, 0, 0, 0, 0, 0, 0, 0, 0] : gate;
    data[handler] = [0xf4];
  }
  return data;
}

/** A guest with halting handlers: its code, how it begins, how it is answered, what to look at afterwards. */
export interface Program {
  readonly name: string;
  readonly code: readonly number[];
  readonly start?: LongModeOptions;
  readonly play?: Play;
  readonly after?: (guest: Guest, see: Observer) => void;
}

export function modeCases(area: string, section: string, programs: readonly Program[]): Case[] {
  return programs.map(({ name, code, start, play: plan, after }) =>
    define(`${area}/${name}`, section, (kernel, see) => {
      const data = { ...haltingHandlers(start?.mode ?? 'long'), ...start?.data };
      const guest = longModeGuest(kernel, code, { ...start, data });
      play(guest, see, { most: 12, ...plan });
      noteFrame(guest, see);
      after?.(guest, see);
    }),
  );
}

/** Where a handler has been entered: which, and what the processor has put on the stack. */
function noteFrame({ kernel, vcpu, ram }: Guest, see: Observer): void {
  const { rip, rsp } = getRegs(kernel, vcpu);
  const vector = Number(rip) - 1 - HANDLERS;
  if (vector < 0 || vector >= 32 * 16) return;
  const at = Number(rsp & 0x1fffffn);
  see.note(`frame of exception ${vector >> 4}`, ram.read(at, Math.min(48, RAM_SIZE - at)));
}
