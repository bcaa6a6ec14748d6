import { TDISP_LOCK_FLAG } from '../tdisp/vocabulary.ts';
import type { Door } from './binding.ts';
import type { TeeIo } from './switches.ts';

/** What UNBIND consists of: STOP; the guest loses the MMIO (everybody does); private DMA ends; the TSM forgets the TDI. */
export type UnbindStep = 'stop' | 'unmap' | 'disable-dma' | 'release';

/** The rules of a vendor's TSM where they differ. */
export interface TsmVendor {
  readonly name: TeeIo['vendor'];
  /** Doors that can bind; absent: all. */
  readonly doors?: readonly Door[];
  /** TDISP_LOCK_FLAG: what LOCK asks for, unless told otherwise. */
  readonly lockFlags: number;
  /** Flags with which and without which the firmware refuses to lock. */
  readonly refusesFlags?: number;
  readonly demandsFlags?: number;
  /** The guest may ask for CONFIG_LOCKED although BIND has locked before. */
  readonly guestLocks: boolean;
  /** Private DMA comes with RUN, or by a request of its own, before or after RUN; 'by-request' means that there are such requests. */
  readonly dma: 'with-run' | 'by-request';
  /** The TSM also takes the requests that enable and disable private DMA. */
  readonly dmaRequests: boolean;
  /** MMIO is accepted only where the guest's frames are private already, and mapped to these pages. */
  readonly acceptsMappedOnly: boolean;
  /** Private DMA to a frame that is not committed: the page is made, the access is dropped, or dropped and the guest's I/O fenced off. */
  readonly uncommitted: 'populate' | 'drop' | 'fence';
  /** KVM unmaps MMIO of a TDI that is bound and not stopped: the guest finds it gone, or the firmware refuses and KVM cannot go on with the VM. */
  readonly unmapWhileBound: 'forget' | 'refuse';
  readonly unbind: readonly UnbindStep[];
}

const { NO_FW_UPDATE, BIND_P2P, ALL_REQUEST_REDIRECT } = TDISP_LOCK_FLAG;

/** Of no vendor: BIND locks, nothing is refused, memory is there when DMA wants it. */
export const sim: TsmVendor = {
  name: 'sim',
  lockFlags: 0,
  guestLocks: true,
  dma: 'with-run',
  dmaRequests: true,
  acceptsMappedOnly: false,
  uncommitted: 'populate',
  unmapWhileBound: 'forget',
  unbind: ['stop', 'unmap', 'disable-dma', 'release'],
};

/**
 * TDX Connect. Only who can silence the device may bind it: VFIO. The module holds on to what a bound TDI's guest has in its secure EPT, so that STOP comes before KVM can unmap the
 * MMIO, and nothing of the TDI is freed before that. The guest accepts MMIO and DMA, each by a request.
 */
export const tdx: TsmVendor = {
  name: 'tdx',
  doors: ['vfio'],
  lockFlags: NO_FW_UPDATE,
  guestLocks: false,
  dma: 'by-request',
  dmaRequests: true,
  acceptsMappedOnly: false,
  uncommitted: 'drop',
  unmapWhileBound: 'refuse',
  unbind: ['stop', 'unmap', 'disable-dma', 'release'],
};

/**
 * SEV-TIO. One call binds and locks, without peer-to-peer streams and with all requests redirected to the root. MMIO is validated page by page where the RMP has it as the guest's,
 * writing the secure device table entry enables DMA. A fault the host has caused fences off all I/O of the guest, so that the TDI is unbound before the MMIO goes.
 */
export const sev: TsmVendor = {
  name: 'sev',
  lockFlags: ALL_REQUEST_REDIRECT,
  refusesFlags: BIND_P2P,
  demandsFlags: ALL_REQUEST_REDIRECT,
  guestLocks: false,
  dma: 'by-request',
  dmaRequests: true,
  acceptsMappedOnly: true,
  uncommitted: 'fence',
  unmapWhileBound: 'forget',
  unbind: ['stop', 'disable-dma', 'release', 'unmap'],
};

/**
 * Arm CCA. BIND makes the RMM's vdev and does not lock: that is the guest's request. The SMMU walks the realm's stage 2, where a DMA cannot fault memory in. Device memory is unmapped before
 * the vdev is unlocked and destroyed.
 */
export const cca: TsmVendor = {
  name: 'cca',
  lockFlags: NO_FW_UPDATE,
  guestLocks: true,
  dma: 'with-run',
  dmaRequests: false,
  acceptsMappedOnly: true,
  uncommitted: 'drop',
  unmapWhileBound: 'forget',
  unbind: ['unmap', 'stop', 'disable-dma', 'release'],
};

export const TSM_VENDORS: Readonly<Record<TeeIo['vendor'], TsmVendor>> = { sim, tdx, sev, cca };
