/** /dev/iommu: address spaces, page tables and mock devices, made, mapped, moved and destroyed in any order. */
import * as u from 'kvio/uapi';
import { IOMMU_TEST_CMD, op } from '../../conformance/iommufd.ts';
import type { Argument, Call, Ref } from '../call.ts';
import { type Choices, oddValue } from '../choices.ts';
import { type Answer, making, type Step, succeeded, type WeightedStep } from '../step.ts';
import { flags, integer, NOWHERE, request, struct, type Word } from '../vfio/calls.ts';
import type { Descriptor, Mapped, World } from '../world.ts';

const PAGE = 0x1000n;
const U64_MAX = (1n << 64n) - 1n;
/** What a test kernel makes of IOMMU_TEST_CMD. */
const TEST_SIZE = 72;
const SELFTEST_DATA = 0xdead;
const SELFTEST_TYPE = 0xdead_beef;

/** What an id is, as far as the sequence knows: IOAS_ALLOC gave it, … */
export type ObjectKind = 'ioas' | 'hwpt' | 'stdev' | 'idev' | 'viommu' | 'vdevice' | 'fault' | 'veventq';

export function iommufd(c: Choices, w: World): Descriptor | undefined {
  const open = w.live('iommufd');
  return open.length === 0 ? undefined : c.pick(open);
}

/** An id of this kind most often; else one of another, or any small number. */
export function objectOf(c: Choices, { file }: Descriptor, kind: ObjectKind): number {
  const all = [...(file.objects ?? [])];
  const fitting = all.filter(([, what]) => what === kind).map(([key]) => key);
  return c.weighted([
    [fitting.length > 0 ? 16 : 0, () => c.pick(fitting)],
    [1, () => (all.length > 0 ? c.pick(all)[0] : 1)],
    [1, () => c.below(16)],
  ])();
}

/** Close together, so that mappings meet; mostly inside the mock's aperture; some at the edges of what there is. */
export const iova = (c: Choices): bigint =>
  c.weighted([
    [10, 0x1000000n + PAGE * BigInt(c.below(48))],
    [3, 0x1000000n + 0x800n * BigInt(c.below(96))],
    [2, PAGE * BigInt(c.below(64))],
    [1, c.pick([0n, 0x7ffff000n, 0x80000000n, 1n << 47n, U64_MAX - 0xfffn, U64_MAX])],
    [1, oddValue(c, 8)],
  ]);

export const length = (c: Choices): bigint =>
  c.weighted([
    [10, PAGE * BigInt(1 + c.below(12))],
    [3, 0x800n * BigInt(1 + c.below(12))],
    [1, c.pick([0n, 1n, 0x123n, 0x20000n, 0x200000n, 1n << 40n, U64_MAX])],
  ]);

/** So many bytes of memory of the sequence, all of them inside it: what lies behind is another on each kernel. Or of none. */
export function address(c: Choices, w: World, bytes: bigint): Word {
  const rams = w.rams().filter(({ of, length: whole }) => of === undefined && BigInt(whole) >= bytes);
  if (rams.length === 0 || c.chance(0.06)) return c.pick(NOWHERE);
  const ram = c.pick(rams);
  const last = ram.length - Number(bytes);
  const within = c.weighted([
    [8, 0],
    [2, 0x800],
    [1, c.below(0x1000)],
  ]);
  return { memory: ram.name, plus: Math.min(last, 0x1000 * c.below(Math.floor(last / 0x1000) + 1) + within) };
}

/** Something that is mapped in this address space. */
export function some(c: Choices, { file }: Descriptor, ioas: number): Mapped | undefined {
  const there = (file.mapped ?? []).filter((area) => area.ioas === ioas);
  return there.length === 0 ? undefined : c.pick(there);
}

export function put({ file }: Descriptor, area: Mapped): void {
  file.mapped?.push(area);
  if ((file.mapped?.length ?? 0) > 200) file.mapped?.shift();
}

