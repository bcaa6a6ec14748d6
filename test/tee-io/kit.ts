import {
  bindDriver,
  Iommufd,
  Kvm,
  PCI_COMMAND_MASTER,
  PCI_COMMAND_MEMORY,
  pciDevice,
  Tdi,
  type TdiOptions,
  VfioDevice,
} from 'kvio';
import { openSim, type TeeIo } from 'kvio/sim';
import * as u from 'kvio/uapi';

export const BDF = '0000:01:00.0';
export const GUEST_RID = 0x10;

export function assigned(teeIo: Partial<TeeIo>, options: Omit<TdiOptions, 'device' | 'vdevice'> = {}) {
  const { kernel, vm, kvmVfio, device, vdevice } = withVdevice(teeIo);
  return { kernel, vm, kvmVfio, device, tdi: new Tdi({ device, vdevice, ...options }), context: kernel.tdi(BDF)! };
}

/** A VM and a device up to its vdevice. */
export function withVdevice(teeIo: Partial<TeeIo>) {
  const kernel = openSim({ machine: 'tee-io-7.2', teeIo });
  bindDriver(kernel, BDF, 'vfio-pci');
  const vm = Kvm.open(kernel).createVm(u.KVM_X86_SW_PROTECTED_VM);
  const device = VfioDevice.open(kernel, pciDevice(kernel, BDF).vfio_device!);
  const kvmVfio = vm.createDevice(u.KVM_DEV_TYPE_VFIO);
  kvmVfio.addFile(device.fd);
  const iommufd = Iommufd.open(kernel);
  const dev_id = device.bindIommufd({ iommufd });
  device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
  const hwpt = iommufd.hwptAlloc({ dev_id, pt: iommufd.ioasAlloc(), flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  const vdevice = iommufd.viommuAlloc({ type: 1, dev_id, hwpt, vm }).vdeviceAlloc({ dev_id, virt_id: BigInt(GUEST_RID) });
  return { kernel, vm, kvmVfio, device, vdevice };
}
