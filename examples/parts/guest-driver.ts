// The guest's side of a trusted accelerator (docs/device-models.md): it looks at the evidence, accepts the device, and has it add up bytes that nobody outside the guest can see.
import { decodeInterfaceReport, type Guest, type GuestScript, type InterfaceReport, TDISP_MMIO } from 'kvio/sim';
import { BAR0, BAR2 } from './confidential-vm.ts';
import { type Ask, NONCE_AT, OBJECT_AT, Request } from './guest-requests.ts';
import type { Timeline } from './timeline.ts';

const PAGE = 0x1000n;
const CERTIFICATES = 1;
const MEASUREMENTS = 2;
const REPORT = 3;

/** Fetches certificates, measurements with a nonce of its own, and the report; where the device's pages are, as the report has it. */
export function* attest(guest: Guest, ask: Ask, timeline: Timeline): GuestScript<InterfaceReport> {
  const fetch = function* (object: number): GuestScript<Uint8Array> {
    const length = yield* ask(Request.READ_OBJECT, BigInt(object), OBJECT_AT);
    if (length < 0n) throw new Error(`object ${object}: ${length}`);
    return (yield* guest.read(OBJECT_AT, Number(length))).slice();
  };
  const certificates = yield* fetch(CERTIFICATES);
  const nonce = Uint8Array.from({ length: 32 }, (_, i) => 0xa0 + i);
  yield* guest.write(NONCE_AT, nonce);
  yield* ask(Request.MEASURE, NONCE_AT);
  const measurements = yield* fetch(MEASUREMENTS);
  const fresh = Buffer.from(measurements).includes(Buffer.from(nonce));
  const report = decodeInterfaceReport(yield* fetch(REPORT));
  const pages = report.ranges.reduce((sum, range) => sum + range.pages, 0);
  if (!fresh || certificates.length === 0) throw new Error('not to be trusted');
  timeline.guest(`trusts it: certificates, measurements with its nonce, ${pages} pages`);
  return report;
}

/** Which pages of the guest's are which of the report's: the device's own memory but for the pages the host programs. */
export function ranges(report: InterfaceReport): { gpa: bigint; pages: number; paBase: bigint }[] {
  const own: Readonly<Record<number, bigint>> = { 0: BAR0.gpa, 2: BAR2.gpa };
  const starts = new Map<number, bigint>();
  return report.ranges.flatMap(({ firstPage, pages, attributes, rangeId }) => {
    const start = starts.get(rangeId) ?? firstPage;
    starts.set(rangeId, start);
    const gpa = own[rangeId]! + (firstPage - start) * PAGE;
    return (attributes & TDISP_MMIO.IS_NON_TEE_MEM) !== 0 ? [] : [{ gpa, pages, paBase: firstPage * PAGE }];
  });
}

/** Where the guest has its queue, data and completion: private memory. */
const QUEUE = 0x8000n;
export const DATA = 0x9000n;
const COMPLETION = 0xa000n;
/** Pages of it. */
export const BUFFERS = { gpa: QUEUE, size: 3n * PAGE };

const SUM = 4;

/** Has the device add up the first `length` bytes of DATA, all in private memory, by private accesses to its registers. Undefined: the device reached nothing. */
export function* sum(guest: Guest, length: number): GuestScript<bigint | undefined> {
  const command = new DataView(new ArrayBuffer(64));
  command.setUint32(0, SUM, true);
  command.setBigUint64(8, DATA, true);
  command.setUint32(24, length, true);
  command.setBigUint64(40, COMPLETION, true);
  yield* guest.write(QUEUE, new Uint8Array(command.buffer), { private: true });
  yield* guest.write(COMPLETION, new Uint8Array(16), { private: true });
  const own = { private: true };
  yield* guest.writeMmio(BAR0.gpa + 0x08n, 4, 0, own);
  yield* guest.writeMmio(BAR0.gpa + 0x10n, 8, QUEUE, own);
  yield* guest.writeMmio(BAR0.gpa + 0x18n, 4, 2, own);
  yield* guest.writeMmio(BAR0.gpa + 0x08n, 4, 1, own);
  yield* guest.writeMmio(BAR0.gpa + 0x20n, 4, 1, own);
  for (let tries = 0; tries < 100; tries++) {
    yield* guest.pause(1000);
    const done = new DataView((yield* guest.read(COMPLETION, 16, own)).slice().buffer);
    if (done.getUint32(4, true) === 0x8000_0000) return done.getBigUint64(8, true);
    if ((yield* guest.readMmio(BAR0.gpa + 0x24n, 4, own)) !== 0) return undefined;
  }
  return undefined;
}