/** Where something is mapped, most often: all of it or a part; else anywhere. */
export function spot(c: Choices, fd: Descriptor, ioas: number): readonly [first: bigint, bytes: bigint] {
  const area = c.chance(0.7) ? some(c, fd, ioas) : undefined;
  if (area === undefined) return [iova(c), length(c)];
  return c.weighted([
    [9, [area.iova, area.length]],
    [2, [area.iova + PAGE * BigInt(c.below(3)), PAGE]],
    [1, [area.iova + BigInt(c.below(0x1000)), BigInt(1 + c.below(0x1000))]],
    [1, [area.iova, length(c)]],
  ]);
}

/** `size`: right, the struct's end missing, or zeros behind it. */
export const size = (c: Choices, right: number): number =>
  c.weighted([
    [40, right],
    [1, right - 1],
    [1, right - 4],
  ]);

export const call = (fd: Descriptor, name: string, number: number, arg: Argument): Call => request(fd.name, name, number, arg);

/** What a successful call wrote at this place of its struct. */
export const wrote = (answer: Answer, at: number): number => viewOf(answer)?.getUint32(at, true) ?? 0;
export const wroteLong = (answer: Answer, at: number): bigint => viewOf(answer)?.getBigUint64(at, true) ?? 0n;

function viewOf(answer: Answer): DataView | undefined {
  const bytes = answer?.find(({ label }) => label === 'bytes')?.value;
  return bytes instanceof Uint8Array ? new DataView(bytes.buffer, bytes.byteOffset) : undefined;
}

export function remember({ file }: Descriptor, key: number, kind: ObjectKind): void {
  if (key !== 0) file.objects?.set(key, kind);
}

export const open: Step = function* (_c, w) {
  yield* making(w, 'iommufd', { kind: 'iommufd', objects: new Map(), mapped: [] }, (as: Ref) => ({
    do: 'open',
    path: '/dev/iommu',
    as,
  }));
};

const ioasAlloc: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const there = [...(fd.file.objects?.values() ?? [])].filter((kind) => kind === 'ioas').length;
  // With more of them, hardly anything would meet.
  if (there > (c.chance(0.1) ? 8 : 2)) return;
  const answer = yield call(fd, 'IOMMU_IOAS_ALLOC', u.IOMMU_IOAS_ALLOC, struct('lll', [size(c, 12), c.chance(0.03) ? 1 : 0, 0]));
  if (!succeeded(answer)) return;
  remember(fd, wrote(answer, 8), 'ioas');
  if (fd.file.tracked) yield pageByPage(fd, wrote(answer, 8));
};

export const pageByPage = (fd: Descriptor, ioas: number): Call =>
  call(fd, 'IOMMU_OPTION', u.IOMMU_OPTION, struct('llllq', [24, u.IOMMU_OPTION_HUGE_PAGES, 0, ioas, 0n]));

const destroy: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const which = objectOf(c, fd, c.pick(['hwpt', 'stdev', 'ioas', 'viommu', 'vdevice', 'idev', 'fault', 'veventq']));
  const answer = yield call(fd, 'IOMMU_DESTROY', u.IOMMU_DESTROY, struct('ll', [size(c, 8), which]));
  if (succeeded(answer)) fd.file.objects?.delete(which);
};

const { IOMMU_IOAS_MAP_FIXED_IOVA: FIXED, IOMMU_IOAS_MAP_WRITEABLE: WRITE, IOMMU_IOAS_MAP_READABLE: READ } = u;
const access = [READ | WRITE, READ | WRITE, READ, WRITE, 0];

/** At a place of its own: the kernel's choice goes by the address, which is another on each. */
const map: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const how = flags(c, access) | FIXED;
  const bytes = length(c);
  const ioas = objectOf(c, fd, 'ioas');
  const words = [size(c, 40), how, ioas, c.chance(0.02) ? 1 : 0, address(c, w, bytes), bytes, iova(c)];
  const answer = yield call(fd, 'IOMMU_IOAS_MAP', u.IOMMU_IOAS_MAP, struct('llllqqq', words));
  if (succeeded(answer)) put(fd, { ioas, iova: wroteLong(answer, 32), length: bytes });
};

