import { KVM_MP_STATE_RUNNABLE, KVM_SREGS2_FLAGS_PDPTRS_VALID, kvm_sregs, kvm_sregs2 } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { CS, EFER_LMA, EFER_LME, EFER_NX, EFER_SVME } from '../cpu/state.ts';
import type { Process } from '../process.ts';
import { MSR_IA32_APICBASE_BSP } from './apic-regs.ts';
import { deliverPayloadToSave } from './events.ts';
import { setApicBase } from './lapic-state.ts';
import { HostPageFault, MemoryFault } from './memory-fault.ts';
import { viewOf } from './regs.ts';
import { deriveSegments, truncateSegments } from './svm-segments.ts';
import type { Vcpu } from './vcpu.ts';

const at = (path: string): number => kvm_sregs.offsetOf(path);
const CS_L: number = at('cs.l');
const CR0: number = at('cr0');
const CR3: number = at('cr3');
const CR4: number = at('cr4');
const CR8: number = at('cr8');
const EFER: number = at('efer');
const APIC_BASE: number = at('apic_base');
const BITMAP: number = at('interrupt_bitmap');
const SREGS2_FLAGS: number = kvm_sregs2.offsetOf('flags');
const PDPTRS: number = kvm_sregs2.offsetOf('pdptrs');
/** Padding byte of each of the eight segments. */
const SEGMENT_PADDING: readonly number[] = ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'].map((name) => at(`${name}.padding`));

const CR0_PE = 1n;
const CR0_NW = 1n << 29n;
const CR0_CD = 1n << 30n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;

/** CR4 bits by the guest CPUID bit that allows them: [bit, leaf, register, bit there]. VME … PCE, OSFXSR, OSXMMEXCPT are always legal. */
const CR4_OLD = 0x7ffn;
const CR4_FEATURES: readonly (readonly [number, number, 'ebx' | 'ecx' | 'edx', number])[] = [
  [11, 7, 'ecx', 2],
  [12, 7, 'ecx', 16],
  [13, 1, 'ecx', 5],
  [16, 7, 'ebx', 0],
  [17, 1, 'ecx', 17],
  [18, 1, 'ecx', 26],
  [20, 7, 'ebx', 7],
  [21, 7, 'ebx', 20],
  [22, 7, 'ecx', 3],
  [23, 7, 'ecx', 7],
];

/** EFER bits by guest CPUID leaf 0x80000001: NX, LME and LMA, SVME, FFXSR. SCE is always legal. */
const EFER_FEATURES: readonly (readonly [bigint, 'ecx' | 'edx', number])[] = [
  [EFER_NX, 'edx', 20],
  [EFER_LME | EFER_LMA, 'edx', 29],
  [EFER_SVME, 'ecx', 2],
  [1n << 14n, 'edx', 25],
];

export function legalCr4(vcpu: Vcpu): bigint {
  const { backend, cpuid } = vcpu;
  if (backend.cr4 !== 'cpuid') return backend.cr4;
  return CR4_FEATURES.reduce(
    (bits, [bit, leaf, register, n]) => (cpuid.has(leaf, 0, register, n) ? bits | (1n << BigInt(bit)) : bits),
    CR4_OLD,
  );
}

function legalEfer(vcpu: Vcpu): bigint {
  return EFER_FEATURES.reduce(
    (bits, [mask, register, n]) => (vcpu.cpuid.has(0x80000001, 0, register, n) ? bits | (mask & vcpu.backend.eferBits) : bits),
    1n,
  );
}

/** The checks of KVM_SET_SREGS before anything changes: true when the state is legal. `view` begins with `struct kvm_sregs`. */
function legalSregs(vcpu: Vcpu, view: DataView, from: number): boolean {
  const get = (offset: number): bigint => view.getBigUint64(from + offset, true);
  const cr0 = get(CR0);
  const cr4 = get(CR4);
  const efer = get(EFER);
  if (efer & EFER_LME && cr0 & CR0_PG) {
    if (!(cr4 & CR4_PAE) || !(efer & EFER_LMA)) return false;
    if (get(CR3) >> BigInt(vcpu.cpuid.maxphyaddr)) return false;
  } else if (efer & EFER_LMA || view.getUint8(from + CS_L)) return false;
  if (cr4 & ~legalCr4(vcpu)) return false;
  if (cr0 >> 32n || (cr0 & CR0_NW && !(cr0 & CR0_CD)) || (cr0 & CR0_PG && !(cr0 & CR0_PE))) return false;
  const checksEfer = vcpu.backend.checksEfer && has(vcpu.vm.machine, 'sregsCheckEfer');
  return !(checksEfer && efer & ~legalEfer(vcpu));
}

/** `struct kvm_sregs` up to the interrupt bitmap. */
function storeCommon(vcpu: Vcpu, view: DataView, from: number): void {
  deliverPayloadToSave(vcpu);
  vcpu.cpu.storeSregs(view, from);
  if (vcpu.backend.vmcbSegments) deriveSegments(view, from);
  view.setBigUint64(from + APIC_BASE, vcpu.apicBase, true);
  if (vcpu.backend.echoesSegmentPadding) {
    SEGMENT_PADDING.forEach((offset, i) => {
      view.setUint8(from + offset, vcpu.segmentPadding[i]!);
    });
  }
}

/** The bit of the injected interrupt, if it is an external one, joins what the bitmap holds: nothing with KVM_GET_SREGS, anything in kvm_run. */
export function storeSregs(vcpu: Vcpu, view: DataView, from: number): void {
  storeCommon(vcpu, view, from);
  const { injected, nr, soft } = vcpu.cpu.events.interrupt;
  if (!injected || soft) return;
  const word = from + BITMAP + (nr >> 6) * 8;
  view.setBigUint64(word, view.getBigUint64(word, true) | (1n << BigInt(nr & 63)), true);
}

