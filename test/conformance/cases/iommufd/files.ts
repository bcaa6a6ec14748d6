/** Memory by file: memfds, other files, dma-bufs and what becomes of them. */
import type { Kernel } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../../case.ts';
import { type Answer, FIXED, IOMMUFD, Iommufd, MOCK, op, RW, U64_MAX } from '../../iommufd.ts';
import { guestMemfd } from '../../private.ts';

const PAGE = 0x1000n;
const IOVA = 0x2000000n;

function mapFileOrder(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const fd = kernel.memfd('map-file');
  kernel.ftruncate(fd, 0x10000);
  const ask = (label: string, fields: object): void => {
    see.note(label, iommufd.mapFile({ ioas_id, fd, start: 0n, length: PAGE, iova: 0x10000n, flags: RW | FIXED, ...fields }));
  };
  ask('unknown flag', { flags: 8, length: U64_MAX });
  ask('length U64_MAX', { length: U64_MAX, flags: 0 });
  ask('iova U64_MAX', { iova: U64_MAX, flags: 0 });
  ask('no permission', { flags: FIXED, ioas_id: 99 });
  ask('no IOAS', { ioas_id: 99, length: 0n });
  ask('length 0, no file', { length: 0n, fd: 0x3fff_ffff });
  ask('overflow, no file', { start: U64_MAX, length: 2n, fd: 0x3fff_ffff });
  ask('no file', { fd: 0x3fff_ffff });
  ask('fd -1', { fd: -1 });
  ask('nearly everything', { length: U64_MAX - 1n });
  ask('over the end of the file', { start: 0xf000n, length: 2n * PAGE });
  ask('over it', {});
  ask('an eventfd', { fd: kernel.eventfd(), iova: 0x30000n });
  ask('/dev/null', { fd: kernel.open('/dev/null'), iova: 0x40000n });
  ask('inside a page', { start: 0x123n, length: 0x77n, iova: 0x50000n });
  for (const start of [0n, PAGE, 0x2000n, 0x123n])
    ask(`placed, from 0x${start.toString(16)}`, { start, length: 0x2000n, flags: RW, iova: 0n });
}

function mapFileOnDomain(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const mock = iommufd.mock(ioas_id);
  const fd = kernel.memfd('map-file', u.MFD_ALLOW_SEALING);
  kernel.ftruncate(fd, 0x10000);
  const ram = kernel.mmap({ fd, length: 0x10000 });
  const ask = (label: string, fields: object): void => {
    see.note(label, iommufd.mapFile({ ioas_id, fd, start: 0n, length: PAGE, iova: IOVA, flags: RW | FIXED, ...fields }));
  };
  ask('not aligned', { start: 1n });
  ask('half a page from the middle of one', { start: 0x800n, length: 0x800n });
  ask('over the end', { start: 0xf000n, length: 2n * PAGE, iova: IOVA + 0x100000n });
  ask('an eventfd', { fd: kernel.eventfd(), iova: IOVA + 0x100000n });
  ask('/dev/zero', { fd: kernel.open('/dev/zero'), iova: IOVA + 0x100000n });
  ask('all of it', { length: 0x10000n, iova: IOVA + 0x200000n });
  see.note('translates', iommufd.checkMap(mock.hwpt, IOVA + 0x200000n, 0x10000n, ram.address));
  kernel.fcntl(fd, u.F_ADD_SEALS, u.F_SEAL_FUTURE_WRITE);
  ask('sealed against writing', { start: 0x2000n, iova: IOVA + 0x300000n });
  kernel.ftruncate(fd, 0x800);
  ask('half a page of file', { iova: IOVA + 0x400000n });
  ask('the half', { length: 0x800n, iova: IOVA + 0x500000n });
  see.note('what was there before it was cut', iommufd.unmap(ioas_id, IOVA + 0x200000n, 0x10000n));
  const lazy = iommufd.ioas();
  see.note('too long, without a domain', iommufd.mapFile({ ioas_id: lazy, fd, length: 0x8000n, iova: IOVA, flags: RW | FIXED }));
  see.note('with one', iommufd.mock(lazy).returned);
}

/** How a file was opened is nobody's concern. */
function openMode(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const mock = iommufd.mock(ioas_id);
  const fd = kernel.memfd('open-mode', u.MFD_ALLOW_SEALING);
  kernel.ftruncate(fd, 0x2000);
  const ram = kernel.mmap({ fd, length: 0x2000 });
  const readOnly = kernel.open(`/proc/self/fd/${fd}`, u.O_RDONLY);
  const map = (from: number, iova: bigint) =>
    iommufd.mapFile({ ioas_id, fd: from, start: 0n, length: 0x2000n, iova, flags: RW | FIXED });
  see.note('writable, by a read-only descriptor', map(readOnly, IOVA));
  see.note('translates', iommufd.checkMap(mock.hwpt, IOVA, 0x2000n, ram.address));
  kernel.close(readOnly);
  kernel.close(fd);
  see.note('both closed', iommufd.checkMap(mock.hwpt, IOVA, 0x2000n, ram.address));
}

