#!/usr/bin/env node
// node scripts/bench/vfio.mjs [--quick]: what a device costs through VFIO: registers by pread(2) and mapped, a page mapped and unmapped, an interrupt up to the program
// that waits for it. C (vfio.c) and the addon on two edu of the lab, and the simulator beside them: `npm run lab -- node scripts/bench/vfio.mjs`. Elsewhere the simulator alone.
import { ensureOrExit } from '../ensure.mjs';
import { openProgram } from './baseline.mjs';
import { median } from './statistics.mjs';

await ensureOrExit();
const { bindDriver, openKernel, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, pciDevice, VfioContainer, VfioGroup } = await import(
  'kvio'
);
const { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_TYPE1v2_IOMMU } = await import('kvio/uapi');

const PAGE = 0x1000n;
const FIRST = 0x1_0000_0000n;
const [EDU, SECOND] = ['0000:00:02.0', '0000:00:03.0'];
const ID = 0x010000ed;
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const LIVE = 1000;
const rounds = process.argv.includes('--quick') ? 25 : 201;

/** Nanoseconds of one of `count` turns of `work`, which says of each whether it did what it is measured for. */
function timed(count, work) {
  let done = 0;
  const start = process.hrtime.bigint();
  for (let index = 0; index < count; index++) if (work()) done++;
  const spent = Number(process.hrtime.bigint() - start) / count;
  if (done !== count) throw new Error('a call did not do what it is measured for');
  return spent;
}

/** An edu through the package, as a program would use it. */
function openEdu(kernel) {
  const bound = bindDriver(kernel, EDU, 'vfio-pci');
  const container = VfioContainer.open(kernel);
  const group = VfioGroup.open(kernel, pciDevice(kernel, EDU).vfio_group);
  group.setContainer(container);
  container.setIommu(VFIO_TYPE1v2_IOMMU);
  const device = group.getDeviceFd(EDU);
  device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  const region = device.region(VFIO_PCI_BAR0_REGION_INDEX);
  const bar = region.mmap();
  const memory = kernel.guestRam(PAGE);
  const [interrupt] = device.irqs(VFIO_PCI_MSI_IRQ_INDEX).enable();
  const pair = () => {
    container.mapDma({ memory, iova: FIRST - PAGE });
    return container.unmapDma({ iova: FIRST - PAGE, size: PAGE }) === PAGE;
  };
  return {
    pread: (count) => timed(count, () => region.read32(0) === ID),
    load: (count) => timed(count, () => bar.read32(0) === ID),
    map: (count) => timed(count, pair),
    async irq(count) {
      const start = process.hrtime.bigint();
      for (let index = 0; index < count; index++) {
        bar.write32(RAISE, 1);
        if ((await interrupt.wait()) !== 1n) throw new Error('an interrupt that came twice');
        bar.write32(ACKNOWLEDGE, 1);
      }
      return Number(process.hrtime.bigint() - start) / count;
    },
    live(count) {
      for (let n = 0; n < count; n++) container.mapDma({ memory, iova: FIRST + BigInt(n) * 2n * PAGE });
    },
    close() {
      for (const each of [interrupt, bar, device, group, container]) each.close();
      bound.restore();
      kernel.close();
    },
  };
}

/** The real kernel’s edu by the addon, and the other one by C; or why not. */
async function openReal() {
  try {
    const kernel = openKernel({ kernel: 'native', devices: ['/dev/vfio/vfio'] });
    const edu = openEdu(kernel);
    const bound = bindDriver(kernel, SECOND, 'vfio-pci');
    const c = await openProgram('vfio.c', 'vfio', [pciDevice(kernel, SECOND).vfio_group, SECOND], 'pread');
    if (c.reason !== undefined) throw new Error(c.reason);
    const by = (what) => (count) => c.measure(what, count);
    return {
      C: { ...Object.fromEntries(['pread', 'load', 'map', 'irq', 'live'].map((what) => [what, by(what)])), close: () => {} },
      'C, woken by a thread': { irq: by('thread'), close: () => {} },
      addon: {
        ...edu,
        async close() {
          await c.stop();
          bound.restore();
          edu.close();
        },
      },
    };
  } catch (error) {
    process.stdout.write(`C and the addon: not run, because ${error.message}\n`);
    return {};
  }
}

const contestants = {
  ...(await openReal()),
  simulator: openEdu(openKernel({ kernel: 'sim', devices: ['/dev/vfio/vfio'], machine: 'lab-vtd-7.2' })),
};

const columns = [
  { name: 'pread of 4 bytes', what: 'pread' },
  { name: 'mapped access', what: 'load' },
  { name: 'MAP and UNMAP', what: 'map' },
  { name: `the same, ${LIVE} live`, what: 'map', live: LIVE },
  { name: 'interrupt', what: 'irq' },
];

/** Nanoseconds of everybody’s turns: short enough that most are not interrupted, and of the same length, so that all suffer alike from what else the machine does. */
const TURN = 1_000_000;
/** Optimized code before the first round; an interrupt wakes threads, which takes long on an emulated machine. */
const WARM = { pread: 2000, load: 2000, map: 2000, irq: 200 };

/** Medians over the rounds, in nanoseconds, and of the ratios to C within each round. */
async function measure({ what, live }) {
  const present = [];
  for (const [name, each] of Object.entries(contestants)) {
    if (each[what] === undefined) continue;
    if (live !== undefined) await each.live(live);
    await each[what](WARM[what]);
    const once = median([await each[what](3), await each[what](3), await each[what](3)]);
    present.push({ name, turn: each[what], count: Math.min(5_000, Math.max(1, Math.round(TURN / once))), samples: [] });
  }
  for (let round = 0; round < rounds; round++) for (const each of present) each.samples.push(await each.turn(each.count));
  const base = present.find(({ name }) => name === 'C')?.samples;
  return present.map(({ name, samples }) => {
    const ratio = base && median(samples.map((value, round) => value / base[round]));
    return { name, ns: median(samples), ratio };
  });
}

const show = ({ ns, ratio }) => {
  const time = ns < 10_000 ? `${ns.toFixed(0)} ns` : `${(ns / 1000).toFixed(1)} µs`;
  return ratio === undefined ? time : `${time} (${ratio.toFixed(2)} × C)`;
};

for (const column of columns) {
  const cells = (await measure(column)).map((cell) => `${cell.name} ${show(cell)}`);
  process.stdout.write(`${column.name}: ${cells.join(', ')}\n`);
}
for (const each of Object.values(contestants)) await each.close();
