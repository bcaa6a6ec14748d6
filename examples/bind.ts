// Gives a device's whole IOMMU group to vfio-pci, looks at it, and puts the host back as it was. `bind 0000:04:01.0`; without an address it shows the groups.
import { bindDriver, listIommuGroups, listPciDevices, openKernel, pciDevice, VfioContainer, VfioGroup } from 'kvio';
import { VFIO_GROUP_FLAGS_VIABLE, VFIO_PCI_NUM_REGIONS, VFIO_TYPE1v2_IOMMU } from 'kvio/uapi';

const [bdf] = process.argv.slice(2);
const kernel = openKernel({ devices: ['/dev/vfio/vfio'], machine: 'lab-vtd-7.2' }); // the machine, should it be a simulated one

const ids = (bdf: string): string => {
  const { vendor, device, driver = 'no driver' } = pciDevice(kernel, bdf);
  return `${bdf} ${vendor.toString(16).padStart(4, '0')}:${device.toString(16).padStart(4, '0')} (${driver})`;
};

function show(): void {
  for (const { id, devices, reason } of listIommuGroups(kernel)) {
    console.log(`group ${id}: ${devices.map(ids).join(', ')}: ${reason}`);
  }
}

function bindGroupOf(address: string): void {
  const { iommu_group } = pciDevice(kernel, address);
  const functions = listPciDevices(kernel).filter((one) => one.iommu_group === iommu_group && !one.bridge);
  {
    using bound = bindDriver(
      kernel,
      functions.map((one) => one.bdf),
      'vfio-pci',
    );
    using group = VfioGroup.open(kernel, bound.devices()[0]!.vfio_group!);
    using container = VfioContainer.open(kernel);
    console.log(`viable: ${(group.getStatus().flags & VFIO_GROUP_FLAGS_VIABLE) !== 0}`);
    group.setContainer(container);
    container.setIommu(VFIO_TYPE1v2_IOMMU);
    for (const one of bound.bdfs) {
      using device = group.getDeviceFd(one);
      const regions = Array.from({ length: VFIO_PCI_NUM_REGIONS - 1 }, (_, index) => device.getRegionInfo(index));
      console.log(`${ids(one)}: ${regions.filter(({ size }) => size > 0n).length} regions, command ${device.config.read16(4)}`);
    }
  }
  for (const { bdf: one, driver } of functions) {
    const now = pciDevice(kernel, one).driver;
    console.log(`${one}: ${now === driver ? 'as it was' : `${driver} before, ${now} now`}`);
  }
}

if (bdf === undefined) show();
else bindGroupOf(bdf);
kernel.close();
