/** Page tables: allocation in order, nesting, invalidation, dirty tracking, what the hardware says of itself. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { attempt, buffer, Iommufd, MOCK, op, READ, U64_MAX } from '../../iommufd.ts';
import { UNSAFE } from '../../machine.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;
/** IOMMU_HWPT_DATA_SELFTEST, IOMMU_HWPT_INVALIDATE_DATA_SELFTEST. */
const DATA = 0xdead;
const INVALIDATE = 0xdead_beef;
const { IOMMU_HWPT_ALLOC_NEST_PARENT: NEST, IOMMU_HWPT_ALLOC_DIRTY_TRACKING: DIRTY } = u;
const { IOMMU_HWPT_FAULT_ID_VALID: FAULT, IOMMU_HWPT_ALLOC_PASID: PASID } = u;

function start(kernel: Kernel) {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  return { iommufd, ioas, ram: buffer(kernel), mock: iommufd.mock(ioas) };
}

function allocOrder(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock } = start(kernel);
  ram.write(0, Uint8Array.of(0x99, 0, 0, 0, 0, 0, 0, 0));
  const base = { dev_id: mock.idev, pt_id: ioas };
  const ask = (label: string, fields: object): void => see.note(label, iommufd.hwpt({ ...base, ...fields }));
  ask('reserved, all else wrong', { __reserved: 1, data_type: DATA, dev_id: 99 });
  ask('a type without data', { data_type: DATA, dev_id: 99 });
  ask('data without a type', { data_len: 4, dev_id: 99 });
  ask('no device', { dev_id: 99, pt_id: 98 });
  ask('no table', { pt_id: 98 });
  ask('a device for a table', { pt_id: mock.idev });
  ask('all flags', { flags: 0xffff_ffff });
  ask('a fault queue for a parent', { flags: NEST | FAULT, fault_id: 99 });
  ask('no such fault queue', { flags: FAULT, fault_id: 99 });
  ask('fault_id without its flag', { fault_id: 99 });
  ask('data of another type', { data_type: 1, data_len: 8, data_uptr: ram.address });
  ask('too little data', { data_type: DATA, data_len: 3, data_uptr: ram.address });
  ask('too much data', { data_type: DATA, data_len: 9, data_uptr: ram.address });
  ask('data nowhere', { data_type: DATA, data_len: 8, data_uptr: 0xdead000n });
  ask('data', { data_type: DATA, data_len: 4, data_uptr: ram.address });
  ram.write(4, Uint8Array.of(7, 0, 0, 0));
  ask('an unknown format', { data_type: DATA, data_len: 8, data_uptr: ram.address });
  ram.write(4, Uint8Array.of(1, 0, 0, 0));
  ask('the format with large pages', { data_type: DATA, data_len: 8, data_uptr: ram.address });
  see.note('ranges', iommufd.ranges(ioas));
  ask('nested on an automatic table', { pt_id: mock.hwpt, data_type: DATA, data_len: 4, data_uptr: ram.address });
  const plain = iommufd.mustHwpt(base);
  ask('nested on one that is no parent', { pt_id: plain, data_type: DATA, data_len: 4, data_uptr: ram.address });
  ask('the second reserved word', { __reserved2: 5 });
  ask('flags 0', {});
  see.note('DIRTY and NEST_PARENT', iommufd.hwpt({ ...base, flags: DIRTY | NEST }));
  see.note('PASID', iommufd.hwpt({ ...base, flags: PASID }));
  const clean = iommufd.mock(ioas, 1);
  see.note('DIRTY for a device without', iommufd.hwpt({ dev_id: clean.idev, pt_id: ioas, flags: DIRTY }));
  const dirty = iommufd.mustHwpt({ ...base, flags: DIRTY });
  see.note('which cannot be attached to one with', iommufd.replace(clean.stdev, dirty));
  see.note('a short struct', iommufd.call(u.IOMMU_HWPT_ALLOC, u.iommu_hwpt_alloc, { ...base, size: 24 } as object, 24).returned);
}

