// A device of the host with an address space for its DMA, both ways there are: by its group and a container, or by its own node and an iommufd.
import { type Handle, Iommufd, type Kernel, type Memory, pciDevice, VfioContainer, VfioDevice, VfioGroup } from 'kvio';
import { VFIO_TYPE1v2_IOMMU } from 'kvio/uapi';

export type Way = 'group' | 'cdev';

export interface OpenedDevice {
  readonly device: VfioDevice;
  /** The device reaches all of this memory at `iova`. */
  map(memory: Memory, iova: bigint): void;
  unmap(memory: Memory, iova: bigint): void;
  close(): void;
}

/** The device must be bound to vfio-pci. `tell` has the group, or the device, before it is opened: for KVM-VFIO. */
export function openDevice(
  kernel: Kernel,
  bdf: string,
  way: Way,
  tell: (file: Handle) => void = () => {},
): OpenedDevice & Disposable {
  const opened = way === 'group' ? byGroup(kernel, bdf, tell) : byNode(kernel, bdf, tell);
  return { ...opened, [Symbol.dispose]: opened.close };
}

function byGroup(kernel: Kernel, bdf: string, tell: (file: Handle) => void): OpenedDevice {
  const container = VfioContainer.open(kernel);
  const group = VfioGroup.open(kernel, pciDevice(kernel, bdf).vfio_group!);
  tell(group);
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

function byNode(kernel: Kernel, bdf: string, tell: (file: Handle) => void): OpenedDevice {
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  tell(device);
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
