import { atLeast, type Machine } from './machine.ts';

/**
 * What kernels have changed of their answers, by the first release that answers as 7.2 does. Recorded were 6.1, 6.12, 6.18 and 7.2, and each change
 * lies between two of them as these tell; the release itself is *read*, and where that is not known either, it is the one after the last that was
 * recorded without it.
 */
const releases = {
  /** eventfd write(2) takes exactly eight bytes; before, eight or more, of which it looked at the first eight. */
  eventfdExactWrite: '6.9',
  /** The mount of anonymous inodes (KVM's, eventfd's) is noexec: mmap with PROT_EXEC is EPERM. */
  anonInodesNoexec: '6.16',
  /** open(2) with O_CREAT and O_DIRECTORY is EINVAL; before, an existing directory was opened (*read*: 6.4; an update of 6.1 has it). */
  creatDirectoryInvalid: '6.1',
  /**
   * VFIO_IOMMU_GET_INFO and VFIO_DEVICE_GET_INFO write all that the caller has, and capabilities begin at multiples of 8; before, they wrote 16 bytes or 20
   * (*read*: 6.6).
   */
  infosWhole: '6.6',
  /** VFIO_DEVICE_GET_INFO tells which atomic operations reach memory (*read*: 6.6). */
  atomicsTold: '6.6',
  /** Vectors can be added to those of MSI-X that are enabled, and NORESIZE is not told of them (*read*: 6.5). */
  msixGrows: '6.5',
  /** A descriptor below −1 for ERR and REQ is EINVAL; before, nothing was done. */
  triggersChecked: '6.2',
  /** VFIO_DEVICE_PCI_HOT_RESET looks at the number of groups before it looks whether it can (*read*: 6.6). */
  hotResetByNode: '6.6',
  /** What is no container may be an iommufd to VFIO_GROUP_SET_CONTAINER: what is neither is EBADFD (*read*: 6.2). */
  groupsTakeIommufds: '6.2',
  /** KVM_DEV_VFIO_FILE_ADD takes devices, too (*read*: 6.6). */
  kvmVfioTakesDevices: '6.6',
  /** The type of an IOMMU group's domain may be changed while nobody owns the group; before, of one device without a driver (*read*: 6.5). */
  iommuTypeOfUnowned: '6.5',
  /** A device whose driver is taken away cannot be opened any more, and is gone from /sys, while its users are waited for (*read*: 6.6). */
  unregisteredAtOnce: '6.6',
  /** VFIO_TYPE1_NESTING_IOMMU is no extension and no type any more (*read*: 6.13). */
  noType1Nesting: '6.13',
  /** read and write of a region reach the device eight bytes at a time; before, four (*read*: 6.11). */
  regionsByEightBytes: '6.11',
  /** VFIO_DEVICE_IOEVENTFD takes no 64-bit stores. */
  ioeventfdsOf32Bits: '6.13',
  /** A device that is opened has its BARs claimed; before, each when it was used or mapped first. */
  barsClaimedByOpen: '7.0',
  /** VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 (*read*: 7.0). */
  precopyInfoV2: '7.0',
  /** Ranges of type1 that wrap are EOVERFLOW, and one may end with the last address; before, EINVAL (*read*). */
  type1WrapOverflows: '6.19',
  /** An SMI whose state cannot be saved ends the VM; before, the handler began all the same. */
  smmStateSaved: '6.2',
  /**
   * A physical id that several local APICs have reaches all of them, and so do the bits of logical ids that are several in one LDR, or that several have;
   * before, one had the id, and an APIC with several bits the lowest of them.
   */
  aliasedApicIds: '6.3',
  /** A local APIC that userspace takes from x2APIC to xAPIC mode has its own id again; before, the register stayed. */
  xapicIdRestored: '6.3',
  /** KVM_GET_VCPU_EVENTS counts pending NMIs; before, it told whether there are any. */
  nmisCounted: '6.4',
  /** SVM: INIT leaves NMIs masked. */
  nmisMaskedByInit: '6.4',
  /** PRED_CMD takes a 0 also where the processor has no IBPB. */
  predCmdTakesZero: '6.4',
  /** KVM_GET_NR_MMU_PAGES is unknown. */
  nrMmuPagesForgotten: '6.4',
  /** What an exception brings to DR6 or CR2 waits until it goes in; before, it was delivered as the exception was queued. */
  payloadsWait: '6.2',
  /** KVM_GET_CPUID2 writes the number of entries back; before, the header stayed as it was. */
  cpuid2Counts: '6.5',
  /** The MTRRs are those there are; before, all numbers from 0x200 to 0x2ff that are no MCi_CTL2. */
  mtrrsByNumber: '6.5',
  /** A root of the TDP MMU needs none of the VM's MMU pages, of which there are none before the first memslot. */
  rootsWithoutMmuPages: '6.9',
  /** A private mapping of huge pages that loses a page is promised it again. */
  hugeReservationsRestored: '6.9',
  /** A guest without CPUID counts as Intel's: SVM keeps all 64 bits of SYSENTER_ESP and SYSENTER_EIP for it. */
  intelUnlessAmd: '6.9',
  /** KVM_X86_GRP_SEV among the attributes of /dev/kvm. */
  sevAttributes: '6.10',
  /** KVM_KVMCLOCK_CTRL is refused where the guest's clock page lies across two pages; before, where it was never enabled. */
  clockInOnePage: '6.10',
  /** KVM_SET_LAPIC in x2APIC mode: the id is the vCPU's, whatever the image has; before, with 8-bit ids, the image's. */
  x2apicIdReadOnly: '6.11',
  /** vCPU ids are compared as the unsigned long they are given as; before, their upper half was dropped, and SET_BOOT_CPU_ID checked nothing. */
  wholeVcpuIds: '6.11',
  /** The ring of coalesced MMIO is full with 169 entries; before, a difference that wrapped at 2^32 was taken modulo 170. */
  coalescedRingWhole: '6.12',
  /** KVM_CAP_ENFORCE_PV_FEATURE_CPUID: userspace reads 0 from an MSR the guest does not have, and may write 0; before, both were refused. */
  deniedMsrsReadZero: '6.12',
  /** KVM_GET_MSRS on /dev/kvm: an MSR that is listed but no feature reads as 0; before, it was refused. */
  listedFeaturesReadZero: '6.12',
  /** ARCH_CAPABILITIES is there for userspace only with the guest's CPUID bit; before, it was always the host's until set. */
  archCapabilitiesFollowCpuid: '6.13',
  /** KVM_SET_SREGS looks at EFER as a guest's WRMSR does. 6.12.107 does not, 6.12.117 does. */
  sregsCheckEfer: '6.12.108',
  /** KVM_CREATE_PIT2 needs the PIC in the kernel. */
  pitNeedsPic: '6.2',
  /** KVM_RUN that fails leaves `exit_reason` unknown; before, it left that of the exit before (*read*: 6.8). */
  exitReasonCleared: '6.8',
  /** KVM_CAP_X2APIC_API's flags on the suppression of EOI broadcasts. */
  x2apicEoiBroadcasts: '6.13',
  /** KVM_CAP_X86_DISABLE_EXITS is refused once there are vCPUs. */
  disableExitsBeforeVcpus: '6.13',
  /** A vCPU can be made to wait for a SIPI where INIT is blocked, and KVM_RUN is refused; before, KVM_SET_MP_STATE was, with an SMI pending too (*read*: 6.17). */
  blockedInitRefusedByRun: '6.17',
  /** An eventfd has one irqfd in all; before, one in each VM (*read*: 6.17). */
  irqfdOfOneVm: '6.17',
  /** Anonymous inodes, guest_memfd's too, are no regular files to FIOQSIZE and FIONREAD (*read*: 6.16). */
  anonInodesNotRegular: '6.16',
  /** `kvm_valid_regs` and `kvm_dirty_regs` are compared as 64 bits (6.10 to 6.12: as 32). */
  wholeSyncFields: '6.13',
  /** KVM_PRE_FAULT_MEMORY loads a root in place of one that went with a memslot (*read*: 6.14; 6.12 does not). */
  preFaultLoadsRoot: '6.14',
  /** An event whose delivery touches what KVM would have to emulate is INTERNAL_ERROR suberror 3; before, the emulator tried, and failed. */
  unhandleableVectoring: '6.14',
  /** KVM_SET_TSC_KHZ on a VM is refused once there are vCPUs. */
  vmTscKhzBeforeVcpus: '6.17',
  /** STGI and CLGI without EFER.SVME are #UD; before, a processor with a virtual GIF executed them. */
  gifNeedsSvme: '7.0',
  /** KVM_SET_GUEST_DEBUG: an injected exception, too, is one in the way of another (6.18: only a pending one). */
  injectedIsPending: '7.0',
  /** KVM_CAP_X86_APIC_BUS_CYCLES_NS of a VM is the VM's own (6.18: always the default). */
  apicBusCyclesOfVm: '7.0',
  /** KVM_ASYNC_PF_EN: what is refused for want of memory is not kept (6.18: it is). */
  asyncPfRefusedForgotten: '7.0',
  /** The statistic mmu_shadow_pages. */
  countsShadowPages: '7.0',
  /** guest_memfds live on a file system of their own; before, on that of the other anonymous inodes. */
  gmemFilesystem: '6.19',
  /** MADV_DOFORK is refused where a mapping cannot grow, as one of huge pages; before, of device memory only. */
  doforkRefusedOfHuge: '7.0',
  /** mmap(2) of a resource file of I/O ports is EINVAL; before, ENODEV. */
  portsHaveMmap: '6.13',
  /** drivers_autoprobe is asked for new PCI devices, too. */
  newDevicesAutoprobed: '6.13',
  /** A PCI device that was found is put into D0; before, its state was unknown until it was used (*read*: 6.16). */
  devicesPutIntoD0: '6.16',
  /** A file in /sys that is gone has no links. */
  sysfsUnlinked: '6.13',
  /** serial_number of PCI devices in /sys (*read*). */
  pciSerialNumber: '6.18',
  /** A memslot over a part of a guest_memfd that another one has is EEXIST; before, EINVAL. */
  gmemOverlapExists: '6.19',
} as const;

export type Change = keyof typeof releases;

/** True where the machine's kernel has made this change. */
export function has(machine: Machine, change: Change): boolean {
  return atLeast(machine, releases[change]);
}

/** Between the releases 6.10 and 6.12 `sync_regs` compared its bit masks as 32 bits. */
export function syncFieldsMask(machine: Machine): bigint {
  return atLeast(machine, '6.10') && !has(machine, 'wholeSyncFields') ? 0xffff_ffffn : (1n << 64n) - 1n;
}
