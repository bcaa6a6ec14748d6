import type { Nvme } from './nvme.ts';

/** A submission queue entry. `dwords`: command dwords 10 to 15. */
export interface Command {
  readonly opcode: number;
  readonly flags: number;
  readonly identifier: number;
  readonly namespace: number;
  readonly prp1: bigint;
  readonly prp2: bigint;
  readonly dwords: readonly number[];
}

export interface Completion {
  /** Status code type << 8 | status code, with Do Not Retry in bit 14. */
  readonly status: number;
  readonly result?: number;
}

/** Do Not Retry is bit 14. */
type StatusName =
  | 'SUCCESS'
  | 'INVALID_OPCODE'
  | 'INVALID_FIELD'
  | 'DATA_TRANSFER_ERROR'
  | 'INVALID_NAMESPACE'
  | 'LBA_RANGE'
  | 'COMPLETION_QUEUE_INVALID'
  | 'QUEUE_IDENTIFIER_INVALID'
  | 'QUEUE_SIZE_INVALID'
  | 'INVALID_VECTOR'
  | 'INVALID_LOG_PAGE'
  | 'INVALID_QUEUE_DELETION'
  | 'WRITE_FAULT';

/** Statuses: type << 8 | code. */
export const Status: Readonly<Record<StatusName, number>> = {
  SUCCESS: 0x000,
  INVALID_OPCODE: 0x4001,
  INVALID_FIELD: 0x4002,
  DATA_TRANSFER_ERROR: 0x004,
  INVALID_NAMESPACE: 0x400b,
  LBA_RANGE: 0x4080,
  COMPLETION_QUEUE_INVALID: 0x4100,
  QUEUE_IDENTIFIER_INVALID: 0x4101,
  QUEUE_SIZE_INVALID: 0x4102,
  INVALID_LOG_PAGE: 0x4109,
  INVALID_QUEUE_DELETION: 0x410c,
  INVALID_VECTOR: 0x4108,
  WRITE_FAULT: 0x280,
};

const BLOCK = 512;
const QUEUES = 64;
const ok: Completion = { status: Status.SUCCESS };

type Handler = (nvme: Nvme, command: Command) => Completion | undefined;

/** Asynchronous event requests wait for an event: none comes. */
const adminCommands: Readonly<Record<number, Handler>> = {
  0: deleteSubmissionQueue,
  1: createSubmissionQueue,
  2: getLogPage,
  4: deleteCompletionQueue,
  5: createCompletionQueue,
  6: identify,
  8: () => ({ status: Status.SUCCESS, result: 1 }),
  9: setFeatures,
  10: getFeatures,
  12: () => undefined,
};

const inputCommands: Readonly<Record<number, Handler>> = {
  0: (_nvme, command) => namespaceError(command, true) ?? ok,
  1: (nvme, command) => transfer(nvme, command, true),
  2: (nvme, command) => transfer(nvme, command, false),
  8: writeZeroes,
};

/** A command of the admin queue; undefined: it completes later. */
export function admin(nvme: Nvme, command: Command): Completion | undefined {
  const handler = adminCommands[command.opcode];
  return handler === undefined ? { status: Status.INVALID_OPCODE } : handler(nvme, command);
}

/** A command of an I/O queue. */
export function input(nvme: Nvme, command: Command): Completion | undefined {
  const handler = inputCommands[command.opcode];
  return handler === undefined ? { status: Status.INVALID_OPCODE } : handler(nvme, command);
}

// ---- queues

function createCompletionQueue(nvme: Nvme, { prp1, dwords }: Command): Completion {
  const [id, size] = [dwords[0]! & 0xffff, (dwords[0]! >>> 16) + 1];
  const [contiguous, interrupts, vector] = [(dwords[1]! & 1) !== 0, (dwords[1]! & 2) !== 0, dwords[1]! >>> 16];
  if (id === 0 || id > QUEUES || nvme.hasCompletionQueue(id)) return { status: Status.QUEUE_IDENTIFIER_INVALID };
  if (size < 2 || size > 2048) return { status: Status.QUEUE_SIZE_INVALID };
  if (prp1 === 0n || prp1 % BigInt(nvme.pageSize) !== 0n) return { status: Status.INVALID_FIELD };
  if (vector >= nvme.spec.msix!.vectors) return { status: Status.INVALID_VECTOR };
  if (!contiguous) return { status: Status.INVALID_FIELD };
  nvme.createCompletionQueue(id, prp1, size, vector, interrupts);
  return ok;
}

