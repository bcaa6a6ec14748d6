import type { Tvm } from './tvm.ts';

/** By which descriptor a TDI was bound: VFIO_DEVICE_TSM_BIND, a vdevice of iommufd, the KVM-VFIO device (aik-v1). */
export type Door = 'vfio' | 'iommufd' | 'kvm-vfio';

/** A TDI that is bound: what the door gives to the TSM. */
export interface TdiBinding {
  readonly door: Door;
  readonly kvm: Tvm;
  /** The requester id the guest knows the function by. */
  readonly virtId: bigint;
  /** Everybody loses the BARs: dma-bufs are revoked, KVM unmaps. */
  revoke(): void;
  /** They are usable again if memory is enabled. */
  restore(): void;
  /** The TDI is not bound any more, whoever has ended it: claims and references are given back. */
  ended(): void;
}
