/** What an iommufd checks of VFIO's type1 requests, and its test interface of its own. */
import type { Checks } from './check.ts';

const without = 'iommufd/compat/without-ioas';
const compat = 'iommufd/compat/with-ioas';
const cutting = 'iommufd/compat/cutting';
const pins = 'iommufd/access/pins';
const rw = 'iommufd/access/read-write';

export const iommufdCompatChecks: Checks = {
  'VFIO_GET_API_VERSION (iommufd)': [['0', 'always', without, 'GET_API_VERSION']],
  'VFIO_CHECK_EXTENSION (iommufd)': [
    ['1', 'TYPE1, TYPE1v2, UNMAP_ALL', without, 'CHECK_EXTENSION 3'],
    ['1', 'NOIOMMU, where the kernel has it', without, 'CHECK_EXTENSION 8'],
    ['ENODEV', 'DMA_CC: no IOAS', without, 'CHECK_EXTENSION 4'],
    ['1', 'DMA_CC: every table enforces coherency', compat, 'DMA_CC'],
    ['0', 'anything else', without, 'CHECK_EXTENSION 10'],
  ],
  'VFIO_SET_IOMMU (iommufd)': [
    ['EPERM', 'NOIOMMU of a no-IOMMU group, without CAP_SYS_RAWIO'],
    ['EINVAL', 'neither TYPE1 nor TYPE1v2', without, 'SET_IOMMU 2'],
    ['ENODEV', 'no IOAS', without, 'SET_IOMMU 1'],
    ['0', 'TYPE1: and no large pages from here on', cutting, 'SET_IOMMU 1'],
    ['0', 'again', compat, 'SET_IOMMU 3'],
  ],
  'VFIO_IOMMU_GET_INFO (iommufd)': [
    ['EFAULT', 'its first 16 bytes cannot be read', without, 'nowhere'],
    ['EINVAL', 'argsz below 16', without, 'GET_INFO, short'],
    ['ENODEV', 'no IOAS', without, 'GET_INFO'],
    ['0', 'argsz below what the capabilities need: cap_offset is 0', compat, 'GET_INFO of 71'],
    ['0', 'no more than argsz is written', 'iommufd/compat/info-of-every-size', 'by argsz'],
  ],
  'VFIO_IOMMU_MAP_DMA (iommufd)': [
    ['EFAULT', 'the struct cannot be read', without, 'nowhere'],
    ['EINVAL', 'argsz below 32', without, 'MAP_DMA, short'],
    ['EINVAL', 'unknown flags', without, 'MAP_DMA, flags'],
    ['ENODEV', 'no IOAS', without, 'MAP_DMA'],
    ['EOVERFLOW', 'vaddr wraps', compat, 'MAP_DMA, vaddr overflows'],
    ['EINVAL', 'size 0', compat, 'MAP_DMA of nothing'],
    ['EOVERFLOW', 'iova wraps', compat, 'MAP_DMA, iova overflows'],
    ['EEXIST', 'over an area', compat, 'MAP_DMA again'],
    ['EINVAL', 'no permission, and there is a table', 'iommufd/compat/no-permission', 'MAP_DMA, flags 0, with a device'],
    ['0', 'no permission, and there is none', 'iommufd/compat/no-permission', 'MAP_DMA, flags 0'],
  ],
  'VFIO_IOMMU_UNMAP_DMA (iommufd)': [
    ['EFAULT', 'the struct cannot be read', without, 'nowhere'],
    ['EINVAL', 'argsz below 24', without, 'UNMAP_DMA, short'],
    ['EINVAL', 'flags other than ALL', without, 'UNMAP_DMA, flags'],
    ['ENODEV', 'no IOAS', without, 'UNMAP_DMA'],
    ['EINVAL', 'ALL with a range', compat, 'UNMAP_DMA of all, with a length'],
    ['EINVAL', 'TYPE1: it cuts an area where pages do not end', cutting, 'half a page out of the middle'],
    ['EOPNOTSUPP', 'TYPE1: it cuts a dma-buf'],
    ['EINVAL', 'size 0', compat, 'UNMAP_DMA of no length'],
    ['EOVERFLOW', 'the range wraps', compat, 'UNMAP_DMA, overflow'],
    ['ENOENT', 'TYPE1v2: it cuts an area; size says what is gone', compat, 'UNMAP_DMA of the first and a part of the second'],
    ['0', 'nothing there', compat, 'UNMAP_DMA of nothing there'],
  ],
  'IOMMU_TEST_CMD (iommufd)': [
    ['EINVAL', 'less than 68 bytes', 'iommufd/contract/holes-of-a-test-kernel', 'IOMMU_TEST_CMD of 67 bytes'],
    ['E2BIG', 'something behind the struct', 'iommufd/contract/holes-of-a-test-kernel', 'IOMMU_TEST_CMD with a long tail'],
    ['EOPNOTSUPP', 'no such operation', 'iommufd/contract/holes-of-a-test-kernel', 'IOMMU_TEST_CMD of 68 bytes, no operation'],
    ['EADDRINUSE', 'ADD_RESERVED: over what is allowed', 'iommufd/ioas/allow', 'reserving inside'],
    ['EINVAL', 'ADD_RESERVED: of no length', 'iommufd/ioas/ranges', 'of no length'],
    ['EINVAL', 'MOCK_DOMAIN: to what is no IOAS and no table', 'iommufd/devices/attach', 'to a device'],
    ['EADDRINUSE', 'MOCK_DOMAIN: an area is below its aperture', 'iommufd/ioas/alignment', 'below its aperture'],
    ['EFAULT', 'MOCK_DOMAIN: an area’s memory is not there', 'iommufd/ioas/alignment', 'over memory nobody has'],
    ['EINVAL', 'MD_CHECK_MAP: other pages', 'iommufd/ioas/map-on-a-domain', 'and not to others'],
    ['EADDRINUSE', 'CREATE_ACCESS: an area of no whole pages', pins, 'an area that is not aligned'],
    ['ENOMEM', 'ACCESS_PAGES: more than 16 MiB', pins, 'too long'],
    ['EBADFD', 'ACCESS_PAGES: of no access', pins, 'of another file'],
    ['ENOENT', 'ACCESS_PAGES: not all of it is mapped', pins, 'mapped in part'],
    ['EINVAL', 'ACCESS_PAGES: from the middle of a page', pins, 'inside a page'],
    ['EPERM', 'ACCESS_PAGES: to write what is readable', pins, 'writing what is readable'],
    ['EFAULT', 'ACCESS_RW: from nowhere', rw, 'from nowhere'],
    ['ENOENT', 'ACCESS_RW: not mapped', rw, 'not mapped'],
    ['ENOENT', 'TRIGGER_VEVENT: the device has no vIOMMU', 'iommufd/events/veventq', 'of a device that has no vIOMMU'],
    ['EOPNOTSUPP', 'TRIGGER_VEVENT: nobody listens', 'iommufd/events/veventq', 'nobody listens'],
    ['EBUSY', 'PASID_ATTACH: PASID 0 is the device', 'iommufd/devices/pasids', 'PASID 0 is the device'],
    ['EINVAL', 'PASID_ATTACH: to an IOAS', 'iommufd/devices/pasids', 'to an IOAS'],
    ['EINVAL', 'DMABUF_GET: more than 2 MiB', 'iommufd/files/dma-bufs', 'too long'],
  ],
};
