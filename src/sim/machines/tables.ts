import type { CapabilityValue, CpuidLeaf } from '../machine.ts';

/** CPUID leaves written as rows: function, index, flags, eax, ebx, ecx, edx. */
export function leaves(
  rows: readonly (readonly [number, number, number, number, number, number, number])[],
): readonly CpuidLeaf[] {
  return rows.map(([leaf, index, flags, eax, ebx, ecx, edx]) => ({ function: leaf, index, flags, eax, ebx, ecx, edx }));
}

/** A capability table: those that are 1, then the others. */
export function capabilities(
  ones: readonly number[],
  others: Readonly<Record<number, CapabilityValue>>,
): Readonly<Record<number, CapabilityValue>> {
  return { ...Object.fromEntries(ones.map((cap) => [cap, 1])), ...others };
}
