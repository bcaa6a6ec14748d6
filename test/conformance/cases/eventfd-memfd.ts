/** eventfd and memfd: what KVM's users lean on. */
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EFD_SEMAPHORE,
  F_ADD_SEALS,
  F_GET_SEALS,
  F_GETFD,
  F_GETFL,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  MADV_MERGEABLE,
  MADV_UNMERGEABLE,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  PROT_READ,
} from 'kvio/uapi';
import { type Case, define, hex } from '../case.ts';

const u64 = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);
const MAX = (1n << 64n) - 1n;

const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_GROW = 4;
const F_SEAL_WRITE = 8;

export const eventfdMemfdCases: Case[] = [
  define('file/eventfd/create', 'eventfd', (kernel, see) => {
    for (const flags of [0, EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE, 2, 0x1000]) {
      const fd = see.descriptor(`flags ${hex(flags)}`, () => kernel.eventfd(0, flags));
      if (fd < 0) continue;
      see.call(`flags ${hex(flags)}: F_GETFL`, () => hex(kernel.fcntl(fd, F_GETFL)));
      see.call(`flags ${hex(flags)}: F_GETFD`, () => kernel.fcntl(fd, F_GETFD));
    }
    see.descriptor('initval 2^32-1', () => kernel.eventfd(0xffffffff, EFD_NONBLOCK));
  }),
  define('file/eventfd/count', 'eventfd', (kernel, see) => {
    const fd = kernel.eventfd(5, EFD_NONBLOCK);
    const out = new Uint8Array(8);
    const read = (label: string) => {
      see.call(label, () => kernel.read(fd, out.fill(0)));
      see.note(`${label}: value`, out);
    };
    const ready = (label: string) => see.call(label, () => kernel.poll([{ fd, events: 0xffff }])[0]);
    ready('poll at 5');
    read('read takes all');
    ready('poll at 0');
    see.call('read at 0', () => kernel.read(fd, out));
    see.call('write 3', () => kernel.write(fd, u64(3n)));
    see.call('write 4', () => kernel.write(fd, u64(4n)));
    read('read of both');
    see.call('write 0', () => kernel.write(fd, u64(0n)));
    see.call('read after writing 0', () => kernel.read(fd, out));
    see.call('write 2^64-1', () => kernel.write(fd, u64(MAX)));
    see.call('write 2^64-2', () => kernel.write(fd, u64(MAX - 1n)));
    ready('poll at the top');
    see.call('write 1 at the top', () => kernel.write(fd, u64(1n)));
    see.call('write 0 at the top', () => kernel.write(fd, u64(0n)));
    read('read the top');
    see.call('read of 7 bytes', () => kernel.read(fd, new Uint8Array(7)));
    see.call('write of 7 bytes', () => kernel.write(fd, new Uint8Array(7)));
    see.call('write of 9 bytes', () => kernel.write(fd, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 9)));
    const wide = new Uint8Array(16).fill(0xee);
    see.call('read into 16 bytes', () => kernel.read(fd, wide));
    see.note('16 bytes', wide);
    see.call('pread', () => kernel.pread(fd, out, 0));
    see.call('pwrite', () => kernel.pwrite(fd, u64(1n), 0));
  }),
  define('file/eventfd/semaphore', 'eventfd', (kernel, see) => {
    const fd = kernel.eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE);
    const out = new Uint8Array(8);
    for (const label of ['first', 'second', 'third']) {
      see.call(`${label} read`, () => kernel.read(fd, out.fill(0)));
      see.note(`${label} value`, out);
    }
  }),
  define('file/eventfd/poll', 'eventfd', (kernel, see) => {
    const [a, b] = [kernel.eventfd(0, EFD_NONBLOCK), kernel.eventfd(1, EFD_NONBLOCK)];
    see.call('two at once', () => kernel.poll([{ fd: a }, { fd: b }]));
    see.call('the same twice', () => kernel.poll([{ fd: b }, { fd: b, events: 4 }]));
    see.call('none', () => kernel.poll([]));
    see.call('with a timeout, one is ready', () => kernel.poll([{ fd: a }, { fd: b }], 1000));
    see.call('with a timeout that runs out', () => kernel.poll([{ fd: a }], 5));
    see.call('events 0', () => kernel.poll([{ fd: b, events: 0 }]));
  }),
  define(
    'file/eventfd/wait',
    'eventfd',
    async (kernel, see) => {
      const fd = kernel.eventfd(0, EFD_NONBLOCK);
      const pending = kernel.waitAsync(fd);
      kernel.write(fd, u64(1n));
      await see.wait('woken by a write', () => pending);
      await see.wait('ready at once', () => kernel.waitAsync(fd));
      await see.wait('writable', () => kernel.waitAsync(fd, 4));
    },
    { needs: { features: ['async'], devices: [] } },
  ),
  define('file/memfd/create', 'memfd', (kernel, see) => {
    for (const flags of [0, MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_CLOEXEC | MFD_ALLOW_SEALING, 0x4000]) {
      const fd = see.descriptor(`flags ${hex(flags)}`, () => kernel.memfd('m', flags));
      if (fd < 0) continue;
      see.call(`flags ${hex(flags)}: F_GETFD`, () => kernel.fcntl(fd, F_GETFD));
      see.call(`flags ${hex(flags)}: F_GETFL`, () => hex(kernel.fcntl(fd, F_GETFL)));
      see.call(`flags ${hex(flags)}: seals`, () => kernel.fcntl(fd, F_GET_SEALS));
    }
    see.call('link', () => kernel.readlink(`/proc/self/fd/${kernel.memfd('a name')}`));
    see.call('link without a name', () => kernel.readlink(`/proc/self/fd/${kernel.memfd('')}`));
    see.descriptor('a name of 249 bytes', () => kernel.memfd('n'.repeat(249)));
    see.descriptor('a name of 250 bytes', () => kernel.memfd('n'.repeat(250)));
  }),
  define('file/memfd/read-and-write', 'memfd', (kernel, see) => {
    const fd = kernel.memfd('m');
    see.call('write', () => kernel.write(fd, Uint8Array.of(1, 2, 3, 4)));
    see.call('size', () => kernel.fstat(fd).size);
    see.call('read behind the end', () => kernel.read(fd, new Uint8Array(4)));
    const out = new Uint8Array(4);
    see.call('pread', () => kernel.pread(fd, out, 1));
    see.note('bytes', out);
    see.call('pread at the end', () => kernel.pread(fd, out, 4));
    see.call('pwrite beyond', () => kernel.pwrite(fd, Uint8Array.of(9), 100));
    see.call('size then', () => kernel.fstat(fd).size);
    see.call('the hole reads 0', () => kernel.pread(fd, out.fill(7), 50));
    see.note('hole', out);
    see.call('the position was not moved by pwrite', () => kernel.write(fd, Uint8Array.of(5)));
    see.call('pread there', () => kernel.pread(fd, out, 3));
    see.note('bytes there', out);
    see.call('pread at -1', () => kernel.pread(fd, out, -1));
    see.call('pwrite at 2^63-1', () => kernel.pwrite(fd, out, (1n << 63n) - 1n));
  }),
  define('file/memfd/size', 'memfd', (kernel, see) => {
    const fd = kernel.memfd('m');
    see.call('ftruncate 0x3000', () => kernel.ftruncate(fd, 0x3000));
    see.call('size', () => kernel.fstat(fd).size);
    kernel.pwrite(fd, Uint8Array.of(1, 2, 3), 0xffe);
    see.call('ftruncate 0x1000 cuts', () => kernel.ftruncate(fd, 0x1000));
    kernel.ftruncate(fd, 0x2000);
    const out = new Uint8Array(4);
    kernel.pread(fd, out, 0xffe);
    see.note('grown again: what was cut is zero', out);
    see.call('ftruncate -1', () => kernel.ftruncate(fd, -1));
    see.call('ftruncate 1', () => kernel.ftruncate(fd, 1));
    see.call('size 1', () => kernel.fstat(fd).size);
    see.call('ftruncate 1 TiB', () => kernel.ftruncate(fd, 1n << 40n));
    see.call('size 1 TiB', () => kernel.fstat(fd).size);
    see.call('ftruncate 2^63-1', () => kernel.ftruncate(fd, (1n << 63n) - 1n));
  }),
  define('file/memfd/fallocate', 'memfd', (kernel, see) => {
    const fd = kernel.memfd('m');
    const PUNCH = FALLOC_FL_PUNCH_HOLE;
    const KEEP = FALLOC_FL_KEEP_SIZE;
    see.call('allocate 0x2000', () => kernel.fallocate(fd, 0, 0, 0x2000));
    see.call('size', () => kernel.fstat(fd).size);
    see.call('blocks', () => kernel.fstat(fd).blocks);
    see.call('KEEP_SIZE behind the end', () => kernel.fallocate(fd, KEEP, 0x2000, 0x1000));
    see.call('size kept', () => kernel.fstat(fd).size);
    kernel.pwrite(fd, new Uint8Array(0x2000).fill(7), 0);
    see.call('punch', () => kernel.fallocate(fd, PUNCH | KEEP, 0x800, 0x1000));
    const out = new Uint8Array(2);
    kernel.pread(fd, out, 0x7ff);
    see.note('edge of the hole', out);
    kernel.pread(fd, out, 0x17ff);
    see.note('other edge', out);
    see.call('punch without KEEP_SIZE', () => kernel.fallocate(fd, PUNCH, 0, 0x1000));
    see.call('collapse', () => kernel.fallocate(fd, 8, 0, 0x1000));
    see.call('zero range', () => kernel.fallocate(fd, 0x10, 0, 0x1000));
    see.call('length 0', () => kernel.fallocate(fd, 0, 0, 0));
    see.call('negative offset', () => kernel.fallocate(fd, 0, -1, 1));
    see.call('too far', () => kernel.fallocate(fd, 0, (1n << 63n) - 1n, 1));
  }),
  define('file/memfd/seals', 'memfd', (kernel, see) => {
    const fd = kernel.memfd('m', MFD_ALLOW_SEALING);
    const seal = (label: string, seals: number) => see.call(label, () => kernel.fcntl(fd, F_ADD_SEALS, seals));
    kernel.ftruncate(fd, 0x1000);
    see.call('none yet', () => kernel.fcntl(fd, F_GET_SEALS));
    seal('SHRINK', F_SEAL_SHRINK);
    see.call('shrinking', () => kernel.ftruncate(fd, 0));
    see.call('growing', () => kernel.ftruncate(fd, 0x2000));
    seal('GROW', F_SEAL_GROW);
    see.call('growing then', () => kernel.ftruncate(fd, 0x3000));
    see.call('writing behind the end', () => kernel.pwrite(fd, Uint8Array.of(1), 0x2000));
    see.call('fallocate behind the end', () => kernel.fallocate(fd, 0, 0x2000, 0x1000));
    seal('unknown', 0x100);
    const mapped = kernel.mmap({ fd, length: 0x1000, view: false });
    seal('WRITE with a writable mapping', F_SEAL_WRITE);
    mapped.close();
    seal('WRITE', F_SEAL_WRITE);
    see.call('writing', () => kernel.pwrite(fd, Uint8Array.of(1), 0));
    see.call('punching', () => kernel.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0x1000));
    see.call('mapping it writable', () => kernel.mmap({ fd, length: 0x1000, view: false }).length);
    see.call('mapping it read-only', () => kernel.mmap({ fd, length: 0x1000, prot: PROT_READ, view: false }).length);
    see.call('mapping it privately', () => kernel.mmap({ fd, length: 0x1000, flags: MAP_PRIVATE, view: false }).length);
    seal('SEAL', F_SEAL_SEAL);
    seal('one more', F_SEAL_SHRINK);
    see.call('all', () => kernel.fcntl(fd, F_GET_SEALS));
    const plain = kernel.memfd('p');
    see.call('without MFD_ALLOW_SEALING', () => kernel.fcntl(plain, F_ADD_SEALS, F_SEAL_SHRINK));
    see.call('of an eventfd', () => kernel.fcntl(kernel.eventfd(), F_GET_SEALS));
  }),
  define('file/memfd/mmap', 'memfd', (kernel, see) => {
    const fd = kernel.memfd('m');
    kernel.ftruncate(fd, 0x3000);
    const [a, b] = [kernel.mmap({ fd, length: 0x3000 }), kernel.mmap({ fd, length: 0x1000, offset: 0x1000 })];
    a.write8(0x1004, 0x5a);
    see.note('two mappings share', b.read8(4));
    const out = new Uint8Array(1);
    kernel.pread(fd, out, 0x1004);
    see.note('and the file', out);
    kernel.pwrite(fd, Uint8Array.of(0x6b), 0x2000);
    see.note('file to mapping', a.read8(0x2000));
    const own = kernel.mmap({ fd, length: 0x1000, flags: MAP_PRIVATE, view: false });
    own.write8(0, 0x11);
    see.note('a private mapping keeps its writes', a.read8(0));
    see.call('unaligned offset', () => kernel.mmap({ fd, length: 0x1000, offset: 5 }).length);
    kernel.close(fd);
    see.note('the mapping outlives the descriptor', a.read8(0x1004));
  }),
  define(
    'file/memfd/mmap-behind-the-end',
    'memfd',
    (kernel, see) => {
      const fd = kernel.memfd('m');
      kernel.ftruncate(fd, 0x1001);
      const map = kernel.mmap({ fd, length: 0x3000, view: false });
      see.call('last page of the file', () => map.read8(0x1fff));
      see.call('behind it', () => map.read8(0x2000));
      see.call('write behind it', () => map.write8(0x2000, 1));
      kernel.ftruncate(fd, 0x3000);
      see.call('after growing', () => map.read8(0x2000));
    },
    { needs: { features: ['exactAccess'], devices: [] } },
  ),
  define('file/advice/merging', 'Memory advice', (kernel, see) => {
    const fd = kernel.memfd('advised');
    kernel.ftruncate(fd, 0x4000);
    for (const [name, memory] of [
      ['memory', kernel.mmap({ length: 0x4000, view: false })],
      ['shared memory', kernel.mmap({ length: 0x4000, flags: MAP_SHARED | MAP_ANONYMOUS, view: false })],
      ['a memfd', kernel.mmap({ length: 0x4000, fd, view: false })],
    ] as const) {
      memory.write(0x1000, Uint8Array.of(7));
      see.call(`${name}: MADV_MERGEABLE`, () => kernel.madvise(memory, MADV_MERGEABLE));
      see.call(`${name}: of a page`, () => kernel.madvise(memory, MADV_MERGEABLE, { offset: 0x1000, length: 0x1000 }));
      see.call(`${name}: MADV_UNMERGEABLE`, () => kernel.madvise(memory, MADV_UNMERGEABLE));
      see.note(`${name}: as it was`, memory.read(0x1000, 1));
    }
  }),
].map((one) => (one.needs === undefined ? { ...one, needs: { devices: [] } } : one));