/** A guest_memfd is taken like any file nobody has looked at, and refused once its pages are asked for. */
function guestMemory(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const [lazy, ioas_id] = [iommufd.ioas(), iommufd.ioas()];
  const vm = kernel.ioctl(kernel.open('/dev/kvm'), u.KVM_CREATE_VM, 0);
  // GUEST_MEMFD_FLAG_MMAP, GUEST_MEMFD_FLAG_INIT_SHARED: shared memory, as far as such a file has it.
  const fd = see.descriptor('guest_memfd', () => guestMemfd(kernel, vm, 0x4000n, 3n));
  const base = { fd, start: 0n, length: PAGE, iova: IOVA, flags: RW | FIXED };
  see.note('without a domain', iommufd.mapFile({ ...base, ioas_id: lazy }));
  see.note('with one then', iommufd.mock(lazy).returned);
  see.note('a device elsewhere', iommufd.mock(ioas_id).returned);
  see.note('mapped for it', iommufd.mapFile({ ...base, ioas_id }));
}

/** Pages the process has pinned: /proc/self/status says so in KiB. */
function pinnedPages(kernel: Kernel): { VmPin: number; VmLck: number } {
  const fd = kernel.open('/proc/self/status', u.O_RDONLY);
  const bytes = new Uint8Array(8192);
  const text = Buffer.from(bytes.subarray(0, kernel.read(fd, bytes))).toString();
  kernel.close(fd);
  const pages = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, 'm').exec(text)?.[1]) / 4;
  return { VmPin: pages('VmPin'), VmLck: pages('VmLck') };
}

/** Every mapping is charged for itself, once something needs its pages; a process that may lock what it likes has them in VmPin alone. */
function charged(kernel: Kernel, see: Observer): void {
  for (const mode of [0n, 1n]) {
    const iommufd = new Iommufd(kernel);
    iommufd.option(u.IOMMU_OPTION_RLIMIT_MODE, u.IOMMU_OPTION_OP_SET, 0, mode);
    const [lazy, ioas] = [iommufd.ioas(), iommufd.ioas()];
    const mock = iommufd.mock(ioas);
    const fd = kernel.memfd('charged');
    kernel.ftruncate(fd, 0x10000);
    const ram = kernel.mmap({ fd, length: 0x10000 });
    const before = pinnedPages(kernel);
    const note = (label: string): void => {
      const now = pinnedPages(kernel);
      see.note(`mode ${mode}: ${label}`, [now.VmPin - before.VmPin, now.VmLck - before.VmLck]);
    };
    iommufd.mapAt(lazy, ram.address, IOVA, 0x4000n);
    note('without a table');
    iommufd.mapAt(ioas, ram.address, IOVA, 0x4000n);
    note('with one: four pages');
    iommufd.mapAt(ioas, ram.address, IOVA + 0x100000n, 0x4000n);
    note('the same four again');
    iommufd.mapAt(ioas, ram.address + 0x800n, IOVA + 0x200000n, PAGE);
    note('a page of halves of two');
    iommufd.mapFile({ ioas_id: ioas, fd, start: 0n, length: 0x2000n, iova: IOVA + 0x300000n, flags: RW | FIXED });
    note('two by file');
    const copy = { dst_ioas_id: ioas, src_ioas_id: ioas, length: PAGE, src_iova: IOVA, flags: RW | FIXED };
    iommufd.copy({ ...copy, dst_iova: IOVA + 0x400000n });
    note('a copy of one');
    const second = iommufd.mustHwpt({ dev_id: mock.idev, pt_id: ioas });
    note('a second table');
    iommufd.mapAt(ioas, 0xdead000n, IOVA + 0x500000n, PAGE);
    note('what fails');
    iommufd.unmap(ioas, IOVA, 0x4000n);
    note('unmapped, but for the copy');
    iommufd.destroy(second);
    iommufd.destroy(mock.stdev);
    note('the device gone');
    iommufd.close();
    note('closed');
  }
}

