import { bytes as bytesOf, integer, oneOf } from '../kernel/arguments.ts';
import type { Ram } from '../kernel/memory.ts';
import { type RfcRequest, rfcIoctl } from '../kernel/rfc.ts';
import { withRoom } from '../kernel/temporary.ts';
import * as sev from '../uapi/tee-io/aik-v2.ts';
import * as june from '../uapi/tee-io/aneesh-jun26.ts';
import * as v1 from '../uapi/tee-io/aneesh-v1.ts';
import * as v5 from '../uapi/tee-io/aneesh-v5.ts';
import type { SeriesName } from '../uapi/tee-io/series.ts';
import * as tdisp from '../uapi/tee-io/xu-may25.ts';
import type { IommufdObject } from './object.ts';
import { sevNames } from './tsm-bind.ts';
import type { Vdevice } from './vdevice.ts';

/** IOMMU_VDEVICE_TSM_GUEST_REQUEST. */
export interface GuestRequest {
  /** Whose number it has, with the same struct. Default 'aneeshV1'; that of 'xuMay25' is another request's in mainline. */
  series?: 'aneeshV1' | 'xuMay25';
  /** PCI_TSM_GUEST_REQ_TDXC (0) is the only one that was ever given a number. */
  type: number;
  request: Uint8Array;
  /** Room for the answer, in bytes. Default 0. */
  response_length?: number;
  /** Room for what the type itself tells, in bytes. Default 0. */
  type_info_length?: number;
}

export interface GuestResponse {
  readonly response: Uint8Array;
  readonly type_info: Uint8Array;
}

/** IOMMU_VDEVICE_TSM_GUEST_REQUEST of SEV-TIO v2. Its number is another request's in mainline. */
export interface SevGuestRequest {
  series: 'aikV2';
  request: Uint8Array;
  /** Room for the answer, in bytes. Default 0. */
  response_length?: number;
}

export interface SevGuestResponse {
  /** All of the room: how much was written the kernel does not tell. */
  readonly response: Uint8Array;
  /** What the firmware says. */
  readonly fw_err: number;
}

/** IOMMU_VDEVICE_TSM_REQ: which struct, the fields say. */
export type TsmReq = {
  request: Uint8Array;
  response_length?: number;
} & (
  | { /** PCI_TSM_REQ_*. */ scope: number }
  | { /** IOMMU_VDEVICE_TSM_*. */ op: number /** IOMMU_VDEVICE_TSM_TVM_ARCH_*. */; tvm_arch: number }
);

export interface TsmReqResponse {
  readonly response: Uint8Array;
  /** What the ioctl returned: bytes of the room for the answer that were not used; without such room, of the request. */
  readonly residue: number;
  /** What the TSM says besides; of an operation only. */
  readonly tsm_code: bigint | undefined;
}

const PAGE = 4096;

/** Pieces of one allocation, each on a page of its own; a piece of no bytes has no address. */
function withBuffers<T>({ iommufd }: IommufdObject, lengths: readonly number[], use: (ram: Ram, at: readonly number[]) => T): T {
  const at: number[] = [];
  let end = 0;
  for (const length of lengths) {
    at.push(end);
    end += Math.ceil(length / PAGE) * PAGE;
  }
  return withRoom(iommufd.kernel, end, (ram) => use(ram, at));
}

const pointer = (ram: Ram, at: number, length: number): bigint => (length === 0 ? 0n : ram.address + BigInt(at));

/** As long as the kernel takes a request, or an answer to one: KMALLOC_MAX_SIZE. */
const MAX_LENGTH = 4 * 2 ** 20;

function checkLengths(lengths: Readonly<Record<string, number>>): void {
  for (const [name, length] of Object.entries(lengths)) integer(length, name, 0, MAX_LENGTH);
}

const named = (series: SeriesName, name: string, request: number): RfcRequest => ({ series, name, request });

