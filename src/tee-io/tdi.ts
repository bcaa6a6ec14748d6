import type { Vdevice } from '../iommufd/vdevice.ts';
import { bytes, integer, oneOf } from '../kernel/arguments.ts';
import type { Descriptor } from '../kernel/descriptor.ts';
import { rangeError, typeError } from '../kernel/errors.ts';
import { showAs } from '../kernel/inspect.ts';
import type { KvmVfio } from '../kvm/device.ts';
import { IOMMU_VDEVICE_TSM_TVM_ARCH_CCA } from '../uapi/tee-io/aneesh-jun26.ts';
import * as v7 from '../uapi/tee-io/aneesh-v7.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { TSM_LAYOUTS, type TsmLayout, type TsmRequests, tsmRequests } from './requests.ts';

/** RFC: series whose requests came before those a Tdi makes unless told otherwise. */
export type TdiSeries = keyof typeof OLDER;

/** What a Tdi is made of. */
export interface TdiOptions {
  device: VfioDevice;
  vdevice: Vdevice;
  /** By which descriptor it is bound and unbound: VFIO_DEVICE_TSM_BIND, or IOMMU_VDEVICE_TSM_OP. Default 'vfio'. A `series` has its own. */
  door?: 'vfio' | 'iommufd';
  /** How requests of the guest are passed on. Default 'type48', but 'aikV2' and 'xuMay25' have their own. */
  layout?: TsmLayout;
  /** IOMMU_VDEVICE_TSM_TVM_ARCH_*, of the 'op48' layouts. Default CCA's. */
  tvm_arch?: number;
  /**
   * An older series that the kernel has: SEV-TIO v1 binds by the KVM-VFIO device (`kvmVfio`, `guest_rid`), SEV-TIO v2 by iommufd, for a VM that is named (`vm`), and has no request that unbinds,
   * the bind of May 2025 by iommufd, TDISP using TSM by VFIO. Numbers of all but the first are other requests' in mainline.
   */
  series?: TdiSeries;
  /** 'aikV2': the VM. */
  vm?: Descriptor;
  /** 'aikV1': the KVM-VFIO device of the VM. */
  kvmVfio?: KvmVfio;
  /** 'aikV1': the requester id the guest knows the device by. */
  guest_rid?: number;
}

const OLDER = {
  aikV1: { door: 'kvm-vfio', layout: undefined },
  aikV2: { door: 'iommufd', layout: 'sev44' },
  xuMay25: { door: 'vfio', layout: 'type48-may25' },
  aneeshMay25: { door: 'iommufd', layout: undefined },
} as const;

/** An object of the TSM, by its name or its number (IOMMU_VDEVICE_TSM_OBJECT_*). */
export type TsmObject = 'vca' | 'certificates' | 'measurements' | 'report' | number;

const OBJECTS: Readonly<Record<string, number>> = {
  vca: v7.IOMMU_VDEVICE_TSM_OBJECT_VCA,
  certificates: v7.IOMMU_VDEVICE_TSM_OBJECT_CERT,
  measurements: v7.IOMMU_VDEVICE_TSM_OBJECT_MEASUREMENT,
  report: v7.IOMMU_VDEVICE_TSM_OBJECT_REPORT,
};

const U32_MAX = 2 ** 32 - 1;
const NONCE_LENGTH = 32;

/** How it is bound and unbound, how requests are passed on. What is asked for must be what a series has. */
function waysOf({ series, door, layout }: TdiOptions): { door: 'vfio' | 'iommufd' | 'kvm-vfio'; layout: TsmLayout } {
  if (door !== undefined) oneOf(door, 'door', ['vfio', 'iommufd']);
  if (layout !== undefined) oneOf(layout, 'layout', TSM_LAYOUTS);
  if (series === undefined) return { door: door ?? 'vfio', layout: layout ?? 'type48' };
  const own = OLDER[oneOf(series, 'series', Object.keys(OLDER) as TdiSeries[])];
  if (door !== undefined && door !== own.door) throw rangeError(`series '${series}' binds by ${own.door}, not by ${door}`);
  if (layout !== undefined && own.layout !== undefined && layout !== own.layout)
    throw rangeError(`requests of series '${series}' are ${own.layout}, not ${layout}`);
  return { door: own.door, layout: own.layout ?? layout ?? 'type48' };
}

function numberOf(object: TsmObject): number {
  if (typeof object === 'number') return integer(object, 'object', 0, U32_MAX);
  return OBJECTS[oneOf<string>(object, 'object', Object.keys(OBJECTS))]!;
}

/** Fits any object into a few calls, and a request's answer into a page. */
const PIECE = 1024;

/**
 * RFC: the TEE device interface of an assigned device, as the VMM has it: its vdevice, and one of two descriptors to bind it by. `bind` and `unbind` are the host's; everything else is what a
 * guest asks, passed on. What failed, where this kernel has no such request, says which series has it (`error.series`).
 */
export class Tdi {
  readonly device: VfioDevice;
  readonly vdevice: Vdevice;
  readonly series: TdiSeries | undefined;
  readonly door: 'vfio' | 'iommufd' | 'kvm-vfio';
  readonly layout: TsmLayout;
  readonly #vm: Descriptor | undefined;
  readonly #kvmVfio: KvmVfio | undefined;
  readonly #guestRid: number;
  readonly #requests: TsmRequests;