function overAreas(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const [ioas, other] = [iommufd.ioas(), iommufd.ioas()];
  const ram = buffer(kernel);
  const mock = iommufd.mock(other);
  const alloc = () => iommufd.hwpt({ dev_id: mock.idev, pt_id: ioas });
  iommufd.mapAt(ioas, ram.address, PAGE, PAGE);
  see.note('an area below the aperture', alloc());
  iommufd.unmapAll(ioas);
  iommufd.mapAt(ioas, ram.address, IOVA + 0x100n, PAGE);
  see.note('an area that is not aligned', alloc());
  iommufd.unmapAll(ioas);
  iommufd.mapAt(ioas, 0xdead000n, IOVA, PAGE);
  see.note('memory nobody has', alloc());
  iommufd.unmapAll(ioas);
  iommufd.allow(ioas, [[PAGE, 2n * PAGE]]);
  see.note('an allowed range below', alloc());
  iommufd.allow(ioas, []);
  iommufd.mapAt(ioas, ram.address, IOVA, PAGE);
  const hwpt = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas });
  see.note('it is filled', iommufd.checkMap(hwpt, IOVA, PAGE, ram.address));
  see.note('nobody is attached, and the ranges are narrow', iommufd.ranges(ioas));
  see.note('DESTROY of the IOAS', iommufd.destroy(ioas));
  see.note('DESTROY', iommufd.destroy(hwpt));
  see.note('ranges', iommufd.ranges(ioas));
}

function nested(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock } = start(kernel);
  ram.write(0, Uint8Array.of(0x99, 0, 0, 0, 0, 0, 0, 0));
  const data = { data_type: DATA, data_len: 4, data_uptr: ram.address };
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: NEST });
  const alloc = (fields: object) => iommufd.hwpt({ dev_id: mock.idev, pt_id: parent, ...data, ...fields });
  see.note('without data', alloc({ data_type: 0, data_len: 0 }));
  see.note('a flag a nested table has not', alloc({ flags: NEST }));
  see.note('data of another type', alloc({ data_type: 2 }));
  see.note('too little', alloc({ data_len: 3 }));
  see.note('too much', alloc({ data_len: 9 }));
  see.note('nowhere', alloc({ data_uptr: 0xdead000n }));
  see.note('no fault queue', alloc({ flags: FAULT, fault_id: 99 }));
  const first = Number(alloc({}));
  const second = Number(alloc({ flags: PASID }));
  see.note('nested', [first, second]);
  see.note('nested on nested', alloc({ pt_id: first }));
  see.note('DESTROY of the parent', iommufd.destroy(parent));
  const check = (id: number, at: number, value: number) =>
    iommufd.test(op.MD_CHECK_IOTLB, id, [
      [16, at],
      [20, value],
    ]).returned;
  see.note(
    'its cache',
    [0, 1, 2, 3, 4].map((at) => check(first, at, 0x99)),
  );
  see.note('of a paging table', check(parent, 0, 0x99));
  see.note('replace to nested', iommufd.replace(mock.stdev, first) === first);
  see.note('DESTROY while attached', iommufd.destroy(first));
  see.note('replace to the other', iommufd.replace(mock.stdev, second) === second);
  see.note('DESTROY now', iommufd.destroy(first));
  see.note('replace to the IOAS', typeof iommufd.replace(mock.stdev, ioas));
  see.note('DESTROY of both', [iommufd.destroy(second), iommufd.destroy(parent)]);
}

