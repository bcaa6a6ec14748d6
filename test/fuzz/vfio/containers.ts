/** Containers and groups: opened, joined, left and closed in any order; mappings made, cut and tracked. */
import type { Kernel } from 'kvio';
import * as v from 'kvio/uapi';
import { bindToVfio, parts } from '../../conformance/parts.ts';
import { groupPath } from '../../conformance/vfio.ts';
import { type Choices, oddValue } from '../choices.ts';
import { making, type Step, succeeded, type WeightedStep } from '../step.ts';
import type { Descriptor, World } from '../world.ts';
import { argsz, flags, integer, NOWHERE, request, struct, type Word } from './calls.ts';

/** A device of a sequence: where it is, and what its group’s node is called in it. */
export interface Place {
  readonly address: string;
  readonly group: string;
}

/** The simplest first. Each opens in milliseconds, but for nvme’s reset. xhci has 16 vectors of MSI. */
export const places: readonly Place[] = (
  ['edu', 'second edu', 'e1000e', 'edu', 'second edu', 'xhci', 'nvme', 'xhci'] as const
).map((part) => ({ address: parts[part].at, group: `group of ${part}` }));

/** Of this sequence’s devices those that are edu. */
const EDUS: ReadonlySet<string> = new Set([parts.edu.at, parts['second edu'].at]);

/** Binds the devices, which are the same on both kernels but for the numbers of their groups. */
export function bindAll(kernel: Kernel): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const { address, group } of places) {
    bindToVfio(kernel, address);
    names.set(group, groupPath(kernel, address));
  }
  return names;
}

const openContainer: Step = function* (_c, w) {
  yield* making(w, 'container', { kind: 'container' }, (as) => ({ do: 'open', path: '/dev/vfio/vfio', as }));
};

const openGroup: Step = function* (c, w) {
  const place = c.pick(places);
  yield* making(w, 'group', { kind: 'group', place }, (as) => ({ do: 'open', path: place.group, as }));
};

/** A descriptor of this kind most often, else any. */
export function one(c: Choices, w: World, kind: string): Descriptor | undefined {
  const list = w.live(kind);
  const any = w.live();
  if (list.length > 0 && !c.chance(0.04)) return c.pick(list);
  return any.length > 0 && c.chance(0.2) ? c.pick(any) : undefined;
}

const setContainer: Step = function* (c, w) {
  const group = one(c, w, 'group');
  const container = one(c, w, 'container');
  if (group === undefined || container === undefined) return;
  yield request(group.name, 'VFIO_GROUP_SET_CONTAINER', v.VFIO_GROUP_SET_CONTAINER, struct('l', [{ fd: container.name }]));
};

const unsetContainer: Step = function* (c, w) {
  const group = one(c, w, 'group');
  if (group !== undefined) yield request(group.name, 'VFIO_GROUP_UNSET_CONTAINER', v.VFIO_GROUP_UNSET_CONTAINER, { is: 'none' });
};

const getStatus: Step = function* (c, w) {
  const group = one(c, w, 'group');
  if (group === undefined) return;
  yield request(group.name, 'VFIO_GROUP_GET_STATUS', v.VFIO_GROUP_GET_STATUS, struct('ll', [argsz(c, 8), 0xeeee], 16));
};

const setIommu: Step = function* (c, w) {
  const container = one(c, w, 'container');
  if (container === undefined) return;
  const type = c.weighted([
    [6, 3],
    [3, 1],
    [1, c.pick([0, 2, 4, 8, 9, 10, 77])],
  ]);
  yield request(container.name, 'VFIO_SET_IOMMU', v.VFIO_SET_IOMMU, integer(type));
};

const checkExtension: Step = function* (c, w) {
  const container = one(c, w, 'container');
  if (container !== undefined)
    yield request(
      container.name,
      'VFIO_CHECK_EXTENSION',
      v.VFIO_CHECK_EXTENSION,
      integer(c.pick([1, 3, 4, 8, 9, 10, 0, 2, 5, 6, 7, 11])),
    );
};

