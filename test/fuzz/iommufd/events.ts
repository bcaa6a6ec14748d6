/** What comes by descriptors of an iommufd, and goes back by them: page requests, events of vIOMMUs; accesses of the kernel itself; dma-bufs; dirty bitmaps. */
import * as u from 'kvio/uapi';
import { op } from '../../conformance/iommufd.ts';
import type { Call, Ref } from '../call.ts';
import type { Choices } from '../choices.ts';
import { type Answer, making, type Step, succeeded, type WeightedStep } from '../step.ts';
import { struct, type Word } from '../vfio/calls.ts';
import type { Descriptor, World } from '../world.ts';
import { address, call, iommufd, iova, objectOf, pageByPage, remember, size, spot, started, test, wrote } from './steps.ts';

const PAGE = 0x1000n;
const SELFTEST_DATA = 0xdead;
const SELFTEST_TYPE = 0xdead_beef;
const SELFTEST_EVENTS = 0xbeef_beef;

/** A call whose struct gets a descriptor, which is remembered as one of this kind. */
function* giving(w: World, kind: string, made: Call, at: number): Generator<Call, Answer, Answer> {
  if (!w.room(kind) || made.do !== 'ioctl') return undefined;
  const as = w.fresh(kind);
  const answer = yield { ...made, gives: { at, as } };
  if (succeeded(answer)) w.addDescriptor(as, { kind });
  return answer;
}

const faultQueue: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const words = [size(c, 16), c.chance(0.05) ? 1 : 0, 0, 0];
  const answer = yield* giving(
    w,
    'fault',
    call(fd, 'IOMMU_FAULT_QUEUE_ALLOC', u.IOMMU_FAULT_QUEUE_ALLOC, struct('llll', words)),
    12,
  );
  if (succeeded(answer)) remember(fd, wrote(answer, 8), 'fault');
};

/** A page table whose devices' requests go to a queue, and a device moved to it. */
const faultTable: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [ram] = w.rams().filter(({ of }) => of === undefined);
  if (fd === undefined || ram === undefined) return;
  const nested = c.chance(0.3);
  const data = nested ? [SELFTEST_DATA, 4] : [0, 0];
  const flags = c.pick([4, 12, 4, 5]);
  const target = objectOf(c, fd, nested ? c.pick(['hwpt', 'viommu']) : 'ioas');
  const fault = objectOf(c, fd, 'fault');
  const words = [48, flags, objectOf(c, fd, 'idev'), target, 0, 0, ...data, { memory: ram.name }, fault, 0];
  const answer = yield call(fd, 'IOMMU_HWPT_ALLOC', u.IOMMU_HWPT_ALLOC, struct('llllllllqll', words));
  if (!succeeded(answer)) return;
  remember(fd, wrote(answer, 16), 'hwpt');
  if (c.chance(0.7)) yield test(fd, op.MOCK_DOMAIN_REPLACE, objectOf(c, fd, 'stdev'), 'l', [wrote(answer, 16)]);
};

const request: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const pasid = c.pick([0, 0, 0, 1, 2, 77]);
  yield test(fd, op.TRIGGER_IOPF, 0, 'llllq', [objectOf(c, fd, 'idev'), pasid, c.below(4), c.below(16), iova(c)]);
};

const veventq: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const type = c.pick([SELFTEST_EVENTS, SELFTEST_EVENTS, SELFTEST_EVENTS, 1, 0]);
  const words = [size(c, 32), 0, objectOf(c, fd, 'viommu'), type, c.pick([2, 1, 3, 0, 1 << 20]), 0, 0, 0];
  const answer = yield* giving(
    w,
    'veventq',
    call(fd, 'IOMMU_VEVENTQ_ALLOC', u.IOMMU_VEVENTQ_ALLOC, struct('llllllll', words)),
    24,
  );
  if (succeeded(answer)) remember(fd, wrote(answer, 20), 'veventq');
};

const event: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd !== undefined) yield test(fd, op.TRIGGER_VEVENT, 0, 'l', [objectOf(c, fd, 'idev')]);
};

const queues = (w: World): Descriptor[] => [...w.live('fault'), ...w.live('veventq')];