function invalidate(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock } = start(kernel);
  ram.write(0, Uint8Array.of(0x99, 0, 0, 0, 0, 0, 0, 0));
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: NEST });
  const table = { dev_id: mock.idev, pt_id: parent, data_type: DATA, data_len: 4, data_uptr: ram.address };
  const id = iommufd.mustHwpt(table);
  const entries = (list: readonly (readonly [flags: number, id: number])[]): void =>
    ram.write(0x1000, new Uint8Array(Uint32Array.from(list.flat()).buffer));
  const base = { hwpt_id: id, data_uptr: ram.address + 0x1000n, data_type: INVALIDATE, entry_len: 8, entry_num: 1 };
  const ask = (label: string, fields: object): void => {
    const { returned, out } = iommufd.call(u.IOMMU_HWPT_INVALIDATE, u.iommu_hwpt_invalidate, { ...base, ...fields });
    see.note(label, { returned, entry_num: out.entry_num });
  };
  entries([[0, 0]]);
  ask('reserved', { __reserved: 1, hwpt_id: 99 });
  ask('no address', { data_uptr: 0n, hwpt_id: 99 });
  ask('entries of no length', { entry_len: 0, hwpt_id: 99 });
  ask('entries longer than a page', { entry_len: 4097, hwpt_id: 99 });
  ask('too many', { entry_num: 524289, hwpt_id: 99 });
  ask('no table', { hwpt_id: 99 });
  ask('a paging table', { hwpt_id: parent });
  ask('an IOAS', { hwpt_id: ioas });
  ask('none, of another type', { entry_num: 0, data_type: 5 });
  ask('none', { entry_num: 0, data_uptr: 0n, entry_len: 0 });
  ask('of another type', { data_type: 5 });
  ask('of another length', { entry_len: 4 });
  ask('longer', { entry_len: 12 });
  ask('nowhere', { data_uptr: 0xdead000n });
  entries([[2, 0]]);
  ask('unknown flag', {});
  entries([[0, 4]]);
  ask('no such entry', {});
  entries([[1, 4]]);
  ask('all, of no such entry', {});
  entries([
    [0, 0],
    [0, 2],
    [0, 9],
    [0, 3],
  ]);
  ask('two of four', { entry_num: 4 });
  const cache = (): number[] =>
    [0, 1, 2, 3].map((at) =>
      iommufd.test(op.MD_CHECK_IOTLB, id, [
        [16, at],
        [20, 0],
      ]).returned === 0
        ? 0
        : 1,
    );
  see.note('what is left', cache());
  entries([[1, 0]]);
  ask('all', {});
  see.note('nothing is left', cache());
}

/** The count is written back whatever happened; where that fails, this is all one hears. */
function invalidateFaults(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock } = start(kernel);
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: NEST });
  const data = { data_type: DATA, data_len: 4, data_uptr: ram.address };
  const hwpt_id = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: parent, ...data });
  const page = kernel.mmap({ length: 0x1000, view: false });
  const base = { size: 32, hwpt_id, data_uptr: ram.address + 0x1000n, data_type: INVALIDATE, entry_len: 8, entry_num: 1 };
  page.write(0, u.iommu_hwpt_invalidate.encode({ ...base, __reserved: 0 }));
  page.write(64, u.iommu_hwpt_invalidate.encode({ ...base, __reserved: 0, hwpt_id: 99 }));
  page.write(128, u.iommu_hwpt_invalidate.encode({ ...base, __reserved: 1 }));
  const at = (offset: number): unknown =>
    attempt(() => kernel.ioctl(iommufd.fd, u.IOMMU_HWPT_INVALIDATE, page.address + BigInt(offset), UNSAFE));
  see.note('writable', [at(0), at(64), at(128)]);
  kernel.mprotect(page, u.PROT_READ);
  see.note('read-only', [at(0), at(64), at(128)]);
  see.note('and it was done', [page.read(24, 4), page.read(64 + 24, 4)]);
}

function hwInfo(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock } = start(kernel);
  const ask = (label: string, fields: object, dev_id = mock.idev, size = 40): void => {
    ram.write(0, new Uint8Array(32).fill(0xee));
    const { returned, out } = iommufd.call(
      u.IOMMU_GET_HW_INFO,
      u.iommu_hw_info,
      { dev_id, data_uptr: ram.address, data_len: 8, ...fields, size } as object,
      size,
    );
    const { data_len, out_data_type, out_max_pasid_log2, out_capabilities } = out;
    see.note(label, { returned, data_len, out_data_type, out_max_pasid_log2, out_capabilities, data: ram.read(0, 20) });
  };
  ask('unknown flag', { flags: 2 });
  ask('reserved', { __reserved: Uint8Array.of(0, 1, 0) });
  ask('no device', {}, 99);
  ask('an IOAS', {}, ioas);
  ask('another type', { flags: 1, in_data_type: 1 });
  ask('its own type', { flags: 1, in_data_type: 0xfeed_beef });
  ask('a type without the flag', { in_data_type: 77 });
  ask('all of it', {});
  ask('longer', { data_len: 20 });
  ask('shorter', { data_len: 4 });
  ask('none', { data_len: 0, data_uptr: 0n });
  ask('nowhere', { data_uptr: 0xdead000n });
  ask('a short struct', {}, mock.idev, 32);
  ask('without dirty tracking', {}, iommufd.mock(ioas, 1).idev);
  ask('with PASIDs', {}, iommufd.mock(ioas, 4).idev);
}

