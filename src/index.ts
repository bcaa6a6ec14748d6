/** kvio: /dev/kvm, /dev/vfio and /dev/iommu for Node.js, on the real kernel or a simulated one. A table of contents. */

// The host's inventory: PCI devices, IOMMU groups, drivers
export { type BindOptions, type BoundDevices, bindDriver } from './host/bind.ts';
export { type Blocker, type IommuGroup, iommuGroup, listIommuGroups, type ReservedRegion } from './host/iommu-groups.ts';
export { type ChangedParameter, moduleParameter, setModuleParameter } from './host/module-parameter.ts';
export { listPciDevices, type PciDevice, type PciResource, pciDevice } from './host/pci.ts';
export { listTsmDevices, TsmDevice } from './host/tsm.ts';
// iommufd: one class per kind of object
export type {
  HwInfoStructs,
  InvalidateEntries,
  InvalidateRequest,
  InvalidateStructs,
  NestedData,
  NestedStructs,
  VeventStructs,
} from './iommufd/data.ts';
export { FaultQueue, type PageFaultGroup, type Vevent, VeventQueue } from './iommufd/events.ts';
export { type DirtyBitmapRequest, Hwpt, InvalidationIncomplete } from './iommufd/hwpt.ts';
export { type AddressRange, type CopyOptions, type FileRange, Ioas, type MapOptions, type MemoryPart } from './iommufd/ioas.ts';
export { type HwInfo, type HwptRequest, Iommufd, type ViommuRequest } from './iommufd/iommufd.ts';
export { IommufdObject, type ObjectId } from './iommufd/object.ts';
export type { BindSeries, TsmBindOptions } from './iommufd/tsm-bind.ts';
export type {
  GuestRequest,
  GuestResponse,
  SevGuestRequest,
  SevGuestResponse,
  TsmReq,
  TsmReqResponse,
} from './iommufd/tsm-request.ts';
export { Vdevice } from './iommufd/vdevice.ts';
export { HwQueue, Viommu } from './iommufd/viommu.ts';
export type { Descriptor } from './kernel/descriptor.ts';
export { Handle } from './kernel/handle.ts';
// The kernel: system calls on descriptors, memory it can see, errors
export {
  Deadlock,
  type IoctlArgument,
  type IoctlOptions,
  isKvioError,
  type Kernel,
  type KernelArch,
  KernelError,
  type KernelFeatures,
  type KernelKind,
  type Kicker,
  KvioError,
  type Memory,
  type MemoryRange,
  type MmapOptions,
  NotAvailable,
  NotModelled,
  type NotRestored,
  type PollFd,
  type Ram,
  RestoreError,
  type RunAsyncOptions,
  type RunOptions,
  type Stat,
  VcpuBusy,
  type WaitOptions,
} from './kernel/index.ts';
// KVM: one class per kind of descriptor
export { CoalescedRing, type CoalescedWrite } from './kvm/coalesced-ring.ts';
export { KvmDevice, KvmVfio } from './kvm/device.ts';
export type { DeviceAttr } from './kvm/device-attr.ts';
export { type ClearDirtyLog, type DirtyLog, dirtyPages } from './kvm/dirty-log.ts';
export { type DirtyPage, DirtyRing } from './kvm/dirty-ring.ts';
export type { KvmExit, KvmExitOf } from './kvm/exits.ts';
export { GuestMemfd } from './kvm/guest-memfd.ts';
export { type Msrs, MsrsIncomplete, type MsrsInput } from './kvm/msrs.ts';
export { KvmStats, type Statistic } from './kvm/stats.ts';
export { Kvm } from './kvm/system.ts';
export { type ExitIterable, Vcpu } from './kvm/vcpu.ts';
export { type CoalescedZone, type DmaBufSlot, type MemorySlot, type MemorySlot2, Vm } from './kvm/vm.ts';
export type { GsiRoute, Ioeventfd, Irqfd, Msi } from './kvm/vm-interrupts.ts';
export type { MsrFilter, MsrRange } from './kvm/vm-state.ts';
// Which kernel answers, and why
export { type AttachOptions, attachKernel } from './open/attach.ts';
export { kick } from './open/kick.ts';
export { findKernels, type KernelFound, type OpenOptions, openKernel } from './open.ts';
// RFC: confidential device assignment
export type { TsmLayout } from './tee-io/requests.ts';
export { Tdi, type TdiOptions, type TdiSeries, type TsmObject } from './tee-io/tdi.ts';
export type { DirtyBitmap } from './vfio/bitmap.ts';
export type { RawCapability } from './vfio/capabilities.ts';
export { ConfigSpace, type PciCapability, type PciIds } from './vfio/config-space.ts';
// VFIO: one class per kind of descriptor, and what a device is made of
export { type DirtyPagesRequest, type DmaMap, type DmaUnmap, type IommuInfo, VfioContainer } from './vfio/container.ts';
export {
  type BindIommufd,
  type DeviceInfo,
  type DeviceIoeventfd,
  type IrqInfo,
  type IrqSet,
  type PciHotResetInfo,
  type RegionInfo,
  VfioDevice,
} from './vfio/device.ts';
export type { DmaBufRequest, DmaLoggingReport, RfcDmaBufRequest } from './vfio/device-features.ts';
export { DmaBuf } from './vfio/dma-buf.ts';
export { Eventfd, type EventOptions } from './vfio/eventfd.ts';
export { VfioGroup } from './vfio/group.ts';
export { Irqs, IrqsUnavailable } from './vfio/irqs.ts';
export { MigrationData, type PrecopyInfo } from './vfio/migration-data.ts';
export * from './vfio/pci-regs.ts';
export { Region, type RegionMap } from './vfio/region.ts';
