import type { CapabilityValue, CpuidLeaf } from '../machine.ts';

/** CPUID leaves written as rows: function, index, flags, eax, ebx, ecx, edx. */
export function leaves(
  rows: readonly (readonly [number, number, number, number, number, number, number])[],
): readonly CpuidLeaf[] {
  return rows.map(([leaf, index, flags, eax, ebx, ecx, edx]) => ({ function: leaf, index, flags, eax, ebx, ecx, edx }));
}

/** These leaves in place of the ones they are of; the others stay. */
export function changedLeaves(base: readonly CpuidLeaf[], rows: Parameters<typeof leaves>[0]): readonly CpuidLeaf[] {
  const changed = leaves(rows);
  return base.map((leaf) => changed.find((other) => other.function === leaf.function && other.index === leaf.index) ?? leaf);
}

/** What every KVM that was asked answers alike, releases 6.1 to 7.2. */
export const COMMON_CAPABILITIES: Readonly<Record<number, CapabilityValue>> = {
  ...ones([
    0, 1, 2, 3, 4, 6, 7, 8, 11, 12, 14, 16, 21, 22, 23, 24, 26, 30, 32, 33, 34, 35, 36, 37, 40, 41, 47, 50, 51, 54, 55, 56, 59,
    61, 72, 76, 77, 81, 82, 95, 97, 98, 100, 105, 116, 121, 122, 127, 136, 153, 159, 162, 164, 173, 182, 183, 184, 187, 188, 189,
    190, 197, 200, 203, 204, 206, 209, 215, 218, 220,
  ]),
  10: 32764,
  15: 2,
  25: 4096,
  31: 32,
  39: 14,
  74: 7,
  168: 3,
  192: 1048576,
  195: 2031619,
  201: 4096,
  208: 4096,
  223: 1048576,
};

/** 1 with CONFIG_KVM_HYPERV. */
export const HYPERV_CAPABILITIES: readonly number[] = [44, 45, 46, 96, 123, 148, 149, 154, 155, 161, 167, 191, 199];

function ones(caps: readonly number[]): Readonly<Record<number, CapabilityValue>> {
  return Object.fromEntries(caps.map((cap) => [cap, 1]));
}

/** A capability table: the common ones, those that are 1 besides, then the others. */
export function capabilities(
  besides: readonly number[],
  others: Readonly<Record<number, CapabilityValue>>,
): Readonly<Record<number, CapabilityValue>> {
  return { ...COMMON_CAPABILITIES, ...ones(besides), ...others };
}

/** MSRs of the performance monitoring unit, Intel's and AMD's. */
export const PMU_MSRS: readonly number[] = [
  0x309, 0x30a, 0x30b, 0x38d, 0x38e, 0x38f, 0x390, 0x3f1, 0x600, 0x3f2, 0xc0010000, 0xc0010001, 0xc0010002, 0xc0010003,
  0xc0010004, 0xc0010005, 0xc0010006, 0xc0010007, 0xc0010200, 0xc0010202, 0xc0010204, 0xc0010206, 0xc0010208, 0xc001020a,
  0xc0010201, 0xc0010203, 0xc0010205, 0xc0010207, 0xc0010209, 0xc001020b,
];

/** DEBUGCTL and the last branch record. */
export const LBR_MSRS: readonly number[] = [0x1d9, 0x1db, 0x1dc, 0x1dd, 0x1de];

export const HYPERV_MSRS: readonly number[] = [
  0x40000000, 0x40000001, 0x40000020, 0x40000021, 0x40000022, 0x40000023, 0x40000100, 0x40000101, 0x40000102, 0x40000103,
  0x40000104, 0x40000105, 0x40000003, 0x40000002, 0x40000010, 0x40000080, 0x400000b0, 0x40000073, 0x40000106, 0x40000107,
  0x40000108, 0x40000118, 0x400000ff, 0x400000f1, 0x400000f2, 0x400000f3, 0x400000f4, 0x400000f5,
];

/** KVM lists MSRs in the order of its own tables, and leaves out what a host has not. */
export const MSRS: readonly number[] = [
  ...[0x174, 0x175, 0x176, 0xc0000081, 0xc0000083, 0xc0000102, 0xc0000084, 0xc0000082, 0x10, 0x277, 0xc0010117, 0x3a, 0xc0000103],
  0x48,
  ...PMU_MSRS,
  ...LBR_MSRS,
  ...[0x12, 0x11, 0x4b564d01, 0x4b564d00],
  ...HYPERV_MSRS,
  ...[0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d06, 0x4b564d07, 0x3b, 0x6e0, 0x10a, 0x345, 0x1a0, 0x17a, 0x17b, 0x9e, 0x34],
  ...[0xce, 0x140, 0xc001011f, 0xc0000104, 0x1fc, 0x8b, 0xc0010015, 0x4b564d05],
];

/** KVM_GET_MSR_INDEX_LIST of a host that lacks these. */
export function msrsWithout(...absent: readonly (readonly number[])[]): readonly number[] {
  return MSRS.filter((index) => !absent.some((group) => group.includes(index)));
}
