import { EBUSY, EINVAL, ENOENT } from '../../../uapi/sys.ts';
import type { Completion } from '../../completion.ts';
import { DmaBufFile } from '../../dma-buf.ts';
import type { PciBus } from '../../pci/bus.ts';
import type { PciDriver } from '../../pci/driver.ts';
import type { PciDev } from '../../pci/pci-dev.ts';
import type { Process } from '../../process.ts';
import type { VfioCore } from '../vfio-main.ts';
import { deviceIoctls, VfioPciCoreDevice } from './core.ts';
import { isDenied } from './quirks.ts';
import { VfioPciTdi } from './tsm.ts';
import { newToken } from './vf-token.ts';

const PCI_HEADER_TYPE = 0x0e;
const MULTI_FUNCTION = 0x80;

/** vfio-pci (drivers/vfio/pci/vfio_pci.c): takes what it is told to by driver_override and dynamic ids. Vendor drivers extend it. */
export class VfioPciDriver implements PciDriver {
  readonly name: string = 'vfio-pci';
  readonly managesDma = true;
  readonly #core: VfioCore;
  readonly #bus: PciBus;

  constructor(core: VfioCore, bus: PciBus) {
    this.#core = core;
    this.#bus = bus;
    bus.notifiers.add((dev) => capture(this.name, dev));
    deviceIoctls.cover(core.system.coverage);
    DmaBufFile.cover(core.system.coverage);
    if (core.system.machine.teeIo !== undefined) VfioPciTdi.cover(core.system.coverage);
    core.system.coverage.add('ioctl', 'VFIO_MIG_GET_PRECOPY_INFO (vfio-migration)');
  }

  match(_dev: PciDev): boolean {
    return false;
  }

  /** The device as its driver makes it. */
  protected make(dev: PciDev): VfioPciCoreDevice {
    return new VfioPciCoreDevice(dev);
  }

  probe(p: Process, dev: PciDev): number {
    if (isDenied(dev) && !p.system.parameters.vfio_pci.disable_denylist) return -EINVAL;
    if ((dev.readConfig(PCI_HEADER_TYPE, 1) & ~MULTI_FUNCTION) !== 0) return -EINVAL;
    if ((dev.sriov?.vfs.length ?? 0) > 0) return -EBUSY;
    const device = this.make(dev);
    const physical = dev.physfn === undefined ? undefined : VfioPciCoreDevice.of(dev.physfn);
    if (physical?.sriovEnabled === true) device.physical = physical;
    if (dev.sriov !== undefined) device.vfToken = newToken(p.system);
    device.bind();
    const error = this.#core.registerDevice(device, this.#bus.directoryOf(dev)!);
    if (error < 0) device.unbind();
    return error;
  }

  /** vfio_pci_core_unregister_device: virtual functions go first. */
  remove(p: Process, dev: PciDev): Completion {
    const device = VfioPciCoreDevice.of(dev)!;
    if (device.sriovEnabled) this.#disableSriov(device);
    const gone = this.#core.unregisterDevice(p, device);
    gone.whenDone(() => device.unbind());
    return gone;
  }

  /** What vendor drivers have: vfio-pci itself does nothing. */
  resetDone(dev: PciDev): void {
    VfioPciCoreDevice.of(dev)?.resetDone();
  }

  /** vfio_pci_sriov_configure. */
  sriovConfigure(p: Process, dev: PciDev, count: number): number {
    if (!p.system.parameters.vfio_pci.enable_sriov) return -ENOENT;
    const device = VfioPciCoreDevice.of(dev)!;
    if (count === 0) {
      this.#disableSriov(device);
      return 0;
    }
    if (device.sriovEnabled) return -EINVAL;
    device.sriovEnabled = true;
    // The physical function must not sleep while it has virtual ones.
    device.power.get();
    device.setPowerState(0);
    const error = dev.sriov!.enable(count);
    if (error < 0) this.#sriovOff(device);
    return error < 0 ? error : count;
  }

  #disableSriov(device: VfioPciCoreDevice): void {
    device.pdev.sriov!.disable();
    this.#sriovOff(device);
  }

  #sriovOff(device: VfioPciCoreDevice): void {
    if (!device.sriovEnabled) return;
    device.sriovEnabled = false;
    device.power.put();
  }
}

/** vfio_pci_bus_notifier: virtual functions of a device that has this driver are for this driver. */
function capture(name: string, dev: PciDev): void {
  const { physfn } = dev;
  if (physfn?.driver?.name === name && VfioPciCoreDevice.of(physfn)?.sriovEnabled === true) dev.driverOverride = name;
}