/** Checks, then everything but the last field; 0 or −EINVAL with nothing changed. */
function loadCommon(vcpu: Vcpu, view: DataView, from: number): number {
  if (!legalSregs(vcpu, view, from)) return -EINVAL;
  const apicBase = view.getBigUint64(from + APIC_BASE, true);
  if (!setApicBase(vcpu, apicBase, true)) return -EINVAL;
  const { cpu, backend } = vcpu;
  const get = (offset: number): bigint => view.getBigUint64(from + offset, true);
  const mmuReset = get(CR0) !== BigInt(cpu.cr0) || get(CR3) !== cpu.cr3 || get(CR4) !== cpu.cr4 || get(EFER) !== cpu.efer;
  if (mmuReset && vcpu.completion !== undefined && backend.turn !== undefined) vcpu.completion.dropped = true;
  if (mmuReset) vcpu.rootLostAt = vcpu.rootLoadedAt = undefined;
  cpu.loadSregs(view, from);
  if (get(CR8) <= 15n) vcpu.lapic?.setTpr(Number(get(CR8)) << 4);
  vcpu.lapic?.refresh();
  wakeAtReset(vcpu);
  // Entries that are illegal, or not in RAM, leave the old ones.
  if (paePaging(BigInt(cpu.cr0), cpu.cr4, cpu.efer)) loadPdptrs(vcpu);
  if (backend.vmcbSegments) truncateSegments(cpu);
  vcpu.vmcbChanged = backend.vmcbSegments;
  SEGMENT_PADDING.forEach((offset, i) => {
    vcpu.segmentPadding[i] = view.getUint8(from + offset);
  });
  const longMode = (cpu.efer & EFER_LME) !== 0n;
  if (backend.dropsLegacyPaging && !longMode && cpu.cr0 & 0x80000000) {
    cpu.cr0 = (cpu.cr0 & 0x7fffffff) >>> 0;
    cpu.refresh();
    vcpu.tripleFault = true;
  }
  return 0;
}

function loadPdptrs({ cpu }: Vcpu): void {
  try {
    cpu.loadPdptrs();
  } catch (error) {
    if (!(error instanceof HostPageFault || error instanceof MemoryFault)) throw error;
  }
}

/** Older userspace does not unhalt a boot processor that it resets. */
function wakeAtReset(vcpu: Vcpu): void {
  const { cpu, apicBase } = vcpu;
  const { selector, base } = cpu.segments[CS]!;
  const atVector = cpu.rip === 0xfff0n && selector === 0xf000 && base === 0xffff0000n && (BigInt(cpu.cr0) & CR0_PE) === 0n;
  if (apicBase & MSR_IA32_APICBASE_BSP && atVector) vcpu.mpState = KVM_MP_STATE_RUNNABLE;
}

/** KVM_SET_SREGS once copied in. The lowest bit of the bitmap is injected; an empty one cancels nothing. */
export function loadSregs(vcpu: Vcpu, view: DataView, from: number): number {
  const error = loadCommon(vcpu, view, from);
  if (error < 0) return error;
  for (let i = 0; i < 4; i++) {
    const word = view.getBigUint64(from + BITMAP + i * 8, true);
    if (word === 0n) continue;
    vcpu.cpu.inject(i * 64 + lowestBit(word), 'interrupt');
    break;
  }
  return 0;
}

function lowestBit(word: bigint): number {
  return (word & -word).toString(2).length - 1;
}

export function getSregs(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = kvm_sregs.alloc();
  storeSregs(vcpu, viewOf(bytes), 0);
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

export function setSregs(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_sregs.size);
  return bytes === null ? -EFAULT : loadSregs(vcpu, viewOf(bytes), 0);
}

function paePaging(cr0: bigint, cr4: bigint, efer: bigint): boolean {
  return (cr0 & CR0_PG) !== 0n && (cr4 & CR4_PAE) !== 0n && (efer & EFER_LMA) === 0n;
}

/** KVM_GET_SREGS2: PDPTRs, and the flag for them, only in PAE paging. */
export function getSregs2(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = kvm_sregs2.alloc();
  const view = viewOf(bytes);
  storeCommon(vcpu, view, 0);
  if (paePaging(BigInt(vcpu.cpu.cr0), vcpu.cpu.cr4, vcpu.cpu.efer)) {
    view.setBigUint64(SREGS2_FLAGS, BigInt(KVM_SREGS2_FLAGS_PDPTRS_VALID), true);
    vcpu.cpu.pdptrs.forEach((entry, i) => {
      view.setBigUint64(PDPTRS + i * 8, entry, true);
    });
  }
  return p.mm.copyTo(arg, bytes) ? 0 : -EFAULT;
}

/** KVM_SET_SREGS2: PDPTRs are legal only where the new state pages in PAE form; they are taken unchecked. */
export function setSregs2(vcpu: Vcpu, p: Process, arg: bigint): number {
  const bytes = p.mm.copyFrom(arg, kvm_sregs2.size);
  if (bytes === null) return -EFAULT;
  const view = viewOf(bytes);
  const flags = view.getBigUint64(SREGS2_FLAGS, true);
  if (flags & ~BigInt(KVM_SREGS2_FLAGS_PDPTRS_VALID)) return -EINVAL;
  const get = (offset: number): bigint => view.getBigUint64(offset, true);
  if (flags !== 0n && !paePaging(get(CR0), get(CR4), get(EFER))) return -EINVAL;
  const error = loadCommon(vcpu, view, 0);
  if (error < 0) return error;
  if (flags !== 0n)
    [0, 1, 2, 3].forEach((i) => {
      vcpu.cpu.pdptrs[i] = get(PDPTRS + i * 8);
    });
  return 0;
}
