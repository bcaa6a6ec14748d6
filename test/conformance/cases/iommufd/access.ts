/** What drivers inside the kernel do with an IOAS: pins, reads and writes; and how long a context lives. */
import type { Kernel } from 'kvio';
import { type Case, define, type Observer } from '../../case.ts';
import { type Answer, buffer, FIXED, Iommufd, MOCK, op, READ, RW, U64_MAX } from '../../iommufd.ts';

const PAGE = 0x1000n;

function start(kernel: Kernel) {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = buffer(kernel);
  const create = (flags: number, id = ioas): { returned: Answer; fd: number } => {
    const { returned, view } = iommufd.test(op.CREATE_ACCESS, id, [[20, flags]]);
    // The kernel layer knows nothing of the descriptors this request makes.
    return { returned, fd: returned === 0 ? kernel.adopt(view.getUint32(16, true)) : -1 };
  };
  const pin = (fd: number, iova: bigint, length: bigint, flags = 0, uptr = 0n): { returned: Answer; item: number } => {
    const { returned, view } = iommufd.test(op.ACCESS_PAGES, fd, [
      [16, flags],
      [24, iova],
      [32, length],
      [40, uptr],
    ]);
    return { returned, item: view.getUint32(20, true) };
  };
  const rw = (fd: number, iova: bigint, length: bigint, uptr: bigint, flags = 0): Answer =>
    iommufd.test(op.ACCESS_RW, fd, [
      [16, iova],
      [24, length],
      [32, uptr],
      [40, flags],
    ]).returned;
  const drop = (fd: number, item: number): Answer => iommufd.test(op.DESTROY_ACCESS_PAGES, fd, [[16, item]]).returned;
  return { iommufd, ioas, ram, create, pin, rw, drop };
}

function pins(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, create, pin, drop } = start(kernel);
  see.note('unknown flag', create(2, 99).returned);
  see.note('of no IOAS', create(1, 99).returned);
  iommufd.mapAt(ioas, ram.address, 0x10100n, 0x100n);
  see.note('an area that is not aligned', create(1).returned);
  iommufd.unmapAll(ioas);
  const plain = create(0);
  const access = create(1);
  see.note('created', [plain.returned, access.returned]);
  see.note('alignment', iommufd.ranges(ioas).alignment);
  see.note('ids are taken', iommufd.ioas());
  iommufd.mapAt(ioas, ram.address, 0x10000n, 0x4000n);
  iommufd.mapAt(ioas, ram.address + 0x8000n, 0x14000n, 0x2000n, READ);
  see.note('too long', pin(99, 0n, (16n << 20n) + 1n, 2).returned);
  see.note('unknown flag of a pin', pin(99, 0n, PAGE, 2).returned);
  see.note('of no access', pin(99, 0n, PAGE).returned);
  see.note('of another file', pin(iommufd.fd, 0n, PAGE).returned);
  see.note('of an access without pins', pin(plain.fd, 0x10000n, PAGE).returned);
  see.note('of no length', pin(access.fd, 0x10000n, 0n).returned);
  see.note('overflow', pin(access.fd, U64_MAX, 2n).returned);
  see.note('not mapped', pin(access.fd, 0x9000n, PAGE).returned);
  see.note('mapped in part', pin(access.fd, 0x15000n, 0x2000n).returned);
  see.note('inside a page', pin(access.fd, 0x10100n, PAGE).returned);
  see.note('writing what is readable', pin(access.fd, 0x14000n, PAGE, 1).returned);
  see.note('writing, the second part is readable', pin(access.fd, 0x13000n, 0x2000n, 1).returned);
  see.note('not the pages at that address', pin(access.fd, 0x10000n, PAGE, 0, ram.address + PAGE).returned);
  const first = pin(access.fd, 0x10000n, 0x2000n, 1, ram.address);
  see.note('pinned', first);
  see.note('over two areas', pin(access.fd, 0x13000n, 0x2000n));
  see.note('a part of a page', pin(access.fd, 0x11000n, 0x10n));
  see.note('given back', [drop(access.fd, first.item), drop(access.fd, first.item), drop(99, 0), drop(access.fd, 77)]);
  see.note('unmapping takes pins away', iommufd.unmap(ioas, 0x10000n, 0x4000n));
  see.note('they are gone', [drop(access.fd, 1), drop(access.fd, 2)]);
  iommufd.mapAt(ioas, ram.address, 0x10000n, PAGE);
  see.note('items are never used again', pin(access.fd, 0x10000n, PAGE));
  see.note('DESTROY of the IOAS', iommufd.destroy(ioas));
  kernel.close(access.fd);
  kernel.close(plain.fd);
  see.note('DESTROY of the IOAS now', iommufd.destroy(ioas));
}

