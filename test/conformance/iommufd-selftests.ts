/**
 * The definitions of tools/testing/selftests/iommu/iommufd.c (Linux 7.2), by fixture, and the cases that ask the same; or why none can. Its other program,
 * iommufd_fail_nth.c (basic, map_domain, map_file_domain, map_two_domains, access_rw, access_pin, access_pin_domain, device), makes the n-th allocation in the
 * kernel fail by debugfs, and looks for leaks there: that is no business of a case.
 */
export type Covered = readonly string[] | { readonly why: string };

const anotherProcess = { why: 'the memory is that of another process, and a case is one' };
const by = (...cases: string[]): Covered => cases.map((name) => `iommufd/${name}`);

export const iommufdSelftests: Readonly<Record<string, Readonly<Record<string, Covered>>>> = {
  iommufd: {
    simple_close: by('contract/file-operations'),
    cmd_fail: by('objects/ids', 'contract/sizes', 'contract/numbers'),
    cmd_length: by('contract/sizes'),
    cmd_ex_fail: by('contract/sizes', 'contract/unreadable-tail'),
    global_options: by('ioas/options'),
    simple_ioctls: by('compat/without-ioas'),
    unmap_cmd: by('compat/without-ioas'),
    map_cmd: by('compat/without-ioas'),
    info_cmd: by('compat/without-ioas'),
    set_iommu_cmd: by('compat/without-ioas'),
    vfio_ioas: by('compat/vfio-ioas'),
  },
  change_process: {
    basic: {
      why: 'what is charged goes from one process to another, and a case is one; what it refuses: iommufd/ioas/change-process',
    },
  },
  iommufd_ioas: {
    ioas_auto_destroy: by('devices/attach'),
    ioas_destroy: by('objects/references'),
    alloc_hwpt_nested: by('hwpt/alloc-order', 'hwpt/nested', 'hwpt/invalidate', 'events/page-requests'),
    hwpt_attach: by('devices/attach'),
    ioas_area_destroy: by('objects/ids'),
    ioas_area_auto_destroy: by('ioas/map-on-a-domain', 'ioas/map-order'),
    get_hw_info: by('hwpt/hw-info'),
    area: by('ioas/unmap', 'ioas/map-order'),
    unmap_fully_contained_areas: by('ioas/unmap'),
    area_auto_iova: by('ioas/placement', 'ioas/allow', 'ioas/ranges'),
    reserved_overflow: by('ioas/reserved-to-the-top'),
    area_allowed: by('ioas/allow'),
    copy_area: by('ioas/copy'),
    iova_ranges: by('ioas/ranges', 'ioas/map-on-a-domain'),
    access_domain_destory: by('access/pins-swept'),
    access_pin: by('access/pins', 'access/pins-swept'),
    access_pin_unmap: by('access/pins'),
    access_rw: by('access/read-write'),
    access_rw_unaligned: by('access/read-write-unaligned'),
    fork_gone: anotherProcess,
    fork_present: anotherProcess,
    ioas_option_huge_pages: by('ioas/options', 'ioas/options-on-a-domain'),
    ioas_iova_alloc: by('sweeps/every-length'),
    ioas_align_change: by('ioas/alignment', 'ioas/options'),
    copy_sweep: by('sweeps/copies'),
    dmabuf_simple: by('files/dma-bufs'),
    dmabuf_revoke: by('files/dma-bufs'),
  },
  iommufd_mock_domain: {
    basic: by('ioas/map-on-a-domain', 'files/map-on-a-domain', 'hugepages/files'),
    ro_unshare: by('files/private-page'),
    all_aligns: by('sweeps/every-range', 'hugepages/every-range'),
    all_aligns_copy: by('sweeps/every-range', 'hugepages/every-range'),
    user_copy: by('access/user-copy'),
    replace: by('devices/replace'),
    alloc_hwpt: by('hwpt/alloc-order', 'devices/replace', 'devices/attach'),
  },
  iommufd_dirty_tracking: {
    enforce_dirty: by('hwpt/alloc-order'),
    set_dirty_tracking: by('hwpt/dirty-order'),
    pasid_set_dirty_tracking: by('dirty/of-pasids'),
    device_dirty_capability: by('hwpt/hw-info'),
    get_dirty_bitmap: by('hwpt/dirty-bits', 'dirty/buffers', 'hugepages/dirty-64M', 'hugepages/dirty-128M'),
    get_dirty_bitmap_no_clear: by('hwpt/dirty-bits', 'dirty/buffers', 'hugepages/dirty-64M', 'hugepages/dirty-128M'),
  },
  vfio_compat_mock_domain: {
    simple_close: by('compat/with-ioas'),
    option_huge_pages: by('compat/with-ioas', 'compat/cutting'),
    get_info: by('compat/with-ioas', 'compat/info-of-every-size'),
    map: by('compat/with-ioas', 'compat/holes'),
    huge_map: by('compat/holes', 'compat/cutting'),
  },
  iommufd_viommu: {
    viommu_auto_destroy: by('viommu/tombstone'),
    viommu_negative_tests: by('viommu/alloc'),
    viommu_alloc_nested_iopf: by('events/page-requests-of-viommus'),
    viommu_alloc_with_data: by('viommu/driver-memory'),
    vdevice_alloc: by('viommu/vdevices', 'events/veventq'),
    vdevice_cache: by('viommu/caches'),
    hw_queue: by('viommu/queues'),
    vdevice_tombstone: by('viommu/tombstone', 'viommu/vdevices'),
  },
  iommufd_device_pasid: {
    pasid_attach: by('devices/pasids', 'events/page-requests-of-pasids'),
  },
};