/** Placed by the kernel most often: by the offset in the file. A dma-buf is one too. */
const mapFile: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const files = [...w.live('memfd'), ...w.live('dmabuf')];
  if (fd === undefined || files.length === 0) return;
  const how = flags(c, access) | (c.chance(0.4) ? FIXED : 0);
  const start = c.weighted([
    [6, PAGE * BigInt(c.below(32))],
    [1, BigInt(c.below(0x8000))],
    [1, oddValue(c, 8)],
  ]);
  const [ioas, bytes] = [objectOf(c, fd, 'ioas'), length(c)];
  const words = [size(c, 40), how, ioas, { fd: c.pick(files).name }, start, bytes, iova(c)];
  const answer = yield call(fd, 'IOMMU_IOAS_MAP_FILE', u.IOMMU_IOAS_MAP_FILE, struct('llllqqq', words));
  if (succeeded(answer)) put(fd, { ioas, iova: wroteLong(answer, 32), length: bytes });
};

const copy: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const how = flags(c, access) | FIXED;
  const [ioas, from] = [objectOf(c, fd, 'ioas'), objectOf(c, fd, 'ioas')];
  const [first, bytes] = spot(c, fd, from);
  const words = [size(c, 40), how & ~0x1_0000, ioas, from, bytes, iova(c), first];
  const answer = yield call(fd, 'IOMMU_IOAS_COPY', u.IOMMU_IOAS_COPY, struct('llllqqq', words));
  if (succeeded(answer)) put(fd, { ioas, iova: wroteLong(answer, 24), length: bytes });
};

const unmap: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const ioas = objectOf(c, fd, 'ioas');
  const [from, bytes] = c.chance(0.05) ? [0n, U64_MAX] : spot(c, fd, ioas);
  const answer = yield call(fd, 'IOMMU_IOAS_UNMAP', u.IOMMU_IOAS_UNMAP, struct('llqq', [size(c, 24), ioas, from, bytes]));
  if (!succeeded(answer)) return;
  const left = (fd.file.mapped ?? []).filter(({ ioas: of, iova: at }) => of !== ioas || at < from || at - from >= bytes);
  fd.file.mapped?.splice(0, Infinity, ...left);
};

const option: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const which = c.pick([1, 1, 1, 0, 2]);
  // Where pages are written to, their tables stay as they are; see `dirtyScene`.
  const operation = fd.file.tracked ? 1 : c.pick([0, 0, 1, 2]);
  const object = which === 1 ? objectOf(c, fd, 'ioas') : c.below(3);
  const words = [size(c, 24), which, operation, object, c.pick([0n, 1n, 1n, 2n, U64_MAX])];
  yield call(fd, 'IOMMU_OPTION', u.IOMMU_OPTION, struct('llllq', words));
};

/** So many ranges, so many bytes for them. */
const ROOM = 64;

const ranges: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [ram] = w.rams().filter(({ of, length: bytes }) => of === undefined && bytes >= ROOM * 16);
  if (fd === undefined || ram === undefined) return;
  yield* tellRanges(
    fd,
    objectOf(c, fd, 'ioas'),
    ram.name,
    c.weighted([
      [3, ROOM],
      [1, c.below(4)],
    ]),
  );
};

function* tellRanges(fd: Descriptor, ioas: number, memory: Ref, room: number): Generator<Call, void, unknown> {
  yield { do: 'store', memory, offset: 0, bytes: new Uint8Array(ROOM * 16) };
  const words = [32, ioas, room, 0, { memory }, 0n];
  yield call(fd, 'IOMMU_IOAS_IOVA_RANGES', u.IOMMU_IOAS_IOVA_RANGES, struct('llllqq', words));
  yield { do: 'look', memory };
}