function createSubmissionQueue(nvme: Nvme, { prp1, dwords }: Command): Completion {
  const [id, size] = [dwords[0]! & 0xffff, (dwords[0]! >>> 16) + 1];
  const [contiguous, completions] = [(dwords[1]! & 1) !== 0, dwords[1]! >>> 16];
  if (completions === 0 || !nvme.hasCompletionQueue(completions)) return { status: Status.COMPLETION_QUEUE_INVALID };
  if (id === 0 || id > QUEUES || nvme.hasSubmissionQueue(id)) return { status: Status.QUEUE_IDENTIFIER_INVALID };
  if (size < 2 || size > 2048) return { status: Status.QUEUE_SIZE_INVALID };
  if (prp1 === 0n || prp1 % BigInt(nvme.pageSize) !== 0n || !contiguous) return { status: Status.INVALID_FIELD };
  nvme.createSubmissionQueue(id, prp1, size, completions);
  return ok;
}

function deleteSubmissionQueue(nvme: Nvme, { dwords }: Command): Completion {
  const id = dwords[0]! & 0xffff;
  if (id === 0 || !nvme.hasSubmissionQueue(id)) return { status: Status.QUEUE_IDENTIFIER_INVALID };
  nvme.deleteSubmissionQueue(id);
  return ok;
}

function deleteCompletionQueue(nvme: Nvme, { dwords }: Command): Completion {
  const id = dwords[0]! & 0xffff;
  if (id === 0 || !nvme.hasCompletionQueue(id)) return { status: Status.QUEUE_IDENTIFIER_INVALID };
  return nvme.deleteCompletionQueue(id) ? ok : { status: Status.INVALID_QUEUE_DELETION };
}

// ---- what the controller is

function identify(nvme: Nvme, command: Command): Completion {
  const cns = command.dwords[0]! & 0xff;
  if (cns === 0) return namespaceError(command, true) ?? give(nvme, command, identifyNamespace(nvme));
  if (cns === 1) return give(nvme, command, identifyController(nvme));
  if (cns === 2) return give(nvme, command, Uint8Array.of(command.namespace === 0 ? 1 : 0));
  return cns === 3
    ? (namespaceError(command, false) ?? give(nvme, command, namespaceUuid(nvme)))
    : { status: Status.INVALID_FIELD };
}

function identifyController(nvme: Nvme): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const { serial, model, firmware } = nvme.options;
  view.setUint16(0, nvme.spec.vendor, true);
  view.setUint16(2, nvme.spec.subsystemVendor!, true);
  bytes.set(Buffer.from(serial.padEnd(20)), 4);
  bytes.set(Buffer.from(model.padEnd(40)), 24);
  bytes.set(Buffer.from(firmware.padEnd(8)), 64);
  bytes[72] = 6;
  bytes[77] = MDTS;
  view.setUint32(80, 0x0001_0400, true);
  bytes[258] = 3;
  bytes[259] = 3;
  bytes[512] = 0x66;
  bytes[513] = 0x44;
  view.setUint32(516, 1, true);
  view.setUint16(520, 0x8, true);
  bytes[525] = 1;
  bytes.set(Buffer.from(`nqn.2019-08.org.qemu:${serial}`), 768);
  return bytes;
}

/** A transfer is at most 2^7 pages of the smallest size. */
const MDTS = 7;

function identifyNamespace(nvme: Nvme): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const blocks = BigInt(nvme.options.size / BLOCK);
  for (const at of [0, 8, 16]) view.setBigUint64(at, blocks, true);
  view.setUint32(128, Math.log2(BLOCK) << 16, true);
  return bytes;
}

/** Namespace identification descriptors: a UUID of the serial number. */
function namespaceUuid(nvme: Nvme): Uint8Array {
  const bytes = new Uint8Array(4096);
  bytes.set([3, 16]);
  bytes.set(Buffer.from(nvme.options.serial).subarray(0, 16), 4);
  return bytes;
}

function getLogPage(nvme: Nvme, command: Command): Completion {
  const [page, dwords] = [command.dwords[0]! & 0xff, ((command.dwords[0]! >>> 16) | ((command.dwords[1]! & 0xffff) << 16)) + 1];
  if (page < 1 || page > 3) return { status: Status.INVALID_LOG_PAGE };
  const bytes = new Uint8Array(Math.min(512, 4 * dwords));
  // SMART: 300 K, all spare.
  if (page === 2) bytes.set([0, 0x2c, 0x01, 100, 10].slice(0, bytes.length));
  return give(nvme, command, bytes);
}

