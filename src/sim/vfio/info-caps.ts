/** One capability of a chain that an INFO ioctl tells behind its struct. */
export interface InfoCapability {
  readonly id: number;
  readonly version: number;
  /** Behind the header. */
  readonly bytes: Uint8Array;
}

const HEADER = 8;

/** The chain's bytes, for a place `base` bytes behind the start of the struct: each capability is padded to 8 bytes, and names the next (vfio_info_cap_add, vfio_info_cap_shift). */
export function capabilityChain(capabilities: readonly InfoCapability[], base: number): Uint8Array {
  const lengths = capabilities.map(({ bytes }) => Math.ceil((HEADER + bytes.length) / 8) * 8);
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
