/** What kernels without confidential device assignment answer to its numbers: docs/tee-io.md has what the series do with them. */
import type { Checks } from './check.ts';

const vfio = 'vfio/tee-io/requests';
const iommufd = 'iommufd/tee-io/requests';
const viommu = 'iommufd/tee-io/viommu';
const kvmVfio = 'kvm/tee-io/kvm-vfio';

export const teeIoChecks: Checks = {
  'VFIO: TSM_BIND, TSM_UNBIND (RFC)': [
    ['EINVAL', 'a cdev that is not bound', vfio, 'not bound: TSM_BIND'],
    ['ENOTTY', 'bound, whatever the struct', vfio, 'bound: TSM_BIND'],
    ['ENOTTY', 'a device of a group', vfio, 'of a group: TSM_UNBIND'],
  ],
  'VFIO: BIND_IOMMUFD, PRIVATE (RFC)': [
    [
      'EFAULT',
      'flag 1 says that a token is given, whose pointer 16 bytes have not',
      'vfio/tee-io/bind-private',
      'flag 1, argsz 16',
    ],
  ],
  'VFIO: DMA_BUF as posted (RFC)': [
    ['EINVAL', 'the number of ranges is read where the first range is', 'vfio/tee-io/dma-buf-layout', 'one range'],
  ],
  'iommufd: TSM_OP, TSM_GUEST_REQUEST, TSM_MAP (RFC)': [
    ['ENOTTY', '0x95', iommufd, 'TSM_OP, 16 bytes'],
    ['ENOTTY', '0x96, of 40 and of 48 bytes', iommufd, 'TSM_GUEST_REQUEST, TSM_REQ, 48 bytes'],
    ['ENOTTY', '0x97', iommufd, 'TSM_MAP, 32 bytes'],
    [
      'EFAULT',
      'where the table goes on to IOMMU_TEST_CMD the size is read first',
      'iommufd/tee-io/inside-the-table',
      '0x95, pointer 0',
    ],
  ],
  'iommufd: VIOMMU_ALLOC, KVM_FD (RFC)': [
    ['E2BIG', '48 bytes, more than zeros behind the 40', viommu, '48 bytes, a descriptor behind'],
    ['EOPNOTSUPP', 'a flag', viommu, 'KVM_FD, 40 bytes'],
    ['EOPNOTSUPP', 'types 2 and 3', viommu, 'type 3'],
  ],
  'iommufd: EXCLUSIVE_RANGES (RFC)': [['EOPNOTSUPP', 'no such option', 'iommufd/tee-io/exclusive-ranges', 'SET']],
  'iommufd: MAP_FILE of a guest_memfd (RFC)': [
    ['EINVAL', 'it cannot be pinned', 'iommufd/tee-io/map-guest-memfd-for-a-device', 'MAP_FILE'],
  ],
  'KVM: VFIO_DMABUF (RFC)': [
    ['EINVAL', 'an unknown flag', 'kvm/tee-io/slots', 'bit 3'],
    ['EINVAL', 'also of a VM with private memory, and of a dma-buf', 'vfio/tee-io/memslot', 'a SW_PROTECTED one: VFIO_DMABUF'],
  ],
  'KVM-VFIO: ADD_GROUP, DEL_GROUP, TDI_BIND, TDI_UNBIND (RFC)': [
    ['ENXIO', 'attribute 0 of group 1', kvmVfio, 'ADD_GROUP by value'],
    ['ENXIO', 'group 2', kvmVfio, 'TDI_BIND'],
  ],
};