const allow: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [ram] = w.rams().filter(({ of, length: bytes }) => of === undefined && bytes >= ROOM * 16);
  if (fd === undefined || ram === undefined) return;
  const count = c.below(4);
  const list = new BigUint64Array(2 * count);
  for (let i = 0; i < count; i++) {
    const first = iova(c);
    list.set([first, BigInt.asUintN(64, first + length(c) - 1n)], 2 * i);
  }
  yield { do: 'store', memory: ram.name, offset: 0, bytes: new Uint8Array(list.buffer) };
  const words = [size(c, 24), objectOf(c, fd, 'ioas'), count, 0, { memory: ram.name }];
  yield call(fd, 'IOMMU_IOAS_ALLOW_IOVAS', u.IOMMU_IOAS_ALLOW_IOVAS, struct('llllq', words));
};

/** IOMMU_TEST_CMD with words at its union. */
export function test(fd: Descriptor, operation: number, which: number, layout: string, words: readonly Word[]): Call {
  const head = struct(`llll${layout}`, [TEST_SIZE, operation, which, 0, ...words]) as Argument & { is: 'bytes' };
  const bytes = new Uint8Array(TEST_SIZE);
  bytes.set(head.bytes);
  return call(fd, 'IOMMU_TEST_CMD', IOMMU_TEST_CMD, { ...head, bytes });
}

const reserve: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd !== undefined) yield test(fd, op.ADD_RESERVED, objectOf(c, fd, 'ioas'), 'qq', [iova(c), length(c)]);
};

const mock: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const target = objectOf(c, fd, c.pick(['ioas', 'ioas', 'hwpt']));
  const answer = yield test(fd, op.MOCK_DOMAIN_FLAGS, target, 'llll', [0, 0, 0, c.pick([0, 0, 4, 1, 5, 2, 8])]);
  if (!succeeded(answer)) return;
  remember(fd, wrote(answer, 16), 'stdev');
  remember(fd, wrote(answer, 20), 'hwpt');
  remember(fd, wrote(answer, 24), 'idev');
};

const replace: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const target = objectOf(c, fd, c.pick(['ioas', 'hwpt']));
  const answer = yield test(fd, op.MOCK_DOMAIN_REPLACE, objectOf(c, fd, 'stdev'), 'l', [target]);
  if (succeeded(answer)) remember(fd, wrote(answer, 16), 'hwpt');
};

const pasid: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const which = c.pick([1, 2, 1024, 0, 1 << 20, (1 << 20) - 1]);
  const operation = c.pick([op.PASID_ATTACH, op.PASID_REPLACE, op.PASID_DETACH, op.PASID_CHECK_HWPT]);
  yield test(fd, operation, objectOf(c, fd, 'stdev'), 'll', [which, objectOf(c, fd, 'hwpt')]);
};

/** Data of the test's own: a cache's first value, a format. */
const hwpt: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [ram] = w.rams().filter(({ of }) => of === undefined);
  if (fd === undefined || ram === undefined) return;
  const nested = c.chance(0.3);
  yield {
    do: 'store',
    memory: ram.name,
    offset: 0,
    bytes: new Uint8Array(Uint32Array.of(c.below(9), c.pick([0, 0, 1, 2])).buffer),
  };
  const data = nested || c.chance(0.15) ? [c.pick([SELFTEST_DATA, SELFTEST_DATA, 1]), c.pick([4, 8, 3, 12])] : [0, 0];
  const target = objectOf(c, fd, nested ? c.pick(['hwpt', 'viommu']) : 'ioas');
  const known = nested ? [0, 0, 8, 1] : [0, 1, 2, 8, 3, 9];
  const words = [size(c, 48), flags(c, known) & ~4, objectOf(c, fd, 'idev'), target, 0, 0, ...data, { memory: ram.name }, 0, 0];
  const answer = yield call(fd, 'IOMMU_HWPT_ALLOC', u.IOMMU_HWPT_ALLOC, struct('llllllllqll', words));
  if (succeeded(answer)) remember(fd, wrote(answer, 16), 'hwpt');
};