const readQueue: Step = function* (c, w) {
  const open = queues(w);
  if (open.length === 0) return;
  const { name } = c.pick(open);
  if (c.chance(0.3)) yield { do: 'poll', fd: name, events: 0x7fff };
  yield { do: 'read', fd: name, bytes: new Uint8Array(c.pick([40, 80, 12, 8, 0, 7, 39, 400])) };
};

const answer: Step = function* (c, w) {
  const open = queues(w);
  if (open.length === 0) return;
  const records = Array.from({ length: 1 + c.below(3) }, () => [c.pick([1, 2, 3, 0, 9]), c.pick([0, 1, 0, 2])]).flat();
  const bytes = new Uint8Array(Uint32Array.from(records).buffer);
  yield { do: 'write', fd: c.pick(open).name, bytes: c.chance(0.1) ? bytes.slice(0, 7) : bytes };
};

const invalidate: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [ram] = w.rams().filter(({ of }) => of === undefined);
  if (fd === undefined || ram === undefined) return;
  const viommu = c.chance(0.4);
  const entries = Array.from({ length: 4 }, () =>
    viommu ? [c.pick([0, 1, 0, 2]), c.pick([1, 2, 0]), c.below(5)] : [c.pick([0, 1, 0, 2]), c.below(5)],
  ).flat();
  yield { do: 'store', memory: ram.name, offset: 0, bytes: new Uint8Array(Uint32Array.from(entries).buffer) };
  const uptr: Word = c.chance(0.1) ? 0n : { memory: ram.name };
  const entry = c.pick([viommu ? 12 : 8, viommu ? 12 : 8, 4, 16, 0]);
  const words = [
    32,
    objectOf(c, fd, viommu ? 'viommu' : 'hwpt'),
    uptr,
    c.pick([SELFTEST_TYPE, SELFTEST_TYPE, 1]),
    entry,
    c.below(5),
    0,
  ];
  yield call(fd, 'IOMMU_HWPT_INVALIDATE', u.IOMMU_HWPT_INVALIDATE, struct('llqllll', words));
};

const checkCaches: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const values = [0xba_ddad, 0, 1, 5];
  if (c.chance(0.5)) yield test(fd, op.MD_CHECK_IOTLB, objectOf(c, fd, 'hwpt'), 'll', [c.below(5), c.pick(values)]);
  else yield test(fd, op.DEV_CHECK_CACHE, objectOf(c, fd, 'idev'), 'll', [c.below(5), c.pick(values)]);
};

// ---- what the kernel itself reaches

const makeAccess: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  yield* giving(w, 'access', test(fd, op.CREATE_ACCESS, objectOf(c, fd, 'ioas'), 'll', [0, c.pick([1, 1, 0, 2])]), 16);
};

/** The header's id is a descriptor. */
function ofAccess(fd: Descriptor, operation: number, access: Ref, layout: string, words: readonly Word[]): Call {
  const made = test(fd, operation, 0, layout, words);
  if (made.do !== 'ioctl' || made.arg.is !== 'bytes') return made;
  const patches = [...made.arg.patches, { at: 8, ref: access, what: 'fd', plus: 0 } as const];
  return { ...made, arg: { ...made.arg, patches } };
}

const useAccess: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const open = w.live(c.chance(0.05) ? 'memfd' : 'access');
  if (fd === undefined || open.length === 0) return;
  const { name } = c.pick(open);
  const [first, bytes] = spot(c, fd, objectOf(c, fd, 'ioas'));
  const [ram] = w.rams().filter(({ of }) => of === undefined);
  yield c.weighted<Call>([
    [6, ofAccess(fd, op.ACCESS_PAGES, name, 'llqqq', [c.pick([1, 0, 1, 0, 2]), 0, first, bytes, 0n])],
    [4, ofAccess(fd, op.DESTROY_ACCESS_PAGES, name, 'l', [c.below(5)])],
    [6, ofAccess(fd, op.ACCESS_RW, name, 'qqqll', [first, bytes, address(c, w, bytes), c.pick([0, 1, 4, 5, 0, 1, 2]), 0])],
    [2, ofAccess(fd, op.ACCESS_REPLACE_IOAS, name, 'l', [objectOf(c, fd, 'ioas')])],
  ]);
  if (ram !== undefined && c.chance(0.2)) yield { do: 'look', memory: ram.name };
};

