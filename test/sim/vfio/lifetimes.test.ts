import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SimKernel } from '../../../src/sim/index.ts';
import * as u from '../../../src/uapi/index.ts';
import { Kit } from '../kvm/kit.ts';
import { answer, join, P, words } from './kit.ts';
import { type Assigned, assign, EDU, groupOf, NVME, store } from './pci/kit.ts';

/** BAR0 of the NVMe controller, as a dma-buf. */
function dmaBuf({ fd, kernel }: Assigned): number {
  const range = join(words(4, 0, u.O_RDWR | u.O_CLOEXEC, 0, 1), words(8, 0, P));
  const head = words(4, 8 + range.length, u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF);
  return kernel.ioctl(fd, u.VFIO_DEVICE_FEATURE, join(head, range));
}

function kvmVfio(kit: Kit, group: number): { vm: number; device: number } {
  const { kernel } = kit;
  const vm = kit.vm();
  const bytes = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(vm, u.KVM_CREATE_DEVICE, bytes);
  const { fd: device } = u.kvm_create_device.decode(bytes);
  const memory = kernel.guestRam(P);
  memory.write32(0, group);
  const attr = { flags: 0, group: u.KVM_DEV_VFIO_FILE, attr: BigInt(u.KVM_DEV_VFIO_FILE_ADD), addr: memory.address };
  kernel.ioctl(device, u.KVM_SET_DEVICE_ATTR, u.kvm_device_attr.encode(attr));
  return { vm, device };
}

/** Everything that can hold a device, each with how it is let go. */
function everything(kit: Kit): { device: Assigned; parts: Record<string, () => void> } {
  const { kernel } = kit;
  const device = assign(kernel, NVME);
  const { container, group } = device;
  const ram = kernel.guestRam(4 * P);
  const map = (vaddr: bigint, iova: number, length: number): number =>
    kernel.ioctl(container, u.VFIO_IOMMU_MAP_DMA, join(words(4, 32, 3), words(8, vaddr, iova, length)));
  map(ram.address, 0, 4 * P);
  const bar = kernel.mmap({ fd: device.fd, length: P, offset: 0n, flags: u.MAP_SHARED, view: false });
  map(bar.address, 0x10000, P);
  const vector = kernel.eventfd();
  device.setIrqs(u.VFIO_IRQ_SET_DATA_EVENTFD | u.VFIO_IRQ_SET_ACTION_TRIGGER, u.VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, [vector]);
  const buffer = dmaBuf(device);
  const { vm, device: vfio } = kvmVfio(kit, group);
  const fds = { container, group, device: device.fd, eventfd: vector, 'dma-buf': buffer, VM: vm, 'KVM-VFIO': vfio };
  const parts: Record<string, () => void> = { memory: () => ram.close(), mapping: () => bar.close() };
  for (const [name, fd] of Object.entries(fds)) parts[name] = () => kernel.close(fd);
  return { device, parts };
}

/** The group is free, nothing is locked, and the host's driver gets the device. */
function expectNothingHeld(kernel: SimKernel, bdf: string): void {
  const { pci } = kernel.process.system;
  const dev = pci.find(bdf)!;
  expect({ viable: dev.iommuGroup!.viable, domain: dev.iommuGroup!.domain }).toEqual({ viable: true, domain: 'default' });
  expect(kernel.process.mm.lockedVm).toBe(0);
  expect([dev.enableCount, dev.irq.allocated]).toEqual([0, 0]);
  const group = kernel.open(`/dev/vfio/${groupOf(kernel, bdf)}`);
  kernel.close(group);
  expect(store(kernel, '/sys/bus/pci/drivers/vfio-pci/unbind', bdf)).toBe(bdf.length);
  expect(dev.driver).toBeUndefined();
}

const names = ['memory', 'mapping', 'container', 'group', 'device', 'eventfd', 'dma-buf', 'VM', 'KVM-VFIO'];

describe('teardown', () => {
  it('in any order leaves nothing behind', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(names, { minLength: names.length }), (order) => {
        const kit = new Kit({ machine: 'lab-vtd-7.2' });
        const { parts } = everything(kit);
        for (const name of order) parts[name]!();
        expectNothingHeld(kit.kernel, NVME);
      }),
      { numRuns: 40 },
    );
  });

  it('of a device that was pulled, too, whenever that was', () => {
    const order = fc.tuple(fc.shuffledSubarray(names, { minLength: names.length }), fc.nat(names.length));
    fc.assert(
      fc.property(order, ([order, when]) => {
        const kit = new Kit({ machine: 'lab-vtd-7.2' });
        const { kernel } = kit;
        const { parts, device } = everything(kit);
        const fn = kernel.pci(NVME)!;
        const number = groupOf(kernel, NVME);
        const open = new Set(order);
        for (const [at, name] of [...order, ''].entries()) {
          if (at === when) {
            kernel.unplug(fn);
            if (open.has('device')) {
              expect(device.config(8, 4)).toBe('ffffffff');
            }
          }
          parts[name]?.();
          open.delete(name);
        }
        expect(kernel.process.mm.lockedVm).toBe(0);
        expect(kernel.process.system.pci.find(NVME)).toBeUndefined();
        expect(answer(() => kernel.open(`/dev/vfio/${number}`))).toBe('ENOENT');
        expect(kernel.readdir('/sys/class/vfio-dev')).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });

  it('a process that exits lets go of everything', () => {
    const kit = new Kit({ machine: 'lab-vtd-7.2' });
    const { process } = kit.kernel;
    const group = process.system.pci.find(EDU)!.iommuGroup!;
    assign(kit.kernel, EDU);
    everything(kit);
    process.exit();
    expect([group.viable, process.mm.lockedVm]).toEqual([true, 0]);
  });
});
