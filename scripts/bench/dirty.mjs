#!/usr/bin/env node
// node scripts/bench/dirty.mjs: what IOMMU_HWPT_GET_DIRTY_BITMAP costs over 1 TiB of which few pages were written to. Beside the real kernel, where it has IOMMU_TEST_CMD,
// over four tables of 256 GiB, which is all that one of a mock device translates: each of 128 MiB mapped 2048 times. By itself the simulator is asked for it in one table too, on a
// VT-d that tracks. `npm run lab -- --hugepages 64 node scripts/bench/dirty.mjs`: with pages of 2 MiB behind it, where there are any.
import { ensureOrExit } from '../ensure.mjs';
import { test, WIDE, wideTable } from './mock.mjs';
import { median } from './statistics.mjs';

await ensureOrExit();
const { bindDriver, findKernels, Iommufd, openKernel, pciDevice, VfioDevice } = await import('kvio');
const { openSim, PciFunction, profiles } = await import('kvio/sim');
const u = await import('kvio/uapi');

const PAGE = 4096n;
const TEBI = 1n << 40n;
const PIECE = 128n << 20n;
const DIRTY = 1000;
const ROUNDS = 7;
const OP_DIRTY = 13;

/** Memory of so many bytes by descriptor, of large pages where there are enough. */
function memory(kernel, bytes) {
  if (!kernel.features.simulated) {
    const huge = kernel.memfd('bench', u.MFD_HUGETLB);
    try {
      kernel.ftruncate(huge, Number(bytes));
      kernel.fallocate(huge, 0, 0n, bytes);
      return [huge, 'pages of 2 MiB'];
    } catch {
      kernel.close(huge);
    }
  }
  const fd = kernel.memfd('bench');
  kernel.ftruncate(fd, Number(bytes));
  return [fd, 'pages of 4 KiB'];
}

/** All that the tables of four mock devices translate. */
function mock(kernel) {
  const iommufd = Iommufd.open(kernel);
  const [fd, what] = memory(kernel, PIECE);
  const one = kernel.guestRam(4096);
  one.write8(0, 1);
  const parts = Array.from({ length: Number(TEBI / WIDE) }, () => {
    const ioas = iommufd.ioasAlloc();
    const table = wideTable(iommufd, ioas, u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
    for (let iova = 0n; iova < WIDE; iova += PIECE) ioas.mapFile(fd, { length: PIECE, iova });
    const mark = (iova) =>
      test(iommufd, OP_DIRTY, table.id, [
        [24, iova],
        [32, PAGE],
        [40, PAGE],
        [48, one.address],
      ]);
    return { table, mark, first: 0n };
  });
  return { kernel, iommufd, parts, length: WIDE, what: `four tables of 256 GiB by ${what}` };
}

/** A device that writes, and 1 TiB of memory. */
function vtd() {
  const fn = new PciFunction({ vendor: 0x1234, device: 0x5678, class: 0xff0000, bars: { 0: { size: 0x1000, space: 'mem32' } } });
  const lab = profiles['lab-vtd-7.2'];
  const at = '0000:00:10.0';
  const kernel = openSim({
    machine: { ...lab, iommu: { ...lab.iommu, aperture: [0n, (1n << 48n) - 1n], dirtyTracking: true } },
    pci: [{ at, device: fn }],
  });
  bindDriver(kernel, at, 'vfio-pci');
  const device = VfioDevice.open(kernel, pciDevice(kernel, at).vfio_device);
  const iommufd = Iommufd.open(kernel);
  const dev_id = device.bindIommufd({ iommufd });
  const ioas = iommufd.ioasAlloc();
  const table = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING });
  device.attachIommufdPt({ pt_id: table.id });
  device.config.setCommand(6);
  const first = TEBI; // above what interrupts are at
  const fd = kernel.memfd('bench');
  kernel.ftruncate(fd, Number(TEBI));
  ioas.mapFile(fd, { length: TEBI, iova: first });
  const mark = (offset) => fn.dma.write(first + offset, Uint8Array.of(1));
  return { kernel, iommufd, device, parts: [{ table, mark, first }], length: TEBI, what: 'one table by pages of 4 KiB' };
}

/** Each part has its share of the pages that are written to, evenly spread; the first and the middle one must be told. */
function measure({ kernel, parts, length }) {
  const bitmaps = parts.map(() => kernel.guestRam(Number(length / PAGE / 8n)));
  const each = DIRTY / parts.length;
  const at = (n) => ((length / BigInt(each)) * BigInt(n)) & -PAGE;
  for (const { table } of parts) table.setDirtyTracking(true);
  const clean = [];
  const told = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (const times of [clean, told]) {
      if (times === told) for (const { mark } of parts) for (let n = 0; n < each; n++) mark(at(n));
      const started = performance.now();
      for (const [n, { table, first }] of parts.entries())
        table.getDirtyBitmap({ iova: first, length, page_size: PAGE }, bitmaps[n]);
      times.push(performance.now() - started);
    }
  }
  for (const bitmap of bitmaps) {
    for (const page of [0, each >> 1].map((n) => Number(at(n) / PAGE)))
      if ((bitmap.read8(page >> 3) & (1 << (page & 7))) === 0) throw new Error('the bitmap lacks a page that was written to');
  }
  return { 'nothing dirty': median(clean), '1000 pages dirty': median(told) };
}

const kernels = { sim: openSim({ machine: profiles['iommufd-selftest'] }) };
if (findKernels(['/dev/iommu']).some(({ kind, available }) => available && kind === 'native'))
  kernels.native = openKernel({ kernel: 'native', devices: ['/dev/iommu'] });

const rows = {};
for (const [kind, kernel] of Object.entries(kernels).reverse()) {
  const started = performance.now();
  let scene;
  try {
    scene = mock(kernel);
  } catch (error) {
    process.stdout.write(`${kind}: not run, because ${error.message}\n`);
    continue;
  }
  const made = performance.now() - started;
  rows[kind] = measure(scene);
  const cells = Object.entries(rows[kind]).map(([name, ms]) => {
    const beside = kind === 'sim' && rows.native ? ` (${(ms / rows.native[name]).toFixed(3)} × real)` : '';
    return `${name} ${ms.toFixed(2)} ms${beside}`;
  });
  scene.iommufd.close();
  process.stdout.write(`${kind}, 1 TiB in ${scene.what}: ${cells.join(', ')}; mapped in ${made.toFixed(0)} ms\n`);
}
const tracking = vtd();
const cells = Object.entries(measure(tracking)).map(([name, ms]) => `${name} ${ms.toFixed(2)} ms`);
process.stdout.write(`sim, 1 TiB in ${tracking.what}: ${cells.join(', ')}\n`);
for (const handle of [tracking.device, tracking.iommufd]) handle.close();
