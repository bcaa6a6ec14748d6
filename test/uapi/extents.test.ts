import { describe, expect, test } from 'vitest';
import * as u from '../../src/uapi/index.ts';

const row = (name: string, fd?: u.FdKind): u.IoctlRow => u.ioctlByName(name, fd)!;
const words = (length: number, ...values: number[]): Uint8Array => {
  const bytes = new Uint8Array(length);
  new Uint32Array(bytes.buffer).set(values);
  return bytes;
};

describe('bytes the kernel touches', () => {
  const iommu = (size: number) => words(64, size);
  const cases: [string, number, u.IoctlRow, Uint8Array, u.State?][] = [
    ['no argument', 0, row('KVM_GET_API_VERSION'), new Uint8Array(0)],
    ['an integer', 0, row('KVM_CREATE_VCPU'), new Uint8Array(0)],
    ['a struct', 144, row('KVM_GET_REGS'), new Uint8Array(0)],
    ['nmsrs entries', 8 + 3 * 16, row('KVM_SET_MSRS'), words(8, 3)],
    ['nmsrs refused', 8, row('KVM_SET_MSRS'), words(8, 256)],
    ['nent clamped', 8 + 256 * 40, row('KVM_GET_SUPPORTED_CPUID'), words(8, 0xffffffff)],
    ['nent refused', 8, row('KVM_SET_CPUID2'), words(8, 257)],
    ['MSR indices', 4 + 4 * 44, row('KVM_GET_MSR_INDEX_LIST'), words(4, 44)],
    ['routes', 8 + 48 * 2, row('KVM_SET_GSI_ROUTING'), words(8, 2)],
    ['routes refused', 8, row('KVM_SET_GSI_ROUTING'), words(8, 4097)],
    ['signal mask', 12, row('KVM_SET_SIGNAL_MASK'), words(4, 8)],
    ['signal mask of wrong length', 4, row('KVM_SET_SIGNAL_MASK'), words(4, 16)],
    ['registers', 8 + 8 * 5, row('KVM_GET_REG_LIST'), words(8, 5)],
    ['nested state', 4224, row('KVM_GET_NESTED_STATE'), words(128, 0, 4224)],
    ['nested state, header only', 128, row('KVM_GET_NESTED_STATE'), words(128, 0, 4)],
    ['xsave', 4096, row('KVM_SET_XSAVE'), new Uint8Array(4096)],
    [
      'xsave with AMX',
      11008,
      row('KVM_SET_XSAVE'),
      new Uint8Array(4096),
      (rule) => (rule === 'xsave2-size' ? 11008n : undefined),
    ],
    ['a pointer behind _IO', 32, row('KVM_REINJECT_CONTROL'), new Uint8Array(32)],
    ['argsz', 100, row('VFIO_DEVICE_GET_INFO'), words(16, 100)],
    ['argsz too small', 16, row('VFIO_DEVICE_GET_INFO'), words(16, 4)],
    ['argsz means nothing', 32, row('VFIO_IOMMU_MAP_DMA'), words(32, 4000)],
    ['irq eventfds', 20 + 12, row('VFIO_DEVICE_SET_IRQS'), words(20, 32, u.VFIO_IRQ_SET_DATA_EVENTFD, 0, 0, 3)],
    ['irq bools', 20 + 3, row('VFIO_DEVICE_SET_IRQS'), words(20, 32, u.VFIO_IRQ_SET_DATA_BOOL, 0, 0, 3)],
    ['irq nothing', 20, row('VFIO_DEVICE_SET_IRQS'), words(20, 20, u.VFIO_IRQ_SET_DATA_NONE, 0, 0, 3)],
    ['unmap with bitmap', 48, row('VFIO_IOMMU_UNMAP_DMA'), words(24, 48, u.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)],
    ['unmap', 24, row('VFIO_IOMMU_UNMAP_DMA'), words(24, 48)],
    ['device name', 13, row('VFIO_GROUP_GET_DEVICE_FD'), new TextEncoder().encode('0000:00:02.0\0more')],
    ['device name without end', 4096, row('VFIO_GROUP_GET_DEVICE_FD'), new TextEncoder().encode('0000')],
    ['bind, argsz too small', 4, row('VFIO_DEVICE_BIND_IOMMUFD'), words(4, 12)],
    ['bind', 24, row('VFIO_DEVICE_BIND_IOMMUFD'), words(24, 24)],
    ['iommufd, too short', 4, row('IOMMU_IOAS_MAP'), iommu(39)],
    ['iommufd', 40, row('IOMMU_IOAS_MAP'), iommu(40)],
    ['iommufd, longer', 60, row('IOMMU_IOAS_MAP'), iommu(60)],
    ['iommufd, older and shorter', 24, row('IOMMU_HWPT_ALLOC'), iommu(24)],
    ['udmabuf list', 8 + 24 * 2, row('UDMABUF_CREATE_LIST'), words(8, 0, 2)],
  ];
  test.each(cases)('%s: %i', (_what, expected, ioctl, bytes, state) => {
    expect(u.touchedLength(ioctl, bytes, state)).toBe(expected);
  });
});

