/** What every request of /dev/iommu has in common: numbers, sizes, what is written back, ids, references. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { attempt, buffer, FIXED, IOMMU_TEST_CMD, IOMMUFD, Iommufd, MOCK, mapped, RW, U64_MAX } from '../../iommufd.ts';
import { UNSAFE } from '../../machine.ts';

/** An address that can never be mapped. */
const NOWHERE = 0xffff_8000_0000_1000n;

/** Each request: its struct, and how long that must be at least. */
const requests: readonly (readonly [name: string, request: number, full: number, least: number])[] = [
  ['IOMMU_DESTROY', u.IOMMU_DESTROY, 8, 8],
  ['IOMMU_IOAS_ALLOC', u.IOMMU_IOAS_ALLOC, 12, 12],
  ['IOMMU_IOAS_ALLOW_IOVAS', u.IOMMU_IOAS_ALLOW_IOVAS, 24, 24],
  ['IOMMU_IOAS_COPY', u.IOMMU_IOAS_COPY, 40, 40],
  ['IOMMU_IOAS_IOVA_RANGES', u.IOMMU_IOAS_IOVA_RANGES, 32, 32],
  ['IOMMU_IOAS_MAP', u.IOMMU_IOAS_MAP, 40, 40],
  ['IOMMU_IOAS_UNMAP', u.IOMMU_IOAS_UNMAP, 24, 24],
  ['IOMMU_OPTION', u.IOMMU_OPTION, 24, 24],
  ['IOMMU_VFIO_IOAS', u.IOMMU_VFIO_IOAS, 12, 12],
  ['IOMMU_HWPT_ALLOC', u.IOMMU_HWPT_ALLOC, 48, 24],
  ['IOMMU_GET_HW_INFO', u.IOMMU_GET_HW_INFO, 40, 32],
  ['IOMMU_HWPT_SET_DIRTY_TRACKING', u.IOMMU_HWPT_SET_DIRTY_TRACKING, 16, 16],
  ['IOMMU_HWPT_GET_DIRTY_BITMAP', u.IOMMU_HWPT_GET_DIRTY_BITMAP, 48, 48],
  ['IOMMU_HWPT_INVALIDATE', u.IOMMU_HWPT_INVALIDATE, 32, 32],
  ['IOMMU_FAULT_QUEUE_ALLOC', u.IOMMU_FAULT_QUEUE_ALLOC, 16, 16],
  ['IOMMU_IOAS_MAP_FILE', u.IOMMU_IOAS_MAP_FILE, 40, 40],
  ['IOMMU_VIOMMU_ALLOC', u.IOMMU_VIOMMU_ALLOC, 40, 24],
  ['IOMMU_VDEVICE_ALLOC', u.IOMMU_VDEVICE_ALLOC, 24, 24],
  ['IOMMU_IOAS_CHANGE_PROCESS', u.IOMMU_IOAS_CHANGE_PROCESS, 8, 8],
  ['IOMMU_VEVENTQ_ALLOC', u.IOMMU_VEVENTQ_ALLOC, 32, 28],
  ['IOMMU_HW_QUEUE_ALLOC', u.IOMMU_HW_QUEUE_ALLOC, 40, 40],
];

/** A struct that says it is `said` bytes long, in a buffer of `length`. */
function sized(said: number, length: number, fill = 0): Uint8Array {
  const bytes = new Uint8Array(length).fill(fill);
  new DataView(bytes.buffer).setUint32(0, said, true);
  return bytes;
}

