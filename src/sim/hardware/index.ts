/** What the author of a device model needs (docs/device-models.md). */
export type { DeviceMemory } from '../mm/device-memory.ts';
export type { DmaTarget, IommuDomain } from './dma-target.ts';
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
export { E1000e, type E1000eOptions, Igb } from './models/network.ts';
export { Nvme, type NvmeOptions } from './models/nvme.ts';
export { PciePciBridge, PciPciBridge, RootPort, type RootPortOptions, SwitchPort } from './models/ports.ts';
export { PciTestdev } from './models/testdev.ts';
export { NecXhci, type XhciOptions } from './models/xhci.ts';
export { type Dma, PciFunction, type PowerState, type ResetKind, type Severity } from './pci-function.ts';
export type { CmdqvMachine } from './smmuv3/cmdqv.ts';
export type { Smmu, SmmuCommand } from './smmuv3/smmu.ts';
export * from './tdisp/index.ts';
export type { AcceptedMmio } from './tsm/accepted-mmio.ts';
export type { Door, TdiBinding } from './tsm/binding.ts';
export { TSM_BLOB_DISABLE_DMA, TSM_BLOB_ENABLE_DMA } from './tsm/blobs.ts';
export type { Evidence } from './tsm/evidence.ts';
export { TSM_OBJECT, TSM_TDI_STATE, type TsmRequest, type TsmResponse } from './tsm/requests.ts';
export type { TdiContext } from './tsm/tdi-context.ts';
export type { Tsm } from './tsm/tsm.ts';
export type { Tvm } from './tsm/tvm.ts';
export { VDEV_STATE, vdevState } from './tsm/vdev.ts';
export type { TsmVendor, UnbindStep } from './tsm/vendor.ts';
