import type { DeviceMemory } from '../mm/device-memory.ts';
import type { PageRef } from '../mm/pages.ts';

/** Where an access leads. `length`: how many bytes from there lie in one piece. `at` is an index into `page.u8`. */
export type DmaTarget = { readonly length: number } & (
  | { readonly page: PageRef; readonly at: number }
  | { readonly device: DeviceMemory; readonly offset: number }
);

/** Whose access it is, where an IOMMU tells the guest that has the device. */
export interface Requester {
  /** Requester id, segment above it: the StreamID. */
  readonly stream: number;
  readonly pasid: number | undefined;
  /** The IOMMU records an event: words of its format. */
  record(event: BigUint64Array): void;
}

/** What VFIO type1 and iommufd install; the hardware walks it at each DMA. */
export interface IommuDomain {
  /** Stage 1 of a guest, whose addresses have limits of their own. `pasids`: it has tables for PASIDs, too. Absent: the host’s. */
  readonly guest?: { readonly pasids: boolean };
  /** The target of an access that begins at `iova` (at most `length` bytes of it); undefined: translation fault. */
  translate(iova: bigint, length: number, write: boolean, requester?: Requester): DmaTarget | undefined;
}