const viommu: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const words = [
    size(c, 40),
    0,
    c.pick([SELFTEST_TYPE, SELFTEST_TYPE, 5]),
    objectOf(c, fd, 'idev'),
    objectOf(c, fd, 'hwpt'),
    0,
    0,
    0,
    0n,
  ];
  const answer = yield call(fd, 'IOMMU_VIOMMU_ALLOC', u.IOMMU_VIOMMU_ALLOC, struct('llllllllq', words));
  if (succeeded(answer)) remember(fd, wrote(answer, 20), 'viommu');
};

const vdevice: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const words = [size(c, 24), objectOf(c, fd, 'viommu'), objectOf(c, fd, 'idev'), 0, c.pick([1n, 2n, 0n, U64_MAX])];
  const answer = yield call(fd, 'IOMMU_VDEVICE_ALLOC', u.IOMMU_VDEVICE_ALLOC, struct('llllq', words));
  if (succeeded(answer)) remember(fd, wrote(answer, 12), 'vdevice');
};

/** Locks what it lies in. */
const queue: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const [first] = spot(c, fd, objectOf(c, fd, 'ioas'));
  // Within a page: whether two lie next to each other in physical memory is chance.
  const left = PAGE - (first % PAGE);
  const wanted = c.pick([PAGE, PAGE, 0x800n, 1n, 0n]);
  const words = [40, 0, objectOf(c, fd, 'viommu'), SELFTEST_TYPE, c.pick([0, 0, 1, 2]), 0, first, wanted < left ? wanted : left];
  yield call(fd, 'IOMMU_HW_QUEUE_ALLOC', u.IOMMU_HW_QUEUE_ALLOC, struct('llllllqq', words));
};

const hwInfo: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [ram] = w.rams().filter(({ of }) => of === undefined);
  if (fd === undefined || ram === undefined) return;
  const words = [
    size(c, 40),
    c.pick([0, 1, 2]),
    objectOf(c, fd, 'idev'),
    c.pick([0, 4, 8, 16]),
    { memory: ram.name },
    c.pick([0, 0xfeed_beef, 1]),
    0,
    0n,
  ];
  yield call(fd, 'IOMMU_GET_HW_INFO', u.IOMMU_GET_HW_INFO, struct('llllqllq', words));
};

const track: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const words = [size(c, 16), c.pick([1, 0, 1, 2]), objectOf(c, fd, 'hwpt'), 0];
  yield call(fd, 'IOMMU_HWPT_SET_DIRTY_TRACKING', u.IOMMU_HWPT_SET_DIRTY_TRACKING, struct('llll', words));
};

/** By the very pages: of memory mapped where it is asked for. */
const checkMap: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const bytes = length(c);
  yield test(fd, op.MD_CHECK_MAP, objectOf(c, fd, 'hwpt'), 'qqq', [iova(c), bytes, address(c, w, bytes)]);
};

const vfioIoas: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const words = [size(c, 12), objectOf(c, fd, 'ioas'), c.pick([1, 0, 2, 3])];
  yield call(fd, 'IOMMU_VFIO_IOAS', u.IOMMU_VFIO_IOAS, struct('lll', words));
};

/** VFIO's own requests. */
const compat: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const bytes = length(c);
  const mapWords = [32, c.pick([3, 1, 2, 0, 4]), address(c, w, bytes), iova(c), bytes];
  const unmapWords = [24, c.pick([0, 0, 0, 2]), iova(c), bytes];
  const info = struct('llq', [c.pick([16, 24, 60, 200])], 200);
  yield c.weighted<Call>([
    [4, call(fd, 'VFIO_IOMMU_MAP_DMA', u.VFIO_IOMMU_MAP_DMA, struct('llqqq', mapWords))],
    [4, call(fd, 'VFIO_IOMMU_UNMAP_DMA', u.VFIO_IOMMU_UNMAP_DMA, struct('llqq', unmapWords))],
    [2, call(fd, 'VFIO_SET_IOMMU', u.VFIO_SET_IOMMU, integer(c.pick([1, 3, 8, 2])))],
    [2, call(fd, 'VFIO_IOMMU_GET_INFO', u.VFIO_IOMMU_GET_INFO, info)],
    [1, call(fd, 'VFIO_CHECK_EXTENSION', u.VFIO_CHECK_EXTENSION, integer(c.below(12)))],
  ]);
};

