import type { Struct } from '../../uapi/struct.ts';
import { EFAULT, EINVAL, ENOENT, ENOMEM, ENXIO, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { iommu_vdevice_tsm_guest_request as SevRequest } from '../../uapi/tee-io/aik-v2.ts';
import * as june from '../../uapi/tee-io/aneesh-jun26.ts';
import type { iommu_vdevice_tsm_guest_request as TypedRequest } from '../../uapi/tee-io/aneesh-v1.ts';
import * as v5 from '../../uapi/tee-io/aneesh-v5.ts';
import * as v7 from '../../uapi/tee-io/aneesh-v7.ts';
import * as cca from '../../uapi/tee-io/cca-v3.ts';
import type { TsmRequest, TsmResponse } from '../hardware/tsm/requests.ts';
import type { TeeIo } from '../hardware/tsm/switches.ts';
import type { TdiContext } from '../hardware/tsm/tdi-context.ts';
import type { Process } from '../process.ts';
import type { Call } from './call.ts';
import { sevObjects, vdeviceOf } from './tsm.ts';
import type { Vdevice } from './viommu.ts';

/** KMALLOC_MAX_SIZE. */
const KMALLOC_MAX = 4 * 2 ** 20;
const NONCE_LENGTH = 32;

/** A user's buffers: what the guest sent, and where the answer goes. */
interface Buffers {
  readonly req_uptr: bigint;
  readonly req_len: number;
  readonly resp_uptr: bigint;
  readonly resp_len: number;
}

/** The TDI of a vDEVICE, while it is bound. */
function boundTdi({ idev }: Vdevice): TdiContext | undefined {
  const tdi = idev?.assigned?.tdi;
  return tdi?.binding === undefined ? undefined : tdi;
}

function copyRequest(p: Process, { req_uptr, req_len }: Buffers): Uint8Array | number {
  if (req_len > KMALLOC_MAX) return -ENOMEM;
  return p.mm.copyFrom(req_uptr, req_len) ?? -EFAULT;
}

/** As much of the response as there is room for: how many bytes, or −EFAULT. What the request has done stays done. */
function copyResponse(p: Process, { resp_uptr, resp_len }: Buffers, { response }: TsmResponse): number {
  const bytes = response.subarray(0, resp_len);
  return p.mm.copyTo(resp_uptr, bytes) ? bytes.length : -EFAULT;
}

/** What IOMMU_VDEVICE_TSM_REQ returns: bytes of the response that were not used; where there is no room for one, of the request, which was used up. */
function residue({ resp_len }: Buffers, written: number): number {
  return resp_len === 0 ? 0 : resp_len - written;
}

/**
 * RFC. The request of 48 bytes with a type (CCA device assignment v1 as 0x96, TDISP using TSM as 0x94): a blob for the TSM, with what the TSM says of it in the type's own data. `unbound`: the errno
 * where the TDI is not bound. 0; `resp_len` is what was written.
 */
export function typedRequest(unbound: number): (call: Call, cmd: TypedRequest) => number {
  return (call, cmd) => {
    const { p } = call;
    const vdevice = vdeviceOf(call, cmd.vdevice_id);
    if (vdevice === undefined) return -ENOENT;
    const tdi = boundTdi(vdevice);
    if (tdi === undefined) return -unbound;
    // PCI_TSM_GUEST_REQ_TDXC is the only one that was ever given a number.
    if (cmd.type !== 0) return -EINVAL;
    const blob = copyRequest(p, cmd);
    if (typeof blob === 'number') return blob;
    const answer = tdi.request({ op: 'vendor', blob, responseLength: cmd.resp_len });
    if (!copyCode(p, cmd, answer)) return -EFAULT;
    if (answer.errno < 0) return answer.errno;
    const written = copyResponse(p, cmd, answer);
    if (written < 0) return written;
    cmd.resp_len = written;
    return call.respond();
  };
}

function copyCode(p: Process, { type_info_uptr, type_info_len }: TypedRequest, { code }: TsmResponse): boolean {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(code), true);
  return p.mm.copyTo(type_info_uptr, bytes.subarray(0, type_info_len));
}

/** Commands of CCA's blobs by the scope they belong to; in the other one they are refused. */
const SCOPES: readonly ReadonlySet<number>[] = [
  new Set([
    cca.CCA_TSM_REQ_OBJECT_SIZE,
    cca.CCA_TSM_REQ_OBJECT_READ,
    cca.CCA_TSM_REQ_UPDATE_IF_REPORT,
    cca.CCA_TSM_REQ_UPDATE_MEASUREMENTS,
  ]),
  new Set([cca.CCA_TSM_REQ_VDEV_MAP, cca.CCA_TSM_REQ_SET_TDI_STATE]),
];

