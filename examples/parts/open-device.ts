// A device of the host with an address space for its DMA, both ways there are: by its group and a container, or by its own node and an iommufd.
import { type Kernel, type Memory, pciDevice, VfioContainer, VfioDevice, VfioGroup } from 'kvio';
import {
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMU_IOAS_UNMAP,
  iommu_ioas_alloc,
  iommu_ioas_map,
  iommu_ioas_unmap,
  VFIO_TYPE1v2_IOMMU,
} from 'kvio/uapi';

export type Way = 'group' | 'cdev';

export interface OpenedDevice {
  readonly device: VfioDevice;
  /** The device reaches all of this memory at `iova`. */
  map(memory: Memory, iova: bigint): void;
  unmap(memory: Memory, iova: bigint): void;
  close(): void;
}

/** The device must be bound to vfio-pci. */
export function openDevice(kernel: Kernel, bdf: string, way: Way): OpenedDevice {
  return way === 'group' ? byGroup(kernel, bdf) : byNode(kernel, bdf);
}

function byGroup(kernel: Kernel, bdf: string): OpenedDevice {
  const container = VfioContainer.open(kernel);
  const group = VfioGroup.open(kernel, pciDevice(kernel, bdf).vfio_group!);
  group.setContainer(container);
  container.setIommu(VFIO_TYPE1v2_IOMMU);
  const device = group.getDeviceFd(bdf);
  return {
    device,
    map: (memory, iova) => container.mapDma({ memory, iova }),
    unmap: (memory, iova) => void container.unmapDma({ iova, size: BigInt(memory.length) }),
    close: () => {
      for (const handle of [device, group, container]) handle.close();
    },
  };
}

function byNode(kernel: Kernel, bdf: string): OpenedDevice {
  const iommufd = kernel.open('/dev/iommu');
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  device.bindIommufd({ iommufd });
  const alloc = iommu_ioas_alloc.encode({ size: iommu_ioas_alloc.size, flags: 0, out_ioas_id: 0 });
  kernel.ioctl(iommufd, IOMMU_IOAS_ALLOC, alloc);
  const ioas_id = iommu_ioas_alloc.decode(alloc).out_ioas_id;
  device.attachIommufdPt({ pt_id: ioas_id });
  const flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
  return {
    device,
    map: ({ address, length }, iova) => {
      const area = { size: iommu_ioas_map.size, flags, ioas_id, user_va: address, length: BigInt(length), iova };
      kernel.ioctl(iommufd, IOMMU_IOAS_MAP, iommu_ioas_map.encode(area));
    },
    unmap: ({ length }, iova) => {
      const area = { size: iommu_ioas_unmap.size, ioas_id, iova, length: BigInt(length) };
      kernel.ioctl(iommufd, IOMMU_IOAS_UNMAP, iommu_ioas_unmap.encode(area));
    },
    close: () => {
      device.close();
      kernel.close(iommufd);
    },
  };
}