/** Memory and the process part company: what a device has stays what it was. */
function pinned(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const mock = iommufd.mock(ioas_id);
  const fd = kernel.memfd('pinned');
  kernel.ftruncate(fd, 0x4000);
  const ram = kernel.mmap({ fd, length: 0x4000 });
  const refs = (count: number, page = 0n) =>
    iommufd.test(op.MD_CHECK_REFS, 0, [
      [16, PAGE],
      [24, ram.address + page * PAGE],
      [32, count],
    ]).returned;
  see.note('nothing pinned', [refs(0), refs(1)]);
  iommufd.mapAt(ioas_id, ram.address, IOVA, 0x2000n);
  see.note('by address', [refs(1), refs(1, 1n), refs(0, 2n)]);
  iommufd.mapFile({ ioas_id, fd, start: 0n, length: PAGE, iova: IOVA + 0x100000n, flags: RW | FIXED });
  see.note('and by file', [refs(2), refs(1, 1n)]);
  iommufd.copy({
    dst_ioas_id: ioas_id,
    src_ioas_id: ioas_id,
    length: PAGE,
    src_iova: IOVA,
    dst_iova: IOVA + 0x200000n,
    flags: RW | FIXED,
  });
  see.note('a copy pins nothing', refs(2));
  kernel.fallocate(fd, u.FALLOC_FL_PUNCH_HOLE | u.FALLOC_FL_KEEP_SIZE, 0, 0x1000);
  see.note('a hole: another page', [refs(0), iommufd.checkMap(mock.hwpt, IOVA, PAGE, ram.address)]);
  see.note('the other is the same', iommufd.checkMap(mock.hwpt, IOVA + PAGE, PAGE, ram.address + PAGE));
  see.note('unmapped', iommufd.unmapAll(ioas_id));
  see.note('nothing pinned then', [refs(0), refs(0, 1n)]);
}

function dmabufs(kernel: Kernel, see: Observer): void {
  const iommufd = new Iommufd(kernel);
  const ioas_id = iommufd.ioas();
  const mock = iommufd.mock(ioas_id);
  const get = (length: number): Answer =>
    iommufd.test(op.DMABUF_GET, 0, [
      [16, length],
      [20, u.O_CLOEXEC],
    ]).returned;
  see.note('of no length', get(0));
  see.note('too long', get(0x200001));
  const fd = kernel.adopt(Number(get(0x1001)));
  const map = (fields: object) =>
    iommufd.mapFile({ ioas_id, fd, start: 0n, length: PAGE, iova: IOVA, flags: RW | FIXED, ...fields });
  const revoke = (to: number, revoked: number) =>
    iommufd.test(op.DMABUF_REVOKE, 0, [
      [16, to],
      [20, revoked],
    ]).returned;
  see.note('over its end', map({ length: 0x3000n }));
  see.note('from behind its end', map({ start: 0x2000n }));
  see.note('mapped', map({}));
  see.note('a part', map({ start: 0x1000n, iova: IOVA + 0x10000n }));
  const access = iommufd.test(op.CREATE_ACCESS, ioas_id, [[20, 1]]);
  const file = kernel.adopt(access.view.getUint32(16, true));
  const pin = iommufd.test(op.ACCESS_PAGES, file, [
    [16, 0],
    [24, IOVA],
    [32, PAGE],
    [40, 0n],
  ]).returned;
  see.note('the CPU gets none of it', [access.returned, pin]);
  kernel.close(file);
  see.note('CHANGE_PROCESS', iommufd.call(u.IOMMU_IOAS_CHANGE_PROCESS, u.iommu_ioas_change_process, {}).returned);
  see.note('revoke of no file', revoke(0x3fff_ffff, 1));
  see.note('revoke of another file', revoke(iommufd.fd, 1));
  see.note('revoked', revoke(fd, 1));
  see.note('mapped while revoked', map({ iova: IOVA + 0x20000n }));
  see.note('a table over it', typeof iommufd.hwpt({ dev_id: mock.idev, pt_id: ioas_id }));
  see.note(
    'a copy of it',
    iommufd.copy({
      dst_ioas_id: ioas_id,
      src_ioas_id: ioas_id,
      length: PAGE,
      src_iova: IOVA,
      dst_iova: IOVA + 0x30000n,
      flags: RW | FIXED,
    }),
  );
  see.note('it keeps its place', map({}));
  see.note('un-revoked', revoke(fd, 0));
  see.note('mapped anew', map({ iova: IOVA + 0x40000n }));
  kernel.close(fd);
  see.note('unmapped', iommufd.unmapAll(ioas_id));
}

export const fileCases: Case[] = [
  define('iommufd/files/map-order', 'IOMMU_IOAS_MAP_FILE', mapFileOrder, { needs: IOMMUFD }),
  define('iommufd/files/map-on-a-domain', 'IOMMU_IOAS_MAP_FILE', mapFileOnDomain, { needs: MOCK }),
  define('iommufd/files/charged', 'Accounting', charged, { needs: MOCK }),
  define('iommufd/files/pinned', 'Pinning', pinned, { needs: MOCK }),
  define('iommufd/files/open-mode', 'IOMMU_IOAS_MAP_FILE', openMode, { needs: MOCK }),
  define('iommufd/files/guest-memfd', 'IOMMU_IOAS_MAP_FILE', guestMemory, {
    needs: { ...MOCK, devices: ['/dev/iommu', '/dev/kvm'], capability: u.KVM_CAP_GUEST_MEMFD },
  }),
  define('iommufd/files/dma-bufs', 'IOMMU_IOAS_MAP_FILE', dmabufs, { needs: MOCK }),
];
