import { describe, expect, it } from 'vitest';
import type { Memory } from '../../../src/kernel/memory.ts';
import type { VmFile } from '../../../src/sim/kvm/vm.ts';
import * as u from '../../../src/uapi/index.ts';
import { type Guest, Kit } from '../kvm/kit.ts';
import { answer, join, P, words } from './kit.ts';
import { type Assigned, assign, E1000E, EDU, groupOf, openDevice, taken } from './pci/kit.ts';

const EDU_ID = 0x0100_00ed;
const BAR0 = 0n;
const COMMAND = 4;

/** A guest that loads EAX from 0x8000 and stores it to 0x8004, then halts. */
const loadAndStore = [0x66, 0xa1, 0x00, 0x80, 0x66, 0xa3, 0x04, 0x80, 0xf4];

interface Rig {
  readonly kit: Kit;
  readonly device: Assigned;
  readonly guest: Guest;
  readonly bar: Memory;
}

/** BAR0 of edu at guest address 0x8000. */
function rig(code: readonly number[] = loadAndStore, flags = 0): Rig {
  const kit = new Kit({ machine: 'lab-vtd-7.2' });
  const device = assign(kit.kernel, EDU);
  const guest = kit.guest(code);
  const bar = kit.kernel.mmap({ fd: device.fd, length: P, offset: BAR0, flags: u.MAP_SHARED });
  expect(kit.region(guest.vm, { slot: 1, flags, gpa: 0x8000n, size: 0x1000n, hva: bar.address })).toBe(0);
  return { kit, device, guest, bar };
}

describe('a BAR in a memslot', () => {
  it('is reached without an exit, by accesses of exact width', () => {
    const { guest, bar } = rig();
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(guest.rax).toBe(BigInt(EDU_ID));
    expect(bar.read32(4)).toBe(~EDU_ID >>> 0);
  });

  it('cannot be faulted in while memory decode is off', () => {
    const { guest, device } = rig();
    device.setConfig(COMMAND, '0000');
    expect(guest.step()).toEqual(['EFAULT', 0]);
    device.setConfig(COMMAND, '0200');
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    expect(guest.rax).toBe(BigInt(EDU_ID));
  });

  it('of a read-only slot: stores are exits', () => {
    const { guest } = rig(loadAndStore, u.KVM_MEM_READONLY);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_MMIO]);
    expect(guest.rax).toBe(BigInt(EDU_ID));
  });

  it('outlives the descriptors, and closing its Memory, which the slot keeps', () => {
    const { kit, guest, device, bar } = rig([...loadAndStore, 0xeb, 0xf5]);
    kit.kernel.close(device.fd);
    kit.kernel.close(device.group);
    kit.kernel.close(device.container);
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    bar.close();
    expect(guest.step()).toEqual([0, u.KVM_EXIT_HLT]);
    kit.region(guest.vm, { slot: 1, gpa: 0x8000n, size: 0n });
    expect(guest.step()).toEqual([0, u.KVM_EXIT_MMIO]);
    expect(kit.kernel.open(`/dev/vfio/${groupOf(kit.kernel, EDU)}`)).toBeGreaterThan(0);
  });

  it('the kernel copies from and to it, by eight bytes', () => {
    const { kit, bar } = rig();
    const { mm } = kit.kernel.process;
    // The source address of edu's DMA.
    expect(mm.write64(bar.address + 0x80n, 0x1_2345_6789n)).toBe(true);
    expect(bar.read64(0x80)).toBe(0x1_2345_6789n);
    expect(mm.read64(bar.address + 0x80n)).toBe(0x1_2345_6789n);
  });
});

