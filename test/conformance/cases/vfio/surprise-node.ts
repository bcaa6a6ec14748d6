/** A device bound to an iommufd, and a device of a guest, pulled out of its slot. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { startGuest } from '../../guest.ts';
import { FIXED, Iommufd, RW } from '../../iommufd.ts';
import { getRegs, setRegion, setRegs, UNSAFE } from '../../machine.ts';
import { bindToVfio, exists, pci } from '../../parts.ts';
import { nobody, SLOTS, Slot, untilPresent } from '../../slot.ts';
import {
  attempt,
  awaited,
  ConfigSpace,
  cdevOf,
  feature,
  join,
  mapRegion,
  openDevice,
  s32,
  setTrigger,
  u32s,
  u64s,
  view,
  withDevices,
} from '../../vfio.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;

const pause = (milliseconds = 50): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** BIND_IOMMUFD: what it returned, and the id it gave. */
function bind(kernel: Kernel, device: number, iommufd: Iommufd): { returned: string | number; id: number } {
  const bytes = join(u32s(24, 0), s32(iommufd.fd), u32s(0, 0, 0));
  const returned = attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_BIND_IOMMUFD, bytes, UNSAFE));
  return { returned, id: view(bytes).getUint32(12, true) };
}

/** ATTACH_IOMMUFD_PT: whether there is a table now, or the errno's name. */
function attach(kernel: Kernel, device: number, pt: number): string {
  const returned = attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_ATTACH_IOMMUFD_PT, u32s(12, 0, pt), UNSAFE));
  return returned === 0 ? 'a table' : String(returned);
}

const detach = (kernel: Kernel, device: number) =>
  attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_DETACH_IOMMUFD_PT, u32s(8, 0)));

/** The first page of BAR 0 as a dma-buf. */
function exported(kernel: Kernel, device: number): number {
  const get = u.VFIO_DEVICE_FEATURE_GET | u.VFIO_DEVICE_FEATURE_DMA_BUF;
  return feature(kernel, device, join(u32s(40, get, 0, u.O_CLOEXEC | u.O_RDWR, 0, 1), u64s(0, PAGE)));
}

const kind = (answer: bigint | number | string): string => (typeof answer === 'string' ? answer : 'done');

async function byNode(kernel: Kernel, see: Observer, [address, other]: string[]): Promise<void> {
  const cdev = cdevOf(kernel, address!);
  const [iommufd, device, unbound] = [new Iommufd(kernel), kernel.open(cdev), kernel.open(cdev)];
  const { id } = bind(kernel, device, iommufd);
  const [first, second] = [iommufd.ioas(), iommufd.ioas()];
  const ram = kernel.guestRam(0x4000);
  see.note('ATTACH', attach(kernel, device, first));
  const buffer = see.descriptor('a dma-buf', () => exported(kernel, device));
  const mapBuffer = (iova: bigint, fd = buffer) =>
    kind(iommufd.mapFile({ ioas_id: first, fd, start: 0n, length: PAGE, iova, flags: RW | FIXED }));
  see.note('memory mapped', kind(iommufd.mapAt(first, ram.address, IOVA, PAGE)));
  see.note('the dma-buf mapped', mapBuffer(IOVA + PAGE));
  const [irq, request] = [0, 0].map(() => kernel.eventfd(0, u.EFD_NONBLOCK)) as [number, number];
  setTrigger(kernel, device, u.VFIO_PCI_MSI_IRQ_INDEX, irq);
  setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request);

  new Slot(kernel, address!).pull();
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  see.note('its node', exists(kernel, cdev));
  see.note(
    'GET_INFO',
    attempt(() => kernel.ioctl(device, u.VFIO_DEVICE_GET_INFO, u32s(16, 0, 0, 0))),
  );
  see.note('ids', Buffer.from(new ConfigSpace(kernel, device).bytes(0, 4)).toString('hex'));
  see.note('BIND of another descriptor', bind(kernel, unbound, iommufd).returned);
  see.note('GET_HW_INFO', iommufd.call(u.IOMMU_GET_HW_INFO, u.iommu_hw_info, { dev_id: id }).returned);
  see.note('HWPT_ALLOC', typeof iommufd.hwpt({ dev_id: id, pt_id: second }) === 'number');
  see.note('ATTACH to another', attach(kernel, device, second));
  see.note('ATTACH back', attach(kernel, device, first));
  see.note('memory mapped, without it', kind(iommufd.mapAt(first, ram.address, IOVA + 4n * PAGE, PAGE)));
  see.note('memory unmapped', iommufd.unmap(first, IOVA + 4n * PAGE, PAGE));
  see.note('the dma-buf mapped again', mapBuffer(IOVA + 2n * PAGE));
  const late = see.descriptor('another dma-buf', () => exported(kernel, device));
  see.note('it is mapped', late < 0 ? 'none' : mapBuffer(IOVA + 3n * PAGE, late));
  see.note('DETACH', detach(kernel, device));
  see.note('DETACH, again', detach(kernel, device));
  see.note('ATTACH, detached', attach(kernel, device, first));

  kernel.close(device);
  await pause();
  see.note('closed, a descriptor bound to nothing left: in /sys', exists(kernel, pci(address!)));
  kernel.close(unbound);
  see.note('closed: in /sys', await untilPresent(kernel, address!, false));
  see.note('the dma-buf mapped, without the device', mapBuffer(IOVA + 5n * PAGE));
  see.note('its mapping unmapped', iommufd.unmap(first, IOVA + PAGE, PAGE));
  see.note('memory of before unmapped', iommufd.unmap(first, IOVA, PAGE));
  see.note('its id', iommufd.destroy(id));
  bindToVfio(kernel, other!);
  const another = kernel.open(cdevOf(kernel, other!));
  see.note('another device: BIND', bind(kernel, another, iommufd).returned);
  see.note('another device: ATTACH', attach(kernel, another, first));
  kernel.close(another);
  see.note('both IOASes', [iommufd.destroy(first), iommufd.destroy(second)]);
}

