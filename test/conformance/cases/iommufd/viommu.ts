/** vIOMMUs, virtual devices, hardware queues, and the memory a driver offers on /dev/iommu. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { buffer, Iommufd, MOCK, mapped, op, READ, U64_MAX, WRITE } from '../../iommufd.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;
const DATA = 0xdead;
const TYPE = 0xdead_beef;
const NEST = u.IOMMU_HWPT_ALLOC_NEST_PARENT;

function start(kernel: Kernel) {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  const mock = iommufd.mock(ioas);
  const parent = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: NEST });
  return { iommufd, ioas, ram, mock, parent };
}

function viommuAlloc(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock, parent } = start(kernel);
  const base = { type: TYPE, dev_id: mock.idev, hwpt_id: parent };
  const ask = (label: string, fields: object): void => see.note(label, iommufd.viommu({ ...base, ...fields }));
  ask('unknown flag', { flags: 1, dev_id: 99 });
  ask('type 0', { type: 0, dev_id: 99 });
  ask('no device', { dev_id: 99, type: 5 });
  ask('unknown type', { type: 5, hwpt_id: 99 });
  ask('no table', { hwpt_id: 99 });
  ask('an IOAS for a table', { hwpt_id: ioas });
  ask('the automatic table', { hwpt_id: mock.hwpt });
  ask('too little data', { data_len: 7, data_uptr: ram.address });
  ask('too much data', { data_len: 25, data_uptr: ram.address });
  ask('data nowhere', { data_len: 8, data_uptr: 0xdead000n });
  ask('reserved, which nobody looks at', { __reserved: 1 });
  ask('without data', {});
  see.note('DESTROY of the parent', iommufd.destroy(parent));
}

function driverMemory(kernel: Kernel, see: Observer): void {
  const { iommufd, ram, mock, parent } = start(kernel);
  ram.write(0, Uint8Array.of(0x44, 0x33, 0x22, 0x11));
  const alloc = () =>
    Number(iommufd.viommu({ type: TYPE, dev_id: mock.idev, hwpt_id: parent, data_len: 24, data_uptr: ram.address }));
  const first = alloc();
  see.note('data', ram.read(0, 24));
  const second = alloc();
  see.note('data of a second', ram.read(0, 24));
  const map = (offset: number, length: number, flags: number = u.MAP_SHARED, prot: number = u.PROT_READ | u.PROT_WRITE) =>
    mapped(kernel, { fd: iommufd.fd, offset, length, flags, prot });
  see.note('private', map(0x1000, 0x2000, u.MAP_PRIVATE));
  see.note('executable', map(0x1000, 0x2000, u.MAP_SHARED, u.PROT_READ | u.PROT_EXEC));
  see.note('a part', map(0x1000, 0x1000));
  see.note('too long', map(0x1000, 0x3000));
  see.note('not from its beginning', map(0x2000, 0x1000));
  see.note('at 0', map(0, 0x2000));
  const memory = kernel.mmap({ fd: iommufd.fd, offset: 0x1000, length: 0x2000, view: false });
  see.note('its first word', memory.read32(0));
  memory.write32(0x1ffc, 0x5a5a5a5a);
  see.note('DESTROY while it is mapped', iommufd.destroy(first));
  const again = kernel.mmap({ fd: iommufd.fd, offset: 0x1000, length: 0x2000, view: false });
  see.note('mapped twice', again.read32(0x1ffc));
  memory.close();
  see.note('DESTROY while one is left', iommufd.destroy(first));
  again.close();
  see.note('DESTROY', iommufd.destroy(first));
  see.note('its region', map(0x1000, 0x2000));
  const third = alloc();
  see.note('whose place is taken again', ram.read(8, 16));
  see.note('DESTROY of all', [iommufd.destroy(second), iommufd.destroy(third), iommufd.destroy(parent)]);
}

function vdevices(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock, parent } = start(kernel);
  const [viommu, other] = [0, 1].map(() => Number(iommufd.viommu({ type: TYPE, dev_id: mock.idev, hwpt_id: parent }))) as [
    number,
    number,
  ];
  const data = { data_type: DATA, data_len: 4, data_uptr: ram.address };
  const nested = iommufd.hwpt({ dev_id: mock.idev, pt_id: viommu, ...data });
  see.note('a table of the vIOMMU', nested);
  see.note('flags it has not', iommufd.hwpt({ dev_id: mock.idev, pt_id: viommu, flags: NEST, ...data }));
  see.note('without data', iommufd.hwpt({ dev_id: mock.idev, pt_id: viommu }));
  see.note('attached without a vDEVICE', iommufd.replace(mock.stdev, Number(nested)));
  see.note('of no vIOMMU', iommufd.vdevice(99, 98, 0n));
  see.note('of no device', iommufd.vdevice(viommu, 98, 0n));
  const first = iommufd.vdevice(viommu, mock.idev, U64_MAX);
  see.note('ALLOC', first);
  see.note('a second of the device', iommufd.vdevice(viommu, mock.idev, 1n));
  see.note('on another vIOMMU', iommufd.vdevice(other, mock.idev, 1n));
  const neighbour = iommufd.mock(ioas);
  see.note('the same id for another device', iommufd.vdevice(viommu, neighbour.idev, U64_MAX));
  see.note('id 0 for another device', iommufd.vdevice(viommu, neighbour.idev, 0n));
  see.note('attached', iommufd.replace(mock.stdev, Number(nested)) === nested);
  see.note('DESTROY of the vIOMMU', iommufd.destroy(viommu));
  see.note('DESTROY of the parent', iommufd.destroy(parent));
  see.note('DESTROY of the vDEVICE in use', iommufd.destroy(Number(first)));
  see.note('a new one', iommufd.vdevice(viommu, mock.idev, 7n));
  see.note('DESTROY of the device', iommufd.destroy(mock.stdev));
  see.note('the vDEVICE', iommufd.destroy(Number(first)));
  see.note('its id is not given out', [iommufd.ioas(), iommufd.ioas(), iommufd.ioas(), iommufd.ioas()]);
}

/** Once a vDEVICE has gone with its device, its id is taken for good, and the context is never empty again. */
function tombstone(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, mock, parent } = start(kernel);
  const viommu = Number(iommufd.viommu({ type: TYPE, dev_id: mock.idev, hwpt_id: parent }));
  const vdevice = Number(iommufd.vdevice(viommu, mock.idev, 1n));
  see.note(
    'DESTROY of everything',
    [mock.stdev, viommu, parent, ioas].map((id) => iommufd.destroy(id)),
  );
  see.note('DESTROY of the vDEVICE', iommufd.destroy(vdevice));
  see.note('RLIMIT_MODE', iommufd.option(0, 0, 0, 1n));
}

