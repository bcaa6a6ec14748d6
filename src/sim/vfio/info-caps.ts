import { has } from '../changes.ts';
import type { Machine } from '../machine.ts';

/** One capability of a chain that an INFO ioctl tells behind its struct. */
export interface InfoCapability {
  readonly id: number;
  readonly version: number;
  /** Behind the header. */
  readonly bytes: Uint8Array;
}

const HEADER = 8;
/** The fixed part that is needed, and through type1's cap_offset. */
const MIN = 16;
const THROUGH_CAPS = 20;

/** How many bytes of the fixed part of an INFO are written: as many as the user has, or on older kernels one of two lengths. */
export function writtenOf(machine: Machine, argsz: number, size: number): number {
  if (has(machine, 'infosWhole')) return Math.min(argsz, size);
  return argsz < THROUGH_CAPS ? MIN : THROUGH_CAPS;
}

/**
 * The chain's bytes, for a place `base` bytes behind the start of the struct: each capability is padded to 8 bytes, and names the next (vfio_info_cap_add,
 * vfio_info_cap_shift).
 */
export function capabilityChain(capabilities: readonly InfoCapability[], base: number, machine: Machine): Uint8Array {
  const unit = has(machine, 'infosWhole') ? 8 : 4;
  const lengths = capabilities.map(({ bytes }) => Math.ceil((HEADER + bytes.length) / unit) * unit);
  const chain = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  const view = new DataView(chain.buffer);
  let at = 0;
  capabilities.forEach(({ id, version, bytes }, i) => {
    const next = at + lengths[i]!;
    view.setUint16(at, id, true);
    view.setUint16(at + 2, version, true);
    view.setUint32(at + 4, i + 1 < capabilities.length ? base + next : 0, true);
    chain.set(bytes, at + HEADER);
    at = next;
  });
  return chain;
}
