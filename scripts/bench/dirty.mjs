#!/usr/bin/env node
// node scripts/bench/dirty.mjs: what IOMMU_HWPT_GET_DIRTY_BITMAP costs over a large address space of which few pages were written to. Beside the real kernel, where it has
// IOMMU_TEST_CMD, over 256 GiB, which is all that the table of a mock device translates: 128 MiB mapped 2048 times. By itself the simulator is asked for 1 TiB too, on a VT-d that
// tracks. `npm run lab -- --hugepages 64 node scripts/bench/dirty.mjs`: with pages of 2 MiB behind it, where there are any.
import { ensureOrExit } from '../ensure.mjs';
import { test, WIDE, wideTable } from './mock.mjs';
import { median } from './statistics.mjs';

await ensureOrExit();
const { bindDriver, findKernels, Iommufd, openKernel, pciDevice, VfioDevice } = await import('kvio');
const { openSim, PciFunction, profiles } = await import('kvio/sim');
const u = await import('kvio/uapi');

const PAGE = 4096n;
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

/** All that the table of a mock device translates. */
function mock(kernel) {
  const iommufd = Iommufd.open(kernel);
  const ioas = iommufd.ioasAlloc();
  const table = wideTable(iommufd, ioas, u.IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
  const [fd, what] = memory(kernel, PIECE);
  for (let iova = 0n; iova < WIDE; iova += PIECE) ioas.mapFile(fd, { length: PIECE, iova });
  const one = kernel.guestRam(4096);
  one.write8(0, 1);
  const mark = (iova) =>
    test(iommufd, OP_DIRTY, table.id, [
      [24, iova],
      [32, PAGE],
      [40, PAGE],
      [48, one.address],
    ]);
  return { kernel, table, mark, what };
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
  const first = 1n << 40n; // above what interrupts are at
  const fd = kernel.memfd('bench');
  kernel.ftruncate(fd, 2 ** 40);
  ioas.mapFile(fd, { length: 1n << 40n, iova: first });
  return {
    kernel,
    table,
    device,
    iommufd,
    mark: (offset) => fn.dma.write(first + offset, Uint8Array.of(1)),
    what: 'pages of 4 KiB',
    first,
  };
}

function measure({ kernel, table, mark, first = 0n }, length) {
  const bitmap = kernel.guestRam(Number(length / PAGE / 8n));
  const request = { iova: first, length, page_size: PAGE };
  table.setDirtyTracking(true);
  const clean = [];
  const told = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (const times of [clean, told]) {
      if (times === told) for (let n = 0; n < DIRTY; n++) mark(((length / BigInt(DIRTY)) * BigInt(n)) & -PAGE);
      const started = performance.now();
      table.getDirtyBitmap(request, bitmap);
      times.push(performance.now() - started);
    }
  }
  const seen = [0n, length / 2n].every((offset) => {
    const page = Number((((length / BigInt(DIRTY)) * ((offset * BigInt(DIRTY)) / length)) & -PAGE) / PAGE);
    return (bitmap.read8(page >> 3) & (1 << (page & 7))) !== 0;
  });
  if (!seen) throw new Error('the bitmap lacks a page that was written to');
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
    process.stdout.write(`${kind}, 256 GiB: not run, because ${error.message}\n`);
    continue;
  }
  const made = performance.now() - started;
  rows[kind] = measure(scene, WIDE);
  const cells = Object.entries(rows[kind]).map(([name, ms]) => {
    const beside = kind === 'sim' && rows.native ? ` (${(ms / rows.native[name]).toFixed(3)} × real)` : '';
    return `${name} ${ms.toFixed(2)} ms${beside}`;
  });
  scene.table.iommufd.close();
  process.stdout.write(`${kind}, 256 GiB by ${scene.what}: ${cells.join(', ')}; mapped in ${made.toFixed(0)} ms\n`);
}
const tracking = vtd();
const cells = Object.entries(measure(tracking, 1n << 40n)).map(([name, ms]) => `${name} ${ms.toFixed(2)} ms`);
process.stdout.write(`sim, 1 TiB: ${cells.join(', ')}\n`);
for (const handle of [tracking.device, tracking.iommufd]) handle.close();
