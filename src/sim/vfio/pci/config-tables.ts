/**
 * What of each capability is virtual and what the user may write: the tables of drivers/vfio/pci/vfio_pci_config.c. A virtual bit lives in
 * `vconfig`; a bit that is writable and not virtual is written to the hardware; a bit that is neither reads from the hardware.
 */

/** Names of what follows a write, where it is more than the bits. */
export type WriteKind = 'basic' | 'pm' | 'vpd' | 'msi' | 'exp' | 'af';

export interface Permissions {
  /** `bits`: by the two masks; `direct`: hardware but for id and next; `raw`: hardware. */
  readonly read: 'bits' | 'direct' | 'raw';
  /** Undefined: writes are dropped. */
  readonly write: 'bits' | 'raw' | WriteKind | undefined;
  readonly virt: Uint8Array;
  readonly writable: Uint8Array;
}

/** Offset in the capability, bytes, virtual bits, writable bits. */
type Bits = readonly [offset: number, bytes: 1 | 2 | 4, virt: number, writable: number];

const ALL8 = 0xff;
const ALL16 = 0xffff;
const ALL32 = 0xffff_ffff;

function bits(length: number, write: 'bits' | WriteKind, rows: readonly Bits[]): Permissions {
  const virt = new Uint8Array(length);
  const writable = new Uint8Array(length);
  for (const [offset, bytes, virtual, writes] of rows) {
    for (let i = 0; i < bytes; i++) {
      virt[offset + i] = virtual >>> (8 * i);
      writable[offset + i] = writes >>> (8 * i);
    }
  }
  return { read: 'bits', write, virt, writable };
}

const NOTHING = new Uint8Array(0);
/** Read-only: what is not in the tables below. */
export const directReadOnly: Permissions = { read: 'direct', write: undefined, virt: NOTHING, writable: NOTHING };
/** Gaps between capabilities, and those that are hidden. */
export const unassigned: Permissions = { read: 'raw', write: 'raw', virt: NOTHING, writable: NOTHING };
const rawWrites: Permissions = { ...directReadOnly, write: 'raw' };

const NEXT: Bits = [1, 1, ALL8, 0];
const bar = (offset: number): Bits => [offset, 4, ALL32, ALL32];

/** The header of type 0. Virtual ids are for VFs, whose own read as ones; DisINTx is what drives masking. */
export const basic: Permissions = bits(0x40, 'basic', [
  [0x00, 2, ALL16, 0],
  [0x02, 2, ALL16, 0],
  [0x04, 2, 0x0400, ALL16],
  [0x06, 2, 0x0010, 0],
  [0x0c, 1, 0, ALL8],
  [0x0d, 1, 0, ALL8],
  [0x0f, 1, 0, ALL8],
  ...[0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].map(bar),
  [0x34, 1, ALL8, 0],
  [0x3c, 1, ALL8, ALL8],
  [0x3d, 1, ALL8, 0],
]);

const PME_ENABLE_AND_STATUS = 0x8100;

/** By capability id. The state bits of PMCSR are not writable: a write there asks the kernel to change the state. */
export const capPermissions: ReadonlyMap<number, Permissions> = new Map([
  [0x01, bits(8, 'pm', [NEXT, [2, 2, 0xf800, 0], [4, 4, PME_ENABLE_AND_STATUS, ~(PME_ENABLE_AND_STATUS | 3)]])],
  [0x03, bits(8, 'vpd', [NEXT, [2, 2, ALL16, ALL16], [4, 4, ALL32, ALL32]])],
  [0x07, bits(24, 'bits', [NEXT, [2, 2, 0, ALL16], [8, 4, 0, ALL32]])],
  [0x09, rawWrites],
  // Of Device Control: FLR, payload size and read request size are virtual; phantom functions stay as they are. Of Device Control 2: ARI stays.
  [0x10, bits(0x34, 'exp', [NEXT, [8, 2, 0xf0e0, ALL16 & ~0x0200], [0x28, 2, 0, ALL16 & ~0x0020]])],
  [0x13, bits(6, 'af', [NEXT, [4, 1, 1, 1]])],
]);

const HEADER: Bits = [0, 4, ALL32, 0];
const UNCORRECTABLE = 0x03ff_f031;
const CORRECTABLE = 0xf1c1;

/** By extended capability id. */
export const extPermissions: ReadonlyMap<number, Permissions> = new Map([
  [
    0x01,
    bits(0x2c, 'bits', [
      HEADER,
      [0x04, 4, 0, UNCORRECTABLE],
      [0x08, 4, 0, UNCORRECTABLE],
      [0x0c, 4, 0, UNCORRECTABLE],
      [0x10, 4, 0, CORRECTABLE],
      [0x14, 4, 0, CORRECTABLE],
      [0x18, 4, 0, 0x140],
    ]),
  ],
  [0x04, bits(16, 'bits', [HEADER, [8, 1, 0, ALL8]])],
  [0x0b, rawWrites],
  [0x23, rawWrites],
]);

const MSI_64BIT = 0x80;
const MSI_MASKBIT = 0x100;

/** Bytes of an MSI capability with these control flags. */
export function msiLength(flags: number): number {
  return 10 + (flags & MSI_64BIT ? 4 : 0) + (flags & MSI_MASKBIT ? 10 : 0);
}

/** MSI is a fiction: the user's address and data go nowhere, interrupts are set up by SET_IRQS. */
export function msiPermissions(flags: number): Permissions {
  const rows: Bits[] = [NEXT, [2, 1, ALL8, ALL8], [4, 4, ALL32, ALL32]];
  const data = flags & MSI_64BIT ? 12 : 8;
  if (flags & MSI_64BIT) rows.push([8, 4, ALL32, ALL32]);
  rows.push([data, 2, ALL16, ALL16]);
  if (flags & MSI_MASKBIT) rows.push([data + 4, 4, 0, ALL32], [data + 8, 4, 0, ALL32]);
  return bits(msiLength(flags), 'msi', rows);
}