describe('pointers', () => {
  test('a memslot', () => {
    const region = { slot: 0, flags: 0, guest_phys_addr: 0n, memory_size: 0x1000n, userspace_addr: 0x7000n };
    const bytes = u.kvm_userspace_memory_region.encode(region);
    const set = row('KVM_SET_USER_MEMORY_REGION');
    expect(u.userPointers(set, bytes)).toEqual([{ field: 'userspace_addr', address: 0x7000n, length: 0x1000n, dir: 'inout' }]);
    expect(u.userPointers(set, u.kvm_userspace_memory_region.encode({ ...region, memory_size: 0n }))).toEqual([]);
  });

  test('a dirty log: the memslot says how long', () => {
    const bytes = u.kvm_dirty_log.encode({ slot: 3, padding1: 0, dirty_bitmap: 0x5000n });
    const asked: unknown[] = [];
    const state: u.State = (rule, args) => {
      asked.push(rule, args);
      return 512n;
    };
    expect(u.userPointers(row('KVM_GET_DIRTY_LOG'), bytes, state)).toEqual([
      { field: 'dirty_bitmap', address: 0x5000n, length: 512n, dir: 'out' },
    ]);
    expect(asked).toEqual(['memslot-bitmap', [3n]]);
    expect(u.userPointers(row('KVM_GET_DIRTY_LOG'), bytes)[0]!.length).toBe(8n);
  });

  test('a dirty log to clear', () => {
    const bytes = u.kvm_clear_dirty_log.encode({ slot: 0, num_pages: 65, first_page: 0n, dirty_bitmap: 1n });
    expect(u.userPointers(row('KVM_CLEAR_DIRTY_LOG'), bytes)).toEqual([
      { field: 'dirty_bitmap', address: 1n, length: 16n, dir: 'in' },
    ]);
  });

  test('MSR filter bitmaps, one per range in use', () => {
    const filter = u.kvm_msr_filter.decode(u.kvm_msr_filter.alloc());
    filter.ranges[0] = { flags: 1, nmsrs: 1, base: 0, bitmap: 0x1000n };
    filter.ranges[15] = { flags: 1, nmsrs: 65, base: 0, bitmap: 0x2000n };
    expect(u.userPointers(row('KVM_X86_SET_MSR_FILTER'), u.kvm_msr_filter.encode(filter))).toEqual([
      { field: 'ranges[0].bitmap', address: 0x1000n, length: 8n, dir: 'in' },
      { field: 'ranges[15].bitmap', address: 0x2000n, length: 16n, dir: 'in' },
    ]);
  });

  test('a register: its id says how long', () => {
    const bytes = u.kvm_one_reg.encode({ id: u.KVM_REG_X86 | u.KVM_REG_SIZE_U128, addr: 9n });
    expect(u.userPointers(row('KVM_GET_ONE_REG'), bytes)).toEqual([{ field: 'addr', address: 9n, length: 16n, dir: 'out' }]);
  });

  test('KVM-VFIO attributes and others', () => {
    const attr = (group: number, attribute: bigint) => u.kvm_device_attr.encode({ flags: 0, group, attr: attribute, addr: 9n });
    const length = (name: string, fd: u.FdKind, bytes: Uint8Array) => u.userPointers(row(name, fd), bytes)[0]?.length;
    expect(length('KVM_SET_DEVICE_ATTR', 'kvm-device', attr(1, 1n))).toBe(4n);
    expect(length('KVM_SET_DEVICE_ATTR', 'vcpu', attr(0, 0n))).toBe(8n);
    expect(length('KVM_HAS_DEVICE_ATTR', 'kvm-device', attr(1, 1n))).toBeUndefined();
  });

  test('payloads behind data[]', () => {
    const unmap = new Uint8Array(48);
    unmap.set(u.vfio_iommu_type1_dma_unmap.encode({ argsz: 48, flags: 1, iova: 0n, size: 4096n, data: new Uint8Array(0) }));
    u.vfio_bitmap.encode({ pgsize: 4096n, size: 8n, data: 0x77n }, unmap, 24);
    expect(u.userPointers(row('VFIO_IOMMU_UNMAP_DMA'), unmap)).toEqual([
      { field: 'data.data', address: 0x77n, length: 8n, dir: 'out' },
    ]);

    const report = new Uint8Array(40);
    const flags = u.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT | u.VFIO_DEVICE_FEATURE_GET;
    u.vfio_device_feature.encode({ argsz: 40, flags, data: new Uint8Array(0) }, report);
    u.vfio_device_feature_dma_logging_report.encode({ iova: 0n, length: 0x41000n, page_size: 0x1000n, bitmap: 0x99n }, report, 8);
    expect(u.userPointers(row('VFIO_DEVICE_FEATURE'), report)).toEqual([
      { field: 'data.bitmap', address: 0x99n, length: 16n, dir: 'out' },
    ]);
    expect(u.userPointers(row('VFIO_DEVICE_FEATURE'), report.subarray(0, 24))).toEqual([]);
  });

  test('iommufd', () => {
    const map = u.iommu_ioas_map.encode({ size: 40, flags: 7, ioas_id: 1, user_va: 0x1000n, length: 0x2000n, iova: 0n });
    expect(u.userPointers(row('IOMMU_IOAS_MAP'), map)).toEqual([
      { field: 'user_va', address: 0x1000n, length: 0x2000n, dir: 'inout' },
    ]);
    const ranges = u.iommu_ioas_iova_ranges.encode({
      size: 32,
      ioas_id: 1,
      num_iovas: 3,
      allowed_iovas: 5n,
      out_iova_alignment: 0n,
    });
    expect(u.userPointers(row('IOMMU_IOAS_IOVA_RANGES'), ranges)).toEqual([
      { field: 'allowed_iovas', address: 5n, length: 48n, dir: 'out' },
    ]);
  });

  test('pointers behind pointers, where memory can be read', () => {
    const command = u.kvm_sev_cmd.encode({ id: u.KVM_SEV_LAUNCH_UPDATE_DATA, data: 0x4000n, error: 0, sev_fd: 3 });
    const update = u.kvm_sev_launch_update_data.encode({ uaddr: 0x9000n, len: 64 });
    const op = row('KVM_MEMORY_ENCRYPT_OP');
    const data = { field: 'data', address: 0x4000n, length: 16n, dir: 'in' };
    expect(u.userPointers(op, command)).toEqual([data]);
    expect(u.userPointers(op, command, undefined, () => update)).toEqual([
      data,
      { field: 'data->uaddr', address: 0x9000n, length: 64n, dir: 'inout' },
    ]);
  });
});