const changeProcess: Step = function* (c, w) {
  const fd = iommufd(c, w);
  // With something mapped, the kernel's accounting of pinned pages is wrong afterwards.
  if (fd !== undefined && fd.file.objects?.size === 0)
    yield call(fd, 'IOMMU_IOAS_CHANGE_PROCESS', u.IOMMU_IOAS_CHANGE_PROCESS, struct('ll', [size(c, 8), 0]));
};

export const iommufdSteps: readonly WeightedStep[] = [
  { weight: 6, name: 'ioas', step: ioasAlloc },
  { weight: 30, name: 'map', step: map },
  { weight: 20, name: 'map-file', step: mapFile },
  { weight: 20, name: 'unmap', step: unmap },
  { weight: 20, name: 'copy', step: copy },
  { weight: 10, name: 'destroy', step: destroy },
  { weight: 6, name: 'option', step: option },
  { weight: 5, name: 'ranges', step: ranges },
  { weight: 5, name: 'allow', step: allow },
  { weight: 5, name: 'reserve', step: reserve },
  { weight: 8, name: 'mock', step: mock },
  { weight: 8, name: 'replace', step: replace },
  { weight: 6, name: 'pasid', step: pasid },
  { weight: 12, name: 'hwpt', step: hwpt },
  { weight: 5, name: 'viommu', step: viommu },
  { weight: 5, name: 'vdevice', step: vdevice },
  { weight: 4, name: 'queue', step: queue },
  { weight: 3, name: 'hw-info', step: hwInfo },
  { weight: 3, name: 'track', step: track },
  { weight: 8, name: 'check-map', step: checkMap },
  { weight: 4, name: 'vfio-ioas', step: vfioIoas },
  { weight: 8, name: 'compat', step: compat },
  { weight: 1, name: 'change-process', step: changeProcess },
  { weight: 2, name: 'open', step: open },
];

/** An iommufd with an address space, memory and a file. */
export const started: Step = function* (_c, w) {
  yield* open(_c, w);
  const [fd] = w.live('iommufd');
  if (fd === undefined) return;
  const answer = yield call(fd, 'IOMMU_IOAS_ALLOC', u.IOMMU_IOAS_ALLOC, struct('lll', [12, 0, 0]));
  if (succeeded(answer)) remember(fd, wrote(answer, 8), 'ioas');
  const ram = w.fresh('memory');
  yield { do: 'ram', length: 0x20000, as: ram };
  w.addMemory({ name: ram, length: 0x20000, view: true, of: undefined, offset: 0 });
  const memfd = yield* making(w, 'memfd', { kind: 'memfd' }, (as) => ({ do: 'memfd', flags: 0, as }));
  if (memfd !== undefined) yield { do: 'ftruncate', fd: memfd, length: 0x20000n };
};

/** The same, with a mock device. */
export const withDevice: Step = function* (c, w) {
  yield* started(c, w);
  const [fd] = w.live('iommufd');
  if (fd === undefined) return;
  const answer = yield test(fd, op.MOCK_DOMAIN_FLAGS, 1, 'llll', [0, 0, 0, 4]);
  if (!succeeded(answer)) return;
  remember(fd, wrote(answer, 16), 'stdev');
  remember(fd, wrote(answer, 20), 'hwpt');
  remember(fd, wrote(answer, 24), 'idev');
};

/** All ranges, and everything that can be unmapped. */
export const tellAll: Step = function* (_c, w) {
  const [ram] = w.rams().filter(({ of, length: bytes }) => of === undefined && bytes >= ROOM * 16);
  for (const fd of w.live('iommufd')) {
    for (const [key, kind] of fd.file.objects ?? []) {
      if (kind !== 'ioas') continue;
      if (ram !== undefined) yield* tellRanges(fd, key, ram.name, ROOM);
      yield call(fd, 'IOMMU_IOAS_UNMAP', u.IOMMU_IOAS_UNMAP, struct('llqq', [24, key, 0n, U64_MAX]));
    }
  }
};
