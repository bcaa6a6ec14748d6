/** What the author of a device model needs (docs/device-models.md). */
export type { DeviceMemory, DmaTarget, IommuDomain } from './dma-target.ts';
export type { ExpressSpec } from './express.ts';
export type {
  AerSpec,
  BarSpec,
  CapabilitySpec,
  FunctionSpec,
  MsiSpec,
  MsixSpec,
  PmSpec,
  RegisterSpec,
  SriovSpec,
} from './function-spec.ts';
export type { IommuFault, IommuHardware } from './iommu.ts';
export type { IommuMachine, PciPlacement, ReservedRegion } from './machine-pci.ts';
export { isMigratable, type LoggedRange, type Migratable, PageLog, type RunState, type WriteLog } from './migratable.ts';
export { Accelerator, type AcceleratorOptions } from './models/accelerator.ts';
export { Edu, type EduOptions } from './models/edu.ts';
export { Fixture } from './models/fixture.ts';
export { MigratableAccelerator } from './models/migratable-accelerator.ts';
export { E1000e, type E1000eOptions, Igb, NecXhci } from './models/network.ts';
export { Nvme, type NvmeOptions } from './models/nvme.ts';
export { PciePciBridge, PciPciBridge, RootPort, type RootPortOptions, SwitchPort } from './models/ports.ts';
export { PciTestdev } from './models/testdev.ts';
export { type Dma, PciFunction, type PowerState, type ResetKind, type Severity } from './pci-function.ts';
export * from './tdisp/index.ts';