function readWrite(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, create, rw } = start(kernel);
  const { fd } = create(0);
  ram.write(
    0,
    Uint8Array.from({ length: 0x100 }, (_, i) => i),
  );
  iommufd.mapAt(ioas, ram.address, 0x10000n, 0x1800n);
  iommufd.mapAt(ioas, ram.address + 0x4000n, 0x11800n, 0x800n, READ);
  see.note('too long', rw(99, 0n, (16n << 20n) + 1n, 0n, 2));
  see.note('unknown flag', rw(99, 0x10000n, 1n, ram.address, 2));
  see.note('of no access', rw(99, 0x10000n, 1n, ram.address));
  see.note('from nowhere', rw(fd, 0x10000n, 4n, 0xdead000n, 1));
  see.note('to nowhere', rw(fd, 0x10000n, 4n, 0xdead000n));
  see.note('of no length', rw(fd, 0x10000n, 0n, ram.address));
  see.note('not mapped', rw(fd, 0x20000n, 4n, ram.address + 0x8000n));
  see.note('read', [rw(fd, 0x10001n, 4n, ram.address + 0x8000n), ram.read(0x8000, 6)]);
  ram.write(0x9000, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  see.note('written over a page boundary', [rw(fd, 0x10ffcn, 8n, ram.address + 0x9000n, 1), ram.read(0xffc, 8)]);
  see.note('by the slow path', [rw(fd, 0x10ffcn, 8n, ram.address + 0xa000n, 4), ram.read(0xa000, 8)]);
  see.note('into what is readable: the first part is done', [
    rw(fd, 0x117fcn, 8n, ram.address + 0x9000n, 1),
    ram.read(0x17fc, 4),
  ]);
  see.note('beyond', rw(fd, 0x11ffcn, 8n, ram.address + 0xa000n));
}

/** Areas that begin in the middle of a page, of memory that does too. */
function readWriteUnaligned(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, create, rw } = start(kernel);
  const { fd } = create(0);
  ram.write(
    0x800,
    Uint8Array.from({ length: 0x100 }, (_, i) => i),
  );
  iommufd.mapAt(ioas, ram.address + 0x800n, 0x10800n, 0x2000n);
  for (const flags of [0, 4]) {
    const how = flags === 0 ? 'read' : 'by the slow path';
    see.note(how, [rw(fd, 0x10803n, 5n, ram.address + 0x8000n, flags), ram.read(0x8000, 6)]);
    see.note(`${how}, before it`, rw(fd, 0x107ffn, 5n, ram.address + 0x8000n, flags));
    ram.write(0x9000, Uint8Array.of(9, 8, 7, 6, 5, 4, 3, 2));
    see.note(`${how}, written over a page boundary`, [
      rw(fd, 0x10ffcn, 8n, ram.address + 0x9000n, flags | 1),
      ram.read(0xffc, 8),
    ]);
    see.note(`${how}, to its last byte`, rw(fd, 0x127f8n, 8n, ram.address + 0x9000n, flags | 1));
    see.note(`${how}, one more`, rw(fd, 0x127f9n, 8n, ram.address + 0x9000n, flags | 1));
  }
}