describe('KVM_DEV_TYPE_VFIO', () => {
  const attach = (kit: Kit, vm: number): number => {
    const bytes = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
    kit.kernel.ioctl(vm, u.KVM_CREATE_DEVICE, bytes);
    return u.kvm_create_device.decode(bytes).fd;
  };
  const file = ({ kernel }: Kit, fd: number, attr: number, which: number): unknown => {
    const memory = kernel.guestRam(P);
    memory.write32(0, which >>> 0);
    const arg = u.kvm_device_attr.encode({ flags: 0, group: u.KVM_DEV_VFIO_FILE, attr: BigInt(attr), addr: memory.address });
    return answer(() => kernel.ioctl(fd, u.KVM_SET_DEVICE_ATTR, arg));
  };

  it('takes groups and devices, holds them, and hears whether their IOMMU enforces coherency', () => {
    const kit = new Kit({ machine: 'lab-vtd-7.2' });
    const { kernel } = kit;
    const device = assign(kernel, EDU);
    const vm = kit.vm();
    const inside = (kernel.process.fds.get(vm) as VmFile).vm;
    const vfio = attach(kit, vm);
    const { KVM_DEV_VFIO_FILE_ADD: ADD, KVM_DEV_VFIO_FILE_DEL: DEL } = u;
    expect(file(kit, vfio, ADD, device.container)).toBe('EINVAL');
    expect(file(kit, vfio, ADD, device.group)).toBe(0);
    expect(file(kit, vfio, ADD, device.group)).toBe('EEXIST');
    expect(inside.noncoherentDma).toBe(1);
    const number = groupOf(kernel, EDU);
    device.close();
    kernel.close(device.group);
    expect(answer(() => kernel.open(`/dev/vfio/${number}`))).toBe('EBUSY');
    kernel.close(vfio);
    expect(inside.noncoherentDma).toBe(0);
    expect(answer(() => kernel.open(`/dev/vfio/${number}`))).toBeGreaterThan(0);
    expect(file(kit, attach(kit, vm), DEL, device.container)).toBe('ENOENT');
  });

  it('a device holds the VM from its first open to its last close', () => {
    const kit = new Kit({ machine: 'lab-vtd-7.2' });
    const { kernel } = kit;
    const device = assign(kernel, EDU);
    const vm = kit.vm();
    const inside = (kernel.process.fds.get(vm) as VmFile).vm;
    const vfio = attach(kit, vm);
    file(kit, vfio, u.KVM_DEV_VFIO_FILE_ADD, device.group);
    // The device is open already: it does not learn of the VM before it has been closed.
    kernel.close(vfio);
    kernel.close(vm);
    expect(inside.alive).toBe(false);
    const second = kit.vm();
    const other = (kernel.process.fds.get(second) as VmFile).vm;
    const again = attach(kit, second);
    file(kit, again, u.KVM_DEV_VFIO_FILE_ADD, device.group);
    device.close();
    const reopened = openDevice(kernel, device.group, EDU);
    kernel.close(again);
    kernel.close(second);
    expect(other.alive).toBe(true);
    kernel.close(reopened);
    expect(other.alive).toBe(false);
  });
});

describe('KVM_IRQFD', () => {
  it('a device’s MSI reaches the guest by an eventfd', () => {
    const kit = new Kit({ machine: 'lab-vtd-7.2' });
    const { kernel } = kit;
    const device = assign(kernel, EDU);
    const vm = kit.vm();
    kernel.ioctl(vm, u.KVM_CREATE_IRQCHIP);
    const event = device.eventfd();
    const irqfd = u.kvm_irqfd.encode({ fd: event.fd, gsi: 5, flags: 0, resamplefd: 0 });
    kernel.ioctl(vm, u.KVM_IRQFD, irqfd);
    const pending = (): number => {
      const bytes = u.kvm_irqchip.alloc();
      u.kvm_irqchip.view(bytes).chip_id = u.KVM_IRQCHIP_PIC_MASTER;
      kernel.ioctl(vm, u.KVM_GET_IRQCHIP, bytes);
      return bytes[8 + 1]!;
    };
    expect(device.setIrqs(u.VFIO_IRQ_SET_DATA_EVENTFD | u.VFIO_IRQ_SET_ACTION_TRIGGER, 1, 0, 1, [event.fd])).toBe(0);
    const bar = kernel.mmap({ fd: device.fd, length: P, offset: BAR0, flags: u.MAP_SHARED });
    bar.write32(0x60, 1);
    const before = pending();
    device.setConfig(COMMAND, '0600');
    bar.write32(0x64, 1);
    bar.write32(0x60, 1);
    expect([before & 0x20, pending() & 0x20]).toEqual([0, 0x20]);
    expect(taken(kernel, event.fd)).toBe(0);
  });
});

describe('peer-to-peer', () => {
  it('one device reaches the BAR of another through a mapping of it, also after its decode is off', () => {
    const kit = new Kit({ machine: 'lab-vtd-7.2' });
    const { kernel } = kit;
    const device = assign(kernel, EDU);
    const bar = kernel.mmap({ fd: device.fd, length: P, offset: BAR0, flags: u.MAP_SHARED });
    const map = (): unknown =>
      answer(() =>
        kernel.ioctl(device.container, u.VFIO_IOMMU_MAP_DMA, join(words(4, 32, 3), words(8, bar.address, 0x10000, P))),
      );
    device.setConfig(COMMAND, '0000');
    expect(map()).toBe('EFAULT');
    device.setConfig(COMMAND, '0200');
    expect(map()).toBe(0);
    expect(kernel.process.mm.lockedVm).toBe(0);
    const other = assign(kernel, E1000E);
    expect(other.fd).toBeGreaterThan(0);
    const unmap = join(words(4, 24, 0), words(8, 0x10000, P));
    expect(answer(() => kernel.ioctl(device.container, u.VFIO_IOMMU_UNMAP_DMA, unmap))).toBe(0);
  });
});
