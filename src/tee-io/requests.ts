import type { Vdevice } from '../iommufd/vdevice.ts';
import { withMemory } from '../kernel/temporary.ts';
import * as june from '../uapi/tee-io/aneesh-jun26.ts';
import { PCI_TSM_REQ_INFO, PCI_TSM_REQ_STATE_CHANGE } from '../uapi/tee-io/aneesh-v5.ts';
import * as v7 from '../uapi/tee-io/aneesh-v7.ts';
import * as cca from '../uapi/tee-io/cca-v4.ts';
import { PCI_TSM_GUEST_REQ_TDXC } from '../uapi/tee-io/xu-may25.ts';

/**
 * RFC: how a guest's requests reach the TSM: 48 bytes by type (ARM CCA device assignment v1), 40 by scope (iommufd: TSM v5), 48 by operation (v7, or with its first numbers, June 2026). A kernel
 * has one of them under one word, and nothing tells which. Two are older, under a word that is another request's in mainline: by type (TDISP using TSM, May 2025), and 44 bytes of SEV-TIO v2.
 */
export type TsmLayout = (typeof TSM_LAYOUTS)[number];

export const TSM_LAYOUTS = ['type48', 'scope40', 'op48', 'op48-june', 'type48-may25', 'sev44'] as const;

/** What a guest asks of the TSM about a TDI of its own. */
export interface TsmRequests {
  /** In bytes. */
  objectSize(object: number): number;
  /** At most `length` bytes from `offset`. */
  readObject(object: number, offset: number, length: number): Uint8Array;
  /** `nonce`: 32 bytes, of measurements. */
  regenObject(object: number, nonce?: Uint8Array): void;
  validateMmio(range: v7.tsm_validate_mmio): void;
  setTdiState(state: number): void;
  setDma(on: boolean): void;
}

export function tsmRequests(vdevice: Vdevice, layout: TsmLayout, tvm_arch: number): TsmRequests {
  if (layout === 'op48') return new Operations(vdevice, tvm_arch, v7);
  if (layout === 'op48-june') return new Operations(vdevice, tvm_arch, june);
  return new Blobs(vdevice, layout);
}

const word = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const readWord = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

/** No series has numbers for these two: the simulator's own. */
const BLOB_ENABLE_DMA = 0x100;
const BLOB_DISABLE_DMA = 0x101;

/** Commands in bytes that only the TSM understands: those of CCA, in the first 32 bits. How long all but the last two are is not recorded: as the simulator has them. */
class Blobs implements TsmRequests {
  readonly #vdevice: Vdevice;
  readonly #layout: TsmLayout;

  constructor(vdevice: Vdevice, layout: TsmLayout) {
    this.#vdevice = vdevice;
    this.#layout = layout;
  }