function sizes(kernel: Kernel, see: Observer): void {
  for (const [name, request, full, least] of requests) {
    const { fd } = new Iommufd(kernel);
    const ask = (bytes: Uint8Array) => attempt(() => kernel.ioctl(fd, request, bytes, UNSAFE));
    see.note(`${name}: one less than the least`, ask(sized(least - 1, least)));
    see.note(`${name}: the least`, ask(sized(least, least)));
    see.note(`${name}: one more than all, not zero`, ask(Uint8Array.from([...sized(full + 1, full), 0xff])));
    const longer = sized(full + 16, full + 16);
    see.note(`${name}: more than all, zeros`, ask(longer));
    see.note(
      `${name}: nowhere`,
      attempt(() => kernel.ioctl(fd, request, NOWHERE, UNSAFE)),
    );
    kernel.close(fd);
  }
}

function numbers(kernel: Kernel, see: Observer): void {
  const { fd } = new Iommufd(kernel);
  const good = sized(8, 8);
  for (const [name, request] of Object.entries({
    'below the table': 0x3b7f,
    'below VFIO': 0x3b00,
    'behind the table': 0x3ba1,
    'another type': 0x3c80,
    'with a direction': u.IOMMU_DESTROY | 0x8000_0000,
    'with a size': (u.IOMMU_DESTROY | (8 << 16)) >>> 0,
  })) {
    see.note(
      `${name}: readable`,
      attempt(() => kernel.ioctl(fd, request >>> 0, good, UNSAFE)),
    );
    see.note(
      `${name}: nowhere`,
      attempt(() => kernel.ioctl(fd, request >>> 0, NOWHERE, UNSAFE)),
    );
  }
}

function holes(kernel: Kernel, see: Observer): void {
  const { fd } = new Iommufd(kernel);
  for (const request of [0x3b95, 0x3b9f]) {
    see.note(
      `0x${request.toString(16)}: readable`,
      attempt(() => kernel.ioctl(fd, request, sized(8, 8), UNSAFE)),
    );
    see.note(
      `0x${request.toString(16)}: nowhere`,
      attempt(() => kernel.ioctl(fd, request, NOWHERE, UNSAFE)),
    );
  }
  const test = (size: number, more = 0): unknown =>
    attempt(() => kernel.ioctl(fd, IOMMU_TEST_CMD, sized(size, Math.max(size, 72), more), UNSAFE));
  see.note('IOMMU_TEST_CMD of 67 bytes', test(67));
  see.note('IOMMU_TEST_CMD of 68 bytes, no operation', test(68));
  see.note('IOMMU_TEST_CMD with a long tail', test(80, 1));
}

/** A struct that ends where memory ends: what is behind it is not read. */
function edges(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ram = kernel.mmap({ length: 0x2000 });
  const last = kernel.mmap({ length: 0x1000 });
  ram.write(0x1000 - 12, sized(12, 12));
  see.note(
    'at the end of a page',
    attempt(() => kernel.ioctl(iommufd.fd, u.IOMMU_IOAS_ALLOC, ram.address + 0x1000n - 12n, UNSAFE)),
  );
  last.write(0x1000 - 8, sized(8, 8));
  kernel.munmap(ram);
}

function fileOperations(kernel: Kernel, see: Observer): void {
  const { fd } = new Iommufd(kernel);
  see.note(
    'read',
    attempt(() => kernel.read(fd, new Uint8Array(8))),
  );
  see.note(
    'write',
    attempt(() => kernel.write(fd, new Uint8Array(8))),
  );
  see.note(
    'pread',
    attempt(() => kernel.pread(fd, new Uint8Array(8), 0)),
  );
  see.note(
    'pwrite',
    attempt(() => kernel.pwrite(fd, new Uint8Array(8), 0)),
  );
  see.note('poll', kernel.poll([{ fd, events: 0x7fff }]));
  const mmap = (label: string, flags: number, prot: number, offset = 0): void =>
    see.note(label, mapped(kernel, { fd, length: 0x1000, flags, prot, offset }));
  mmap('mmap, private', u.MAP_PRIVATE, u.PROT_READ);
  mmap('mmap, PROT_EXEC', u.MAP_SHARED, u.PROT_READ | u.PROT_EXEC);
  mmap('mmap, no region', u.MAP_SHARED, u.PROT_READ);
  mmap('mmap, no region at 4096', u.MAP_SHARED, u.PROT_READ, 4096);
  see.note('mode', (kernel.fstat(fd).mode & 0o7777).toString(8));
  const readOnly = new Iommufd(kernel, kernel.open('/dev/iommu', u.O_RDONLY));
  see.note('read-only: IOAS_ALLOC', readOnly.ioas());
  const copy = new Iommufd(kernel, kernel.dup(readOnly.fd));
  see.note('dup: IOAS_ALLOC', copy.ioas());
}

