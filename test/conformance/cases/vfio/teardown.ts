/** Everything that holds a device, let go in many orders: by group with a container, by its own node with an iommufd. */
import type { Kernel } from 'kvio';
import {
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  iommu_ioas_alloc,
  iommu_ioas_map,
  iommu_ioas_map_file,
  KVM_CREATE_DEVICE,
  KVM_CREATE_VM,
  KVM_DEV_TYPE_VFIO,
  KVM_DEV_VFIO_FILE,
  KVM_DEV_VFIO_FILE_ADD,
  KVM_SET_DEVICE_ATTR,
  kvm_create_device,
  kvm_device_attr,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_FEATURE_DMA_BUF,
  VFIO_DEVICE_FEATURE_GET,
  VFIO_PCI_MSI_IRQ_INDEX,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
} from 'kvio/uapi';
import { type Case, NotHere, type Observer } from '../../case.ts';
import { bindToVfio, show, unbindFromVfio } from '../../parts.ts';
import {
  ASSISTED,
  attempt,
  cdevOf,
  feature,
  groupPath,
  join,
  mapDma,
  mapRegion,
  openDevice,
  setTrigger,
  u32s,
  u64s,
  withDevices,
} from '../../vfio.ts';

const IOVA = 0x100000n;

/** A piece of BAR 0 as a DMA-buf. */
function exported(kernel: Kernel, device: number): number {
  const head = u32s(40, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF, 0, 2, 0, 1);
  const fd = attempt(() => feature(kernel, device, join(head, u64s(0, 0x1000))));
  if (typeof fd === 'string') throw new NotHere('this kernel exports no DMA-bufs');
  return fd;
}

/** A VM’s KVM-VFIO device that holds the file. */
function kvmVfio(kernel: Kernel, file: number): number {
  const kvm = kernel.open('/dev/kvm');
  const vm = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
  const bytes = kvm_create_device.encode({ type: KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 });
  kernel.ioctl(vm, KVM_CREATE_DEVICE, bytes);
  const { fd } = kvm_create_device.decode(bytes);
  const memory = kernel.guestRam(4096);
  memory.write32(0, file);
  const attr = { flags: 0, group: KVM_DEV_VFIO_FILE, attr: BigInt(KVM_DEV_VFIO_FILE_ADD), addr: memory.address };
  kernel.ioctl(fd, KVM_SET_DEVICE_ATTR, kvm_device_attr.encode(attr));
  for (const each of [vm, kvm]) kernel.close(each);
  memory.close();
  return fd;
}

type Parts = Readonly<Record<string, () => void>>;

function byGroup(kernel: Kernel, address: string): Parts {
  const { container, group, device } = openDevice(kernel, address);
  const ram = kernel.guestRam(0x4000);
  mapDma(kernel, container, { vaddr: ram.address, iova: IOVA, size: 0x4000 });
  const bar = mapRegion(kernel, device, 0);
  mapDma(kernel, container, { vaddr: bar.address, iova: IOVA + 0x10000n, size: 0x1000 });
  const eventfd = kernel.eventfd();
  setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, eventfd);
  const files = { container, group, device, eventfd, 'dma-buf': exported(kernel, device), 'KVM-VFIO': kvmVfio(kernel, group) };
  return { ...closings(kernel, files), mapping: () => bar.close(), memory: () => ram.close() };
}

function byNode(kernel: Kernel, address: string): Parts {
  const iommufd = kernel.open('/dev/iommu');
  const device = kernel.open(cdevOf(kernel, address));
  const vfio = kvmVfio(kernel, device);
  const bind = vfio_device_bind_iommufd.encode({ argsz: 16, flags: 0, iommufd, out_devid: 0, token_uuid_ptr: 0n });
  kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, bind);
  const alloc = iommu_ioas_alloc.encode({ size: iommu_ioas_alloc.size, flags: 0, out_ioas_id: 0 });
  kernel.ioctl(iommufd, IOMMU_IOAS_ALLOC, alloc);
  const ioas_id = iommu_ioas_alloc.decode(alloc).out_ioas_id;
  const attach = vfio_device_attach_iommufd_pt.encode({ argsz: 12, flags: 0, pt_id: ioas_id, pasid: 0 });
  kernel.ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach);
  const ram = kernel.guestRam(0x4000);
  const flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
  const range = { flags, ioas_id };
  kernel.ioctl(
    iommufd,
    IOMMU_IOAS_MAP,
    iommu_ioas_map.encode({
      ...range,
      size: iommu_ioas_map.size,
      __reserved: 0,
      user_va: ram.address,
      length: 0x4000n,
      iova: 0n,
    }),
  );
  const bar = mapRegion(kernel, device, 0);
  const eventfd = kernel.eventfd();
  setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, eventfd);
  const buffer = exported(kernel, device);
  kernel.ioctl(
    iommufd,
    IOMMU_IOAS_MAP_FILE,
    iommu_ioas_map_file.encode({ ...range, size: iommu_ioas_map_file.size, fd: buffer, start: 0n, length: 0x1000n, iova: 0n }),
  );
  const files = { iommufd, device, eventfd, 'dma-buf': buffer, 'KVM-VFIO': vfio };
  return { ...closings(kernel, files), mapping: () => bar.close(), memory: () => ram.close() };
}

function closings(kernel: Kernel, files: Readonly<Record<string, number>>): Parts {
  return Object.fromEntries(Object.entries(files).map(([name, fd]) => [name, () => kernel.close(fd)]));
}

/** For each two of them an order that begins with the one and ends with the other, and the rest between them in turns. */
function* orders(names: readonly string[]): Generator<string[]> {
  for (const [i, first] of names.entries())
    for (const [j, last] of names.entries()) {
      if (first === last) continue;
      const rest = names.filter((name) => name !== first && name !== last);
      const turn = (i * names.length + j) % rest.length;
      yield [first, ...rest.slice(turn), ...rest.slice(0, turn), last];
    }
}

/** Who was the last to keep the group from being opened, what is still locked at the end, and whether the driver lets go then. */
const inOrders =
  (make: (kernel: Kernel, address: string) => Parts) =>
  (kernel: Kernel, see: Observer, [address]: string[]): void => {
    const path = groupPath(kernel, address!);
    const locked = (): string | undefined => show(kernel, '/proc/self/status').match(/^VmLck:\s*(.*)$/m)?.[1];
    const before = locked();
    const names = Object.entries(make(kernel, address!)).map(([name, close]) => {
      close();
      return name;
    });
    for (const order of orders(names)) {
      const parts = make(kernel, address!);
      let opensAfter: string | undefined;
      for (const name of order) {
        parts[name]!();
        const group = attempt(() => kernel.open(path));
        if (typeof group === 'number') kernel.close(group);
        opensAfter = typeof group === 'number' ? (opensAfter ?? name) : undefined;
      }
      see.note(order.join(', '), { 'the group opens after': opensAfter, 'locked as before': locked() === before });
    }
    unbindFromVfio(kernel, address!);
    see.note(
      'the driver lets go',
      attempt(() => kernel.open(path)),
    );
    bindToVfio(kernel, address!);
  };

const needs = { devices: ['/dev/vfio/vfio', '/dev/kvm'] };

export const teardownCases: readonly Case[] = [
  withDevices('vfio/teardown/by-group', 'Lifetimes', ['edu'], inOrders(byGroup), { needs: { ...ASSISTED.needs, ...needs } }),
  withDevices('vfio/teardown/by-node', 'Lifetimes', ['edu'], inOrders(byNode), {
    needs: { ...ASSISTED.needs, devices: [...needs.devices, '/dev/iommu'] },
  }),
];