/** RFC. IOMMU_VDEVICE_TSM_REQ of v5: what the request may do is its scope; those that debug are refused. Returns the residue. */
export function scopedRequest(call: Call, cmd: v5.iommu_vdevice_tsm_req): number {
  const { p } = call;
  const vdevice = vdeviceOf(call, cmd.vdevice_id);
  if (vdevice === undefined) return -ENOENT;
  if (cmd.__reserved !== 0) return -EOPNOTSUPP;
  if (cmd.scope > v5.PCI_TSM_REQ_STATE_CHANGE) return -EINVAL;
  const tdi = boundTdi(vdevice);
  if (tdi === undefined) return -ENXIO;
  const blob = copyRequest(p, cmd);
  if (typeof blob === 'number') return blob;
  if (blob.length >= 4 && SCOPES[1 - cmd.scope]!.has(new DataView(blob.buffer, blob.byteOffset).getUint32(0, true)))
    return -EINVAL;
  const answer = tdi.request({ op: 'vendor', blob, responseLength: cmd.resp_len });
  if (answer.errno < 0) return answer.errno;
  const written = copyResponse(p, cmd, answer);
  return written < 0 ? written : residue(cmd, written);
}

/** RFC. IOMMU_VDEVICE_TSM_GUEST_REQUEST of SEV-TIO v2: a blob; `fw_err` is what the firmware says. */
export function sevRequest(call: Call, cmd: SevRequest): number {
  const { p } = call;
  const named = sevObjects(call, cmd.viommu_id, cmd.dev_id, cmd.vdevice_id);
  if (named === undefined) return -ENOENT;
  const tdi = boundTdi(named.vdevice);
  if (tdi === undefined) return -ENXIO;
  const buffers: Buffers = { req_uptr: cmd.req, req_len: cmd.req_len, resp_uptr: cmd.rsp, resp_len: cmd.rsp_len };
  const blob = copyRequest(p, buffers);
  if (typeof blob === 'number') return blob;
  const answer = tdi.request({ op: 'vendor', blob, responseLength: cmd.rsp_len });
  cmd.fw_err = answer.code;
  const written = answer.errno < 0 ? 0 : copyResponse(p, buffers, answer);
  if (written < 0 || call.respond() < 0) return -EFAULT;
  return answer.errno;
}

type Operation = (p: Process, payload: Uint8Array, responseLength: number) => TsmRequest | number;

/** An operation whose payload is a struct, and nothing but that. */
function taking<T>(
  struct: Struct<T>,
  request: (payload: T, p: Process, responseLength: number) => TsmRequest | number,
): Operation {
  return (p, payload, responseLength) =>
    payload.length === struct.size ? request(struct.decode(payload), p, responseLength) : -EINVAL;
}

/** A `__u32`. */
function takingWord(request: (value: number, responseLength: number) => TsmRequest | number): Operation {
  return (_p, payload, responseLength) => {
    if (payload.length !== 4) return -EINVAL;
    return request(new DataView(payload.buffer, payload.byteOffset).getUint32(0, true), responseLength);
  };
}

function takingNothing(request: TsmRequest): Operation {
  return (_p, payload) => (payload.length === 0 ? request : -EINVAL);
}

const OBJECT_INFO_LENGTH = 4;

/** What the operations are, whatever their numbers. */
const OPERATIONS = {
  readObject: taking(v7.tsm_read_object, ({ type, offset }, _p, length) => ({ op: 'read-object', object: type, offset, length })),
  regenObject: taking(v7.tsm_regen_object, ({ type, flags, nonce: pointer }, p) => {
    if (pointer === 0n) return { op: 'regen-object', object: type, flags };
    const nonce = p.mm.copyFrom(pointer, NONCE_LENGTH);
    return nonce === null ? -EFAULT : { op: 'regen-object', object: type, flags, nonce };
  }),
  objectInfo: takingWord((object, room) => (room === OBJECT_INFO_LENGTH ? { op: 'object-info', object } : -EINVAL)),
  validateMmio: taking(v7.tsm_validate_mmio, ({ gpa_base, gpa_top, pa_base }) => ({
    ...{ op: 'validate-mmio', gpaBase: gpa_base, gpaTop: gpa_top, paBase: pa_base },
  })),
  setTdiState: takingWord((state) => ({ op: 'set-tdi-state', state })),
  enableDma: takingNothing({ op: 'enable-dma' }),
  disableDma: takingNothing({ op: 'disable-dma' }),
} satisfies Record<string, Operation>;

