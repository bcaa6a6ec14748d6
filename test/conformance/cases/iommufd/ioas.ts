/** IO address spaces: ranges, placement, mapping, unmapping, copies, options. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { attempt, buffer, FIXED, IOMMUFD, Iommufd, MOCK, READ, RW, U64_MAX, WRITE } from '../../iommufd.ts';

const PAGE = 0x1000n;

function start(kernel: Kernel) {
  const iommufd = new Iommufd(kernel);
  return { iommufd, ioas: iommufd.ioas(), ram: buffer(kernel) };
}

function alloc(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  see.note('flags 1', iommufd.call(u.IOMMU_IOAS_ALLOC, u.iommu_ioas_alloc, { flags: 1 }).returned);
  see.note('flags 0', iommufd.call(u.IOMMU_IOAS_ALLOC, u.iommu_ioas_alloc, {}).returned);
  see.note('ranges of a new one', iommufd.ranges(1));
}

function ranges(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const ask = (fields: object) => {
    const { returned, out } = iommufd.call(u.IOMMU_IOAS_IOVA_RANGES, u.iommu_ioas_iova_ranges, { ioas_id: ioas, ...fields });
    return { returned, num_iovas: out.num_iovas, alignment: out.out_iova_alignment };
  };
  see.note('reserved', ask({ __reserved: 1, num_iovas: 1, allowed_iovas: ram.address }));
  see.note('no IOAS', ask({ ioas_id: 9, num_iovas: 1, allowed_iovas: ram.address }));
  see.note('no room', ask({ num_iovas: 0, allowed_iovas: 0n }));
  see.note('room nowhere', ask({ num_iovas: 1, allowed_iovas: 0n }));
  see.note('reserved ranges', [
    iommufd.reserve(ioas, 0x100000n, 0x1000n),
    iommufd.reserve(ioas, 0x100800n, 0x1000n),
    iommufd.reserve(ioas, 0x101800n, 1n),
    iommufd.reserve(ioas, U64_MAX - 0xfffn, 0x1000n),
  ]);
  see.note('ranges', iommufd.ranges(ioas));
  see.note('room for one', iommufd.ranges(ioas, 1));
  see.note('room for all', iommufd.ranges(ioas, iommufd.ranges(ioas).total));
  see.note('an overflow', iommufd.reserve(ioas, U64_MAX, 2n));
  see.note('of no length', iommufd.reserve(ioas, 0n, 0n));
  see.note('of no IOAS', iommufd.reserve(99, 0n, 1n));
  see.note('everything', iommufd.reserve(ioas, 0n, U64_MAX));
  see.note('no ranges are left but one', iommufd.ranges(ioas));
  see.note('a mapping', iommufd.map({ ioas_id: ioas, user_va: ram.address, length: PAGE }));
}

function allow(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const ask = (fields: object) =>
    iommufd.call(u.IOMMU_IOAS_ALLOW_IOVAS, u.iommu_ioas_allow_iovas, { ioas_id: ioas, ...fields }).returned;
  see.note('reserved field', ask({ __reserved: 1 }));
  see.note('no IOAS', ask({ ioas_id: 9 }));
  see.note('none, pointer 0', ask({ num_iovas: 0 }));
  see.note('one, pointer 0', ask({ num_iovas: 1 }));
  see.note('start = last', iommufd.allow(ioas, [[5n, 5n]]));
  see.note('start > last', iommufd.allow(ioas, [[6n, 5n]]));
  see.note(
    'overlap',
    iommufd.allow(ioas, [
      [0x1000n, 0x1fffn],
      [0x1800n, 0x2fffn],
    ]),
  );
  see.note(
    'touching',
    iommufd.allow(ioas, [
      [0x100000n, 0x100fffn],
      [0x101000n, 0x101fffn],
    ]),
  );
  const map = (length: bigint) => iommufd.map({ ioas_id: ioas, user_va: ram.address, length });
  see.note('placed inside', map(PAGE));
  see.note('does not fit', map(2n * PAGE));
  see.note('fits behind', map(PAGE));
  see.note('no room', map(PAGE));
  see.note('fixed elsewhere', iommufd.mapAt(ioas, ram.address, 0x900000n, PAGE));
  see.note('a new list, which must not meet what is reserved', [
    iommufd.reserve(ioas, 0x200000n, 0x1000n),
    iommufd.allow(ioas, [[0x1ff000n, 0x200000n]]),
  ]);
  see.note('the old one is still there', map(PAGE));
  see.note('reserving inside', iommufd.reserve(ioas, 0x100000n, 0x1000n));
  see.note('cleared', iommufd.allow(ioas, []));
  see.note('placed', map(PAGE));
}

function placement(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const map = (label: string, offset: bigint, length: bigint): void =>
    see.note(label, iommufd.map({ ioas_id: ioas, user_va: ram.address + offset, length }));
  map('a page', 0n, PAGE);
  map('a page, address aligned to more', 0n, PAGE);
  map('three pages', 0n, 3n * PAGE);
  map('three pages at an odd one', PAGE, 3n * PAGE);
  map('512 bytes at 0x300', 0x300n, 0x200n);
  map('one byte', 0x301n, 1n);
  map('2 MiB', 0n, 0x200000n);
  map('4 MiB', 0n, 0x400000n);
  map('1.5 pages', 0x800n, 0x1800n);
  map('half of the space', 0n, 1n << 63n);
  map('one less than half', 0n, (1n << 63n) - 2n);
  map('nothing', 0n, 0n);
  see.note('hole', [iommufd.unmap(ioas, 0x4000n, 0x3000n), 'unmapped']);
  map('the hole is found', 0n, 2n * PAGE);
}

function mapOrder(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const base = { ioas_id: ioas, user_va: ram.address, length: PAGE, iova: 0x10000n, flags: RW | FIXED };
  const ask = (label: string, fields: object): void => see.note(label, iommufd.map({ ...base, ...fields }));
  ask('unknown flag, all else wrong', { flags: 8, length: U64_MAX, ioas_id: 99 });
  ask('reserved, all else wrong', { __reserved: 1, length: U64_MAX, ioas_id: 99 });
  ask('iova U64_MAX, not fixed, no permission', { flags: 0, iova: U64_MAX });
  ask('length U64_MAX', { length: U64_MAX, flags: 0 });
  ask('no permission, no IOAS', { flags: FIXED, ioas_id: 99 });
  ask('no IOAS, user_va overflows', { ioas_id: 99, user_va: U64_MAX });
  ask('user_va + length = 2^64', { user_va: U64_MAX - PAGE + 1n });
  ask('user_va + length = 2^64 - 1', { user_va: U64_MAX - PAGE });
  ask('length 0', { length: 0n, iova: 0x20000n });
  ask('length U64_MAX - page + 1', { user_va: 0n, length: U64_MAX - PAGE + 1n });
  ask('iova + length overflows', { user_va: 0n, iova: U64_MAX - 0xfn, length: 0x100n });
  ask('over what is there', { iova: 0x30000n });
  ask('again', { iova: 0x30000n });
  ask('its last byte', { iova: 0x30fffn, length: 1n });
  ask('the byte behind', { iova: 0x31000n, length: 1n });
  ask('the last byte of all', { iova: U64_MAX - 1n, length: 2n });
  ask('the last byte but one', { iova: U64_MAX - 1n, length: 1n });
  ask('iova 0', { iova: 0n });
  iommufd.reserve(ioas, 0x40000n, PAGE);
  ask('reserved and mapped', { iova: 0x30000n, length: 0x11000n });
  ask('reserved', { iova: 0x40000n });
  ask('an address nobody has', { user_va: 0xdead000n, iova: 0x50000n });
  ask('read-only', { flags: READ | FIXED, iova: 0x60000n });
  ask('write-only', { flags: WRITE | FIXED, iova: 0x70000n });
}

function mapOnDomain(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const mock = iommufd.mock(ioas);
  see.note('mock', mock.returned);
  see.note('ranges', iommufd.ranges(ioas));
  const ask = (label: string, fields: object): void => {
    const base = { ioas_id: ioas, user_va: ram.address, length: PAGE, iova: 0x2000000n, flags: RW | FIXED };
    see.note(label, iommufd.map({ ...base, ...fields }));
  };
  ask('length not aligned', { length: 0x700n });
  ask('iova not aligned', { iova: 0x2000001n });
  ask('below the aperture', { iova: 0x1000n });
  ask('above the aperture', { iova: 0x80000000n });
  ask('address not aligned', { user_va: ram.address + 1n });
  ask('half a page', { user_va: ram.address + 0x800n, length: 0x800n });
  ask('the same place', { user_va: ram.address + 0x800n, length: 0x800n });
  ask('nobody has the address', { user_va: 0xdead000n, iova: 0x3000000n });
  ask('the last page of all', { user_va: U64_MAX - 0xfffn, length: 0x800n, iova: 0x3000000n });
  ask('beyond user space', { user_va: 0x7fff_ffff_f000n, iova: 0x3000000n });
  const readable = kernel.mmap({ length: 0x2000, prot: u.PROT_READ, view: false });
  ask('writable, of memory that is not', { user_va: readable.address, iova: 0x3000000n });
  ask('readable, of memory that is', { user_va: readable.address, iova: 0x3000000n, flags: READ | FIXED });
  const none = kernel.mmap({ length: 0x1000, prot: u.PROT_NONE, view: false });
  ask('PROT_NONE', { user_va: none.address, iova: 0x4000000n, flags: READ | FIXED });
  ask('placed', { flags: RW });
  ask('translates', { user_va: ram.address, length: 8n * PAGE, iova: 0x5000000n });
  see.note('to these pages', iommufd.checkMap(mock.hwpt, 0x5000000n, 8n * PAGE, ram.address));
  see.note('and not to others', iommufd.checkMap(mock.hwpt, 0x5000000n, PAGE, ram.address + PAGE));
  see.note('nothing there', iommufd.checkMap(mock.hwpt, 0x6000000n, PAGE, ram.address));
  see.note('not aligned', iommufd.checkMap(mock.hwpt, 0x5000001n, PAGE, ram.address));
  see.note('of no HWPT', iommufd.checkMap(ioas, 0x5000000n, PAGE, ram.address));
  see.note('all of it goes', iommufd.unmapAll(ioas));
}

function unmap(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  see.note('no IOAS', iommufd.unmap(99, U64_MAX, 0n));
  see.note('everything of nothing', iommufd.unmapAll(ioas));
  see.note('iova U64_MAX', iommufd.unmap(ioas, U64_MAX, 1n));
  see.note('length U64_MAX', iommufd.unmap(ioas, 1n, U64_MAX));
  see.note('length 0', iommufd.unmap(ioas, 0n, 0n));
  see.note('overflow', iommufd.unmap(ioas, U64_MAX - 1n, 3n));
  see.note('nothing there', iommufd.unmap(ioas, 0n, PAGE));
  for (const iova of [0x10000n, 0x11000n, 0x14000n, 0x18000n]) iommufd.mapAt(ioas, ram.address, iova, PAGE);
  see.note('cuts the first', iommufd.unmap(ioas, 0x10800n, PAGE));
  see.note('cuts the second: the first is gone', iommufd.unmap(ioas, 0x10000n, 0x1800n));
  see.note('the first', iommufd.unmap(ioas, 0x10000n, PAGE));
  see.note('a superset over a hole', iommufd.unmap(ioas, 0x10800n, 0x7000n));
  see.note('what is left', iommufd.unmapAll(ioas));
}

function copy(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const other = iommufd.ioas();
  for (const at of [0n, 1n, 2n]) iommufd.mapAt(ioas, ram.address + 0x10000n * at, 0x10000n + PAGE * at, PAGE);
  iommufd.mapAt(ioas, ram.address, 0x20000n, PAGE, READ);
  const base = {
    dst_ioas_id: other,
    src_ioas_id: ioas,
    length: PAGE,
    src_iova: 0x10000n,
    dst_iova: 0x100000n,
    flags: RW | FIXED,
  };
  const ask = (label: string, fields: object): void => see.note(label, iommufd.copy({ ...base, ...fields }));
  ask('unknown flag', { flags: 8, length: U64_MAX });
  ask('length U64_MAX', { length: U64_MAX, flags: 0 });
  ask('src_iova U64_MAX', { src_iova: U64_MAX, flags: 0 });
  ask('dst_iova U64_MAX, not fixed', { dst_iova: U64_MAX, flags: 0 });
  ask('no permission, no source', { flags: FIXED, src_ioas_id: 99 });
  ask('no source, length 0', { src_ioas_id: 99, length: 0n });
  ask('length 0', { length: 0n, dst_ioas_id: 99 });
  ask('source overflows', { src_iova: U64_MAX - 1n, dst_ioas_id: 99 });
  ask('source not mapped', { src_iova: 0x13000n, dst_ioas_id: 99 });
  ask('source mapped in part', { src_iova: 0x12000n, length: 0x2000n, dst_ioas_id: 99 });
  ask('no target', { dst_ioas_id: 99 });
  ask('a part', { src_iova: 0x10100n, length: 0x200n });
  ask('over it', { dst_iova: 0x100000n, length: 0x200n });
  ask('three areas', { length: 0x3000n, dst_iova: 0x200000n });
  see.note('each unmaps by itself', [iommufd.unmap(other, 0x201000n, PAGE), iommufd.unmap(other, 0x200000n, 0x3000n)]);
  ask('writable, of what is not', { src_iova: 0x20000n });
  ask('readable', { src_iova: 0x20000n, flags: READ | FIXED, dst_iova: 0x300000n });
  ask('placed', { flags: RW });
  ask('placed, by the address behind', { flags: RW, src_iova: 0x11000n });
  ask('within one address space', { dst_ioas_id: ioas, flags: RW });
  ask('a read-only copy', { flags: READ | FIXED, dst_iova: 0x400000n });
  ask('and a writable copy of that', { src_ioas_id: other, src_iova: 0x400000n, dst_ioas_id: other, dst_iova: 0x500000n });
  iommufd.unmapAll(ioas);
  see.note('the copies stay', iommufd.unmapAll(other));
}

function options(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const fresh = new Iommufd(kernel);
  const ask = (fields: object) => iommufd.call(u.IOMMU_OPTION, u.iommu_option, { op: 1, ...fields }).returned;
  see.note('reserved', ask({ __reserved: 1, option_id: 9 }));
  see.note('unknown option', ask({ option_id: 2 }));
  see.note('RLIMIT_MODE of an object', ask({ option_id: 0, object_id: 1 }));
  see.note('RLIMIT_MODE, GET', iommufd.option(0, 1, 0));
  see.note('RLIMIT_MODE, SET with an object there', iommufd.option(0, 0, 0, 1n));
  see.note('RLIMIT_MODE, SET 2', fresh.option(0, 0, 0, 2n));
  see.note('RLIMIT_MODE, SET 1', fresh.option(0, 0, 0, 1n));
  see.note('RLIMIT_MODE, GET 1', fresh.option(0, 1, 0));
  see.note('RLIMIT_MODE, another operation', fresh.option(0, 2, 0));
  see.note('HUGE_PAGES of nothing, another operation', iommufd.option(1, 2, 99));
  see.note('HUGE_PAGES, another operation', iommufd.option(1, 2, ioas));
  see.note('HUGE_PAGES, GET', iommufd.option(1, 1, ioas));
  see.note('HUGE_PAGES, SET 2', iommufd.option(1, 0, ioas, 2n));
  see.note('HUGE_PAGES, SET 0', iommufd.option(1, 0, ioas, 0n));
  see.note('alignment', iommufd.ranges(ioas).alignment);
  see.note('half a page', iommufd.mapAt(ioas, ram.address, 0x10000n, 0x800n));
  see.note('HUGE_PAGES, SET 0 again', iommufd.option(1, 0, ioas, 0n));
  see.note('HUGE_PAGES, SET 1', iommufd.option(1, 0, ioas, 1n));
  see.note('half a page now', iommufd.mapAt(ioas, ram.address, 0x10000n, 0x800n));
  see.note('HUGE_PAGES, SET 0 over it', iommufd.option(1, 0, ioas, 0n));
  const bytes = new Uint8Array(24).fill(0xee);
  Object.assign(u.iommu_option.view(bytes) as object, { size: 24, option_id: 1, op: 1, __reserved: 0, object_id: ioas });
  see.note(
    'GET',
    attempt(() => kernel.ioctl(iommufd.fd, u.IOMMU_OPTION, bytes)),
  );
  see.note('val64 alone comes back', bytes.slice(16));
}

function optionsOnDomain(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  iommufd.mock(ioas);
  see.note('alignment', iommufd.ranges(ioas).alignment);
  see.note('SET 0 without areas', iommufd.option(1, 0, ioas, 0n));
  see.note('alignment then', iommufd.ranges(ioas).alignment);
  see.note('SET 1', iommufd.option(1, 0, ioas, 1n));
  iommufd.mapAt(ioas, ram.address, 0x2000000n, PAGE);
  see.note('SET 0 with an area', iommufd.option(1, 0, ioas, 0n));
  see.note('GET', iommufd.option(1, 1, ioas));
}

/** Alignment follows what is attached, and what is mapped may be in its way. */
function alignment(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const aligned = () => iommufd.ranges(ioas).alignment;
  see.note('of a new one', aligned());
  iommufd.mapAt(ioas, ram.address, 0x2000000n, 0x400n);
  see.note('a mock device over 1 KiB', iommufd.mock(ioas).returned);
  iommufd.unmapAll(ioas);
  iommufd.mapAt(ioas, ram.address + 0x400n, 0x2000000n, 0x800n);
  see.note('over an odd address', iommufd.mock(ioas).returned);
  iommufd.unmapAll(ioas);
  iommufd.mapAt(ioas, ram.address, 0x1000n, PAGE);
  see.note('below its aperture', iommufd.mock(ioas).returned);
  see.note('nothing has changed', iommufd.ranges(ioas));
  iommufd.unmapAll(ioas);
  iommufd.allow(ioas, [[0x1000n, 0x1fffn]]);
  see.note('over what is allowed', iommufd.mock(ioas).returned);
  iommufd.allow(ioas, []);
  iommufd.mapAt(ioas, 0xdead000n, 0x2000000n, PAGE);
  see.note('over memory nobody has', iommufd.mock(ioas).returned);
  iommufd.unmapAll(ioas);
  const { stdev, returned } = iommufd.mock(ioas);
  see.note('now', returned);
  see.note('with a device', aligned());
  iommufd.destroy(stdev);
  see.note('without', iommufd.ranges(ioas));
}