function writtenBack(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const id = iommufd.ioas();
  const ram = kernel.guestRam(0x3000);
  const tail = new Uint8Array(48);
  const view = u.iommu_ioas_map.view(tail);
  Object.assign(view as object, {
    size: 48,
    flags: RW | FIXED,
    ioas_id: id,
    user_va: ram.address,
    length: 0x1000n,
    iova: 0x10000n,
  });
  see.note(
    'MAP, longer than the struct',
    attempt(() => kernel.ioctl(iommufd.fd, u.IOMMU_IOAS_MAP, tail, UNSAFE)),
  );
  see.note('the tail', tail.slice(40));
  const failed = iommufd.call(u.IOMMU_IOAS_MAP, u.iommu_ioas_map, {
    ...{ flags: RW | FIXED, ioas_id: id, user_va: 0x5000n, length: 0x1000n, iova: 0x10000n },
  });
  see.note('MAP that fails', failed.returned);
  see.note('its IOVA afterwards', failed.out.iova);
  const unmap = iommufd.call(u.IOMMU_IOAS_UNMAP, u.iommu_ioas_unmap, { ioas_id: id, iova: 0x50000n, length: 0x1000n });
  see.note('UNMAP of nothing', unmap.returned);
  see.note('its length afterwards', unmap.out.length);
  // A struct in memory that can only be read.
  const page = kernel.mmap({ length: 0x1000, view: false });
  page.write(0, u.iommu_ioas_alloc.encode({ size: 12, flags: 0, out_ioas_id: 0 }));
  page.write(
    64,
    u.iommu_ioas_map.encode({
      ...{ size: 40, flags: RW | FIXED, ioas_id: id, __reserved: 0, user_va: ram.address, length: 0x1000n, iova: 0x20000n },
    }),
  );
  page.write(128, u.iommu_ioas_unmap.encode({ size: 24, ioas_id: id, iova: 0x20000n, length: 0x1000n }));
  kernel.mprotect(page, u.PROT_READ);
  const at = (offset: number, request: number): unknown =>
    attempt(() => kernel.ioctl(iommufd.fd, request, page.address + BigInt(offset), UNSAFE));
  see.note('IOAS_ALLOC, read-only', at(0, u.IOMMU_IOAS_ALLOC));
  see.note('the next id', iommufd.ioas());
  see.note('IOAS_MAP, read-only', at(64, u.IOMMU_IOAS_MAP));
  see.note('IOAS_UNMAP, read-only', at(128, u.IOMMU_IOAS_UNMAP));
  see.note('what there is to unmap', iommufd.unmapAll(id));
}