function caches(kernel: Kernel, see: Observer): void {
  const { iommufd, ram, mock, parent } = start(kernel);
  const viommu = Number(iommufd.viommu({ type: TYPE, dev_id: mock.idev, hwpt_id: parent }));
  iommufd.vdevice(viommu, mock.idev, 0x99n);
  const cache = (): number[] =>
    [0, 1, 2, 3].map((at) =>
      iommufd.test(op.DEV_CHECK_CACHE, mock.idev, [
        [16, at],
        [20, 0xbaddad],
      ]).returned === 0
        ? 1
        : 0,
    );
  const entries = (list: readonly number[]): void => ram.write(0x1000, new Uint8Array(Uint32Array.from(list).buffer));
  const ask = (label: string, fields: object): void => {
    const base = { hwpt_id: viommu, data_uptr: ram.address + 0x1000n, data_type: TYPE, entry_len: 12, entry_num: 1 };
    const { returned, out } = iommufd.call(u.IOMMU_HWPT_INVALIDATE, u.iommu_hwpt_invalidate, { ...base, ...fields });
    see.note(label, { returned, entry_num: out.entry_num, cache: cache() });
  };
  entries([0, 0x99, 0, 0, 0, 0]);
  see.note('of no device', iommufd.test(op.DEV_CHECK_CACHE, 99).returned);
  ask('none', { entry_num: 0, data_uptr: 0n, entry_len: 0 });
  ask('of another type', { data_type: 5, entry_num: 0 });
  ask('nowhere', { data_uptr: 0xdead000n });
  ask('shorter', { entry_len: 8 });
  ask('longer, zeros', { entry_len: 16 });
  entries([0, 0x99, 1, 5]);
  ask('longer, not zeros', { entry_len: 16 });
  entries([4, 0x99, 1]);
  ask('unknown flag', {});
  entries([0, 0x99, 4]);
  ask('no such entry', {});
  entries([0, 0x98, 1]);
  ask('no such device', {});
  entries([0, 0x99, 1, 0, 0x99, 2, 0, 0x98, 3]);
  ask('two of three', { entry_num: 3 });
  entries([1, 0x99, 0]);
  ask('all', {});
}