const NUMBERINGS: Readonly<Record<TeeIo['opNumbering'], ReadonlyMap<number, Operation>>> = {
  v7: new Map([
    [v7.IOMMU_VDEVICE_TSM_VALIDATE_MMIO, OPERATIONS.validateMmio],
    [v7.IOMMU_VDEVICE_TSM_SET_TDI_STATE, OPERATIONS.setTdiState],
    [v7.IOMMU_VDEVICE_TSM_SEV_ENABLE_DMA, OPERATIONS.enableDma],
    [v7.IOMMU_VDEVICE_TSM_SEV_DISABLE_DMA, OPERATIONS.disableDma],
    [v7.IOMMU_VDEVICE_TSM_READ_OBJECT, OPERATIONS.readObject],
    [v7.IOMMU_VDEVICE_TSM_REGEN_OBJECT, OPERATIONS.regenObject],
    [v7.IOMMU_VDEVICE_TSM_OBJECT_INFO, OPERATIONS.objectInfo],
  ]),
  anj: new Map([
    [june.IOMMU_VDEVICE_TSM_READ_OBJECT, OPERATIONS.readObject],
    [june.IOMMU_VDEVICE_TSM_REGEN_OBJECT, OPERATIONS.regenObject],
    [june.IOMMU_VDEVICE_TSM_OBJECT_INFO, OPERATIONS.objectInfo],
    [june.IOMMU_VDEVICE_TSM_VALIDATE_MMIO, OPERATIONS.validateMmio],
    [june.IOMMU_VDEVICE_TSM_SET_TDI_STATE, OPERATIONS.setTdiState],
    [june.IOMMU_VDEVICE_TSM_SEV_ENABLE_DMA, OPERATIONS.enableDma],
    [june.IOMMU_VDEVICE_TSM_SEV_DISABLE_DMA, OPERATIONS.disableDma],
  ]),
};

/** The architecture of each vendor's VMs; one without a vendor is of any. */
const ARCHITECTURES: Readonly<Record<TeeIo['vendor'], readonly number[]>> = {
  sim: [june.IOMMU_VDEVICE_TSM_TVM_ARCH_CCA, june.IOMMU_VDEVICE_TSM_TVM_ARCH_SEV, june.IOMMU_VDEVICE_TSM_TVM_ARCH_TDX],
  cca: [june.IOMMU_VDEVICE_TSM_TVM_ARCH_CCA],
  sev: [june.IOMMU_VDEVICE_TSM_TVM_ARCH_SEV],
  tdx: [june.IOMMU_VDEVICE_TSM_TVM_ARCH_TDX],
};
const SEV_ONLY: ReadonlySet<Operation> = new Set([OPERATIONS.enableDma, OPERATIONS.disableDma]);

/** RFC. IOMMU_VDEVICE_TSM_REQ of June 2026 and of v7: an operation of an architecture. `tsm_code` is written whatever became of it. Returns the residue. */
export function operationRequest(call: Call, cmd: june.iommu_vdevice_tsm_req): number {
  const { p } = call;
  const teeIo = p.system.machine.teeIo!;
  const vdevice = vdeviceOf(call, cmd.vdevice_id);
  if (vdevice === undefined) return -ENOENT;
  if (!ARCHITECTURES[teeIo.vendor].includes(cmd.tvm_arch)) return -EINVAL;
  const operation = NUMBERINGS[teeIo.opNumbering].get(cmd.op);
  if (operation === undefined) return -EINVAL;
  if (SEV_ONLY.has(operation) && cmd.tvm_arch !== june.IOMMU_VDEVICE_TSM_TVM_ARCH_SEV) return -EINVAL;
  const tdi = boundTdi(vdevice);
  if (tdi === undefined) return -ENXIO;
  const payload = copyRequest(p, cmd);
  if (typeof payload === 'number') return payload;
  const request = operation(p, payload, cmd.resp_len);
  if (typeof request === 'number') return request;
  const answer = tdi.request(request);
  const written = answer.errno < 0 ? 0 : copyResponse(p, cmd, answer);
  cmd.tsm_code = BigInt(answer.code);
  if (written < 0 || call.respond() < 0) return -EFAULT;
  return answer.errno < 0 ? answer.errno : residue(cmd, written);
}
