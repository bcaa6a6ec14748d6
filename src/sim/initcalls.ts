import type { IommuGroup, IommuMember } from './iommu/group.ts';
import { addModules } from './parameters.ts';
import { idOf, type PciDeviceId } from './pci/driver.ts';
import { registerHostDrivers } from './pci/host-drivers.ts';
import { PciSysfs } from './pci/sysfs.ts';
import type { System } from './system.ts';
import { registerMtty } from './vfio/mtty.ts';
import { VfioPciDriver } from './vfio/pci/driver.ts';
import { type IommuGroupSource, registerVfio } from './vfio/vfio-main.ts';

/** PCI with its drivers, the machine's own at boot, and VFIO on top of it. A machine without PCI devices has none of it until one is plugged in. */
export function registerPci(system: System): void {
  const { machine, parameters, plugs } = system;
  const placed = machine.pci ?? [];
  if (placed.length === 0 && plugs.length === 0 && machine.mtty !== true) return;
  const { bus } = new PciSysfs(system, system.pci);
  registerHostDrivers(bus, [...new Set(placed.flatMap(({ driver }) => driver ?? []))]);
  const core = registerVfio(system, groupSource(system));
  if (core === undefined) return;
  addModules(system.fs, parameters, ['vfio', 'vfio_iommu_type1', 'vfio_pci']);
  bus.register(new VfioPciDriver(core, bus), dynamicIds(parameters.vfio_pci.ids));
  if (machine.mtty === true) registerMtty(system, core);
}

function groupSource(system: System): IommuGroupSource {
  const { iommuGroups: groups } = system.pci;
  type Made = ReturnType<IommuGroupSource['create']>;
  return {
    create: (name) => groups.create(name) as unknown as Made,
    remove: (group, dev) => groups.remove(group as IommuGroup<never>, dev as IommuMember as never),
  };
}

/** `ids=` of the command line: 'vendor:device', in hexadecimal, with commas between. */
function dynamicIds(text: string): PciDeviceId[] {
  return text
    .split(',')
    .filter((one) => one !== '')
    .map((one) => {
      const [vendor = 0, device = 0] = one.split(':').map((word) => Number.parseInt(word, 16));
      return idOf(vendor, device);
    });
}
