import type { Width } from '../../kernel/memory.ts';
import type { ConfigWidth, PciFunction, PowerState, Severity } from '../hardware/pci-function.ts';
import type { IommuGroup, IommuMember } from '../iommu/group.ts';
import type { System } from '../system.ts';
import type { PciDriver } from './driver.ts';
import type { PciIrq } from './irq.ts';

/** `struct resource` of a BAR. `end` is inclusive; absent: all three are 0. */
export interface Resource {
  readonly start: bigint;
  readonly end: bigint;
  readonly flags: bigint;
}

/** `struct pci_sriov` (drivers/pci/iov.c). */
export interface PciSriov {
  readonly totalVfs: number;
  readonly numVfs: number;
  readonly offset: number;
  readonly stride: number;
  readonly vfDevice: number;
  /** sriov_drivers_autoprobe: new virtual functions are probed. */
  driversAutoprobe: boolean;
  /** pci_enable_sriov: the functions appear on the bus; 0 or −errno. */
  enable(count: number): number;
  /** pci_disable_sriov: they are removed again. */
  disable(): void;
  /** Those that are there, by their index. */
  readonly vfs: readonly PciDev[];
}

/** What pci_save_state keeps. */
export interface SavedState {
  readonly registers: ReadonlyMap<number, number>;
}

/** `struct pci_dev`: what the kernel's PCI core knows of a function, and does to it. */
export interface PciDev extends IommuMember {
  readonly fn: PciFunction;
  readonly system: System;
  /** '0000:01:00.0'. */
  readonly bdf: string;
  readonly segment: number;
  readonly bus: number;
  readonly devfn: number;
  /** The bridge above; undefined on a root bus. */
  readonly parent: PciDev | undefined;
  /** 0 to 5 BARs, 6 the ROM, 7 to 12 the BARs of virtual functions, 13 to 16 a bridge's windows. */
  readonly resources: readonly Resource[];
  readonly configSize: 256 | 4096;
  /** Hardware registers; all ones once it is unplugged. */
  readConfig(offset: number, width: ConfigWidth): number;
  writeConfig(offset: number, width: ConfigWidth, value: number): void;
  /** By the address of the resource: what nobody decodes reads as all ones, stores are dropped. Bar 6 is the ROM. */
  barRead(bar: number, offset: number, width: Width): number | bigint;
  barWrite(bar: number, offset: number, width: Width, value: number | bigint): void;
  /** pci_enable_device: 0 or −errno. */
  enableDevice(): number;
  disableDevice(): void;
  readonly enableCount: number;
  setMaster(on: boolean): void;
  saveState(): SavedState;
  restoreState(saved: SavedState): void;
  readonly powerState: PowerState;
  /** pci_set_power_state. */
  setPowerState(state: PowerState): void;
  /** 'device_specific' 'flr' 'af_flr' 'pm' 'bus', in order. */
  readonly resetMethods: readonly string[];
  /** Those the function has, whatever was chosen of them. */
  readonly supportedResets: readonly string[];
  /** sysfs reset_method: these from now on, in this order; all of them are supported. */
  setResetMethods(methods: readonly string[]): void;
  /** __pci_reset_function_locked: 0, −ENOTTY, −EAGAIN … Saves and restores nothing. */
  resetFunction(): number;
  /** What a hot reset would reset. */
  slotOrBusResettable(): 'slot' | 'bus' | undefined;
  resetSlotOrBus(): number;
  /** The functions a hot reset hits, those below bridges too. */
  busDevices(): readonly PciDev[];
  /** Offset of a capability; 0: there is none. */
  findCapability(id: number): number;
  findExtCapability(id: number): number;
  readonly irq: PciIrq;
  /** SR-IOV of a physical function. */
  readonly sriov: PciSriov | undefined;
  /** The physical function of a virtual one. */
  readonly physfn: PciDev | undefined;
  iommuGroup: IommuGroup<PciDev> | undefined;
  driver: PciDriver | undefined;
  driverOverride: string | null;
  /** pci_request_selected_regions of one BAR: 0 or −EBUSY. */
  claim(bar: number, name: string): number;
  unclaim(bar: number): void;
  /** Unplugged. */
  readonly removed: boolean;
  /** The driver's error_detected. */
  onError: ((severity: Severity) => void) | undefined;
}
