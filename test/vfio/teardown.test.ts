// Everything a driver holds, given back in every order: the group can be opened again, the driver let go, and no descriptor is left.
import { bindDriver, Eventfd, type Kernel, VfioContainer, VfioGroup } from 'kvio';
import { openSim } from 'kvio/sim';
import { VFIO_PCI_MSIX_IRQ_INDEX, VFIO_TYPE1v2_IOMMU } from 'kvio/uapi';
import { expect, it } from 'vitest';
import { thrown } from './fake.ts';

const NVME = '0000:01:00.0';
const AQA = 0x24;

interface Closable {
  close(): void;
}

/** A device in use: registers mapped, memory mapped for it, a piece of it exported, an interrupt on. */
function inUse(kernel: Kernel, path: string): Record<string, Closable> {
  const container = VfioContainer.open(kernel);
  const group = VfioGroup.open(kernel, path);
  group.setContainer(container);
  container.setIommu(VFIO_TYPE1v2_IOMMU);
  const device = group.getDeviceFd(NVME);
  const ram = kernel.guestRam(0x2000);
  container.mapDma({ memory: ram, iova: 0x10_0000n });
  const bar = device.region(0).mmap({ length: 0x1000 });
  bar.write32(AQA, 0x0003_0003);
  const buffer = device.getDmaBuf({ region_index: 0, dma_ranges: [{ offset: 0n, length: 0x1000n }] });
  const eventfd = Eventfd.create(kernel);
  device.irqs(VFIO_PCI_MSIX_IRQ_INDEX).setTrigger([eventfd]);
  return { container, group, device, ram, bar, buffer, eventfd };
}

function* permutations<T>(of: readonly T[]): Generator<T[]> {
  if (of.length <= 1) yield [...of];
  else for (const [i, first] of of.entries()) for (const rest of permutations(of.toSpliced(i, 1))) yield [first, ...rest];
}

it('in every order', { timeout: 300_000 }, () => {
  const kernel = openSim({ machine: 'lab-vtd-7.2' });
  const descriptors = () => kernel.readdir('/proc/self/fd').length;
  const before = descriptors();
  const bound = bindDriver(kernel, NVME, 'vfio-pci');
  const path = bound.devices()[0]!.vfio_group!;
  // Of the seven, these five hold one another; what a dma-buf and an eventfd hold is closed with each in turn.
  const order = [...permutations(['container', 'group', 'device', 'ram', 'bar'])];
  expect(order.length).toBe(120);
  for (const [i, names] of order.entries()) {
    const held = inUse(kernel, path);
    const all = names.toSpliced(i % 6, 0, i % 2 ? 'buffer' : 'eventfd').toSpliced((i * 5) % 7, 0, i % 2 ? 'eventfd' : 'buffer');
    const deviceGone = Math.max(all.indexOf('device'), all.indexOf('bar'));
    for (const [at, name] of all.entries()) {
      // The device keeps the group open, and a mapping keeps the device open.
      if (at <= Math.max(deviceGone, all.indexOf('group')))
        expect(thrown(() => VfioGroup.open(kernel, path)).code, all.join()).toBe('EBUSY');
      held[name]!.close();
      held[name]!.close();
    }
    expect(descriptors(), all.join()).toBe(before);
    VfioGroup.open(kernel, path).close();
  }
  bound.restore();
  expect(bound.devices()[0]!.driver).toBeUndefined();
  kernel.close();
});

it('by the kernel alone, with everything open', () => {
  const kernel = openSim({ machine: 'lab-vtd-7.2' });
  const bound = bindDriver(kernel, NVME, 'vfio-pci');
  const { device } = inUse(kernel, bound.devices()[0]!.vfio_group!) as { device: Closable & { getInfo(): unknown } };
  kernel.close();
  expect(thrown(() => device.getInfo())).toMatchObject({ code: 'EBADF' });
  device.close();
});