/** GET_DEVICE_FD; what else a name may hold. */
export const getDevice: Step = function* (c, w) {
  const group = one(c, w, 'group');
  if (group === undefined) return;
  const own = group.file.place?.address ?? places[0]!.address;
  const name = c.weighted([
    [9, own],
    [
      1,
      c.pick([
        `${own} `,
        `${own} x=1`,
        own.slice(5),
        '',
        c.pick(places).address,
        `${own} vf_token=00112233-4455-6677-8899-aabbccddeeff`,
      ]),
    ],
  ]);
  const arg = { is: 'bytes', bytes: Buffer.from(`${name}\0`), patches: [] } as const;
  const place = places.find(({ address }) => name.startsWith(address) && name !== '');
  const made = yield* making(w, 'device', { kind: 'device', ...(place ? { place } : {}) }, (as) =>
    request(group.name, 'VFIO_GROUP_GET_DEVICE_FD', v.VFIO_GROUP_GET_DEVICE_FD, arg, as),
  );
  if (made === undefined || place === undefined || !EDUS.has(place.address)) return;
  // edu has no reset: what an earlier sequence left in it is taken back.
  yield { do: 'pwrite', fd: made, bytes: new Uint8Array(4).fill(0xff), offset: 0x64n };
  yield { do: 'pwrite', fd: made, bytes: new Uint8Array(4), offset: 4n };
};

const PAGE = 0x1000n;

/** IOVAs close to each other, so that mappings meet; some at the edges of what there is. */
const iova = (c: Choices): bigint =>
  c.weighted([
    [12, 0x100000n + PAGE * BigInt(c.below(16))],
    [1, c.pick([0n, 0xfedff000n, 0xfee00000n, 0xfeeff000n, 0xfef00000n, (1n << 39n) - PAGE, 1n << 39n, (1n << 64n) - PAGE])],
    [1, c.pick([1n, 0x100001n, 0x800n, oddValue(c, 8)])],
  ]);

const size = (c: Choices): bigint =>
  c.weighted([
    [10, PAGE * BigInt(1 + c.below(6))],
    [1, c.pick([0n, 1n, 0x800n, 0x1001n, PAGE * 200n, (1n << 64n) - PAGE])],
  ]);

function address(c: Choices, w: World): Word {
  const memories = w.rams().filter(({ of }) => of === undefined);
  if (memories.length === 0 || c.chance(0.07)) return c.pick(NOWHERE);
  const memory = c.pick(memories);
  return { memory: memory.name, plus: c.chance(0.06) ? 8 : 0x1000 * c.below(Math.floor(memory.length / 0x1000)) };
}

/** No more than lies in the memory it begins in: what lies behind it is another’s on each kernel. */
function within(w: World, vaddr: Word, wanted: bigint): bigint {
  if (typeof vaddr !== 'object' || 'fd' in vaddr) return wanted;
  const { length } = w.memories.find(({ name }) => name === vaddr.memory)!;
  const left = BigInt(length - ((vaddr.plus ?? 0) & ~0xfff));
  return wanted > left && wanted % PAGE === 0n ? left : wanted;
}

const map: Step = function* (c, w) {
  const container = one(c, w, 'container');
  if (container === undefined) return;
  const vaddr = address(c, w);
  const words = [argsz(c, 32), flags(c, [3, 1, 2, 3, 4]), vaddr, iova(c), within(w, vaddr, size(c))];
  yield request(container.name, 'VFIO_IOMMU_MAP_DMA', v.VFIO_IOMMU_MAP_DMA, struct('llqqq', words));
};

/** A bitmap in memory that nothing is mapped from, or where there is none. */
function bitmap(c: Choices, w: World, pages: bigint): Word[] {
  const ram = w.rams().find(({ of, length }) => of === undefined && length >= 0x1000);
  const bytes = ((pages + 63n) / 64n) * 8n;
  const right = bytes <= 0x800n ? bytes : 0x800n;
  const data: Word = ram === undefined || c.chance(0.08) ? c.pick(NOWHERE) : { memory: ram.name, plus: ram.length - 0x800 };
  const length = c.weighted([
    [9, right],
    [1, c.pick([0n, 7n, 1n << 28n, (1n << 28n) + 1n])],
  ]);
  // With memory there, no more is written than the pages of the range have bits.
  return [
    c.weighted([
      [10, 0x1000n],
      [1, c.pick([0n, 1n, 8192n, 2048n])],
    ] as const),
    length,
    data,
  ];
}

