import * as r from '../../uapi/pci-regs.ts';
import type { RegisterBits } from './config-space.ts';
import type { AerSpec, FunctionSpec, SriovSpec } from './function-spec.ts';
import { le32 } from './little-endian.ts';

/** A capability before it has a place. */
export interface Piece extends RegisterBits {
  readonly id: number;
  readonly at: number | undefined;
  readonly version: number;
}

/** Errors a function can tell of: the bits of the uncorrectable and of the correctable registers. */
const AER_UNCORRECTABLE = 0x03ff_f031;
const AER_CORRECTABLE = 0xf1c1;
/** ECRC generation and checking. */
const AER_CONTROL = 0x140;
/** The severities the specification gives at power-on: what is fatal. */
const AER_SEVERITY = 0x0046_2030;

/** The extended capabilities of a function, in the order of their description. */
export function extendedPieces(spec: FunctionSpec): Piece[] {
  const pieces: Piece[] = [];
  if (spec.aer !== undefined && spec.aer !== false) pieces.push(errorReporting(spec.aer === true ? {} : spec.aer));
  for (const { id, at, bytes, writable, clearable, version = 1 } of spec.extended ?? []) {
    pieces.push({ id, at, version, bytes, writable, clearable });
  }
  if (spec.sriov !== undefined) pieces.push(singleRoot(spec.sriov));
  return pieces;
}

/** Registers after the header, by their offset from it. */
function registers(length: number, values: Readonly<Record<number, number>>): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const [at, value] of Object.entries(values)) bytes.set(le32(value), Number(at) - 4);
  return bytes;
}

/** All of it is sticky: the cause of an error outlives the reset it led to. */
function errorReporting({ at, version = 2, root = false, uncorrectableMask = 0, maskable = true }: AerSpec): Piece {
  const length = root ? 0x44 : 0x34;
  const rootBits = (bits: number, register: number): Record<number, number> => (root ? { [register]: bits } : {});
  return {
    id: r.PCI_EXT_CAP_ID_ERR,
    at,
    version,
    bytes: registers(length, {
      [r.PCI_ERR_UNCOR_MASK]: uncorrectableMask,
      [r.PCI_ERR_UNCOR_SEVER]: AER_SEVERITY,
      [r.PCI_ERR_COR_MASK]: 0xe000,
      [r.PCI_ERR_CAP]: 0xa0,
    }),
    writable: registers(length, {
      [r.PCI_ERR_UNCOR_MASK]: maskable ? AER_UNCORRECTABLE : 0,
      [r.PCI_ERR_UNCOR_SEVER]: AER_UNCORRECTABLE & ~1,
      [r.PCI_ERR_COR_MASK]: AER_CORRECTABLE,
      [r.PCI_ERR_CAP]: AER_CONTROL,
      ...rootBits(0x7, r.PCI_ERR_ROOT_COMMAND),
    }),
    clearable: registers(length, {
      [r.PCI_ERR_UNCOR_STATUS]: AER_UNCORRECTABLE,
      [r.PCI_ERR_COR_STATUS]: AER_CORRECTABLE,
      ...rootBits(0x7f, r.PCI_ERR_ROOT_STATUS),
    }),
    sticky: true,
  };
}

/** SR-IOV; the BARs of the virtual functions come when it has its place. */
function singleRoot({ at, totalVfs, firstOffset, stride, vfDevice }: SriovSpec): Piece {
  return {
    id: r.PCI_EXT_CAP_ID_SRIOV,
    at,
    version: 1,
    bytes: registers(0x3c, {
      [r.PCI_SRIOV_INITIAL_VF]: totalVfs | (totalVfs << 16),
      [r.PCI_SRIOV_VF_OFFSET]: firstOffset | (stride << 16),
      [r.PCI_SRIOV_VF_DID & ~3]: vfDevice << 16,
      [r.PCI_SRIOV_SUP_PGSIZE]: 0x553,
      [r.PCI_SRIOV_SYS_PGSIZE]: 0x1,
    }),
    writable: registers(0x3c, {
      [r.PCI_SRIOV_CTRL]: 0x19,
      [r.PCI_SRIOV_NUM_VF]: 0xffff,
      [r.PCI_SRIOV_SYS_PGSIZE]: 0x553,
    }),
  };
}
