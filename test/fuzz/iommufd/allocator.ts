/**
 * Where the kernel puts a mapping, and where one may be asked for: address spaces with many small mappings, holes, reserved and allowed ranges, and page
 * tables that come and go. Without a page table nothing is asked of memory, and any address will do; with one, it is a memfd, or memory that begins at a
 * multiple of 2 MiB on both kernels: placement goes by the bits below.
 */
import * as u from 'kvio/uapi';
import { op } from '../../conformance/iommufd.ts';
import type { Call } from '../call.ts';
import { type Choices, oddValue } from '../choices.ts';
import { making, type Step, succeeded, type WeightedStep } from '../step.ts';
import { flags, struct } from '../vfio/calls.ts';
import type { Descriptor, World } from '../world.ts';
import { call, iommufd, objectOf, open, put, remember, some, test, wrote, wroteLong } from './steps.ts';

const { IOMMU_IOAS_MAP_FIXED_IOVA: FIXED, IOMMU_IOAS_MAP_WRITEABLE: WRITE, IOMMU_IOAS_MAP_READABLE: READ } = u;
const PAGE = 0x1000n;
const HUGE = 0x20_0000n;
const U64_MAX = (1n << 64n) - 1n;
const GRAINS = [PAGE, 0x800n, HUGE, 1n, 0x10n, 0x1_0000n] as const;

/** Near where everything else is: so many grains from one of a few places. */
const iova = (c: Choices): bigint =>
  c.weighted([
    [12, () => c.pick([0x100_0000n, 0n, 1n << 32n]) + c.pick(GRAINS) * BigInt(c.below(40))],
    [2, () => U64_MAX - c.pick(GRAINS) * BigInt(c.below(8)) + c.pick([0n, 1n])],
    [1, () => oddValue(c, 8)],
  ])() & U64_MAX;

const length = (c: Choices): bigint =>
  c.weighted([
    [12, () => c.pick(GRAINS) * BigInt(1 + c.below(6))],
    [4, () => BigInt(1 + c.below(0x3000))],
    [1, () => c.pick([0n, 1n << 30n, 1n << 47n, 1n << 62n, (1n << 63n) - 1n, 1n << 63n, U64_MAX - PAGE, U64_MAX])],
  ])();

/** What placement goes by: an address, or an offset in a file. */
const hint = (c: Choices): bigint =>
  c.weighted([
    [8, () => c.pick(GRAINS) * BigInt(c.below(64))],
    [3, () => BigInt(c.below(0x40_0000))],
    [1, () => oddValue(c, 8)],
  ])();

const access = [READ | WRITE, READ, READ | WRITE, WRITE];
const fixedOrNot = (c: Choices): number => (c.chance(0.35) ? FIXED : 0);
const size = (c: Choices, right: number): number => (c.chance(0.01) ? right - 4 : right);

/** No device's table is filled from an address that is none. */
const bare = ({ file }: Descriptor): boolean => file.bare !== false;

const alloc: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined || (fd.file.objects?.size ?? 0) > 20) return;
  const answer = yield call(fd, 'IOMMU_IOAS_ALLOC', u.IOMMU_IOAS_ALLOC, struct('lll', [size(c, 12), 0, 0]));
  if (succeeded(answer)) remember(fd, wrote(answer, 8), 'ioas');
};

const map: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const [how, ioas, bytes] = [flags(c, access) | fixedOrNot(c), objectOf(c, fd, 'ioas'), length(c)];
  const [ram] = w.rams();
  const place = hint(c);
  const within = ram === undefined ? 0 : Number(place % HUGE);
  const address = bare(fd) || ram === undefined ? place : { memory: ram.name, plus: within, aligned: Number(HUGE) };
  if (!bare(fd) && BigInt(within) + bytes > HUGE) return;
  const words = [size(c, 40), how, ioas, 0, address, bytes, iova(c)];
  const answer = yield call(fd, 'IOMMU_IOAS_MAP', u.IOMMU_IOAS_MAP, struct('llllqqq', words));
  if (succeeded(answer)) put(fd, { ioas, iova: wroteLong(answer, 32), length: bytes });
};

