import { isMigratable } from './hardware/migratable.ts';
import { modelCoverage } from './hardware/models/index.ts';
import { parseIds } from './pci/driver.ts';
import { registerHostDrivers } from './pci/host-drivers.ts';
import { PciSysfs } from './pci/sysfs.ts';
import type { System } from './system.ts';
import { registerTsm } from './tee-io/sysfs.ts';
import { registerMtty } from './vfio/mtty.ts';
import { VfioPciDriver } from './vfio/pci/driver.ts';
import { MigratableVfioDriver } from './vfio/pci/migratable.ts';
import { registerVfio } from './vfio/vfio-main.ts';

/** Drivers of the host that bind to nothing anybody wants, where a machine does not list its own. */
const DEFAULT_DRIVERS: readonly string[] = ['pcieport', 'pci-stub'];

/** VFIO where the machine's kernel has it; PCI with its drivers, the machine's own at boot. A machine without PCI devices has no PCI until one is plugged in; then again. */
export function registerPci(system: System): void {
  const core = registerVfio(system, {
    create: (name) => system.pci.iommuGroups.create(name),
    remove: (group, dev) => system.pci.iommuGroups.remove(group, dev),
  });
  const { machine, parameters } = system;
  const placed = machine.pci ?? [];
  const registered = system.fs.at('/sys/bus/pci') !== undefined;
  if (registered || (system.pci.devices.length === 0 && machine.mtty !== true)) return;
  for (const [name, except] of modelCoverage()) system.coverage.add('device', name, except);
  const { bus } = new PciSysfs(system, system.pci);
  registerTsm(system, bus);
  const atBoot = placed.flatMap(({ driver }) => driver ?? []);
  registerHostDrivers(bus, [...new Set([...(machine.pciDrivers ?? DEFAULT_DRIVERS), ...atBoot])]);
  if (core === undefined) return;
  bus.register(new VfioPciDriver(core, bus), parseIds(parameters.vfio_pci.ids));
  if (system.pci.devices.some(({ fn }) => isMigratable(fn))) bus.register(new MigratableVfioDriver(core, bus));
  if (machine.mtty === true) registerMtty(system, core);
}