  constructor(options: TdiOptions) {
    const { device, vdevice, series, vm, kvmVfio, guest_rid = 0, tvm_arch = IOMMU_VDEVICE_TSM_TVM_ARCH_CCA } = options;
    const { door, layout } = waysOf(options);
    if (series === 'aikV1' && kvmVfio === undefined) throw typeError("series 'aikV1' binds by the VM's KVM-VFIO device: kvmVfio");
    if (series === 'aikV2' && vm === undefined) throw typeError("series 'aikV2' names the VM it binds for: vm");
    this.device = device;
    this.vdevice = vdevice;
    this.series = series;
    this.door = door;
    this.layout = layout;
    this.#vm = vm;
    this.#kvmVfio = kvmVfio;
    this.#guestRid = integer(guest_rid, 'guest_rid', 0, U32_MAX);
    this.#requests = tsmRequests(vdevice, layout, integer(tvm_arch, 'tvm_arch', 0, U32_MAX));
  }

  /** VFIO_DEVICE_TSM_BIND, or IOMMU_VDEVICE_TSM_OP, or what an older series has: the TDI is the VM's; but for CCA's it is CONFIG_LOCKED then. */
  bind(): void {
    if (this.door === 'vfio') this.device.tsmBind({ vdevice: this.vdevice });
    else if (this.door === 'kvm-vfio') this.#kvmVfio!.tdiBind(this.#named);
    else this.vdevice.tsmBind({ ...this.#ofSeries, ...(this.#vm === undefined ? {} : { vm: this.#vm }) });
  }

  /**
   * VFIO_DEVICE_TSM_UNBIND, or IOMMU_VDEVICE_TSM_OP, or what an older series has: it is CONFIG_UNLOCKED, and nobody's. Not bound: nothing happens; ENOENT of 'aikV1'. NotAvailable: 'aikV2' has no
   * such request, `vdevice.destroy()` unbinds.
   */
  unbind(): void {
    if (this.door === 'vfio') this.device.tsmUnbind();
    else if (this.door === 'kvm-vfio') this.#kvmVfio!.tdiUnbind(this.#named);
    else this.vdevice.tsmUnbind(this.#ofSeries);
  }

  get #named(): { guest_rid: number; devfd: Descriptor } {
    return { guest_rid: this.#guestRid, devfd: this.device };
  }

  get #ofSeries(): { series?: 'aikV2' | 'aneeshMay25' } {
    const { series } = this;
    return series === 'aikV2' || series === 'aneeshMay25' ? { series } : {};
  }

  /** IOMMU_VDEVICE_TSM_REQ: how long an object is, in bytes. EINVAL: there is none, or none now: no report before it is locked. */
  objectSize(object: TsmObject): number {
    return this.#requests.objectSize(numberOf(object));
  }

  /** IOMMU_VDEVICE_TSM_REQ: an object, in pieces of at most `piece` bytes. */
  readObject(object: TsmObject, { piece = PIECE }: { piece?: number } = {}): Uint8Array {
    integer(piece, 'piece', 1, U32_MAX);
    const whole = new Uint8Array(this.objectSize(object));
    for (let at = 0; at < whole.length; ) {
      const part = this.#requests.readObject(numberOf(object), at, Math.min(piece, whole.length - at));
      if (part.length === 0) return whole.subarray(0, at);
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  /** IOMMU_VDEVICE_TSM_REQ: measurements taken anew, with a `nonce` of 32 bytes; or the report. */
  regenObject(object: TsmObject, { nonce }: { nonce?: Uint8Array } = {}): void {
    if (nonce !== undefined) integer(bytes(nonce, 'nonce').length, 'the length of nonce', NONCE_LENGTH, NONCE_LENGTH);
    this.#requests.regenObject(numberOf(object), nonce);
  }

  /** IOMMU_VDEVICE_TSM_REQ: the guest accepts device memory from `pa_base`, as the report calls it, at [`gpa_base`, `gpa_top`). EINVAL: the report has no such memory, or the guest not. */
  validateMmio(range: { gpa_base: bigint; gpa_top: bigint; pa_base: bigint }): void {
    this.#requests.validateMmio(range);
  }

  /** IOMMU_VDEVICE_TSM_REQ: IOMMU_VDEVICE_TSM_TDI_*: locked from unlocked, run from locked, unlocked from anything (EINVAL). EIO: the device refuses. */
  setTdiState(state: number): void {
    integer(state, 'state', 0, U32_MAX);
    this.#requests.setTdiState(state);
  }

  /** IOMMU_VDEVICE_TSM_REQ: the device may reach private memory. Only SEV's series have a number for it; other layouts use the simulator's own. EINVAL: this TSM has no such request. */
  enableDma(): void {
    this.#requests.setDma(true);
  }

  /** IOMMU_VDEVICE_TSM_REQ: as `enableDma`, and not any more. */
  disableDma(): void {
    this.#requests.setDma(false);
  }
}

showAs(Tdi, ({ vdevice, series, door, layout }) => {
  const of = series === undefined ? '' : ` of ${series}`;
  return `Tdi { vdevice ${vdevice.id}, by ${door}${of}, requests ${layout} }`;
});