const mapFile: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [memfd] = w.live('memfd');
  if (fd === undefined || memfd === undefined) return;
  const [how, ioas, bytes] = [flags(c, access) | fixedOrNot(c), objectOf(c, fd, 'ioas'), length(c)];
  const words = [size(c, 40), how, ioas, { fd: memfd.name }, hint(c), bytes, iova(c)];
  const answer = yield call(fd, 'IOMMU_IOAS_MAP_FILE', u.IOMMU_IOAS_MAP_FILE, struct('llllqqq', words));
  if (succeeded(answer)) put(fd, { ioas, iova: wroteLong(answer, 32), length: bytes });
};

/** Of a mapping, of a part of it, of what lies around it. */
const copy: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const [from, to] = [objectOf(c, fd, 'ioas'), objectOf(c, fd, 'ioas')];
  const area = some(c, fd, from) ?? { iova: iova(c), length: length(c) };
  const within = c.pick([0n, 0n, 0x800n, PAGE, 1n, 0x10n]);
  const bytes = c.weighted([
    [4, area.length - within],
    [3, length(c)],
    [1, area.length + PAGE],
  ]);
  const how = (flags(c, access) | fixedOrNot(c)) & ~0x1_0000;
  const words = [size(c, 40), how, to, from, bytes, iova(c), area.iova + within];
  const answer = yield call(fd, 'IOMMU_IOAS_COPY', u.IOMMU_IOAS_COPY, struct('llllqqq', words));
  if (succeeded(answer)) put(fd, { ioas: to, iova: wroteLong(answer, 24), length: BigInt.asUintN(64, bytes) });
};

const unmap: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const ioas = objectOf(c, fd, 'ioas');
  const area = some(c, fd, ioas);
  const [from, bytes] = c.weighted<readonly [bigint, bigint]>([
    [10, area === undefined ? [iova(c), length(c)] : [area.iova, area.length]],
    [2, [iova(c), length(c)]],
    [2, [iova(c) & -HUGE, 4n * HUGE]],
    [1, [area?.iova ?? 0n, PAGE]],
  ]);
  const words = [size(c, 24), ioas, from, bytes];
  const answer = yield call(fd, 'IOMMU_IOAS_UNMAP', u.IOMMU_IOAS_UNMAP, struct('llqq', words));
  if (succeeded(answer) && area?.iova === from) fd.file.mapped?.splice(fd.file.mapped.indexOf(area), 1);
};

const ROOM = 16;

const ranges: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd !== undefined) yield* tellRanges(fd, objectOf(c, fd, 'ioas'), w, c.pick([ROOM, ROOM, 1, 0, 2]));
};

function* tellRanges(fd: Descriptor, ioas: number, w: World, room: number): Generator<Call, void, unknown> {
  const [ram] = w.rams();
  if (ram === undefined) return;
  yield { do: 'store', memory: ram.name, offset: 0, bytes: new Uint8Array(ROOM * 16) };
  yield call(
    fd,
    'IOMMU_IOAS_IOVA_RANGES',
    u.IOMMU_IOAS_IOVA_RANGES,
    struct('llllqq', [32, ioas, room, 0, { memory: ram.name }, 0n]),
  );
  for (let at = 0; at < 8; at++) yield { do: 'load', memory: ram.name, offset: at * 8, width: 64 };
}

/** Ranges that adjoin, overlap, or hold a mapping or two. */
const allow: Step = function* (c, w) {
  const fd = iommufd(c, w);
  const [ram] = w.rams();
  if (fd === undefined || ram === undefined) return;
  const list = new BigUint64Array(2 * c.pick([0, 1, 2, 3, 1]));
  for (let at = 0; at < list.length; at += 2) {
    const first = at > 0 && c.chance(0.3) ? list[at - 1]! + c.pick([1n, 0n, PAGE + 1n]) : iova(c);
    list.set([first, BigInt.asUintN(64, first + length(c) - c.pick([1n, 0n]))], at);
  }
  yield { do: 'store', memory: ram.name, offset: 0, bytes: new Uint8Array(list.buffer) };
  const words = [size(c, 24), objectOf(c, fd, 'ioas'), list.length / 2, 0, { memory: ram.name }];
  yield call(fd, 'IOMMU_IOAS_ALLOW_IOVAS', u.IOMMU_IOAS_ALLOW_IOVAS, struct('llllq', words));
};