function dirtyOrder(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock } = start(kernel);
  const plain = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas });
  const hwpt = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: DIRTY });
  const track = (hwpt_id: number, flags: number, more = {}) =>
    iommufd.call(u.IOMMU_HWPT_SET_DIRTY_TRACKING, u.iommu_hwpt_set_dirty_tracking, { hwpt_id, flags, ...more }).returned;
  see.note('SET, unknown flag', track(99, 2));
  see.note('SET of nothing', track(99, 1));
  see.note('SET of an IOAS', track(ioas, 1));
  see.note('SET where there is none', [track(plain, 1), track(plain, 0)]);
  see.note('SET', [track(hwpt, 1), track(hwpt, 1), track(hwpt, 0), track(hwpt, 0, { __reserved: 7 })]);
  const get = (label: string, fields: object): void =>
    see.note(
      label,
      iommufd.call(u.IOMMU_HWPT_GET_DIRTY_BITMAP, u.iommu_hwpt_get_dirty_bitmap, {
        ...{ hwpt_id: hwpt, iova: IOVA, length: PAGE, page_size: PAGE, data: ram.address },
        ...fields,
      }).returned,
    );
  get('GET, unknown flag', { flags: 2, hwpt_id: 99 });
  get('GET, reserved', { __reserved: 1, hwpt_id: 99 });
  get('GET of nothing', { hwpt_id: 99, length: 0n });
  get('GET, length 0', { length: 0n });
  get('GET, overflow', { iova: U64_MAX, length: 2n });
  get('GET, not aligned', { iova: IOVA + 1n, page_size: 0n });
  get('GET, page_size 0', { page_size: 0n });
  get('GET, iova inside a page', { iova: IOVA + 0x800n });
  get('GET, no power of two', { page_size: 0x1800n, iova: 0n, length: 0x3000n });
  get('GET where there is none', { hwpt_id: plain });
  get('GET of a hole', {});
  get('GET, nowhere', { data: 0xdead000n });
  get('GET of everything', { iova: 0n, length: 0n });
}