const fill: Step = function* (c, w) {
  const rams = w.rams().filter(({ of }) => of === undefined);
  if (rams.length === 0) return;
  const { name, length: whole } = c.pick(rams);
  const bytes = new Uint8Array(64).fill(1 + c.below(255));
  yield { do: 'store', memory: name, offset: c.below(Math.max(1, Math.floor(whole / 64))) * 64, bytes };
};

const dmabuf: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined || !w.room('dmabuf')) return;
  const made = test(fd, op.DMABUF_GET, 0, 'll', [c.pick([0x4000, 0x1000, 0x10000, 1, 0, 0x400000]), u.O_CLOEXEC]);
  yield* making(w, 'dmabuf', { kind: 'dmabuf' }, (as) => ({ ...made, as }) as Call);
};

const revoke: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const open = w.live(c.chance(0.1) ? 'memfd' : 'dmabuf');
  if (fd === undefined || open.length === 0) return;
  yield test(fd, op.DMABUF_REVOKE, 0, 'll', [{ fd: c.pick(open).name }, c.pick([1, 0])]);
};

// ---- what is written

/** Of whole pages from one on: a query that begins in the last item of an entry of several makes the kernel loop for ever. */
const wholePages = (c: Choices): readonly [first: bigint, bytes: bigint] => [
  0x100_0000n + PAGE * BigInt(c.below(40)),
  PAGE * BigInt(1 + c.below(16)),
];

/** `wanted` only where tables map page by page: else an entry is as long as memory happens to be contiguous. */
function tracked(c: Choices, w: World): Descriptor | undefined {
  const fd = iommufd(c, w);
  return fd?.file.tracked ? fd : undefined;
}

const makeDirty: Step = function* (c, w) {
  const fd = tracked(c, w);
  const [ram] = w.rams().filter(({ of }) => of === undefined);
  if (fd === undefined || ram === undefined) return;
  yield { do: 'store', memory: ram.name, offset: 0, bytes: Uint8Array.from({ length: 8 }, () => c.below(256)) };
  const [first, bytes] = wholePages(c);
  const words = [0, 0, first, bytes, c.pick([PAGE, 0x800n, 0x2000n]), { memory: ram.name }, 0n];
  yield test(fd, op.DIRTY, objectOf(c, fd, 'hwpt'), 'llqqqqq', words);
};

const tellDirty: Step = function* (c, w) {
  const fd = tracked(c, w);
  const [ram] = w.rams().filter(({ of }) => of === undefined);
  if (fd === undefined || ram === undefined) return;
  yield { do: 'store', memory: ram.name, offset: 0, bytes: new Uint8Array(16) };
  const [first, bytes] = wholePages(c);
  const words = [
    48,
    objectOf(c, fd, 'hwpt'),
    c.pick([0, 1, 0, 2]),
    0,
    first,
    bytes,
    c.pick([PAGE, 0x800n, 0x2000n, 0n]),
    { memory: ram.name },
  ];
  yield call(fd, 'IOMMU_HWPT_GET_DIRTY_BITMAP', u.IOMMU_HWPT_GET_DIRTY_BITMAP, struct('llllqqqq', words));
  for (const offset of [0, 8]) yield { do: 'load', memory: ram.name, offset, width: 64 };
};

export const eventSteps: readonly WeightedStep[] = [
  { weight: 3, name: 'fault-queue', step: faultQueue },
  { weight: 5, name: 'fault-table', step: faultTable },
  { weight: 8, name: 'page-request', step: request },
  { weight: 4, name: 'veventq', step: veventq },
  { weight: 5, name: 'event', step: event },
  { weight: 10, name: 'read-queue', step: readQueue },
  { weight: 6, name: 'answer', step: answer },
  { weight: 6, name: 'invalidate', step: invalidate },
  { weight: 4, name: 'check-caches', step: checkCaches },
  { weight: 5, name: 'access', step: makeAccess },
  { weight: 30, name: 'use-access', step: useAccess },
  { weight: 5, name: 'fill', step: fill },
  { weight: 3, name: 'dmabuf', step: dmabuf },
  { weight: 3, name: 'revoke', step: revoke },
  { weight: 10, name: 'make-dirty', step: makeDirty },
  { weight: 10, name: 'tell-dirty', step: tellDirty },
];