const reserve: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd !== undefined) yield test(fd, op.ADD_RESERVED, objectOf(c, fd, 'ioas'), 'qq', [iova(c), length(c)]);
};

const largePages: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const words = [24, u.IOMMU_OPTION_HUGE_PAGES, 0, objectOf(c, fd, 'ioas'), c.pick([1n, 0n])];
  yield call(fd, 'IOMMU_OPTION', u.IOMMU_OPTION, struct('llllq', words));
};

/** A page table: half of the time one of the two that are there is taken away instead. */
const mock: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined || bare(fd)) return;
  const there = [...(fd.file.objects ?? [])].filter(([, kind]) => kind === 'stdev');
  if (there.length > 1 || (there.length > 0 && c.chance(0.5))) {
    const [which] = c.pick(there);
    const answer = yield call(fd, 'IOMMU_DESTROY', u.IOMMU_DESTROY, struct('ll', [8, which]));
    if (succeeded(answer)) fd.file.objects?.delete(which);
    return;
  }
  const answer = yield test(fd, op.MOCK_DOMAIN_FLAGS, objectOf(c, fd, 'ioas'), 'llll', [0, 0, 0, 0]);
  if (succeeded(answer)) remember(fd, wrote(answer, 16), 'stdev');
};

const destroy: Step = function* (c, w) {
  const fd = iommufd(c, w);
  if (fd === undefined) return;
  const ioas = objectOf(c, fd, 'ioas');
  const answer = yield call(fd, 'IOMMU_DESTROY', u.IOMMU_DESTROY, struct('ll', [8, ioas]));
  if (!succeeded(answer)) return;
  fd.file.objects?.delete(ioas);
  const left = (fd.file.mapped ?? []).filter((area) => area.ioas !== ioas);
  fd.file.mapped?.splice(0, Infinity, ...left);
};

export const allocatorSteps: readonly WeightedStep[] = [
  { weight: 60, name: 'map', step: map },
  { weight: 40, name: 'map-file', step: mapFile },
  { weight: 40, name: 'unmap', step: unmap },
  { weight: 30, name: 'copy', step: copy },
  { weight: 8, name: 'allow', step: allow },
  { weight: 5, name: 'ranges', step: ranges },
  { weight: 4, name: 'reserve', step: reserve },
  { weight: 4, name: 'large-pages', step: largePages },
  { weight: 4, name: 'mock', step: mock },
  { weight: 3, name: 'ioas', step: alloc },
  { weight: 1, name: 'destroy', step: destroy },
];

function started(isBare: boolean): Step {
  return function* (c, w: World) {
    yield* open(c, w);
    const [fd] = w.live('iommufd');
    if (fd === undefined) return;
    fd.file.bare = isBare;
    for (let made = 0; made < 2; made++) {
      const answer = yield call(fd, 'IOMMU_IOAS_ALLOC', u.IOMMU_IOAS_ALLOC, struct('lll', [12, 0, 0]));
      if (succeeded(answer)) remember(fd, wrote(answer, 8), 'ioas');
    }
    const ram = w.fresh('memory');
    const bytes = 2 * Number(HUGE);
    yield { do: 'ram', length: bytes, as: ram };
    w.addMemory({ name: ram, length: bytes, view: true, of: undefined, offset: 0 });
    const memfd = yield* making(w, 'memfd', { kind: 'memfd' }, (as) => ({ do: 'memfd', flags: 0, as }));
    if (memfd !== undefined) yield { do: 'ftruncate', fd: memfd, length: HUGE };
  };
}

/** Nothing is mapped for a device, and any address may be given; memory and a file, and devices. */
export const allocatorScenes: readonly Step[] = [started(true), started(false)];

/** What is left of each address space, and everything in it. */
export const allocatorLast: Step = function* (_c, w) {
  for (const fd of w.live('iommufd')) {
    for (const [ioas, kind] of fd.file.objects ?? []) {
      if (kind !== 'ioas') continue;
      yield* tellRanges(fd, ioas, w, ROOM);
      yield call(fd, 'IOMMU_IOAS_UNMAP', u.IOMMU_IOAS_UNMAP, struct('llqq', [24, ioas, 0n, U64_MAX]));
    }
  }
};
