// A device that is pulled out while it is used. Its user hears of it by the REQ eventfd, what he holds goes on to answer, and nothing is left when he has let go.
import { expect, it } from 'vitest';
import { Deadlock } from '../../../src/kernel/errors.ts';
import type { Edu } from '../../../src/sim/hardware/models/edu.ts';
import type { SimKernel } from '../../../src/sim/index.ts';
import * as u from '../../../src/uapi/index.ts';
import { answer, join, P, words } from './kit.ts';
import { type Assigned, assign, EDU, lab, NVME } from './pci/kit.ts';

const EVENTFD = u.VFIO_IRQ_SET_DATA_EVENTFD | u.VFIO_IRQ_SET_ACTION_TRIGGER;
const NONE = u.VFIO_IRQ_SET_DATA_NONE | u.VFIO_IRQ_SET_ACTION_TRIGGER;
const IOVA = 0x10_0000;
const MILLISECOND = 1_000_000n;

function map({ kernel, container }: Assigned, vaddr: bigint, iova: number): unknown {
  return answer(() => kernel.ioctl(container, u.VFIO_IOMMU_MAP_DMA, join(words(4, 32, 3), words(8, vaddr, iova, P))));
}

function unmap({ kernel, container }: Assigned, iova: number): unknown {
  return answer(() => kernel.ioctl(container, u.VFIO_IOMMU_UNMAP_DMA, join(words(4, 24, 0), words(8, iova, P))));
}

/** 2 KiB of edu’s buffer to memory, with an interrupt at the end. */
function transfer(device: Assigned): void {
  const registers = [0x40000, 0, IOVA, 0, 0x800, 0, 7];
  for (const [i, value] of registers.entries()) device.write(0x80 + 4 * i, Buffer.from(words(4, value)).toString('hex'));
}

function expectNothingLeft(kernel: SimKernel, device: Assigned, bdf: string): void {
  for (const fd of [device.fd, device.group, device.container]) kernel.close(fd);
  expect(kernel.process.system.pci.find(bdf)).toBeUndefined();
  expect(kernel.process.mm.lockedVm).toBe(0);
  expect(kernel.readdir('/sys/class/vfio-dev')).toEqual([]);
  expect(kernel.process.system.pci.vectors.all()).toEqual([]);
}

it('while it transfers: nothing comes any more, mappings can be made and undone', () => {
  const kernel = lab();
  const device = assign(kernel, EDU);
  device.setConfig(4, '0600');
  const ram = kernel.guestRam(P);
  expect(map(device, ram.address, IOVA)).toBe(0);
  const [done, request] = [device.eventfd(), device.eventfd()];
  device.setIrqs(EVENTFD, u.VFIO_PCI_MSI_IRQ_INDEX, 0, 1, [done.fd]);
  device.setIrqs(EVENTFD, u.VFIO_PCI_REQ_IRQ_INDEX, 0, 1, [request.fd]);
  const edu = kernel.pci(EDU) as Edu;
  edu.buffer.fill(0x5a);
  transfer(device);
  kernel.unplug(edu);
  kernel.process.system.runner.spend(1000n * MILLISECOND);
  expect([request.taken() > 0, done.taken(), ram.read8(0)]).toEqual([true, 0, 0]);
  expect([device.config(8, 4), device.read(0, 4)]).toEqual(['ffffffff', 'ffffffff']);
  transfer(device);
  kernel.process.system.runner.spend(1000n * MILLISECOND);
  expect([done.taken(), ram.read8(0)]).toEqual([0, 0]);
  expect([map(device, ram.address, IOVA), map(device, ram.address, IOVA + 0x1000)]).toEqual(['EEXIST', 0]);
  expect([unmap(device, IOVA), unmap(device, IOVA + 0x1000)]).toEqual([0, 0]);
  expectNothingLeft(kernel, device, EDU);
});

it.each([EDU, NVME])('between any two SET_IRQS: each has an answer, and no interrupt stays: %s', (bdf) => {
  const on = (index: number) => (device: Assigned, fd: number) => device.setIrqs(EVENTFD, index, 0, 1, [fd]);
  const off = (index: number) => (device: Assigned) => device.setIrqs(NONE, index, 0, 0);
  const fire = (index: number) => (device: Assigned) => device.setIrqs(NONE, index, 0, 1);
  const message = bdf === EDU ? u.VFIO_PCI_MSI_IRQ_INDEX : u.VFIO_PCI_MSIX_IRQ_INDEX;
  const { VFIO_PCI_INTX_IRQ_INDEX: intx, VFIO_PCI_REQ_IRQ_INDEX: req } = u;
  const steps = [on(intx), fire(intx), off(intx), on(message), fire(message), on(message), on(req), fire(req), off(message)];
  for (let when = 0; when <= steps.length; when++) {
    const kernel = lab();
    const device = assign(kernel, bdf);
    const { fd } = device.eventfd();
    for (const [at, step] of steps.entries()) {
      if (at === when) kernel.unplug(kernel.pci(bdf)!);
      const result = step(device, fd);
      if (at < when) expect(result, `step ${at}`).toBe(0);
      else expect(result, `step ${at} without the device`).toSatisfy((one) => one === 0 || typeof one === 'string');
    }
    if (when === steps.length) kernel.unplug(kernel.pci(bdf)!);
    expectNothingLeft(kernel, device, bdf);
  }
});

it('while somebody waits for an interrupt that never comes: that is told, and no process hangs', async () => {
  const kernel = lab();
  const device = assign(kernel, EDU);
  const [fd, request] = [kernel.eventfd(), kernel.eventfd()];
  device.setIrqs(EVENTFD, u.VFIO_PCI_MSI_IRQ_INDEX, 0, 1, [fd]);
  device.setIrqs(EVENTFD, u.VFIO_PCI_REQ_IRQ_INDEX, 0, 1, [request]);
  const edu = kernel.pci(EDU) as Edu;
  edu.after(MILLISECOND, () => kernel.unplug(edu));
  const count = new Uint8Array(8);
  // The one who waits for the request to go is woken by the removal itself.
  expect([kernel.read(request, count), count[0]]).toEqual([8, 1]);
  device.setIrqs(NONE, u.VFIO_PCI_REQ_IRQ_INDEX, 0, 0);
  expect(() => kernel.read(fd, count)).toThrow(Deadlock);
  const stop = new AbortController();
  const wait = kernel.waitAsync(fd, u.POLLIN, { signal: stop.signal });
  stop.abort();
  await expect(wait).rejects.toThrow();
  expectNothingLeft(kernel, device, EDU);
});
