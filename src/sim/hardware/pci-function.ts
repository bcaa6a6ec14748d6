import type { Width } from '../../kernel/memory.ts';
import type { FunctionSpec } from './function-spec.ts';

/** What resets a function: power-on, a function level reset, D3hot → D0 without No_Soft_Reset, its bus. */
export type ResetKind = 'power' | 'flr' | 'pm' | 'bus';
export type Severity = 'correctable' | 'nonfatal' | 'fatal';
export type PowerState = 0 | 1 | 2 | 3;
/** What one access to configuration space moves. */
export type ConfigWidth = 1 | 2 | 4;

/** Configuration registers as hardware has them: read-only bits, bits that a one clears, BARs that tell their size. */
export interface ConfigSpace {
  readonly size: 256 | 4096;
  read(offset: number, width: ConfigWidth): number;
  write(offset: number, width: ConfigWidth, value: number): void;
}

/** Bus mastering, through the IOMMU. */
export interface Dma {
  /** Memory read. Undefined: refused (bus mastering is off) or stopped by the IOMMU, which has recorded it. */
  read(iova: bigint | number, length: number, options?: { pasid?: number }): Uint8Array | undefined;
  /** Memory write. False: as above; what lies before the first fault has been written. */
  write(iova: bigint | number, bytes: Uint8Array, options?: { pasid?: number }): boolean;
}

/** One PCI function: the device's side of a driver. A device model is a class that extends it. */
export abstract class PciFunction {
  readonly spec: FunctionSpec;
  abstract readonly config: ConfigSpace;
  abstract readonly dma: Dma;

  constructor(spec: FunctionSpec) {
    this.spec = spec;
  }

  /** A load from a BAR (6: the ROM), of exactly this width. What a model does not answer reads as all ones. */
  read(_bar: number, _offset: number, width: Width): number | bigint {
    return width === 8 ? 0xffff_ffff_ffff_ffffn : 2 ** (8 * width) - 1;
  }

  /** A store to a BAR. */
  write(_bar: number, _offset: number, _width: Width, _value: number | bigint): void {}

  /** Back to what the model is after this kind of reset. Configuration space has been reset before. */
  reset(_kind: ResetKind): void {}

  abstract raise(vector?: number): boolean;
  abstract setIntx(level: boolean): void;
  abstract after(nanoseconds: number | bigint, run: () => void): () => void;
  abstract random(): number;
  abstract reportError(severity: Severity, bit: number): void;
  abstract get powerState(): PowerState;
}