/** Temperature threshold, queues, interrupt coalescing and what else is a plain value. */
const FEATURES: ReadonlySet<number> = new Set([1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
const NUMBER_OF_QUEUES = 7;

function setFeatures(nvme: Nvme, { dwords }: Command): Completion {
  const feature = dwords[0]! & 0xff;
  if (!FEATURES.has(feature)) return { status: Status.INVALID_FIELD };
  if (feature === NUMBER_OF_QUEUES) {
    if ((dwords[1]! & 0xffff) === 0xffff || dwords[1]! >>> 16 === 0xffff) return { status: Status.INVALID_FIELD };
    return { status: Status.SUCCESS, result: (QUEUES - 1) | ((QUEUES - 1) << 16) };
  }
  nvme.features.set(feature, dwords[1]!);
  return ok;
}

function getFeatures(nvme: Nvme, { dwords }: Command): Completion {
  const feature = dwords[0]! & 0xff;
  if (!FEATURES.has(feature)) return { status: Status.INVALID_FIELD };
  const fixed = feature === NUMBER_OF_QUEUES ? (QUEUES - 1) | ((QUEUES - 1) << 16) : 0;
  return { status: Status.SUCCESS, result: nvme.features.get(feature) ?? fixed };
}

// ---- blocks

function namespaceError({ namespace }: Command, all: boolean): Completion | undefined {
  return namespace === 1 || (all && namespace === 0xffff_ffff) ? undefined : { status: Status.INVALID_NAMESPACE };
}

function range(nvme: Nvme, { dwords }: Command): { at: number; length: number } | undefined {
  const first = BigInt(dwords[0]!) | (BigInt(dwords[1]!) << 32n);
  const count = (dwords[2]! & 0xffff) + 1;
  const end = first + BigInt(count);
  return end > BigInt(nvme.options.size / BLOCK) ? undefined : { at: Number(first) * BLOCK, length: count * BLOCK };
}

function transfer(nvme: Nvme, command: Command, write: boolean): Completion {
  const error = namespaceError(command, false);
  if (error !== undefined) return error;
  const length = ((command.dwords[2]! & 0xffff) + 1) * BLOCK;
  if (length > 4096 << MDTS) return { status: Status.INVALID_FIELD };
  const blocks = range(nvme, command);
  if (blocks === undefined) return { status: Status.LBA_RANGE };
  const disk = nvme.disk.subarray(blocks.at, blocks.at + blocks.length);
  if (!write) return give(nvme, command, disk);
  const pieces = prps(nvme, command, length);
  if (!Array.isArray(pieces)) return pieces;
  let at = 0;
  for (const piece of pieces) {
    const bytes = nvme.dma.read(piece.address, piece.length);
    if (bytes === undefined) return { status: Status.DATA_TRANSFER_ERROR };
    disk.set(bytes, at);
    at += piece.length;
  }
  return ok;
}

function writeZeroes(nvme: Nvme, command: Command): Completion {
  const error = namespaceError(command, false);
  if (error !== undefined) return error;
  const blocks = range(nvme, command);
  if (blocks === undefined) return { status: Status.LBA_RANGE };
  nvme.disk.fill(0, blocks.at, blocks.at + blocks.length);
  return ok;
}

/** Data to the host. An answer shorter than the page it is asked for is filled up by the caller. */
function give(nvme: Nvme, command: Command, bytes: Uint8Array): Completion {
  const page = command.opcode === 6 ? Math.max(bytes.length, 4096) : bytes.length;
  const whole = new Uint8Array(page);
  whole.set(bytes);
  const pieces = prps(nvme, command, page);
  if (!Array.isArray(pieces)) return pieces;
  let at = 0;
  for (const piece of pieces) {
    if (!nvme.dma.write(piece.address, whole.subarray(at, at + piece.length))) return { status: Status.DATA_TRANSFER_ERROR };
    at += piece.length;
  }
  return ok;
}

interface Piece {
  readonly address: bigint;
  readonly length: number;
}

/** Physical region pages: the first may begin inside a page; then a second page, or a list of pages whose last entry may lead to the next list. */
function prps(nvme: Nvme, { flags, prp1, prp2 }: Command, length: number): Piece[] | Completion {
  // A scatter gather list, which this controller does not say it has.
  if ((flags & 0xc0) !== 0) return { status: Status.INVALID_FIELD };
  const page = BigInt(nvme.pageSize);
  const room = Number(page - (prp1 % page));
  const pieces: Piece[] = [{ address: prp1, length: Math.min(room, length) }];
  let left = length - room;
  if (left <= 0) return pieces;
  if (left <= nvme.pageSize) {
    if (prp2 % page !== 0n) return { status: Status.INVALID_FIELD };
    return [...pieces, { address: prp2, length: left }];
  }
  for (let at = prp2; left > 0; ) {
    const bytes = nvme.dma.read(at, 8);
    if (bytes === undefined) return { status: Status.DATA_TRANSFER_ERROR };
    const entry = new DataView(bytes.buffer).getBigUint64(0, true);
    if (entry % page !== 0n) return { status: Status.INVALID_FIELD };
    if ((at + 8n) % page === 0n && left > nvme.pageSize) {
      at = entry;
      continue;
    }
    pieces.push({ address: entry, length: Math.min(left, nvme.pageSize) });
    left -= nvme.pageSize;
    at += 8n;
  }
  return pieces;
}
