/** What the examples of confidential device assignment print: a line for each step, with the state of the TDI and who may reach what. */
export const teeIo: Readonly<Record<string, readonly string[]>> = {
  'tdx-connect': `
— the flow
vmm   K KVM_CREATE_VM, private memory behind all of its RAM            UNLOCKED MMIO all   DMA shared
vmm   D KVM_DEV_VFIO_FILE_ADD: the device is this VM’s                 UNLOCKED MMIO all   DMA shared
vmm   V VFIO_DEVICE_BIND_IOMMUFD, ATTACH_IOMMUFD_PT                    UNLOCKED MMIO all   DMA shared
vmm   V VFIO_DEVICE_FEATURE_DMA_BUF, of BAR 0 and BAR 2                UNLOCKED MMIO all   DMA shared
vmm   K KVM_SET_USER_MEMORY_REGION2: the dma-bufs are memslots         UNLOCKED MMIO all   DMA shared
vmm   I IOMMU_VIOMMU_ALLOC, IOMMU_VDEVICE_ALLOC                        UNLOCKED MMIO all   DMA shared
vmm   C KVM_PRE_FAULT_MEMORY: the pages for the device                 UNLOCKED MMIO all   DMA shared
guest   TDG.VP.VMCALL: bind                                            UNLOCKED MMIO all   DMA shared
vmm   V VFIO_DEVICE_TSM_BIND                                           LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: certificates                  LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: measure anew                  LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: measurements                  LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: report                        LOCKED   MMIO –     DMA –
guest   trusts it: certificates, measurements with its nonce, 20 pages LOCKED   MMIO –     DMA –
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 4 pages of MMIO private             LOCKED   MMIO –     DMA –
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 16 pages of MMIO private            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: accept MMIO                   LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: accept MMIO                   LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: accept DMA                    LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_GUEST_REQUEST: start                         RUN      MMIO guest DMA private
guest   the device adds up private memory: 10                          RUN      MMIO guest DMA private
vmm   V VFIO_DEVICE_TSM_UNBIND                                         UNLOCKED MMIO all   DMA shared
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 4 pages of MMIO shared              UNLOCKED MMIO all   DMA shared
guest   its registers, shared again: 0x4341564b                        UNLOCKED MMIO all   DMA shared
— other orders
bound by iommufd, which cannot silence the device: EOPNOTSUPP
a BAR was mapped before, though it is not any more: EBUSY
started before it is bound: ENXIO
private DMA to pages that are not there: dropped 1 time; the TDI: RUN      MMIO guest DMA private
DMA is not accepted: dropped 1 time
the host clears Memory Space Enable: unbound first; the TDI: UNLOCKED MMIO all   DMA shared
the host takes MMIO away while it is bound: the firmware refuses, and the VM is dead: KVM_RUN EIO
`
    .trim()
    .split('\n'),
  'sev-tio': `
— the flow
vmm   K KVM_CREATE_VM, private memory behind all of its RAM            UNLOCKED MMIO all   DMA shared
vmm   D KVM_DEV_VFIO_FILE_ADD: the device is this VM’s                 UNLOCKED MMIO all   DMA shared
vmm   V VFIO_DEVICE_BIND_IOMMUFD, ATTACH_IOMMUFD_PT                    UNLOCKED MMIO all   DMA shared
vmm   V VFIO_DEVICE_FEATURE_DMA_BUF, of BAR 0 and BAR 2                UNLOCKED MMIO all   DMA shared
vmm   K KVM_SET_USER_MEMORY_REGION2: the dma-bufs are memslots         UNLOCKED MMIO all   DMA shared
vmm   I IOMMU_VIOMMU_ALLOC, IOMMU_VDEVICE_ALLOC                        UNLOCKED MMIO all   DMA shared
vmm   C KVM_PRE_FAULT_MEMORY: the pages for the device                 UNLOCKED MMIO all   DMA shared
guest   VMGEXIT, TIO_REQ: its device, by the requester id it knows     UNLOCKED MMIO all   DMA shared
vmm   I IOMMU_VDEVICE_TSM_OP, BIND                                     LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: certificates                            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: measure anew                            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: measurements                            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: report                                  LOCKED   MMIO –     DMA –
guest   trusts it: certificates, measurements with its nonce, 20 pages LOCKED   MMIO –     DMA –
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 4 pages of MMIO private             LOCKED   MMIO –     DMA –
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 16 pages of MMIO private            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: accept MMIO                             LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: accept MMIO                             LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: accept DMA                              LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: start                                   RUN      MMIO guest DMA private
guest   the device adds up private memory: 10                          RUN      MMIO guest DMA private
vmm   I IOMMU_VDEVICE_TSM_OP, UNBIND                                   UNLOCKED MMIO all   DMA shared
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 4 pages of MMIO shared              UNLOCKED MMIO all   DMA shared
guest   its registers, shared again: 0x4341564b                        UNLOCKED MMIO all   DMA shared
— other orders
locked with peer-to-peer streams: EIO
MMIO validated before it is private: EINVAL
private DMA to pages that are not there: fence 1, the guest reads 0xffffffff of its device
no secure device table entry: DMA dropped 1 time
the host clears Bus Master Enable: ERROR    MMIO –     DMA –; unbound: UNLOCKED MMIO all   DMA shared
`
    .trim()
    .split('\n'),
  'arm-cca': `
— the flow
vmm   K KVM_CREATE_VM, private memory behind all of its RAM            UNLOCKED MMIO all   DMA shared
vmm   D KVM_DEV_VFIO_FILE_ADD: the device is this VM’s                 UNLOCKED MMIO all   DMA shared
vmm   V VFIO_DEVICE_BIND_IOMMUFD, ATTACH_IOMMUFD_PT                    UNLOCKED MMIO all   DMA shared
vmm   V VFIO_DEVICE_FEATURE_DMA_BUF, of BAR 0 and BAR 2                UNLOCKED MMIO all   DMA shared
vmm   K KVM_SET_USER_MEMORY_REGION2: the dma-bufs are memslots         UNLOCKED MMIO all   DMA shared
vmm   I IOMMU_VIOMMU_ALLOC, IOMMU_VDEVICE_ALLOC                        UNLOCKED MMIO all   DMA shared
vmm   I IOMMU_VDEVICE_TSM_MAP: all private memory is the device’s too  UNLOCKED MMIO all   DMA shared
vmm   I IOMMU_VDEVICE_TSM_OP, BIND: a vdev, not yet locked             UNLOCKED MMIO all   DMA shared
guest   echo tsm0 > tsm/lock                                           UNLOCKED MMIO all   DMA shared
vmm   I IOMMU_VDEVICE_TSM_REQ: lock                                    LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: certificates                            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: measure anew                            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: measurements                            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: report                                  LOCKED   MMIO –     DMA –
guest   trusts it: certificates, measurements with its nonce, 20 pages LOCKED   MMIO –     DMA –
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 2 pages of MMIO private             LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: accept MMIO                             LOCKED   MMIO –     DMA –
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 16 pages of MMIO private            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: accept MMIO                             LOCKED   MMIO –     DMA –
guest   echo 1 > tsm/accept                                            LOCKED   MMIO –     DMA –
vmm   I IOMMU_VDEVICE_TSM_REQ: start                                   RUN      MMIO guest DMA private
guest   the device adds up private memory: 10                          RUN      MMIO guest DMA private
vmm   I IOMMU_DESTROY of the vdevice, which unbinds                    UNLOCKED MMIO all   DMA shared
vmm   K KVM_SET_MEMORY_ATTRIBUTES: 4 pages of MMIO shared              UNLOCKED MMIO all   DMA shared
guest   its registers, shared again: 0x4341564b                        UNLOCKED MMIO all   DMA shared
— other orders
bound for nobody: ENODEV
started before it is locked: EINVAL
device memory validated before it is private: EINVAL
accepted by the VMM, though it is not private: the guest is told 22, EINVAL
private DMA to pages nobody has mapped: dropped 1 time
the host takes device memory away: memory_fault at 0xe0100000, and no progress
`
    .trim()
    .split('\n'),
  'private-mmio': `
— a private device
region 0: flags 0x10
mapped: EINVAL, read: EINVAL, written: EINVAL
one dma-buf of two BARs: 0x14000 bytes; mapped: EINVAL
— a memslot of it
of a VM without private memory: EINVAL
of another size: EINVAL
read-only: EINVAL
a memfd: EINVAL
with a guest_memfd: EINVAL
as it should be: done
moved: EINVAL
— shared or private, in place
a shared read of the registers: 0x4341564b
a shared write of the memory behind them: done
a private read, while it is shared: memory_fault at 0xe0004000, private
a shared read, when it is private: memory_fault at 0xe0004000, shared
— a trusted device: locked, then running
CONFIG_LOCKED: a private read is rejected: 0xffffffff
RUN: a private read has what was written when it was shared: 0x5e
RUN: a shared read is rejected: 0xffffffff
now it is ERROR, and VFIO’s error eventfd was signalled 2 times
— revoked
memory is disabled: EIO
and enabled again; what was the guest’s is gone: 0x0
the device is closed; KVM-VFIO still holds it: 0x0
and not any more: EIO
`
    .trim()
    .split('\n'),
  'legacy-kvm-vfio': `
— both
a second one: EBUSY
ADD_GROUP yes, DEL_GROUP yes, FILE_ADD yes
ADD_GROUP of the group’s descriptor: done
again: EEXIST
of a number nobody has: EBADF
of an eventfd: EINVAL
FILE_ADD, of the same group: EEXIST
DEL_GROUP: done
DEL_GROUP again: ENOENT
closed, and opened again: EBUSY
without the KVM-VFIO device: done
— 2013
a second one: EBUSY
ADD_GROUP yes, DEL_GROUP yes, FILE_ADD yes
ADD_GROUP of the group’s descriptor: done
again: EEXIST
of a number nobody has: EBADF
of an eventfd: EINVAL
FILE_ADD, of the same group: EBADF
DEL_GROUP: done
DEL_GROUP again: ENOENT
closed, and opened again: EBUSY
without the KVM-VFIO device: done
— mainline
a second one: EBUSY
ADD_GROUP no, DEL_GROUP no, FILE_ADD yes
ADD_GROUP of the group’s descriptor: ENXIO
again: ENXIO
of a number nobody has: ENXIO
of an eventfd: ENXIO
FILE_ADD, of the same group: done
DEL_GROUP: ENXIO
DEL_GROUP again: ENXIO
closed, and opened again: EBUSY
without the KVM-VFIO device: done
`
    .trim()
    .split('\n'),
};