function changeProcess(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram } = start(kernel);
  const ask = (fields: object = {}) => iommufd.call(u.IOMMU_IOAS_CHANGE_PROCESS, u.iommu_ioas_change_process, fields).returned;
  see.note('reserved', ask({ __reserved: 1 }));
  see.note('nothing mapped', ask());
  const fd = kernel.memfd('change-process');
  kernel.ftruncate(fd, 0x10000);
  iommufd.mapFile({ ioas_id: ioas, fd, length: PAGE });
  see.note('a file', ask());
  iommufd.map({ ioas_id: ioas, user_va: ram.address, length: PAGE });
  see.note('memory by address', ask());
}

export const ioasCases: Case[] = [
  define('iommufd/ioas/alloc', 'IOMMU_IOAS_ALLOC', alloc, { needs: IOMMUFD }),
  define('iommufd/ioas/ranges', 'IOMMU_IOAS_IOVA_RANGES', ranges, { needs: MOCK }),
  define('iommufd/ioas/allow', 'IOMMU_IOAS_ALLOW_IOVAS', allow, { needs: MOCK }),
  define('iommufd/ioas/placement', 'IOMMU_IOAS_MAP', placement, { needs: IOMMUFD }),
  define('iommufd/ioas/map-order', 'IOMMU_IOAS_MAP', mapOrder, { needs: MOCK }),
  define('iommufd/ioas/map-on-a-domain', 'IOMMU_IOAS_MAP', mapOnDomain, { needs: MOCK }),
  define('iommufd/ioas/unmap', 'IOMMU_IOAS_UNMAP', unmap, { needs: IOMMUFD }),
  define('iommufd/ioas/copy', 'IOMMU_IOAS_COPY', copy, { needs: IOMMUFD }),
  define('iommufd/ioas/options', 'IOMMU_OPTION', options, { needs: IOMMUFD }),
  define('iommufd/ioas/options-on-a-domain', 'IOMMU_OPTION', optionsOnDomain, { needs: MOCK }),
  define('iommufd/ioas/alignment', 'IOVA space', alignment, { needs: MOCK }),
  define('iommufd/ioas/change-process', 'IOMMU_IOAS_CHANGE_PROCESS', changeProcess, { needs: IOMMUFD }),
];