function replaceIoas(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, create, pin, rw, drop } = start(kernel);
  const other = iommufd.ioas();
  const access = create(1);
  iommufd.mapAt(ioas, ram.address, 0x10000n, PAGE);
  iommufd.mapAt(other, ram.address + 0x2000n, 0x10100n, 0x100n);
  const replace = (id: number, fd = access.fd) => iommufd.test(op.ACCESS_REPLACE_IOAS, fd, [[16, id]]).returned;
  see.note('of no access', replace(ioas, iommufd.fd));
  see.note('by nothing', replace(99));
  see.note('by the same', replace(ioas));
  see.note('by one that is not aligned', replace(other));
  see.note('pinned', pin(access.fd, 0x10000n, PAGE).returned);
  iommufd.unmapAll(other);
  iommufd.mapAt(other, ram.address + 0x2000n, 0x10000n, PAGE);
  see.note('by another', replace(other));
  see.note('its pins are gone', drop(access.fd, 0));
  see.note('it reads there', [rw(access.fd, 0x10000n, 4n, ram.address + 0x8000n), iommufd.destroy(ioas), iommufd.destroy(other)]);
}

/** Whether a page is pinned so often, by the mock driver's count. */
const refs = (iommufd: Iommufd, address: bigint, count: number, length = PAGE): Answer =>
  iommufd.test(op.MD_CHECK_REFS, 0, [
    [16, length],
    [24, address],
    [32, count],
  ]).returned;

/** Memory page by page: pages of one large page are not counted. */
function smallPages(kernel: Kernel, length: number) {
  const fd = kernel.memfd('pins');
  kernel.ftruncate(fd, length);
  return kernel.mmap({ fd, length });
}

/** Pins of one page to fifteen, twice each, while tables come and go under them. */
function pinsSwept(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, create, pin, drop } = start(kernel);
  const memory = smallPages(kernel, 0x10000);
  const device = iommufd.mock(iommufd.ioas());
  const access = create(1);
  iommufd.mapAt(ioas, memory.address, 0x2000000n, 0x10000n);
  const answers = Array.from({ length: 15 }, (_, at) => {
    const [first, length] = [BigInt(at % 4) * PAGE, BigInt(at + 1) * PAGE];
    const iova = 0x2000000n + first;
    const fit = length > 0x10000n - first ? 0x10000n - first : length;
    const one = pin(access.fd, iova, fit, 1, memory.address + first);
    const two = pin(access.fd, iova, fit, 1, memory.address + first);
    const table = iommufd.mustHwpt({ dev_id: device.idev, pt_id: ioas });
    const mapped = iommufd.checkMap(table, 0x2000000n, 0x10000n, memory.address);
    const gone = iommufd.destroy(table);
    const held = refs(iommufd, memory.address + first, 1, fit);
    const dropped = [drop(access.fd, one.item), refs(iommufd, memory.address + first, 1, fit), drop(access.fd, two.item)];
    return [one.returned, two.returned, mapped, gone, held, ...dropped, refs(iommufd, memory.address, 0, 0x10000n)].join(' ');
  });
  see.note('pinned twice, a table over it, gone, pinned once, dropped, still, dropped, free', [...new Set(answers)]);
  see.note('a pin in the middle', pin(access.fd, 0x2004000n, PAGE).returned);
  const table = iommufd.mustHwpt({ dev_id: device.idev, pt_id: ioas });
  see.note('a table over it', iommufd.checkMap(table, 0x2000000n, 0x10000n, memory.address));
  see.note('the table goes', iommufd.destroy(table));
  see.note('the pin stays, and nothing else', [
    refs(iommufd, memory.address + 0x4000n, 1),
    refs(iommufd, memory.address, 0, 0x4000n),
    refs(iommufd, memory.address + 0x5000n, 0, 0xb000n),
  ]);
  kernel.close(access.fd);
  see.note('closed', refs(iommufd, memory.address, 0, 0x10000n));
}