/** Whole pages are pinned: they must fit into 64 bits, and a list of them into memory. */
function queueRanges(kernel: Kernel, see: Observer): void {
  const { iommufd, mock, parent } = start(kernel);
  const viommu = Number(iommufd.viommu({ type: TYPE, dev_id: mock.idev, hwpt_id: parent }));
  const alloc = (nesting_parent_iova: bigint, length: bigint, type = TYPE) =>
    iommufd.call(u.IOMMU_HW_QUEUE_ALLOC, u.iommu_hw_queue_alloc, { viommu_id: viommu, type, nesting_parent_iova, length })
      .returned;
  see.note('the last page', alloc(U64_MAX - PAGE + 1n, PAGE));
  see.note('the last byte', alloc(U64_MAX, 1n));
  see.note('everything but the last byte', alloc(0n, U64_MAX));
  see.note('that from the second byte on', alloc(1n, U64_MAX));
  see.note('up to the last page', alloc(0n, U64_MAX - PAGE + 1n));
  see.note('and a byte of it', alloc(0n, U64_MAX - PAGE + 2n));
  see.note('from the second page on', alloc(PAGE, U64_MAX - PAGE + 1n));
  see.note('2 TiB', alloc(0n, 1n << 41n));
  see.note('of an unknown type', alloc(0n, U64_MAX, 5));
}

function queues(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock, parent } = start(kernel);
  const viommu = Number(iommufd.viommu({ type: TYPE, dev_id: mock.idev, hwpt_id: parent }));
  const alloc = (fields: object) => {
    const base = { viommu_id: viommu, type: TYPE, index: 0, nesting_parent_iova: IOVA, length: PAGE };
    const { returned, out } = iommufd.call(u.IOMMU_HW_QUEUE_ALLOC, u.iommu_hw_queue_alloc, { ...base, ...fields });
    return returned === 0 ? out.out_hw_queue_id : returned;
  };
  see.note('unknown flag', alloc({ flags: 1, length: 0n }));
  see.note('type 0', alloc({ type: 0, length: 0n }));
  see.note('length 0', alloc({ length: 0n, viommu_id: 99 }));
  see.note('overflow', alloc({ nesting_parent_iova: U64_MAX, length: 2n, viommu_id: 99 }));
  see.note('no vIOMMU', alloc({ viommu_id: 99, type: 5 }));
  see.note('unknown type', alloc({ type: 5 }));
  see.note('not mapped', alloc({}));
  iommufd.mapAt(ioas, ram.address, IOVA, PAGE, WRITE);
  see.note('not readable', alloc({}));
  iommufd.unmapAll(ioas);
  iommufd.mapAt(ioas, ram.address, IOVA, 0x800n);
  see.note('half a page, which is in the way', alloc({}));
  iommufd.unmapAll(ioas);
  iommufd.mapAt(ioas, ram.address, IOVA, PAGE, READ);
  iommufd.mapAt(ioas, ram.address + PAGE, IOVA + PAGE, PAGE, READ);
  see.note('index 2', alloc({ index: 2 }));
  see.note('index 1 before 0', alloc({ index: 1 }));
  const first = alloc({ length: 0x100n });
  see.note('index 0', first);
  see.note('index 0 again', alloc({}));
  const second = alloc({ index: 1 });
  see.note('index 1: a queue takes two ids', second);
  see.note('the access is nobody’s to destroy', iommufd.destroy(Number(first) + 1));
  see.note('alignment', iommufd.ranges(ioas).alignment);
  see.note('unmapping it', iommufd.unmap(ioas, IOVA, PAGE));
  see.note('unmapping all', iommufd.unmapAll(ioas));
  see.note('the neighbour', iommufd.unmap(ioas, IOVA + PAGE, PAGE));
  see.note('DESTROY of the first', iommufd.destroy(Number(first)));
  see.note('DESTROY of the vIOMMU', iommufd.destroy(viommu));
  see.note('DESTROY in order', [iommufd.destroy(Number(second)), iommufd.destroy(Number(first))]);
  see.note('alignment then', iommufd.ranges(ioas).alignment);
  see.note('unmapping it then', iommufd.unmap(ioas, IOVA, PAGE));
}

export const viommuCases: Case[] = [
  define('iommufd/viommu/alloc', 'IOMMU_VIOMMU_ALLOC', viommuAlloc, { needs: MOCK }),
  define('iommufd/viommu/driver-memory', 'IOMMU_VIOMMU_ALLOC', driverMemory, { needs: MOCK }),
  define('iommufd/viommu/vdevices', 'IOMMU_VDEVICE_ALLOC', vdevices, { needs: MOCK }),
  define('iommufd/viommu/tombstone', 'IOMMU_VDEVICE_ALLOC', tombstone, { needs: MOCK }),
  define('iommufd/viommu/caches', 'IOMMU_HWPT_INVALIDATE', caches, { needs: MOCK }),
  define('iommufd/viommu/queues', 'IOMMU_HW_QUEUE_ALLOC', queues, { needs: MOCK }),
  define('iommufd/viommu/queue-ranges', 'IOMMU_HW_QUEUE_ALLOC', queueRanges, { needs: MOCK }),
];