  #ask(scope: number, request: Uint8Array, response_length = 0): Uint8Array {
    const vdevice = this.#vdevice;
    if (this.#layout === 'scope40') return vdevice.tsmReq({ scope, request, response_length }).response;
    if (this.#layout === 'sev44') return vdevice.tsmGuestRequest({ series: 'aikV2', request, response_length }).response;
    const series = this.#layout === 'type48' ? 'aneeshV1' : 'xuMay25';
    return vdevice.tsmGuestRequest({ series, type: PCI_TSM_GUEST_REQ_TDXC, request, response_length }).response;
  }

  objectSize(object: number): number {
    return readWord(this.#ask(PCI_TSM_REQ_INFO, join(word(cca.CCA_TSM_REQ_OBJECT_SIZE), word(object)), 4));
  }

  readObject(object: number, offset: number, length: number): Uint8Array {
    const request = join(word(cca.CCA_TSM_REQ_OBJECT_READ), word(object), word(offset), word(0));
    return this.#ask(PCI_TSM_REQ_INFO, request, length);
  }

  regenObject(object: number, nonce?: Uint8Array): void {
    const request =
      object === v7.IOMMU_VDEVICE_TSM_OBJECT_REPORT
        ? word(cca.CCA_TSM_REQ_UPDATE_IF_REPORT)
        : join(word(cca.CCA_TSM_REQ_UPDATE_MEASUREMENTS), word(0), nonce ?? new Uint8Array(0));
    this.#ask(PCI_TSM_REQ_INFO, request);
  }

  validateMmio(range: v7.tsm_validate_mmio): void {
    const request = cca.cca_tsm_vdev_map.encode({ req_type: cca.CCA_TSM_REQ_VDEV_MAP, rsvd: 0, ...range });
    this.#ask(PCI_TSM_REQ_STATE_CHANGE, request);
  }

  setTdiState(tdi_state: number): void {
    const request = cca.cca_tsm_set_tdi_state.encode({ req_type: cca.CCA_TSM_REQ_SET_TDI_STATE, tdi_state });
    this.#ask(PCI_TSM_REQ_STATE_CHANGE, request);
  }

  setDma(on: boolean): void {
    this.#ask(PCI_TSM_REQ_STATE_CHANGE, word(on ? BLOB_ENABLE_DMA : BLOB_DISABLE_DMA));
  }
}

/** The numbers of operations, of whichever posting. */
type Numbers = Pick<
  typeof v7,
  `IOMMU_VDEVICE_TSM_${'VALIDATE_MMIO' | 'SET_TDI_STATE' | 'SEV_ENABLE_DMA' | 'SEV_DISABLE_DMA' | 'READ_OBJECT' | 'REGEN_OBJECT' | 'OBJECT_INFO'}`
>;

class Operations implements TsmRequests {
  readonly #vdevice: Vdevice;
  readonly #arch: number;
  readonly #numbers: { readonly [K in keyof Numbers]: number };

  constructor(vdevice: Vdevice, arch: number, numbers: { readonly [K in keyof Numbers]: number }) {
    this.#vdevice = vdevice;
    this.#arch = arch;
    this.#numbers = numbers;
  }

  #ask(op: number, request: Uint8Array, response_length = 0): Uint8Array {
    return this.#vdevice.tsmReq({ op, tvm_arch: this.#arch, request, response_length }).response;
  }

  objectSize(object: number): number {
    return readWord(this.#ask(this.#numbers.IOMMU_VDEVICE_TSM_OBJECT_INFO, word(object), 4));
  }

  readObject(type: number, offset: number, length: number): Uint8Array {
    const request = v7.tsm_read_object.encode({ type, rsvd: 0, offset: BigInt(offset) });
    return this.#ask(this.#numbers.IOMMU_VDEVICE_TSM_READ_OBJECT, request, length);
  }

  regenObject(type: number, nonce?: Uint8Array): void {
    withMemory(this.#vdevice.iommufd.kernel, nonce ?? new Uint8Array(0), (address) => {
      const pointer = nonce === undefined ? 0n : address;
      const request = v7.tsm_regen_object.encode({ type, rsvd: 0, flags: 0n, nonce: pointer });
      this.#ask(this.#numbers.IOMMU_VDEVICE_TSM_REGEN_OBJECT, request);
    });
  }

  validateMmio(range: v7.tsm_validate_mmio): void {
    this.#ask(this.#numbers.IOMMU_VDEVICE_TSM_VALIDATE_MMIO, v7.tsm_validate_mmio.encode(range));
  }

  setTdiState(state: number): void {
    this.#ask(this.#numbers.IOMMU_VDEVICE_TSM_SET_TDI_STATE, word(state));
  }

  setDma(on: boolean): void {
    const { IOMMU_VDEVICE_TSM_SEV_ENABLE_DMA: enable, IOMMU_VDEVICE_TSM_SEV_DISABLE_DMA: disable } = this.#numbers;
    this.#ask(on ? enable : disable, new Uint8Array(0));
  }
}
