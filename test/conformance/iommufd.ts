/** What cases of /dev/iommu are made of: its requests as methods that give what was returned, or the errno's name, and what came back. */
import { type Kernel, KernelError, type MmapOptions, type Ram } from 'kvio';
import type { Struct } from 'kvio/uapi';
import * as u from 'kvio/uapi';
import type { Needs } from './case.ts';
import { UNSAFE } from './machine.ts';

export const IOMMUFD: Needs = { devices: ['/dev/iommu'] };
/** CONFIG_IOMMUFD_TEST: mock devices by IOMMU_TEST_CMD. */
export const MOCK: Needs = { devices: ['/dev/iommu'], iommufdTest: true };

export const U64_MAX: bigint = (1n << 64n) - 1n;
export const IOMMU_TEST_CMD = 0x3ba0;

export const FIXED: number = u.IOMMU_IOAS_MAP_FIXED_IOVA;
export const WRITE: number = u.IOMMU_IOAS_MAP_WRITEABLE;
export const READ: number = u.IOMMU_IOAS_MAP_READABLE;
export const RW: number = READ | WRITE;

/** IOMMU_TEST_OP_*. */
export const op = {
  ADD_RESERVED: 1,
  MOCK_DOMAIN: 2,
  MD_CHECK_MAP: 3,
  MD_CHECK_REFS: 4,
  CREATE_ACCESS: 5,
  DESTROY_ACCESS_PAGES: 6,
  ACCESS_PAGES: 7,
  ACCESS_RW: 8,
  SET_TEMP_MEMORY_LIMIT: 9,
  MOCK_DOMAIN_REPLACE: 10,
  ACCESS_REPLACE_IOAS: 11,
  MOCK_DOMAIN_FLAGS: 12,
  DIRTY: 13,
  MD_CHECK_IOTLB: 14,
  TRIGGER_IOPF: 15,
  DEV_CHECK_CACHE: 16,
  TRIGGER_VEVENT: 17,
  PASID_ATTACH: 18,
  PASID_REPLACE: 19,
  PASID_DETACH: 20,
  PASID_CHECK_HWPT: 21,
  DMABUF_GET: 22,
  DMABUF_REVOKE: 23,
} as const;

export type Answer = number | string;

/** What a call returned: a number from 0, or the errno's name. */
export function attempt(make: () => number): Answer {
  try {
    return make();
  } catch (error) {
    if (error instanceof KernelError) return error.code;
    throw error;
  }
}

/** Makes and closes a mapping: 0, or the errno's name. */
export function mapped(kernel: Kernel, options: MmapOptions): Answer {
  return attempt(() => {
    kernel.mmap({ view: false, ...options }).close();
    return 0;
  });
}

/** Mapped so that the first byte is at a multiple of 2 MiB: automatic placement goes by the address. */
export interface Buffer2M {
  readonly address: bigint;
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

const HUGE = 0x200000n;

export function buffer(kernel: Kernel): Buffer2M {
  const ram: Ram = kernel.guestRam(2n * HUGE);
  const address = (ram.address + HUGE - 1n) & -HUGE;
  const base = Number(address - ram.address);
  return {
    address,
    read: (offset, length) => ram.read(base + offset, length).slice(),
    write: (offset, bytes) => ram.write(base + offset, bytes),
  };
}

/** A struct's fields, those that are left out 0. */
type Fields<T> = { [K in keyof T]?: T[K] };

/** One open /dev/iommu. */
export class Iommufd {
  readonly kernel: Kernel;
  readonly fd: number;

  constructor(kernel: Kernel, fd: number = kernel.open('/dev/iommu')) {
    this.kernel = kernel;
    this.fd = fd;
  }

  /** Makes a request with the fields given, `size` among them or the struct's own; gives what was returned and the struct as it came back. */
  call<T extends { size: number }>(request: number, struct: Struct<T>, fields: Fields<T>, length: number = struct.size) {
    const bytes = new Uint8Array(Math.max(length, struct.size));
    const view = struct.view(bytes);
    Object.assign(view as object, { size: struct.size, ...fields });
    const buffer = bytes.subarray(0, length);
    const returned = attempt(() => this.kernel.ioctl(this.fd, request, buffer, UNSAFE));
    return { returned, out: view, bytes: buffer };
  }

  destroy(id: number): Answer {
    return this.call(u.IOMMU_DESTROY, u.iommu_destroy, { id }).returned;
  }

  /** The new IOAS's id, or the errno. */
  ioas(): number {
    return this.call(u.IOMMU_IOAS_ALLOC, u.iommu_ioas_alloc, {}).out.out_ioas_id;
  }

  map(fields: Fields<u.iommu_ioas_map>) {
    const { returned, out } = this.call(u.IOMMU_IOAS_MAP, u.iommu_ioas_map, { flags: RW, ...fields });
    return returned === 0 ? out.iova : returned;
  }

  mapAt(ioas_id: number, user_va: bigint, iova: bigint, length: bigint, flags: number = RW) {
    return this.map({ ioas_id, user_va, iova, length, flags: flags | FIXED });
  }

  mapFile(fields: Fields<u.iommu_ioas_map_file>) {
    const { returned, out } = this.call(u.IOMMU_IOAS_MAP_FILE, u.iommu_ioas_map_file, { flags: RW, ...fields });
    return returned === 0 ? out.iova : returned;
  }

  copy(fields: Fields<u.iommu_ioas_copy>) {
    const { returned, out } = this.call(u.IOMMU_IOAS_COPY, u.iommu_ioas_copy, { flags: RW, ...fields });
    return returned === 0 ? out.dst_iova : returned;
  }

