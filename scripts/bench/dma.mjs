#!/usr/bin/env node
// node scripts/bench/dma.mjs [iommufd | table | type1 …] [live …]: what mapping memory for devices costs, by how many mappings there are already (default 1 1000 100000; a million takes a minute): a
// mapping made and unmade, one copied, and all of them undone; by /dev/iommu, without a page table and with one (a mock device's, where there is IOMMU_TEST_CMD), and by a VFIO
// container where there is a device to give it a group. The real kernel beside the simulator where this host has /dev/iommu: `npm run lab -- node scripts/bench/dma.mjs`.
import { ensureOrExit } from '../ensure.mjs';
import { median } from './statistics.mjs';

await ensureOrExit();
const { bindDriver, findKernels, Iommufd, openKernel, pciDevice, VfioContainer, VfioGroup } = await import('kvio');
const { openSim, profiles } = await import('kvio/sim');
const { VFIO_DMA_UNMAP_FLAG_ALL, VFIO_TYPE1v2_IOMMU } = await import('kvio/uapi');
const { wideTable } = await import('./mock.mjs');

const words = process.argv.slice(2);
const counts = words.map(Number).filter((count) => count > 0);
const only = words.filter((word) => !(Number(word) > 0));
const live = counts.length > 0 ? counts : [1, 1_000, 100_000];
const PAGE = 0x1000n;
const FIRST = 0x1_0000_0000n;
const BDF = '0000:00:02.0';
const WARM = 3000;
/** Turns of some hundred microseconds: most are then not interrupted by what else the machine does. */
const TURNS = 201;
const CALLS = 10;

const machine = profiles['lab-vtd-7.2'];
const roomy = {
  ...machine,
  iommufdTest: true,
  parameters: { ...machine.parameters, vfio_iommu_type1: { dma_entry_limit: 2_000_000 } },
};
const kernels = { sim: openSim({ machine: roomy }) };
if (findKernels(['/dev/iommu']).some(({ kind, available }) => available && kind === 'native'))
  kernels.native = openKernel({ kernel: 'native', devices: ['/dev/iommu'] });

/** Microseconds of one call, the median of all turns. */
function cost(call) {
  for (let i = 0; i < WARM; i++) call();
  const turns = Array.from({ length: TURNS }, () => {
    const started = performance.now();
    for (let i = 0; i < CALLS; i++) call();
    return ((performance.now() - started) * 1000) / CALLS;
  });
  return median(turns);
}

/** An address space of /dev/iommu: areas two pages apart, so that none could be joined with the next. */
function iommufd(kernel) {
  const fd = Iommufd.open(kernel);
  const [ioas, other] = [fd.ioasAlloc(), fd.ioasAlloc()];
  const ram = kernel.guestRam(PAGE);
  return {
    add: (n) => ioas.map(ram, { iova: FIRST + BigInt(n) * 2n * PAGE }),
    pair() {
      const iova = FIRST - PAGE;
      ioas.map(ram, { iova });
      ioas.unmap(iova, PAGE);
    },
    copy() {
      other.copy(ioas, { src_iova: FIRST, length: PAGE, iova: FIRST });
      other.unmap(FIRST, PAGE);
    },
    clear: () => ioas.unmapAll(),
    close: () => fd.close(),
    ...{ fd, ioas },
  };
}

/** The same with a page table that each mapping is entered into, its memory pinned. */
function table(kernel) {
  const space = iommufd(kernel);
  wideTable(space.fd, space.ioas, 0);
  return space;
}

/** A container of type1 with a group in it. */
function type1(kernel) {
  const bound = bindDriver(kernel, BDF, 'vfio-pci');
  const container = VfioContainer.open(kernel);
  const group = VfioGroup.open(kernel, pciDevice(kernel, BDF).vfio_group);
  group.setContainer(container);
  container.setIommu(VFIO_TYPE1v2_IOMMU);
  const memory = kernel.guestRam(PAGE);
  return {
    add: (n) => container.mapDma({ memory, iova: FIRST + BigInt(n) * 2n * PAGE }),
    pair() {
      const iova = FIRST - PAGE;
      container.mapDma({ memory, iova });
      container.unmapDma({ iova, size: PAGE });
    },
    clear: () => container.unmapDma({ flags: VFIO_DMA_UNMAP_FLAG_ALL }),
    close() {
      group.close();
      container.close();
      bound[Symbol.dispose]();
    },
  };
}

for (const [what, make] of Object.entries({ iommufd, table, type1 }).filter(
  ([name]) => only.length === 0 || only.includes(name),
)) {
  const spaces = Object.entries(kernels).flatMap(([kind, kernel]) => {
    try {
      return [[kind, make(kernel)]];
    } catch (error) {
      process.stdout.write(`${what}, ${kind}: not run, because ${error.message}\n`);
      return [];
    }
  });
  let there = 0;
  for (const target of live) {
    const rows = {};
    for (const [kind, space] of spaces) {
      try {
        for (let n = there; n < target; n++) space.add(n);
      } catch (error) {
        process.stdout.write(`${what}, ${kind}: ${target} mappings: ${error.message}\n`);
        continue;
      }
      rows[kind] = { pair: cost(space.pair), ...(space.copy && { copy: cost(space.copy) }) };
    }
    there = target;
    for (const [kind, row] of Object.entries(rows)) {
      const cells = Object.entries(row).map(([name, us]) => {
        const beside = kind === 'sim' && rows.native ? ` (${(us / rows.native[name]).toFixed(2)} × real)` : '';
        return `${name} ${us.toFixed(1)} µs${beside}`;
      });
      process.stdout.write(`${what}, ${kind}, ${target} live: ${cells.join(', ')}\n`);
    }
  }
  for (const [kind, space] of spaces) {
    const started = performance.now();
    space.clear();
    process.stdout.write(`${what}, ${kind}: all undone in ${(performance.now() - started).toFixed(0)} ms\n`);
    space.close();
  }
}