/** A table that tracks what is written, page by page, on an address space with memory; a device on it. */
export const dirtyScene: Step = function* (c, w) {
  yield* started(c, w);
  const [fd] = w.live('iommufd');
  const [ram] = w.rams();
  if (fd === undefined || ram === undefined) return;
  fd.file.tracked = true;
  yield pageByPage(fd, 1);
  const made = yield test(fd, op.MOCK_DOMAIN_FLAGS, 1, 'llll', [0, 0, 0, 4]);
  if (!succeeded(made)) return;
  remember(fd, wrote(made, 16), 'stdev');
  remember(fd, wrote(made, 24), 'idev');
  const words = [48, u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING, wrote(made, 24), 1, 0, 0, 0, 0, 0n, 0, 0];
  const table = yield call(fd, 'IOMMU_HWPT_ALLOC', u.IOMMU_HWPT_ALLOC, struct('llllllllqll', words));
  if (!succeeded(table)) return;
  remember(fd, wrote(table, 16), 'hwpt');
  const map = [40, 7, 1, 0, { memory: ram.name }, 0x20000n, 0x100_0000n];
  yield call(fd, 'IOMMU_IOAS_MAP', u.IOMMU_IOAS_MAP, struct('llllqqq', map));
  const track = [16, u.IOMMU_HWPT_DIRTY_TRACKING_ENABLE, wrote(table, 16), 0];
  yield call(fd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', u.IOMMU_HWPT_SET_DIRTY_TRACKING, struct('llll', track));
};

/** A device with a vIOMMU over a table of its own, and a queue of its requests. */
export const eventScene: Step = function* (c, w) {
  yield* started(c, w);
  const [fd] = w.live('iommufd');
  if (fd === undefined) return;
  const made = yield test(fd, op.MOCK_DOMAIN_FLAGS, 1, 'llll', [0, 0, 0, 4]);
  if (!succeeded(made)) return;
  const [stdev, idev] = [wrote(made, 16), wrote(made, 24)];
  remember(fd, stdev, 'stdev');
  remember(fd, idev, 'idev');
  const words = [48, u.IOMMU_HWPT_ALLOC_NEST_PARENT, idev, 1, 0, 0, 0, 0, 0n, 0, 0];
  const parent = yield call(fd, 'IOMMU_HWPT_ALLOC', u.IOMMU_HWPT_ALLOC, struct('llllllllqll', words));
  if (!succeeded(parent)) return;
  remember(fd, wrote(parent, 16), 'hwpt');
  const viommuWords = [40, 0, SELFTEST_TYPE, idev, wrote(parent, 16), 0, 0, 0, 0n];
  const viommu = yield call(fd, 'IOMMU_VIOMMU_ALLOC', u.IOMMU_VIOMMU_ALLOC, struct('llllllllq', viommuWords));
  if (!succeeded(viommu)) return;
  remember(fd, wrote(viommu, 20), 'viommu');
  const vdevice = yield call(
    fd,
    'IOMMU_VDEVICE_ALLOC',
    u.IOMMU_VDEVICE_ALLOC,
    struct('llllq', [24, wrote(viommu, 20), idev, 0, 1n]),
  );
  if (succeeded(vdevice)) remember(fd, wrote(vdevice, 12), 'vdevice');
  yield* faultQueue(c, w);
  const queue = [32, 0, wrote(viommu, 20), SELFTEST_EVENTS, 2, 0, 0, 0];
  const events = yield* giving(
    w,
    'veventq',
    call(fd, 'IOMMU_VEVENTQ_ALLOC', u.IOMMU_VEVENTQ_ALLOC, struct('llllllll', queue)),
    24,
  );
  if (succeeded(events)) remember(fd, wrote(events, 20), 'veventq');
  const [ram] = w.rams();
  const fault = [...(fd.file.objects ?? [])].find(([, kind]) => kind === 'fault')?.[0] ?? 0;
  if (ram === undefined) return;
  const nested = [
    48,
    u.IOMMU_HWPT_FAULT_ID_VALID,
    idev,
    wrote(viommu, 20),
    0,
    0,
    SELFTEST_DATA,
    4,
    { memory: ram.name },
    fault,
    0,
  ];
  const table = yield call(fd, 'IOMMU_HWPT_ALLOC', u.IOMMU_HWPT_ALLOC, struct('llllllllqll', nested));
  if (!succeeded(table)) return;
  remember(fd, wrote(table, 16), 'hwpt');
  yield test(fd, op.MOCK_DOMAIN_REPLACE, stdev, 'l', [wrote(table, 16)]);
};