const TYPED = {
  aneeshV1: named('aneeshV1', 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', v1.IOMMU_VDEVICE_TSM_GUEST_REQUEST),
  xuMay25: {
    ...named('xuMay25', 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', tdisp.IOMMU_VDEVICE_TSM_GUEST_REQUEST),
    displaces: true,
  },
} as const;

/** RFC, aneeshV1 and xuMay25. */
export function guestRequest(vdevice: IommufdObject, given: GuestRequest): GuestResponse {
  const { series = 'aneeshV1', type, response_length = 0, type_info_length = 0 } = given;
  oneOf(series, 'series', [...Object.keys(TYPED), 'aikV2']);
  const request = bytesOf(given.request, 'request');
  checkLengths({ response_length, type_info_length });
  const struct = v1.iommu_vdevice_tsm_guest_request;
  return withBuffers(vdevice, [request.length, response_length, type_info_length], (ram, [req, resp, info]) => {
    ram.write(req!, request);
    const bytes = struct.encode({
      ...{ size: struct.size, vdevice_id: vdevice.liveId, type, type_info_len: type_info_length },
      ...{ req_len: request.length, resp_len: response_length },
      ...{ req_uptr: pointer(ram, req!, request.length), resp_uptr: pointer(ram, resp!, response_length) },
      type_info_uptr: pointer(ram, info!, type_info_length),
    });
    rfcIoctl(vdevice.iommufd, TYPED[series], bytes);
    const written = Math.min(struct.decode(bytes).resp_len, response_length);
    return { response: ram.read(resp!, written).slice(), type_info: ram.read(info!, type_info_length).slice() };
  });
}

/** RFC, aikV2. */
export function sevGuestRequest(vdevice: Vdevice, given: SevGuestRequest): SevGuestResponse {
  const { response_length = 0 } = given;
  const request = bytesOf(given.request, 'request');
  checkLengths({ response_length });
  const struct = sev.iommu_vdevice_tsm_guest_request;
  const rfc = named('aikV2', 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', sev.IOMMU_VDEVICE_TSM_GUEST_REQUEST);
  return withBuffers(vdevice, [request.length, response_length], (ram, [req, rsp]) => {
    ram.write(req!, request);
    const bytes = struct.encode({
      ...{ size: struct.size, ...sevNames(vdevice), fw_err: 0, req_len: request.length, rsp_len: response_length },
      ...{ req: pointer(ram, req!, request.length), rsp: pointer(ram, rsp!, response_length) },
    });
    rfcIoctl(vdevice.iommufd, { ...rfc, displaces: true }, bytes);
    return { response: ram.read(rsp!, response_length).slice(), fw_err: struct.decode(bytes).fw_err };
  });
}

/** RFC, aneeshV5 and aneeshV7. */
export function tsmReq(vdevice: IommufdObject, given: TsmReq): TsmReqResponse {
  const { response_length = 0 } = given;
  const request = bytesOf(given.request, 'request');
  checkLengths({ response_length });
  return withBuffers(vdevice, [request.length, response_length], (ram, [req, resp]) => {
    ram.write(req!, request);
    const common = {
      ...{ vdevice_id: vdevice.liveId, req_len: request.length, resp_len: response_length },
      ...{ req_uptr: pointer(ram, req!, request.length), resp_uptr: pointer(ram, resp!, response_length) },
    };
    const answer = (residue: number, tsm_code?: bigint): TsmReqResponse => {
      const written = Math.max(0, response_length - residue);
      return { response: ram.read(resp!, written).slice(), residue, tsm_code };
    };
    if ('scope' in given) {
      const struct = v5.iommu_vdevice_tsm_req;
      const bytes = struct.encode({ size: struct.size, scope: given.scope, ...common });
      return answer(rfcIoctl(vdevice.iommufd, named('aneeshV5', 'IOMMU_VDEVICE_TSM_REQ', v5.IOMMU_VDEVICE_TSM_REQ), bytes));
    }
    const struct = june.iommu_vdevice_tsm_req;
    const { op, tvm_arch } = given;
    const bytes = struct.encode({ size: struct.size, op, tvm_arch, tsm_code: 0n, ...common });
    const residue = rfcIoctl(vdevice.iommufd, named('aneeshV7', 'IOMMU_VDEVICE_TSM_REQ', june.IOMMU_VDEVICE_TSM_REQ), bytes);
    return answer(residue, struct.decode(bytes).tsm_code);
  });
}
