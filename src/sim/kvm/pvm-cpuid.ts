import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from '../../uapi/kvm.ts';
import type { CpuidLeaf, KvmMachine, Machine } from '../machine.ts';
import type { CpuidEntry } from './cpuid.ts';

/** A 'pvm' host: a guest's user mode runs on the silicon without a trap on CPUID, so that KVM tells it what the silicon says. */
export interface PvmHost {
  /** The host's own leaves 1 (ecx, edx: what a guest always has), 7 and 0xD. */
  readonly nativeCpuid: readonly CpuidLeaf[];
}

const XSAVE = 1 << 26;
/** Leaf 1 ECX: FMA, AVX, F16C. */
const AVX_1_ECX: number = (1 << 12) | (1 << 28) | (1 << 29);
/** Leaf 1 EDX bits a guest never has: DS, ACPI, TM, PBE. */
const NEVER_1_EDX: number = (1 << 21) | (1 << 22) | (1 << 29) | (1 << 31);
/** Leaf 7.0 EBX, ECX, EDX: AVX2, all of AVX-512, VAES, VPCLMULQDQ, AVX512-FP16. Leaf 7.1 EAX: AVX-VNNI, AVX512-BF16. */
const AVX_7_EBX = 0xd0230020;
const AVX_7_ECX = 0x5e42;
const AVX_7_EDX = 0x80_0000;
const AVX_7_1_EAX = 0x30;
/** Leaf 0x80000001 ECX: XOP, FMA4. */
const AVX_8_ECX: number = (1 << 11) | (1 << 16);
/** Tiles, their multiplication, AVX10: no guest has these leaves. */
const TAKEN: ReadonlySet<number> = new Set([0x1d, 0x1e, 0x24]);
/** XSAVEOPT, XSAVEC, XGETBV1; no XSAVES. */
const XSAVE_FORMS = 7;
const NOTHING = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/**
 * What 'pvm' makes of a table given to SET_CPUID2 (asked of Linux 6.18): some leaves are taken away; 0xD is appended whole where it is missing; each 0xD.i and 7.i
 * is replaced in the entry a lookup finds first (one without significant index is found for every i, so the last i stays); leaf 1
 * gets the host's features, but XSAVE only with a leaf 0xD and the AVX family (in 0x80000001 too) only with YMM state in it.
 */
export function overlayHostCpuid(machine: Machine, given: readonly CpuidEntry[]): CpuidEntry[] {
  const native = (machine.kvm as KvmMachine & Partial<PvmHost>).nativeCpuid ?? [];
  const host = (leaf: number, index: number): typeof NOTHING =>
    native.find((entry) => entry.function === leaf && entry.index === index) ?? NOTHING;
  const entries = given.flatMap((entry) => (TAKEN.has(entry.function) ? [] : [{ ...entry }]));
  const find = (leaf: number, index: number): CpuidEntry | undefined =>
    entries.find((e) => e.function === leaf && (!(e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e.index === index));

  const xstates = native.filter((entry) => entry.function === 0xd);
  if (find(1, 0) !== undefined && find(0xd, 0) === undefined && entries.length + xstates.length <= 256) {
    for (const { index, eax, ebx, ecx, edx } of xstates) {
      entries.push({ function: 0xd, index, flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX, eax, ebx, ecx, edx, padding: [0, 0, 0] });
    }
  }
  for (let index = 0; index < 64; index++) {
    const entry = find(0xd, index);
    if (entry === undefined) continue;
    const { eax, ebx, ecx, edx } = host(0xd, index);
    Object.assign(entry, index === 1 ? { eax: eax & XSAVE_FORMS, ebx, ecx: 0, edx: 0 } : { eax, ebx, ecx, edx });
  }
  const xstate = find(0xd, 0);
  for (let index = 2; index < 32; index++) {
    const entry = find(0xd, index);
    if (entry !== undefined && (((xstate?.eax ?? 0) >>> index) & 1) === 0) Object.assign(entry, NOTHING);
  }
  const avx = ((xstate?.eax ?? 0) & 4) !== 0;
  for (let index = 0; index < 2; index++) {
    const entry = find(7, index);
    if (entry === undefined) continue;
    const { eax, ebx, ecx, edx } = host(7, index);
    if (avx) Object.assign(entry, { eax, ebx, ecx, edx });
    else if (index === 0)
      Object.assign(entry, {
        eax,
        ebx: (ebx & ~AVX_7_EBX) >>> 0,
        ecx: (ecx & ~AVX_7_ECX) >>> 0,
        edx: (edx & ~AVX_7_EDX) >>> 0,
      });
    else Object.assign(entry, { eax: (eax & ~AVX_7_1_EAX) >>> 0, ebx, ecx, edx });
  }
  const features = find(1, 0);
  if (features !== undefined) {
    const absent = (xstate === undefined ? XSAVE : 0) | (avx ? 0 : AVX_1_ECX);
    features.ecx = ((features.ecx | host(1, 0).ecx) & ~absent) >>> 0;
    features.edx = ((features.edx | host(1, 0).edx) & ~NEVER_1_EDX) >>> 0;
  }
  const extended = find(0x80000001, 0);
  if (extended !== undefined && !avx) extended.ecx = (extended.ecx & ~AVX_8_ECX) >>> 0;
  return entries;
}
