import { EINVAL, EIO } from '../../../uapi/sys.ts';
import { TDISP_MMIO, TDISP_STATE } from '../tdisp/vocabulary.ts';
import type { AcceptedMmio } from './accepted-mmio.ts';
import { blobRequest } from './blobs.ts';
import { TSM_TDI_STATE, type TsmRequest, type TsmResponse } from './requests.ts';
import type { TdiContext } from './tdi-context.ts';

/** Of SEV-TIO's MMIO_VALIDATE: a frame is not the guest's; something else is mapped there; the report does not have the range. */
const NOT_ASSIGNED = 3;
const NOT_MAPPED_AT_GPA = 7;
const RANGE_NOT_IN_REPORT = 8;

const { CONFIG_UNLOCKED, CONFIG_LOCKED, ERROR } = TDISP_STATE;
const PAGE = 4096n;

const result = (errno: number, code = 0): TsmResponse => ({ errno, code, response: new Uint8Array(0) });
const bytes = (response: Uint8Array): TsmResponse => ({ errno: 0, code: 0, response });
const REFUSED = result(-EINVAL);
const DONE = result(0);

type Handlers = { readonly [K in TsmRequest['op']]: (tdi: TdiContext, request: TsmRequest & { op: K }) => TsmResponse };

const handlers: Handlers = {
  'read-object': (tdi, { object, offset, length }) => {
    const all = tdi.evidence.object(object);
    if (all === undefined || offset > BigInt(all.length)) return REFUSED;
    return bytes(all.slice(Number(offset), Number(offset) + length));
  },
  'object-info': (tdi, { object }) => {
    const all = tdi.evidence.object(object);
    return all === undefined ? REFUSED : bytes(new Uint8Array(Uint32Array.of(all.length).buffer));
  },
  'regen-object': (tdi, { object, nonce, flags }) => {
    return flags > 1n || !tdi.evidence.regenerate(object, nonce) ? REFUSED : DONE;
  },
  'validate-mmio': (tdi, range) => validateMmio(tdi, range),
  'set-tdi-state': (tdi, { state }) => transitions[state]?.(tdi) ?? REFUSED,
  'enable-dma': (tdi) => setDma(tdi, true),
  'disable-dma': (tdi) => setDma(tdi, false),
  vendor: (tdi, { blob, responseLength }) => {
    const forwarded = tdi.tsm.forward?.(tdi, blob, responseLength);
    if (forwarded !== undefined) return forwarded;
    const request = blobRequest(tdi, blob, responseLength);
    return request === undefined ? REFUSED : answer(tdi, request);
  },
};

/** What the built-in TSM answers to a guest whose TDI is bound. */
export function answer(tdi: TdiContext, request: TsmRequest): TsmResponse {
  return (handlers[request.op] as (tdi: TdiContext, request: TsmRequest) => TsmResponse)(tdi, request);
}

/** What the device says: TDISP_ERROR is EIO. */
const told = (code: number): TsmResponse => (code === 0 ? DONE : result(-EIO, Math.max(code, 0)));

/** CONFIG_LOCKED from CONFIG_UNLOCKED, RUN from CONFIG_LOCKED, CONFIG_UNLOCKED from anywhere. In ERROR it is the device that refuses. */
const transitions: Readonly<Record<number, (tdi: TdiContext) => TsmResponse>> = {
  [TSM_TDI_STATE.UNLOCKED]: (tdi) => {
    tdi.stop();
    return DONE;
  },
  [TSM_TDI_STATE.LOCKED]: (tdi) => {
    const { vendor, switches } = tdi.tsm;
    if (!vendor.guestLocks && switches.bindLocks) return REFUSED;
    return tdi.tdi.state === CONFIG_UNLOCKED || tdi.tdi.state === ERROR ? told(tdi.lock()) : REFUSED;
  },
  [TSM_TDI_STATE.RUN]: (tdi) => (tdi.tdi.state === CONFIG_LOCKED || tdi.tdi.state === ERROR ? told(tdi.start()) : REFUSED),
};

/** The guest accepts device memory: whole pages, locked, all of them TEE memory of one range of the report. */
function validateMmio(tdi: TdiContext, { gpaBase, gpaTop, paBase }: AcceptedMmio): TsmResponse {
  const { vendor } = tdi.tsm;
  if (!tdi.tdi.isLocked || gpaBase >= gpaTop || (gpaBase | gpaTop | paBase) % PAGE !== 0n) return REFUSED;
  const end = paBase + gpaTop - gpaBase;
  const inReport = tdi.reportedMmio.some(({ firstPage, pages, attributes }) => {
    const first = firstPage * PAGE;
    return (attributes & TDISP_MMIO.IS_NON_TEE_MEM) === 0 && paBase >= first && end <= first + BigInt(pages) * PAGE;
  });
  if (!inReport) return result(-EINVAL, RANGE_NOT_IN_REPORT);
  const { kvm } = tdi.binding!;
  for (let gpa = gpaBase; vendor.acceptsMappedOnly && gpa < gpaTop; gpa += PAGE) {
    const gfn = Number(gpa / PAGE);
    if (!kvm.isPrivate(gfn)) return result(-EINVAL, NOT_ASSIGNED);
    if (kvm.mmioAt(gfn) !== paBase + gpa - gpaBase) return result(-EINVAL, NOT_MAPPED_AT_GPA);
  }
  tdi.accept({ gpaBase, gpaTop, paBase });
  return DONE;
}

/** Only where the vendor has such requests, and of a TDI that is locked. */
function setDma(tdi: TdiContext, on: boolean): TsmResponse {
  if (!tdi.tsm.vendor.dmaRequests || !tdi.tdi.isLocked) return REFUSED;
  tdi.enableDma(on);
  return DONE;
}