/** A node opened and bound to nothing keeps the device, and cannot be bound any more. */
async function unboundNode(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const cdev = cdevOf(kernel, address!);
  const device = kernel.open(cdev);
  new Slot(kernel, address!).pull();
  await pause(500);
  see.note('in /sys', exists(kernel, pci(address!)));
  see.note('its node', exists(kernel, cdev));
  see.note('BIND', bind(kernel, device, new Iommufd(kernel)).returned);
  kernel.close(device);
  see.note('closed: in /sys', await untilPresent(kernel, address!, false));
}

/** Beyond the guest's RAM. */
const WINDOW = 0x1_0000n;

/** With DS at 0x10000: EAX from the BAR, EBX to it, ECX from it. */
const code = [0x66, 0xa1, 0, 0, 0x66, 0x89, 0x1e, 4, 0, 0x66, 0x8b, 0x0e, 4, 0, 0xf4];

/** Its BAR is a memslot of the guest, its interrupt an eventfd of KVM, and KVM holds its file. */
async function ofGuest(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { container, group, device } = openDevice(kernel, address!);
  const bar = mapRegion(kernel, device, 0);
  const request = kernel.eventfd(0, u.EFD_NONBLOCK);
  setTrigger(kernel, device, u.VFIO_PCI_REQ_IRQ_INDEX, request);
  const guest = startGuest(kernel, code, {
    sregs: (sregs) => Object.assign(sregs.ds, { base: WINDOW, selector: 0x1000 }),
  });
  setRegion(kernel, guest.vm, { slot: 1, flags: 0, guest_phys_addr: WINDOW, memory_size: PAGE, userspace_addr: bar.address });
  const go = (label: string): void => {
    setRegs(kernel, guest.vcpu, { rip: guest.entry, rax: 0n, rbx: 0x1234n, rcx: 0n });
    see.call(label, () => kernel.run(guest.vcpu, { budget: 20_000 }));
    const { rax, rcx } = getRegs(kernel, guest.vcpu);
    see.note(
      `${label}: what it read`,
      [rax, rcx].map((word) => nobody(Number(word))),
    );
    see.note(`${label}: exit`, guest.run.get('exit_reason'));
  };
  const made = u.kvm_create_device.encode({ type: u.KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(guest.vm, u.KVM_CREATE_DEVICE, made);
  const kvmVfio = u.kvm_create_device.decode(made).fd;
  const memory = kernel.guestRam(4096);
  memory.write32(0, device);
  const args = { flags: 0, group: u.KVM_DEV_VFIO_FILE, attr: BigInt(u.KVM_DEV_VFIO_FILE_ADD), addr: memory.address };
  see.call('KVM holds the device', () => kernel.ioctl(kvmVfio, u.KVM_SET_DEVICE_ATTR, u.kvm_device_attr.encode(args)));
  go('a guest that uses it');
  new Slot(kernel, address!).pull();
  see.note('asked to go', (await awaited(kernel, request)) > 0);
  go('without the device');
  setRegion(kernel, guest.vm, { slot: 1, flags: 0, guest_phys_addr: WINDOW, memory_size: 0n, userspace_addr: bar.address });
  bar.close();
  for (const fd of [group, container, device]) kernel.close(fd);
  await pause();
  see.note('closed, KVM has it: in /sys', exists(kernel, pci(address!)));
  kernel.close(kvmVfio);
  see.note('the KVM-VFIO device closed: in /sys', await untilPresent(kernel, address!, false));
}

export const nodeSurpriseCases: readonly Case[] = [
  withDevices('vfio/surprise/by-node', 'Surprise removal', ['e1000e', 'second edu'], byNode, {
    needs: { ...SLOTS.needs, devices: ['/dev/iommu'] },
  }),
  withDevices('vfio/surprise/unbound-node', 'Surprise removal', ['express edu'], unboundNode, {
    needs: { ...SLOTS.needs, devices: ['/dev/iommu'] },
  }),
  withDevices('vfio/surprise/of-a-guest', 'Surprise removal', ['express edu'], ofGuest, SLOTS),
];