/** Bits of pages a device has written to: as the mock device is told. */
function dirtyBits(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock } = start(kernel);
  const hwpt = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: DIRTY });
  iommufd.replace(mock.stdev, hwpt);
  const memory = kernel.memfd('dirty');
  kernel.ftruncate(memory, 0x40000);
  const mapped = kernel.mmap({ length: 0x40000, fd: memory });
  // A page each: how pages lie in physical memory is the kernel's affair, and an entry may span those that lie together.
  const mapPages = (first: bigint, iova: bigint, count: bigint, flags?: number): void => {
    for (let at = 0n; at < count * PAGE; at += PAGE) iommufd.mapAt(ioas, mapped.address + first + at, iova + at, PAGE, flags);
  };
  mapPages(0n, IOVA, 32n);
  mapPages(0x20000n, IOVA + 0x30000n, 8n, READ);
  const track = (flags: number) =>
    iommufd.call(u.IOMMU_HWPT_SET_DIRTY_TRACKING, u.iommu_hwpt_set_dirty_tracking, { hwpt_id: hwpt, flags }).returned;
  const mark = (iova: bigint, bits: number[], pageSize = PAGE, length = 0x20000n) => {
    ram.write(0x1000, Uint8Array.from([...bits, ...new Array<number>(16).fill(0)]));
    const words = [
      [24, iova],
      [32, length],
      [40, pageSize],
      [48, ram.address + 0x1000n],
    ] as const;
    const { returned, view } = iommufd.test(op.DIRTY, hwpt, words);
    return { returned, count: view.getBigUint64(56, true) };
  };
  const get = (iova: bigint, length: bigint, page_size = PAGE, flags = 0, before = 0) => {
    ram.write(0, new Uint8Array(16).fill(before));
    const fields = { hwpt_id: hwpt, iova, length, page_size, data: ram.address, flags };
    const { returned } = iommufd.call(u.IOMMU_HWPT_GET_DIRTY_BITMAP, u.iommu_hwpt_get_dirty_bitmap, fields);
    return { returned, bits: ram.read(0, 16) };
  };
  see.note('marking while tracking is off', mark(IOVA, [0xff]));
  see.note('on', track(1));
  see.note('nothing yet', get(IOVA, 0x20000n));
  see.note('marking', mark(IOVA, [0x55, 0x01]));
  see.note('read, not cleared', get(IOVA, 0x20000n, PAGE, 1));
  see.note('read from the second page on', get(IOVA + PAGE, 0x1f000n, PAGE, 1));
  see.note('in halves of a page', get(IOVA, 0x20000n, 0x800n, 1));
  see.note('in pairs of pages', get(IOVA, 0x20000n, 0x2000n, 1));
  see.note('bits are only set', get(IOVA, 0x20000n, PAGE, 1, 0xa0));
  see.note('a part, cleared', get(IOVA, 0x3000n));
  see.note('what is left', get(IOVA, 0x20000n));
  see.note('and cleared', get(IOVA, 0x20000n));
  see.note('marking a hole', mark(IOVA + 0x20000n, [0xff], PAGE, 0x8000n));
  see.note('marking what cannot be written', mark(IOVA + 0x30000n, [0x0f], PAGE, 0x8000n));
  mark(IOVA, [0x80, 0x80]);
  see.note('over a hole: it ends there', get(IOVA, 0x38000n));
  see.note('behind it', get(IOVA + 0x30000n, 0x8000n));
  mark(IOVA, [0xff]);
  see.note('off and on again', [track(0), track(1)]);
  see.note('nothing is dirty', get(IOVA, 0x20000n));
  mark(IOVA, [0xff]);
  iommufd.unmap(ioas, IOVA, 0x20000n);
  mapPages(0n, IOVA, 32n);
  see.note('mapped anew', get(IOVA, 0x20000n));
  see.note('errors of marking', [
    mark(IOVA, [1], 0n).returned,
    mark(IOVA + 1n, [1]).returned,
    mark(IOVA, [1], PAGE, 0n).returned,
    iommufd.test(op.DIRTY, ioas, [
      [24, IOVA],
      [32, PAGE],
      [40, PAGE],
      [48, ram.address],
    ]).returned,
  ]);
}

export const hwptCases: Case[] = [
  define('iommufd/hwpt/alloc-order', 'IOMMU_HWPT_ALLOC', allocOrder, { needs: MOCK }),
  define('iommufd/hwpt/over-areas', 'IOMMU_HWPT_ALLOC', overAreas, { needs: MOCK }),
  define('iommufd/hwpt/nested', 'IOMMU_HWPT_ALLOC', nested, { needs: MOCK }),
  define('iommufd/hwpt/invalidate', 'IOMMU_HWPT_INVALIDATE', invalidate, { needs: MOCK }),
  define('iommufd/hwpt/invalidate-faults', 'IOMMU_HWPT_INVALIDATE', invalidateFaults, { needs: MOCK }),
  define('iommufd/hwpt/hw-info', 'IOMMU_GET_HW_INFO', hwInfo, { needs: MOCK }),
  define('iommufd/hwpt/dirty-order', 'IOMMU_HWPT_GET_DIRTY_BITMAP', dirtyOrder, { needs: MOCK }),
  define('iommufd/hwpt/dirty-bits', 'IOMMU_HWPT_GET_DIRTY_BITMAP', dirtyBits, { needs: MOCK }),
];
