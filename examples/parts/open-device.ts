// A device of the host with an address space for its DMA, both ways there are: by its group and a container, or by its own node and an iommufd.
import { Iommufd, type Kernel, type Memory, pciDevice, VfioContainer, VfioDevice, VfioGroup } from 'kvio';
import { VFIO_TYPE1v2_IOMMU } from 'kvio/uapi';

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
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  device.bindIommufd({ iommufd });
  const ioas = iommufd.ioasAlloc();
  device.attachIommufdPt({ pt_id: ioas.id });
  return {
    device,
    map: (memory, iova) => void ioas.map(memory, { iova }),
    unmap: (memory, iova) => void ioas.unmap(iova, BigInt(memory.length)),
    close: () => {
      device.close();
      iommufd.close();
    },
  };
}