  /** What was returned, and the bytes it said were unmapped. */
  unmap(ioas_id: number, iova: bigint, length: bigint) {
    const { returned, out } = this.call(u.IOMMU_IOAS_UNMAP, u.iommu_ioas_unmap, { ioas_id, iova, length });
    return returned === 0 ? out.length : returned;
  }

  unmapAll(ioas_id: number) {
    return this.unmap(ioas_id, 0n, U64_MAX);
  }

  option(option_id: number, operation: number, object_id: number, val64 = 0n) {
    const { returned, out } = this.call(u.IOMMU_OPTION, u.iommu_option, { option_id, op: operation, object_id, val64 });
    return returned === 0 ? out.val64 : returned;
  }

  /** What IOMMU_IOAS_IOVA_RANGES tells, with room for so many. */
  ranges(ioas_id: number, room = 16) {
    const ram = this.kernel.guestRam(0x1000);
    const fields = { ioas_id, num_iovas: room, allowed_iovas: ram.address };
    const { returned, out } = this.call(u.IOMMU_IOAS_IOVA_RANGES, u.iommu_ioas_iova_ranges, fields);
    const count = Math.min(out.num_iovas, room);
    const ranges = Array.from({ length: count }, (_, i) => u.iommu_iova_range.decode(ram.read(i * 16, 16)));
    ram.close();
    return { returned, total: out.num_iovas, alignment: out.out_iova_alignment, ranges };
  }

  allow(ioas_id: number, ranges: readonly (readonly [start: bigint, last: bigint])[]): Answer {
    const ram = this.kernel.guestRam(0x1000);
    for (const [i, [start, last]] of ranges.entries()) ram.write(i * 16, u.iommu_iova_range.encode({ start, last }));
    const fields = { ioas_id, num_iovas: ranges.length, allowed_iovas: ram.address };
    const { returned } = this.call(u.IOMMU_IOAS_ALLOW_IOVAS, u.iommu_ioas_allow_iovas, fields);
    ram.close();
    return returned;
  }

  hwpt(fields: Fields<u.iommu_hwpt_alloc>) {
    const { returned, out } = this.call(u.IOMMU_HWPT_ALLOC, u.iommu_hwpt_alloc, fields);
    return returned === 0 ? out.out_hwpt_id : returned;
  }

  /** A new HWPT's id; throws where there is none. */
  mustHwpt(fields: Fields<u.iommu_hwpt_alloc>): number {
    const id = this.hwpt(fields);
    if (typeof id === 'string') throw new Error(`IOMMU_HWPT_ALLOC: ${id}`);
    return id;
  }

  faultQueue(): { id: number; fd: number } {
    const { out } = this.call(u.IOMMU_FAULT_QUEUE_ALLOC, u.iommu_fault_alloc, {});
    return { id: out.out_fault_id, fd: out.out_fault_fd };
  }

  viommu(fields: Fields<u.iommu_viommu_alloc>) {
    const { returned, out } = this.call(u.IOMMU_VIOMMU_ALLOC, u.iommu_viommu_alloc, fields);
    return returned === 0 ? out.out_viommu_id : returned;
  }

  vdevice(viommu_id: number, dev_id: number, virt_id: bigint) {
    const { returned, out } = this.call(u.IOMMU_VDEVICE_ALLOC, u.iommu_vdevice_alloc, { viommu_id, dev_id, virt_id });
    return returned === 0 ? out.out_vdevice_id : returned;
  }

  /** IOMMU_TEST_CMD: `words` are [offset, value] of the union, 64 bits for a bigint. */
  test(operation: number, id: number, words: readonly (readonly [at: number, value: number | bigint])[] = []) {
    const bytes = new Uint8Array(72);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, bytes.length, true);
    view.setUint32(4, operation, true);
    view.setUint32(8, id, true);
    for (const [at, value] of words) {
      if (typeof value === 'bigint') view.setBigUint64(at, value, true);
      else view.setUint32(at, value, true);
    }
    const returned = attempt(() => this.kernel.ioctl(this.fd, IOMMU_TEST_CMD, bytes, UNSAFE));
    return { returned, view };
  }

  /** A mock device, attached to an IOAS or a HWPT. */
  mock(pt: number, flags?: number): { returned: Answer; stdev: number; hwpt: number; idev: number } {
    const { returned, view } =
      flags === undefined ? this.test(op.MOCK_DOMAIN, pt) : this.test(op.MOCK_DOMAIN_FLAGS, pt, [[28, flags]]);
    const word = (at: number): number => (returned === 0 ? view.getUint32(at, true) : 0);
    return { returned, stdev: word(16), hwpt: word(20), idev: word(24) };
  }

  /** The id of the HWPT it is attached to now, or the errno. */
  replace(stdev: number, pt: number): Answer {
    const { returned, view } = this.test(op.MOCK_DOMAIN_REPLACE, stdev, [[16, pt]]);
    return returned === 0 ? view.getUint32(16, true) : returned;
  }

  reserve(ioas: number, start: bigint, length: bigint): Answer {
    return this.test(op.ADD_RESERVED, ioas, [
      [16, start],
      [24, length],
    ]).returned;
  }

  /** Whether the page table translates to these very pages. */
  checkMap(hwpt: number, iova: bigint, length: bigint, uptr: bigint): Answer {
    return this.test(op.MD_CHECK_MAP, hwpt, [
      [16, iova],
      [24, length],
      [32, uptr],
    ]).returned;
  }

  close(): void {
    this.kernel.close(this.fd);
  }
}
