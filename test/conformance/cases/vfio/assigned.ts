/** The real edu, driven from this process: through VFIO's cdev and iommufd, through group and container, and without an IOMMU. */
import type { Kernel, Memory } from 'kvio';
import {
  IOMMU_DESTROY,
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_IOAS_UNMAP,
  iommu_destroy,
  iommu_ioas_alloc,
  iommu_ioas_map,
  iommu_ioas_unmap,
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_FLAGS_CONTAINER_SET,
  VFIO_GROUP_FLAGS_VIABLE,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_UNSET_CONTAINER,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_NOIOMMU_IOMMU,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_SET_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
  vfio_group_status,
  vfio_iommu_type1_dma_map,
  vfio_iommu_type1_dma_unmap,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { computes, copies, describe, interrupts, isLockedOut } from '../../edu.ts';
import { driverOf } from '../../parts.ts';
import { cdevOf, groupPath, setTrigger, withDevices } from '../../vfio.ts';

const IOVA = 0x100000n;
const LENGTH = 0x2000;

async function throughCdev(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  see.note('driver', driverOf(kernel, edu!));
  const iommufd = kernel.open('/dev/iommu');
  const device = kernel.open(cdevOf(kernel, edu!));

  const bind = vfio_device_bind_iommufd.encode({ argsz: 16, flags: 0, iommufd, out_devid: 0, token_uuid_ptr: 0n });
  see.call('DEVICE_BIND_IOMMUFD', () => kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, bind));
  see.note('device id', vfio_device_bind_iommufd.decode(bind).out_devid);
  see.call('DEVICE_BIND_IOMMUFD again', () => kernel.ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, bind));

  const alloc = iommu_ioas_alloc.encode({ size: iommu_ioas_alloc.size, flags: 0, out_ioas_id: 0 });
  see.call('IOAS_ALLOC', () => kernel.ioctl(iommufd, IOMMU_IOAS_ALLOC, alloc));
  const ioas_id = iommu_ioas_alloc.decode(alloc).out_ioas_id;
  see.note('IOAS id', ioas_id);
  const attach = vfio_device_attach_iommufd_pt.encode({
    argsz: 12,
    flags: 0,
    pt_id: ioas_id,
    pasid: 0,
  });
  see.call('DEVICE_ATTACH_IOMMUFD_PT', () => kernel.ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach));
  see.note('page table id', vfio_device_attach_iommufd_pt.decode(attach).pt_id);

  describe(kernel, see, device);
  const bar = await computes(kernel, see, device);
  const eventfd = await interrupts(kernel, see, device, bar);

  const ram = kernel.guestRam(LENGTH);
  const map = iommu_ioas_map.encode({
    size: iommu_ioas_map.size,
    flags: IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
    ioas_id,
    user_va: ram.address,
    length: BigInt(LENGTH),
    iova: IOVA,
  });
  see.call('IOAS_MAP', () => kernel.ioctl(iommufd, IOMMU_IOAS_MAP, map));
  await copies(kernel, see, bar, eventfd, ram, IOVA);
  const unmap = iommu_ioas_unmap.encode({ size: iommu_ioas_unmap.size, ioas_id, iova: IOVA, length: BigInt(LENGTH) });
  see.call('IOAS_UNMAP', () => kernel.ioctl(iommufd, IOMMU_IOAS_UNMAP, unmap));
  see.note('unmapped', iommu_ioas_unmap.decode(unmap).length);
  await isLockedOut(kernel, see, bar, eventfd, ram, IOVA);

  see.call('SET_IRQS, MSI off', () => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX));
  const destroy = iommu_destroy.encode({ size: iommu_destroy.size, id: ioas_id });
  see.call('DESTROY of the IOAS in use', () => kernel.ioctl(iommufd, IOMMU_DESTROY, destroy));
  const detach = vfio_device_detach_iommufd_pt.encode({ argsz: 8, flags: 0, pasid: 0 });
  see.call('DEVICE_DETACH_IOMMUFD_PT', () => kernel.ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, detach));
  see.call('DESTROY of the IOAS', () => kernel.ioctl(iommufd, IOMMU_DESTROY, destroy));
  bar.close();
}

function groupStatus(kernel: Kernel, group: number): { viable: boolean; container: boolean } {
  const bytes = vfio_group_status.encode({ argsz: vfio_group_status.size, flags: 0 });
  kernel.ioctl(group, VFIO_GROUP_GET_STATUS, bytes);
  const { flags } = vfio_group_status.decode(bytes);
  return { viable: (flags & VFIO_GROUP_FLAGS_VIABLE) !== 0, container: (flags & VFIO_GROUP_FLAGS_CONTAINER_SET) !== 0 };
}

