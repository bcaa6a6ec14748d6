import type { Vdevice } from '../iommufd/vdevice.ts';
import { bytes, describe, integer } from '../kernel/arguments.ts';
import { rangeError } from '../kernel/errors.ts';
import { showAs } from '../kernel/inspect.ts';
import { IOMMU_VDEVICE_TSM_TVM_ARCH_CCA } from '../uapi/tee-io/aneesh-jun26.ts';
import * as v7 from '../uapi/tee-io/aneesh-v7.ts';
import type { VfioDevice } from '../vfio/device.ts';
import { TSM_LAYOUTS, type TsmLayout, type TsmRequests, tsmRequests } from './requests.ts';

/** What a Tdi is made of. */
export interface TdiOptions {
  device: VfioDevice;
  vdevice: Vdevice;
  /** By which descriptor it is bound and unbound: VFIO_DEVICE_TSM_BIND, or IOMMU_VDEVICE_TSM_OP. Default 'vfio'. */
  door?: 'vfio' | 'iommufd';
  /** How requests of the guest are passed on. Default 'type48'. */
  layout?: TsmLayout;
  /** IOMMU_VDEVICE_TSM_TVM_ARCH_*, of the 'op48' layouts. Default CCA's. */
  tvm_arch?: number;
}

/** An object of the TSM, by its name or its number (IOMMU_VDEVICE_TSM_OBJECT_*). */
export type TsmObject = 'vca' | 'certificates' | 'measurements' | 'report' | number;

const OBJECTS: Readonly<Record<string, number>> = {
  vca: v7.IOMMU_VDEVICE_TSM_OBJECT_VCA,
  certificates: v7.IOMMU_VDEVICE_TSM_OBJECT_CERT,
  measurements: v7.IOMMU_VDEVICE_TSM_OBJECT_MEASUREMENT,
  report: v7.IOMMU_VDEVICE_TSM_OBJECT_REPORT,
};

const DOORS: readonly string[] = ['vfio', 'iommufd'];
const U32_MAX = 2 ** 32 - 1;
const NONCE_LENGTH = 32;

function oneOf(value: unknown, name: string, choices: readonly string[]): void {
  if (!choices.includes(value as string))
    throw rangeError(`${name} must be one of ${choices.join(', ')}, not ${describe(value)}`);
}

function numberOf(object: TsmObject): number {
  if (typeof object === 'number') return integer(object, 'object', 0, U32_MAX);
  oneOf(object, 'object', Object.keys(OBJECTS));
  return OBJECTS[object]!;
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
  readonly door: 'vfio' | 'iommufd';
  readonly layout: TsmLayout;
  readonly #requests: TsmRequests;

  constructor({ device, vdevice, door = 'vfio', layout = 'type48', tvm_arch = IOMMU_VDEVICE_TSM_TVM_ARCH_CCA }: TdiOptions) {
    oneOf(door, 'door', DOORS);
    oneOf(layout, 'layout', TSM_LAYOUTS);
    this.device = device;
    this.vdevice = vdevice;
    this.door = door;
    this.layout = layout;
    this.#requests = tsmRequests(vdevice, layout, integer(tvm_arch, 'tvm_arch', 0, U32_MAX));
  }

  /** VFIO_DEVICE_TSM_BIND, or IOMMU_VDEVICE_TSM_OP: the TDI is the VM's; but for CCA's it is CONFIG_LOCKED then. */
  bind(): void {
    if (this.door === 'vfio') this.device.tsmBind({ vdevice: this.vdevice });
    else this.vdevice.tsmBind();
  }

  /** VFIO_DEVICE_TSM_UNBIND, or IOMMU_VDEVICE_TSM_OP: it is CONFIG_UNLOCKED, and nobody's. Not bound: nothing happens. */
  unbind(): void {
    if (this.door === 'vfio') this.device.tsmUnbind();
    else this.vdevice.tsmUnbind();
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

showAs(Tdi, (tdi) => `Tdi { vdevice ${tdi.vdevice.id}, by ${tdi.door}, requests ${tdi.layout} }`);
