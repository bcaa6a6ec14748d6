import type { ExpressSpec } from './express.ts';
import type { PciFunction } from './pci-function.ts';

export interface BarSpec {
  /** A power of two. */
  readonly size: number;
  readonly space: 'mem32' | 'mem64' | 'io';
  readonly prefetchable?: boolean;
}

/** A capability as bytes. */
export interface CapabilitySpec {
  readonly id: number;
  /** Where; default: the next free place. */
  readonly at?: number;
  /** Extended capabilities: the version in the header, default 1. */
  readonly version?: number;
  /** What follows the header: after id and next (2 bytes), or after the extended header (4 bytes). */
  readonly bytes: Uint8Array;
  /** Bits of `bytes` that can be written. */
  readonly writable?: Uint8Array;
  /** Bits of `bytes` that a written one clears. */
  readonly clearable?: Uint8Array;
}

export interface MsiSpec {
  /** 1, 2, 4, 8, 16 or 32. */
  readonly vectors: number;
  readonly at?: number;
  /** Per-vector masking. */
  readonly maskable?: boolean;
  /** A 64-bit address; default true. */
  readonly wide?: boolean;
}

export interface MsixSpec {
  readonly vectors: number;
  readonly tableBar: number;
  readonly table: number;
  readonly pbaBar: number;
  readonly pba: number;
  readonly at?: number;
}

export interface RegisterSpec {
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly writable?: Uint8Array;
}

export interface PmSpec {
  readonly at?: number;
  readonly noSoftReset?: boolean;
  /** PMC; default: version 3, neither D1 nor D2, no PME. */
  readonly capabilities?: number;
  /** Bits of PMCSR that can be written; default: the state, and PME_En where PMC has PME. */
  readonly control?: number;
}

export interface AerSpec {
  readonly at?: number;
  readonly version?: number;
  /** A root port: with the registers that collect messages. */
  readonly root?: boolean;
  /** Reset value of the mask of uncorrectable errors; default 0. */
  readonly uncorrectableMask?: number;
  /** False: that mask cannot be written. */
  readonly maskable?: boolean;
}

export interface SriovSpec {
  readonly at?: number;
  readonly totalVfs: number;
  readonly firstOffset: number;
  readonly stride: number;
  readonly vfDevice: number;
  readonly vfBars: Readonly<Record<number, BarSpec>>;
  /** The virtual function of this index, made when VF_ENABLE is set. */
  create(index: number): PciFunction;
}

/** What a function is: the part of it that a driver finds in configuration space. */
export interface FunctionSpec {
  readonly vendor: number;
  readonly device: number;
  readonly subsystemVendor?: number;
  readonly subsystemDevice?: number;
  /** Class, subclass, programming interface: 24 bits. */
  readonly class: number;
  readonly revision?: number;
  /** INTA to INTD; 0: none. */
  readonly interruptPin?: 0 | 1 | 2 | 3 | 4;
  readonly bars?: Readonly<Record<number, BarSpec>>;
  readonly rom?: Uint8Array;
  /** A ROM BAR of this size; default: the power of two that holds `rom`. */
  readonly romSize?: number;
  /** PCI Express: 4 KiB of configuration space. */
  readonly express?: boolean | ExpressSpec;
  readonly msi?: MsiSpec;
  readonly msix?: MsixSpec;
  readonly pm?: PmSpec;
  /** It can reset itself: by Device Control, or by Advanced Features where it is no Express device. */
  readonly flr?: boolean;
  readonly aer?: boolean | AerSpec;
  readonly capabilities?: readonly CapabilitySpec[];
  readonly extended?: readonly CapabilitySpec[];
  readonly sriov?: SriovSpec;
  /** Places of the standard capabilities in the order of their list; default: ascending. */
  readonly chain?: readonly number[];
  /** What lies between the capabilities: hardwired to zero (default), or registers nobody looks at. */
  readonly gaps?: 'zero' | 'writable';
  /** Bits of STATUS that are hardwired besides the capability list's. */
  readonly status?: number;
  /** Registers of its own, outside of capabilities. */
  readonly registers?: readonly RegisterSpec[];
  /** It shares its slot with others: header type bit 7. */
  readonly multifunction?: boolean;
  /** A bridge that things can be plugged in behind: it gets windows for them. A PCI Express slot is one. */
  readonly hotplug?: boolean;
  /** Header type 1. */
  readonly bridge?: boolean;
  /** A virtual function: its BARs and most of its header are the physical function's. */
  readonly virtual?: boolean;
}