/** Opens a container of this IOMMU type with the group in it, and the device. */
function openByGroup(kernel: Kernel, see: Observer, address: string, type: number) {
  const container = kernel.open('/dev/vfio/vfio');
  see.note('API version', kernel.ioctl(container, VFIO_GET_API_VERSION) === VFIO_API_VERSION);
  see.call('CHECK_EXTENSION', () => kernel.ioctl(container, VFIO_CHECK_EXTENSION, type));
  const group = kernel.open(groupPath(kernel, address));
  see.note('GROUP_GET_STATUS before', groupStatus(kernel, group));
  const containerBytes = new Uint8Array(Int32Array.of(container).buffer);
  see.call('GROUP_SET_CONTAINER', () => kernel.ioctl(group, VFIO_GROUP_SET_CONTAINER, containerBytes));
  see.note('GROUP_GET_STATUS in the container', groupStatus(kernel, group));
  see.call('SET_IOMMU', () => kernel.ioctl(container, VFIO_SET_IOMMU, type));
  const device = see.descriptor('GROUP_GET_DEVICE_FD', () =>
    kernel.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, Buffer.from(`${address}\0`)),
  );
  return { container, group, device };
}

function dmaMap(ram: Memory): Uint8Array {
  return vfio_iommu_type1_dma_map.encode({
    argsz: vfio_iommu_type1_dma_map.size,
    flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
    vaddr: ram.address,
    iova: IOVA,
    size: BigInt(LENGTH),
  });
}

async function throughContainer(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  const { container, group, device } = openByGroup(kernel, see, edu!, VFIO_TYPE1v2_IOMMU);
  describe(kernel, see, device);
  const bar = await computes(kernel, see, device);
  const eventfd = await interrupts(kernel, see, device, bar);
  const ram = kernel.guestRam(LENGTH);
  const map = dmaMap(ram);
  see.call('IOMMU_MAP_DMA', () => kernel.ioctl(container, VFIO_IOMMU_MAP_DMA, map));
  see.call('IOMMU_MAP_DMA again', () => kernel.ioctl(container, VFIO_IOMMU_MAP_DMA, map));
  await copies(kernel, see, bar, eventfd, ram, IOVA);
  const unmap = vfio_iommu_type1_dma_unmap.encode({
    argsz: vfio_iommu_type1_dma_unmap.size,
    flags: 0,
    iova: IOVA,
    size: BigInt(LENGTH),
    data: new Uint8Array(0),
  });
  see.call('IOMMU_UNMAP_DMA', () => kernel.ioctl(container, VFIO_IOMMU_UNMAP_DMA, unmap));
  see.note('unmapped', vfio_iommu_type1_dma_unmap.decode(unmap).size);
  await isLockedOut(kernel, see, bar, eventfd, ram, IOVA);
  see.call('SET_IRQS, MSI off', () => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX));
  see.call('GROUP_UNSET_CONTAINER with the device open', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
  bar.close();
  kernel.close(device);
  see.call('GROUP_UNSET_CONTAINER', () => kernel.ioctl(group, VFIO_GROUP_UNSET_CONTAINER));
}

/** Without an IOMMU: a group of its own kind, made by binding; registers and interrupts, but no mapping for DMA. */
async function withoutIommu(kernel: Kernel, see: Observer, [edu]: string[]): Promise<void> {
  see.note('driver', driverOf(kernel, edu!));
  const { container, device } = openByGroup(kernel, see, edu!, VFIO_NOIOMMU_IOMMU);
  describe(kernel, see, device);
  const bar = await computes(kernel, see, device);
  await interrupts(kernel, see, device, bar);
  const ram = kernel.guestRam(LENGTH);
  const map = dmaMap(ram);
  see.call('IOMMU_MAP_DMA', () => kernel.ioctl(container, VFIO_IOMMU_MAP_DMA, map));
  see.call('SET_IRQS, MSI off', () => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX));
  bar.close();
}

/** A container's cases are of the second one, so that both are driven. */
export const assignedCases: readonly Case[] = [
  withDevices('vfio/edu/cdev', 'Device cdev', ['edu'], throughCdev, {
    needs: { features: ['async'], devices: ['/dev/iommu'], iommu: true },
  }),
  withDevices('vfio/edu/container', 'Container and group', ['second edu'], throughContainer, {
    needs: { features: ['async'], iommu: true },
  }),
  withDevices('vfio/edu/noiommu', 'No-IOMMU mode', ['edu'], withoutIommu, { needs: { features: ['async'], iommu: false } }),
];