/** What a VMM does that copies a guest's memory from an address space without devices into one with. */
function userCopy(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, create, pin, drop } = start(kernel);
  const memory = smallPages(kernel, 0x10000);
  const device = iommufd.mock(iommufd.ioas());
  const [bare, access] = [iommufd.ioas(), create(1, ioas)];
  const fields = { length: 0x10000n, src_iova: 0x2000000n, dst_iova: 0x2000000n, flags: RW | FIXED };
  iommufd.mapAt(ioas, memory.address, 0x2000000n, 0x10000n);
  see.note('pinned', pin(access.fd, 0x2000000n, 0x2000n, 1, memory.address));
  const target = iommufd.mock(bare);
  see.note('copied', iommufd.copy({ ...fields, dst_ioas_id: bare, src_ioas_id: ioas }));
  see.note('translates', iommufd.checkMap(target.hwpt, 0x2000000n, 0x10000n, memory.address));
  see.note('the source goes', iommufd.unmapAll(ioas));
  see.note('its pin with it', drop(access.fd, 0));
  see.note('copied back', iommufd.copy({ ...fields, dst_ioas_id: ioas, src_ioas_id: bare }));
  see.note('pinned there', pin(access.fd, 0x2000000n, 0x2000n, 1, memory.address));
  see.note('the access moves', iommufd.test(op.ACCESS_REPLACE_IOAS, access.fd, [[16, bare]]).returned);
  see.note('the old one can be destroyed', iommufd.destroy(ioas));
  see.note('pinned at the new', pin(access.fd, 0x2000000n, 0x2000n, 1, memory.address));
  see.note('one pin for tables and accesses', refs(iommufd, memory.address, 1, 0x10000n));
  see.note('devices go', [iommufd.destroy(target.stdev), iommufd.destroy(device.stdev)]);
  see.note('what is pinned', [refs(iommufd, memory.address, 1, 0x2000n), refs(iommufd, memory.address + 0x2000n, 0, 0xe000n)]);
  kernel.close(access.fd);
}

/** A context lives as long as any descriptor that came of it. */
function lifetime(kernel: Kernel, see: Observer): void {
  const { iommufd, ioas, ram, create } = start(kernel);
  const access = create(0);
  const second = new Iommufd(kernel);
  ram.write(0, Uint8Array.of(1, 2, 3, 4));
  iommufd.mapAt(ioas, ram.address, 0x10000n, PAGE, RW | FIXED);
  const words = [
    [16, 0x10000n],
    [24, 4n],
    [32, ram.address + 0x8000n],
    [40, 0],
  ] as const;
  see.note('by another descriptor', second.test(op.ACCESS_RW, access.fd, words).returned);
  iommufd.close();
  see.note('closed: it still reads', [second.test(op.ACCESS_RW, access.fd, words).returned, ram.read(0x8000, 4)]);
  kernel.close(access.fd);
  see.note('closed too', second.test(op.ACCESS_RW, access.fd, words).returned);
}

export const accessCases: Case[] = [
  define('iommufd/access/pins', 'In-kernel access', pins, { needs: MOCK }),
  define('iommufd/access/read-write', 'In-kernel access', readWrite, { needs: MOCK }),
  define('iommufd/access/read-write-unaligned', 'In-kernel access', readWriteUnaligned, { needs: MOCK }),
  define('iommufd/access/replace-ioas', 'In-kernel access', replaceIoas, { needs: MOCK }),
  define('iommufd/access/pins-swept', 'In-kernel access', pinsSwept, { needs: MOCK }),
  define('iommufd/access/user-copy', 'In-kernel access', userCopy, { needs: MOCK }),
  define('iommufd/access/lifetime', 'Lifetime', lifetime, { needs: MOCK }),
];
