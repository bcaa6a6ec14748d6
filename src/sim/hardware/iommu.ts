import type { IommuMachine } from './machine-pci.ts';

/** An access the IOMMU stopped. */
export interface IommuFault {
  readonly bdf: string;
  readonly iova: bigint;
  readonly write: boolean;
  readonly reason: 'blocked' | 'no translation' | 'outside the aperture' | 'no pasid';
  readonly pasid?: number;
}

export interface IommuHardware {
  readonly machine: IommuMachine;
  readonly faults: readonly IommuFault[];
  /** Returns what removes the listener. */
  onFault(listener: (fault: IommuFault) => void): () => void;
}