/** Structs in memory that can only be read: what was made for them is gone again, id and all; mappings are not. */
function rolledBack(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const ram = buffer(kernel);
  const { idev } = iommufd.mock(ioas_id);
  const parent = iommufd.mustHwpt({ dev_id: idev, pt_id: ioas_id, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
  const viommu_id = Number(iommufd.viommu({ type: 0xdead_beef, dev_id: idev, hwpt_id: parent }));
  const [iova, length, flags] = [0x2000000n, 0x1000n, RW | FIXED];
  iommufd.mapAt(ioas_id, ram.address, iova, length);
  const page = kernel.mmap({ length: 0x1000, view: false });
  const ask = <T extends { size: number }>(label: string, request: number, struct: u.Struct<T>, fields: object): void => {
    kernel.mprotect(page, u.PROT_READ | u.PROT_WRITE);
    const bytes = new Uint8Array(struct.size);
    Object.assign(struct.view(bytes) as object, { size: struct.size, ...fields });
    page.write(0, bytes);
    kernel.mprotect(page, u.PROT_READ);
    see.note(
      label,
      attempt(() => kernel.ioctl(iommufd.fd, request, page.address, UNSAFE)),
    );
    const next = iommufd.ioas();
    see.note(`${label}: the next id`, next);
    iommufd.destroy(next);
  };
  ask('HWPT_ALLOC', u.IOMMU_HWPT_ALLOC, u.iommu_hwpt_alloc, { dev_id: idev, pt_id: ioas_id });
  ask('FAULT_QUEUE_ALLOC', u.IOMMU_FAULT_QUEUE_ALLOC, u.iommu_fault_alloc, {});
  ask('VIOMMU_ALLOC', u.IOMMU_VIOMMU_ALLOC, u.iommu_viommu_alloc, { type: 0xdead_beef, dev_id: idev, hwpt_id: parent });
  ask('VDEVICE_ALLOC', u.IOMMU_VDEVICE_ALLOC, u.iommu_vdevice_alloc, { viommu_id, dev_id: idev, virt_id: 5n });
  ask('VEVENTQ_ALLOC', u.IOMMU_VEVENTQ_ALLOC, u.iommu_veventq_alloc, { viommu_id, type: 0xbeef_beef, veventq_depth: 1 });
  ask('HW_QUEUE_ALLOC', u.IOMMU_HW_QUEUE_ALLOC, u.iommu_hw_queue_alloc, {
    viommu_id,
    type: 0xdead_beef,
    nesting_parent_iova: iova,
    length,
  });
  see.note('a vDEVICE then', typeof iommufd.vdevice(viommu_id, idev, 5n));
  const copy = { flags, dst_ioas_id: ioas_id, src_ioas_id: ioas_id, length, src_iova: iova, dst_iova: iova + 0x10000n };
  ask('IOAS_COPY', u.IOMMU_IOAS_COPY, u.iommu_ioas_copy, copy);
  const fd = kernel.memfd('rolled-back');
  kernel.ftruncate(fd, 0x1000);
  ask('IOAS_MAP_FILE', u.IOMMU_IOAS_MAP_FILE, u.iommu_ioas_map_file, { flags, ioas_id, fd, length, iova: iova + 0x20000n });
  see.note('what is mapped', iommufd.unmapAll(ioas_id));
  const lazy = iommufd.ioas();
  ask('OPTION', u.IOMMU_OPTION, u.iommu_option, { option_id: u.IOMMU_OPTION_HUGE_PAGES, object_id: lazy });
  see.note('which is done', iommufd.option(u.IOMMU_OPTION_HUGE_PAGES, u.IOMMU_OPTION_OP_GET, lazy));
}

function ids(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const first = [iommufd.ioas(), iommufd.ioas(), iommufd.ioas()];
  see.note('first', first);
  see.note('DESTROY 2', iommufd.destroy(2));
  see.note('DESTROY 2 again', iommufd.destroy(2));
  see.note('DESTROY 0', iommufd.destroy(0));
  see.note('DESTROY of what never was', iommufd.destroy(77));
  see.note('the next', iommufd.ioas());
  see.note('and the next', iommufd.ioas());
  const other = new Iommufd(kernel);
  see.note('another descriptor begins at', other.ioas());
  see.note('and has none of the first', other.destroy(3));
  const ram = buffer(kernel);
  see.note('a mapping', iommufd.mapAt(1, ram.address, 0x10000n, 0x1000n));
  see.note('DESTROY of an IOAS with mappings', iommufd.destroy(1));
}

function references(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const mock = iommufd.mock(ioas);
  see.note('mock', { ...mock });
  see.note('DESTROY the IOAS', iommufd.destroy(ioas));
  see.note('DESTROY the automatic HWPT', iommufd.destroy(mock.hwpt));
  see.note('DESTROY the device', iommufd.destroy(mock.idev));
  const manual = iommufd.hwpt({ dev_id: mock.idev, pt_id: ioas });
  see.note('HWPT_ALLOC', manual);
  see.note('DESTROY a device by the id of a HWPT', iommufd.replace(Number(manual), ioas));
  see.note('DESTROY the manual HWPT', iommufd.destroy(Number(manual)));
  see.note('DESTROY the mock device', iommufd.destroy(mock.stdev));
  see.note('the automatic HWPT is gone', iommufd.destroy(mock.hwpt));
  see.note('so is the device', iommufd.destroy(mock.idev));
  see.note('DESTROY the IOAS now', iommufd.destroy(ioas));
}

/** What a failed request has taken is free again, in the order in which it took it. */
function idsOfFailures(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  iommufd.mapAt(ioas, ram.address, 0x1000n, 0x1000n);
  see.note('MOCK_DOMAIN below its aperture', iommufd.mock(ioas).returned);
  see.note('the next id', iommufd.ioas());
  see.note('MOCK_DOMAIN of no IOAS', iommufd.mock(99).returned);
  see.note('the next id after that', iommufd.ioas());
  iommufd.unmapAll(ioas);
  see.note('MOCK_DOMAIN', { ...iommufd.mock(ioas) });
  see.note('HWPT_ALLOC, refused', iommufd.hwpt({ dev_id: 5, pt_id: ioas, flags: 0x100 }));
  see.note('the id after a refusal', iommufd.ioas());
}

/** Requests beyond the struct the kernel knows, up to an unreadable byte. */
function unreadableTail(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const page = kernel.mmap({ length: 0x2000, view: false });
  kernel.mprotect(page, u.PROT_NONE, { offset: 0x1000, length: 0x1000 });
  const put = (bytes: Uint8Array): bigint => {
    page.write(0x1000 - bytes.length, bytes);
    return page.address + 0x1000n - BigInt(bytes.length);
  };
  const ask = (bytes: Uint8Array): unknown => attempt(() => kernel.ioctl(iommufd.fd, u.IOMMU_DESTROY, put(bytes), UNSAFE));
  see.note('zeros, then nothing', ask(sized(64, 16)));
  see.note('not zero, then nothing', ask(Uint8Array.from([...sized(64, 8), 0, 0, 1, 0])));
  see.note('U64_MAX as an argument', iommufd.unmap(1, U64_MAX, 1n));
}

export const contractCases: Case[] = [
  define('iommufd/contract/sizes', 'Ioctl contract', sizes, { needs: IOMMUFD }),
  define('iommufd/contract/numbers', 'Ioctl contract', numbers, { needs: IOMMUFD }),
  define('iommufd/contract/holes-of-a-test-kernel', 'Ioctl contract', holes, { needs: MOCK }),
  define('iommufd/contract/edges', 'Ioctl contract', edges, { needs: IOMMUFD }),
  define('iommufd/contract/unreadable-tail', 'Ioctl contract', unreadableTail, { needs: IOMMUFD }),
  define('iommufd/contract/file-operations', 'Device node', fileOperations, { needs: IOMMUFD }),
  define('iommufd/contract/written-back', 'Copy-back', writtenBack, { needs: IOMMUFD }),
  define('iommufd/contract/rolled-back', 'Copy-back', rolledBack, { needs: MOCK }),
  define('iommufd/objects/ids', 'Ids', ids, { needs: IOMMUFD }),
  define('iommufd/objects/references', 'IOMMU_DESTROY', references, { needs: MOCK }),
  define('iommufd/objects/ids-of-failures', 'Ids', idsOfFailures, { needs: MOCK }),
];
