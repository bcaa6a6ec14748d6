/**
 * RFC: the interfaces of confidential device assignment that exist as posted series only. A namespace for each series, so that what two of them, or one of them and
 * mainline, call by one name or one number never meets: `teeIo.aikV2.IOMMU_VDEVICE_TSM_BIND` is 0x3b93, `teeIo.aneeshMay25.IOMMU_VDEVICE_TSM_BIND` 0x3b94,
 * `teeIo.aneeshV5.IOMMU_VDEVICE_TSM_BIND` an operation. `SERIES` says of each who posted it, when, and what became of it.
 *
 * All requests of VFIO and iommufd are `_IO(';', nr)`: the word says nothing of the struct, and a series that changed a layout kept the word. Nothing here is in the table
 * of `ioctls()`, where a word on a kind of descriptor has one meaning: mainline's.
 *
 * Numbers and layouts are those of the postings. Some spellings are not recorded, and made of the request's name: the tags and constants of ccaV3, the prefixes of
 * operations, objects, states and architectures in aneeshJun26 and aneeshV7 and the tags of their payloads, the flags of `kvm_user_vmgexit` and of the RMP update in aikV2,
 * the actions in aikGuest.
 */
export * as aikGuest from './tee-io/aik-guest.ts';
export * as aikV1 from './tee-io/aik-v1.ts';
export * as aikV2 from './tee-io/aik-v2.ts';
export * as aneeshJun26 from './tee-io/aneesh-jun26.ts';
export * as aneeshMay25 from './tee-io/aneesh-may25.ts';
export * as aneeshV1 from './tee-io/aneesh-v1.ts';
export * as aneeshV2 from './tee-io/aneesh-v2.ts';
export * as aneeshV4 from './tee-io/aneesh-v4.ts';
export * as aneeshV5 from './tee-io/aneesh-v5.ts';
export * as aneeshV7 from './tee-io/aneesh-v7.ts';
export * as attributes2 from './tee-io/attributes2.ts';
export * as ccaV3 from './tee-io/cca-v3.ts';
export * as ccaV4 from './tee-io/cca-v4.ts';
export * as guestMemfdV12 from './tee-io/guest-memfd-v12.ts';
export * as guestMemfdV13 from './tee-io/guest-memfd-v13.ts';
export * as kvmVfio2013 from './tee-io/kvm-vfio-2013.ts';
export * as noiommu from './tee-io/noiommu.ts';
export { SERIES, type Series, type SeriesName } from './tee-io/series.ts';
export * as userfault from './tee-io/userfault.ts';
export * as xuFeb25 from './tee-io/xu-feb25.ts';
export * as xuJan25 from './tee-io/xu-jan25.ts';
export * as xuMay25 from './tee-io/xu-may25.ts';
