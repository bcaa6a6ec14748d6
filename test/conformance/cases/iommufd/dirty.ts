/** Dirty bits at the edges: buffers that cannot be written or are not aligned, sizes of pages, PASIDs. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { buffer, Iommufd, MOCK, op } from '../../iommufd.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;
const PAGES = 32n;
const { IOMMU_HWPT_ALLOC_DIRTY_TRACKING: DIRTY, IOMMU_HWPT_ALLOC_PASID: PASID } = u;

/** A table that tracks, over pages that are mapped one by one: an entry may span those that lie together in physical memory. */
function start(kernel: Kernel, flags: number = DIRTY, device = 0) {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  const mock = iommufd.mock(ioas, device);
  const hwpt = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags });
  const memory = kernel.memfd('dirty');
  kernel.ftruncate(memory, 0x20000);
  const mapped = kernel.mmap({ length: 0x20000, fd: memory });
  for (let at = 0n; at < PAGES * PAGE; at += PAGE) iommufd.mapAt(ioas, mapped.address + at, IOVA + at, PAGE);
  const track = (on: number) =>
    iommufd.call(u.IOMMU_HWPT_SET_DIRTY_TRACKING, u.iommu_hwpt_set_dirty_tracking, { hwpt_id: hwpt, flags: on }).returned;
  const mark = (bits: number[]): unknown => {
    ram.write(0x1000, Uint8Array.from([...bits, ...new Array<number>(8).fill(0)]));
    const words = [
      [24, IOVA],
      [32, PAGES * PAGE],
      [40, PAGE],
      [48, ram.address + 0x1000n],
    ] as const;
    return iommufd.test(op.DIRTY, hwpt, words).returned;
  };
  const get = (data: bigint, flags = 0, more: object = {}): unknown =>
    iommufd.call(u.IOMMU_HWPT_GET_DIRTY_BITMAP, u.iommu_hwpt_get_dirty_bitmap, {
      ...{ hwpt_id: hwpt, iova: IOVA, length: PAGES * PAGE, page_size: PAGE, data, flags },
      ...more,
    }).returned;
  return { iommufd, ioas, ram, mock, hwpt, track, mark, get };
}

/** Bits nobody could take are lost, and nobody is told. */
function lost(kernel: Kernel, see: Observer): void {
  const { ram, track, mark, get } = start(kernel);
  track(1);
  see.note('marked', mark([0x55]));
  see.note('read to nowhere', get(0xdead000n));
  see.note('read then', [get(ram.address), ram.read(0, 8)]);
  const readable = kernel.mmap({ length: 0x1000, prot: u.PROT_READ, view: false });
  see.note('marked again', mark([0x55]));
  see.note('read to memory that cannot be written', get(readable.address));
  see.note('nothing came', readable.read(0, 8));
  see.note('and nothing is left', [get(ram.address), ram.read(0, 8)]);
  see.note('marked, read to nowhere without clearing', [mark([0x03]), get(0xdead000n, 1)]);
  see.note('which is left', [get(ram.address), ram.read(0, 8)]);
}

function buffers(kernel: Kernel, see: Observer): void {
  const { ram, track, mark, get } = start(kernel);
  track(1);
  for (const offset of [0, 1, 0x800, 0xff1, 0xffe]) {
    ram.write(0x4000, new Uint8Array(0x3000));
    mark([0x55, 0xaa, 0x0f, 0xf0]);
    see.note(`at 0x${offset.toString(16)}`, [
      get(ram.address + 0x4000n + BigInt(offset), 1),
      ram.read(0x4000 + offset, 4),
      get(ram.address + 0x4000n + BigInt(offset)),
    ]);
  }
  ram.write(0x4000, new Uint8Array(0x3000));
  mark([0xff]);
  see.note('a window from the fourth page', [
    get(ram.address + 0x4000n, 0, { iova: IOVA + 3n * PAGE, length: 2n * PAGE }),
    ram.read(0x4000, 4),
  ]);
  see.note('the others stay', [get(ram.address + 0x5000n), ram.read(0x5000, 4)]);
}

/** The table of a PASID tracks as that of a device does; a device without dirty tracking may not have such a table, but its PASID may. */
function ofPasids(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, mock, hwpt, track, mark, get } = start(kernel, DIRTY | PASID, 4);
  const fit = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas, flags: PASID });
  const pasid = (operation: number, stdev: number): unknown =>
    iommufd.test(operation, stdev, [
      [16, 1],
      [20, hwpt],
    ]).returned;
  see.note('the device', iommufd.replace(mock.stdev, fit) === fit);
  see.note('its PASID', pasid(op.PASID_ATTACH, mock.stdev));
  see.note('on', track(1));
  see.note('marked and read', [mark([0x81]), get(ram.address), ram.read(0, 4)]);
  see.note('off, without the PASID', [track(0), pasid(op.PASID_DETACH, mock.stdev)]);
  const clean = iommufd.mock(ioas, 1 | 4);
  see.note('a device without', [typeof iommufd.replace(clean.stdev, fit), iommufd.replace(clean.stdev, hwpt)]);
  see.note('its PASID, without', pasid(op.PASID_ATTACH, clean.stdev));
  see.note('which leaves', pasid(op.PASID_DETACH, clean.stdev));
}

export const dirtyCases: Case[] = [
  define('iommufd/dirty/lost', 'IOMMU_HWPT_GET_DIRTY_BITMAP', lost, { needs: MOCK }),
  define('iommufd/dirty/buffers', 'IOMMU_HWPT_GET_DIRTY_BITMAP', buffers, { needs: MOCK }),
  define('iommufd/dirty/of-pasids', 'IOMMU_HWPT_SET_DIRTY_TRACKING', ofPasids, { needs: MOCK }),
];