const unmap: Step = function* (c, w) {
  const container = one(c, w, 'container');
  if (container === undefined) return;
  const flag = flags(c, [0, 0, 0, 1, 2, 4, 6]);
  const all = (flag & 2) !== 0 && !c.chance(0.15);
  const length = all ? 0n : c.chance(0.15) ? PAGE * 32n : size(c);
  const range = [all ? 0n : iova(c), length];
  const words = [
    argsz(c, (flag & 1) !== 0 ? 48 : 24),
    flag,
    ...range,
    ...bitmap(c, w, (length < 1n << 30n ? length : 0n) / PAGE),
  ];
  yield request(container.name, 'VFIO_IOMMU_UNMAP_DMA', v.VFIO_IOMMU_UNMAP_DMA, struct('llqqqqq', words));
};

const dirty: Step = function* (c, w) {
  const container = one(c, w, 'container');
  if (container === undefined) return;
  const flag = flags(c, [4, 1, 4, 2]);
  const length = c.chance(0.6) ? PAGE * 64n : size(c);
  const pages = (length < 1n << 30n ? length : 0n) / PAGE;
  const start = c.chance(0.6) ? 0x100000n - PAGE * BigInt(c.below(8)) : iova(c);
  const words = [argsz(c, (flag & 4) !== 0 ? 48 : 8), flag, start, length, ...bitmap(c, w, pages)];
  yield request(container.name, 'VFIO_IOMMU_DIRTY_PAGES', v.VFIO_IOMMU_DIRTY_PAGES, struct('llqqqqq', words));
  const ram = w.rams().find(({ of, length }) => of === undefined && length >= 0x1000);
  if (ram !== undefined) yield { do: 'look', memory: ram.name };
};

const info: Step = function* (c, w) {
  const container = one(c, w, 'container');
  if (container === undefined) return;
  const arg = struct('ll', [c.pick([160, 24, 16, 15, 119, 120, 20, 0]), 0xeeee], 160);
  yield request(container.name, 'VFIO_IOMMU_GET_INFO', v.VFIO_IOMMU_GET_INFO, arg);
};

const unknown: Step = function* (c, w) {
  const file = one(c, w, c.pick(['container', 'group', 'device']));
  if (file === undefined) return;
  const number = 0x3b64 + c.below(24);
  yield request(file.name, `VFIO ${number.toString(16)}`, number, { is: 'none' });
};

/** A device ready to be used: what most sequences begin with. */
export const ready: Step = function* (c, w) {
  const place = c.pick(places);
  const container = yield* making(w, 'container', { kind: 'container' }, (as) => ({ do: 'open', path: '/dev/vfio/vfio', as }));
  const group = yield* making(w, 'group', { kind: 'group', place }, (as) => ({ do: 'open', path: place.group, as }));
  if (container === undefined || group === undefined) return;
  const set = struct('l', [{ fd: container }]);
  if (!succeeded(yield request(group, 'VFIO_GROUP_SET_CONTAINER', v.VFIO_GROUP_SET_CONTAINER, set))) return;
  yield request(container, 'VFIO_SET_IOMMU', v.VFIO_SET_IOMMU, integer(c.chance(0.25) ? 1 : 3));
  yield* getDevice(c, w);
  const ram = w.fresh('ram');
  const length = 0x10000;
  yield { do: 'ram', length, as: ram };
  w.addMemory({ name: ram, length, view: true, of: undefined, offset: 0 });
};

export const containerSteps: readonly WeightedStep[] = [
  { weight: 2, name: 'open container', step: openContainer },
  { weight: 3, name: 'open group', step: openGroup },
  { weight: 4, name: 'SET_CONTAINER', step: setContainer },
  { weight: 2, name: 'UNSET_CONTAINER', step: unsetContainer },
  { weight: 2, name: 'GET_STATUS', step: getStatus },
  { weight: 4, name: 'SET_IOMMU', step: setIommu },
  { weight: 2, name: 'CHECK_EXTENSION', step: checkExtension },
  { weight: 6, name: 'GET_DEVICE_FD', step: getDevice },
  { weight: 12, name: 'MAP_DMA', step: map },
  { weight: 9, name: 'UNMAP_DMA', step: unmap },
  { weight: 6, name: 'DIRTY_PAGES', step: dirty },
  { weight: 2, name: 'GET_INFO', step: info },
  { weight: 2, name: 'unknown', step: unknown },
];
