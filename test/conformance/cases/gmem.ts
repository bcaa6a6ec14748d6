/** KVM_CREATE_GUEST_MEMFD: its checks, what the file can and cannot do, how it is bound to slots, and how long everything lives. */
import type { Kernel, Memory } from 'kvio';
import {
  F_ADD_SEALS,
  F_GET_SEALS,
  F_GETFD,
  F_GETFL,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_ZERO_RANGE,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_GUEST_MEMFD,
  KVM_CREATE_VCPU,
  KVM_GET_REGS,
  kvm_create_guest_memfd,
  KVM_MEM_LOG_DIRTY_PAGES as LOG,
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_REMOVE,
  MADV_WILLNEED,
  MAP_PRIVATE,
  MAP_SHARED_VALIDATE,
  O_RDWR,
  POLLIN,
  PROT_EXEC,
  PROT_READ,
  FALLOC_FL_PUNCH_HOLE as PUNCH,
  KVM_MEM_READONLY as READONLY,
  FALLOC_FL_KEEP_SIZE as SIZE,
} from 'kvio/uapi';
import { type Case, define, hex, type Observer } from '../case.ts';
import { newVm, openKvm, PAGE, setRegion, setRegion2 } from '../machine.ts';
import { type GmemSlot, guestMemfd, PRIVATE, Prober, protectedVm, setAttributes, setGmem } from '../private.ts';

const section = 'Private memory';
const MMAP = 1n;
const INIT_SHARED = 2n;
/** The flag of a slot. */
const GMEM = 4;
const GPA = 0x20000n;

interface Scene {
  readonly vm: number;
  readonly fd: number;
}

function scene(kernel: Kernel, flags = 0n, size = 0x10000n): Scene {
  const vm = newVm(kernel);
  return { vm, fd: guestMemfd(kernel, vm, size, flags) };
}

function mapped(kernel: Kernel, fd: number, length = 0x10000): Memory {
  return kernel.mmap({ fd, length, view: false });
}

/** One call a line: `set(label, slot)` notes what the region's ioctl answered. */
function setter(kernel: Kernel, see: Observer, vm: number) {
  return (label: string, slot: Partial<GmemSlot>): void =>
    void see.call(label, () => setGmem(kernel, vm, { slot: 1, gpa: GPA, size: PAGE, memfd: -1, ...slot }));
}

function byte(see: Observer, label: string, memory: Memory, offset = 0): void {
  see.call(label, () => memory.read8(offset));
}

const create: Case[] = [
  define('kvm/gmem/create', section, (kernel, see) => {
    const vm = newVm(kernel);
    const make = (label: string, size: bigint, flags = 0n) =>
      see.descriptor(label, () => {
        const fd = guestMemfd(kernel, vm, size, flags);
        kernel.close(fd);
        return fd;
      });
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_CREATE_GUEST_MEMFD, 0));
    for (let bit = 0n; bit < 64n; bit++) make(`flags ${hex(1n << bit)}`, PAGE, 1n << bit);
    make('flags 0x3', PAGE, 3n);
    make('size 0', 0n);
    make('size 1', 1n);
    make('size 0xfff', 0xfffn);
    make('size 0x1001', 0x1001n);
    make('size 2^62', 1n << 62n);
    make('size 2^63 - 4096', 0x7ffffffffffff000n);
    make('size 2^63 - 1', 0x7fffffffffffffffn);
    make('size 2^63', 1n << 63n);
    make('size -4096', 0xfffffffffffff000n);
    make('a bad flag and a bad size', 1n, 0x8000n);
    const bytes = kvm_create_guest_memfd.encode({ size: PAGE, flags: 0n }).fill(0xff, 16);
    see.descriptor('reserved fields that are not 0', () => kernel.ioctl(vm, KVM_CREATE_GUEST_MEMFD, bytes));
    see.note('the struct is not written', bytes[0] === 0 && bytes.at(-1) === 0xff);
  }),
  define('kvm/gmem/create-protected', section, (kernel, see) => {
    const vm = protectedVm(kernel, see);
    if (vm < 0) return;
    for (const flags of [0n, 1n, 2n, 3n, 4n]) see.descriptor(`flags ${flags}`, () => guestMemfd(kernel, vm, PAGE, flags));
  }),
  define('kvm/gmem/capabilities', section, (kernel, see) => {
    const fds = { system: openKvm(kernel), 'a VM': newVm(kernel), 'a protected VM': protectedVm(kernel, see) };
    for (const [name, fd] of Object.entries(fds)) {
      if (fd < 0) continue;
      for (const [cap, number] of Object.entries({
        MEMORY_FAULT_INFO: 232,
        MEMORY_ATTRIBUTES: 233,
        GUEST_MEMFD: 234,
        VM_TYPES: 235,
        PRE_FAULT_MEMORY: 236,
        GUEST_MEMFD_FLAGS: 244,
        MULTI_ADDRESS_SPACE: 118,
        READONLY_MEM: 81,
      }))
        see.call(`${cap}: ${name}`, () => kernel.ioctl(fd, KVM_CHECK_EXTENSION, number));
    }
  }),
  define(
    'kvm/gmem/create-emfile',
    section,
    (kernel, see) => {
      const vm = newVm(kernel);
      for (let more = true; more; ) {
        try {
          kernel.dup(vm);
        } catch {
          more = false;
        }
      }
      see.call('a bad size', () => guestMemfd(kernel, vm, 1n));
      see.call('a bad flag', () => guestMemfd(kernel, vm, PAGE, 0x8000n));
      see.call('all right', () => guestMemfd(kernel, vm, PAGE));
    },
    { needs: { nofile: 4096 } },
  ),
];

const file: Case[] = [
  define('kvm/gmem/file', section, (kernel, see) => {
    const { vm, fd } = scene(kernel);
    see.call('F_GETFD', () => kernel.fcntl(fd, F_GETFD));
    see.call('F_GETFL', () => hex(kernel.fcntl(fd, F_GETFL)));
    see.call('/proc/self/fd', () => kernel.readlink(`/proc/self/fd/${fd}`));
    const { mode, size, nlink, blksize, blocks, rdev, uid, gid } = kernel.fstat(fd);
    see.note('fstat', { mode: `0${mode.toString(8)}`, size, nlink, blksize: Number(blksize), blocks, rdev, uid, gid });
    const other = guestMemfd(kernel, vm, PAGE);
    see.note('two have two inodes', kernel.fstat(fd).ino !== kernel.fstat(other).ino);
    see.note('on the file system of the VM', kernel.fstat(fd).dev === kernel.fstat(vm).dev);
    see.call('read', () => kernel.read(fd, new Uint8Array(8)));
    see.call('read of nothing', () => kernel.read(fd, new Uint8Array(0)));
    see.call('write', () => kernel.write(fd, new Uint8Array(8)));
    see.call('pread', () => kernel.pread(fd, new Uint8Array(8), 0));
    see.call('pwrite', () => kernel.pwrite(fd, new Uint8Array(8), 0));
    see.call('ftruncate to the same size', () => kernel.ftruncate(fd, 0x10000));
    see.call('ftruncate to 0', () => kernel.ftruncate(fd, 0));
    see.call('ftruncate to more', () => kernel.ftruncate(fd, 0x20000));
    see.call('F_ADD_SEALS', () => kernel.fcntl(fd, F_ADD_SEALS, 1));
    see.call('F_GET_SEALS', () => kernel.fcntl(fd, F_GET_SEALS));
    see.call('open of its link', () => kernel.open(`/proc/self/fd/${fd}`, O_RDWR));
    see.call('poll, all events', () => hex(kernel.poll([{ fd, events: 0xffff }])[0]!));
    see.call('poll, POLLIN', () => kernel.poll([{ fd, events: POLLIN }])[0]!);
    see.call('KVM_CHECK_EXTENSION', () => kernel.ioctl(fd, KVM_CHECK_EXTENSION, 0));
    see.call('KVM_GET_REGS', () => kernel.ioctl(fd, KVM_GET_REGS, 0));
    see.call('unknown ioctl of another type', () => kernel.ioctl(fd, 0x3b00));
    see.call('TCGETS', () => kernel.ioctl(fd, 0x5401, 0));
    see.call('a dup is not close-on-exec', () => kernel.fcntl(kernel.dup(fd), F_GETFD));
  }),
  define('kvm/gmem/fallocate', section, (kernel, see) => {
    const { fd } = scene(kernel);
    const call = (label: string, mode: number, offset: number | bigint, length: number | bigint) =>
      see.call(label, () => kernel.fallocate(fd, mode, offset, length));
    call('mode 0', 0, 0, 0x1000);
    for (const [name, mode] of Object.entries({
      UNSHARE: FALLOC_FL_UNSHARE_RANGE,
      ZERO: FALLOC_FL_ZERO_RANGE,
      COLLAPSE: FALLOC_FL_COLLAPSE_RANGE,
      INSERT: FALLOC_FL_INSERT_RANGE,
    })) {
      call(name, mode, 0, 0x1000);
      call(`${name}|KEEP_SIZE`, mode | SIZE, 0, 0x1000);
      call(`${name}|KEEP_SIZE, unaligned`, mode | SIZE, 1, 1);
    }
    call('PUNCH_HOLE without KEEP_SIZE', PUNCH, 0, 0x1000);
    call('unknown mode', 0x4000, 0, 0x1000);
    for (const [name, mode] of Object.entries({ allocate: SIZE, punch: SIZE | PUNCH })) {
      call(`${name}: a page`, mode, 0x1000, 0x1000);
      call(`${name}: the same again`, mode, 0x1000, 0x1000);
      call(`${name}: all`, mode, 0, 0x10000);
      call(`${name}: nothing`, mode, 0, 0);
      call(`${name}: length -1`, mode, 0, -1);
      call(`${name}: offset -1`, mode, -1, 0x1000);
      call(`${name}: offset -4096`, mode, -4096, 0x1000);
      call(`${name}: unaligned offset`, mode, 1, 0x1000);
      call(`${name}: unaligned length`, mode, 0, 1);
      call(`${name}: straddling the end`, mode, 0xf000, 0x2000);
      call(`${name}: from the end`, mode, 0x10000, 0x1000);
      call(`${name}: far beyond the end`, mode, 1n << 40n, 0x1000);
      call(`${name}: to 2^63`, mode, 0x1000, 0x7ffffffffffff000n);
      call(`${name}: to 2^63 - 4096`, mode, 0x1000, 0x7fffffffffffe000n);
      call(`${name}: beyond 2^63`, mode, 0x7ffffffffffff000n, 0x2000);
      see.call(`${name}: blocks then`, () => kernel.fstat(fd).blocks);
    }
    see.call('the size is what it was', () => kernel.fstat(fd).size);
  }),
];

const mapping: Case[] = [0n, MMAP, INIT_SHARED, MMAP | INIT_SHARED].map((flags) =>
  define(`kvm/gmem/mmap-flags-${flags}`, section, (kernel, see) => {
    const { fd } = scene(kernel, flags);
    const map = (label: string, options: object): void =>
      void see.call(label, () => {
        kernel.mmap({ fd, length: 0x1000, view: false, ...options }).close();
        return 'mapped';
      });
    map('shared', {});
    map('shared, validated', { flags: MAP_SHARED_VALIDATE });
    map('private', { flags: MAP_PRIVATE });
    map('read-only', { prot: PROT_READ });
    map('private, read-only', { flags: MAP_PRIVATE, prot: PROT_READ });
    map('PROT_EXEC', { prot: PROT_READ | PROT_EXEC });
    map('PROT_NONE', { prot: 0 });
    map('unaligned offset', { offset: 1 });
    map('longer than the file', { length: 0x20000 });
    map('behind the file', { offset: 0x20000 });
    map('flags without a sharing type', { flags: 0 });
  }),
);

const touching: Case[] = [
  define('kvm/gmem/touch', section, (kernel, see) => {
    const memory = mapped(kernel, scene(kernel, MMAP | INIT_SHARED).fd, 0x11000);
    byte(see, 'the first byte', memory);
    see.call('a store', () => memory.write8(0x1000, 0x5a));
    byte(see, 'what was stored', memory, 0x1000);
    byte(see, 'the last byte', memory, 0xffff);
    byte(see, 'behind the end', memory, 0x10000);
    see.call('a store behind the end', () => memory.write8(0x10000, 1));
  }),
  define('kvm/gmem/touch-not-shared', section, (kernel, see) => {
    const { fd } = scene(kernel, MMAP);
    const memory = mapped(kernel, fd);
    byte(see, 'a load', memory);
    see.call('a store', () => memory.write8(0, 1));
    see.call('allocating the page', () => kernel.fallocate(fd, SIZE, 0, 0x1000));
    byte(see, 'a load then', memory);
    for (const [name, advice] of Object.entries({ MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTNEED }))
      see.call(name, () => kernel.madvise(memory, advice));
  }),
  define('kvm/gmem/contents', section, (kernel, see) => {
    const { fd } = scene(kernel, MMAP | INIT_SHARED);
    const [memory, second] = [mapped(kernel, fd), mapped(kernel, fd)];
    for (let page = 0; page < 16; page++) memory.write8(page * 0x1000, page + 1);
    byte(see, 'through another mapping', second, 0x3000);
    see.call('allocate', () => kernel.fallocate(fd, SIZE, 0, 0x10000));
    byte(see, 'allocating leaves what is there', memory, 0x3000);
    see.call('punch a page', () => kernel.fallocate(fd, SIZE | PUNCH, 0x3000, 0x1000));
    see.note(
      'around the hole',
      [0x2000, 0x3000, 0x4000].map((at) => memory.read8(at)),
    );
    memory.write8(0x3000, 0x77);
    byte(see, 'a new page', second, 0x3000);
    see.call('punch across the end', () => kernel.fallocate(fd, SIZE | PUNCH, 0xf000, 0x8000));
    byte(see, 'the last page', memory, 0xf000);
    see.call('MADV_DONTNEED', () => kernel.madvise(memory, MADV_DONTNEED));
    byte(see, 'MADV_DONTNEED keeps the file', memory, 0x2000);
    see.call('MADV_REMOVE', () => kernel.madvise(memory, MADV_REMOVE, { offset: 0x2000, length: 0x1000 }));
    byte(see, 'MADV_REMOVE punches it', memory, 0x2000);
    for (const [name, advice] of Object.entries({ MADV_WILLNEED, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE }))
      see.call(name, () => kernel.madvise(memory, advice));
    see.call('blocks of fstat', () => kernel.fstat(fd).blocks);
    kernel.close(fd);
    byte(see, 'after the descriptor is closed', memory, 0x4000);
    memory.close();
    byte(see, 'after the first mapping is gone', second, 0x4000);
  }),
];

const binding: Case[] = [
  define('kvm/gmem/bind', section, (kernel, see) => {
    const { vm, fd } = scene(kernel);
    const set = setter(kernel, see, vm);
    set('no descriptor', { memfd: -1 });
    set('a closed descriptor', { memfd: 900 });
    for (const [name, other] of Object.entries({
      '/dev/kvm': openKvm(kernel),
      'the VM': vm,
      'a vCPU': kernel.ioctl(vm, KVM_CREATE_VCPU, 0),
      'an eventfd': kernel.eventfd(),
      'a memfd': kernel.memfd('kvio'),
      "another VM's": scene(kernel).fd,
    }))
      set(name, { memfd: other });
    set('offset 1', { memfd: fd, offset: 1n });
    set('offset wraps with the size', { memfd: fd, offset: 0xfffffffffffff000n });
    set('offset 2^63', { memfd: fd, offset: 1n << 63n });
    set('offset at the end of the file', { memfd: fd, offset: 0x10000n });
    set('beyond the end of the file', { memfd: fd, offset: 0xf000n, size: 0x2000n });
    set('larger than the file', { memfd: fd, size: 0x11000n });
    set('gpa unaligned', { memfd: fd, gpa: 1n });
    set('LOG_DIRTY', { memfd: fd, flags: GMEM | LOG });
    set('READONLY', { memfd: fd, flags: GMEM | READONLY });
    set('LOG_DIRTY with no descriptor', { flags: GMEM | LOG });
    see.call('the flag in the first version', () => setRegion(kernel, vm, { slot: 1, flags: GMEM, memory_size: PAGE }));
    set('the last page', { memfd: fd, offset: 0xf000n });
    set('the same again', { memfd: fd, offset: 0xf000n });
    set('the same with no descriptor', { offset: 0xf000n });
    set('other flags', { memfd: fd, flags: LOG });
    set('moved', { memfd: fd, gpa: GPA + PAGE, offset: 0xf000n });
    set('moved without the flag', { flags: 0, gpa: GPA + PAGE });
    set('overlap of guest memory, no descriptor', { slot: 2 });
    set('overlap of guest memory', { slot: 2, memfd: fd });
    set('the same page of the file elsewhere', { slot: 2, memfd: fd, gpa: 0x40000n, offset: 0xf000n });
    set('a range of the file around it', { slot: 2, memfd: fd, gpa: 0x40000n, size: 0x10000n });
    set('the rest of the file', { slot: 2, memfd: fd, gpa: 0x40000n, size: 0xf000n });
    set('delete', { size: 0n });
    set('delete again', { size: 0n });
    set('its page is free: bound elsewhere', { slot: 3, memfd: fd, gpa: 0x80000n, offset: 0xf000n });
    see.call('delete by the first version', () => setRegion(kernel, vm, { slot: 3 }));
    set('delete without the flag', { slot: 2, size: 0n, flags: 0 });
    set('all of it', { slot: 4, memfd: fd, size: 0x10000n });
    set('delete with LOG_DIRTY too', { slot: 4, size: 0n, flags: GMEM | LOG });
    set('delete with LOG_DIRTY', { slot: 4, size: 0n, flags: LOG });
  }),
  define('kvm/gmem/bind-refused-late', section, (kernel, see) => {
    const { vm, fd } = scene(kernel);
    const set = setter(kernel, see, vm);
    set('beyond the last guest frame', { memfd: fd, gpa: 1n << 52n });
    set('its page is free', { memfd: fd });
  }),
  define('kvm/gmem/plain-slot-becomes-one', section, (kernel, see) => {
    const { vm, fd } = scene(kernel);
    const set = setter(kernel, see, vm);
    see.call('a slot without', () => setRegion2(kernel, vm, { slot: 1, guest_phys_addr: GPA, memory_size: PAGE }));
    set('with a guest_memfd', { memfd: fd });
    set('another one over it', { slot: 2, memfd: fd });
  }),
];

const lifetimes: Case[] = [
  define('kvm/gmem/outlives-the-vm-descriptor', section, (kernel, see) => {
    const { vm, fd } = scene(kernel, MMAP | INIT_SHARED);
    const other = newVm(kernel);
    const memory = mapped(kernel, fd);
    setter(kernel, see, vm)('bound', { memfd: fd });
    memory.write8(0, 0x42);
    kernel.close(vm);
    byte(see, 'the mapping, with the VM descriptor closed', memory);
    see.call('punch', () => kernel.fallocate(fd, SIZE | PUNCH, 0, 0x1000));
    byte(see, 'punched', memory);
    see.call('allocate', () => kernel.fallocate(fd, SIZE, 0, 0x1000));
    setter(kernel, see, other)("bound to another VM's slot", { memfd: fd });
    memory.write8(0, 0x43);
    kernel.close(fd);
    byte(see, 'the mapping, with both closed', memory);
  }),
  define('kvm/gmem/dead-slot', section, (kernel, see) => {
    const { vm, fd } = scene(kernel);
    const set = setter(kernel, see, vm);
    set('bound', { memfd: fd });
    const twin = kernel.dup(fd);
    kernel.close(fd);
    set('a dup is open: the page is taken', { slot: 2, memfd: twin, gpa: 0x40000n });
    kernel.close(twin);
    const next = guestMemfd(kernel, vm, 0x10000n);
    set('the dead slot keeps its place in the guest', { slot: 2, memfd: next });
    set('the dead slot keeps its id', { memfd: next });
    set('delete the dead slot', { size: 0n });
    set('its place is free', { slot: 2, memfd: next });
  }),
];

/** What a guest of an ordinary VM sees; its shared side begins with 0x11, its guest_memfd with 0x99 where it can be written. */
const ordinary: Case[] = [0n, MMAP, MMAP | INIT_SHARED].map((flags) =>
  define(`kvm/gmem/ordinary-vm-flags-${flags}`, section, (kernel, see) => {
    const { vm, fd } = scene(kernel, flags);
    const prober = new Prober(kernel, vm);
    const shared = kernel.guestRam(0x10000);
    shared.write8(0, 0x11);
    const memory = flags === (MMAP | INIT_SHARED) ? mapped(kernel, fd) : undefined;
    memory?.write8(0, 0x99);
    see.call('bound', () => setGmem(kernel, vm, { slot: 1, gpa: GPA, size: 0x10000n, memfd: fd, hva: shared.address }));
    see.note('the guest reads', prober.read(GPA));
    see.note('the guest writes', prober.write(GPA, 0x5a));
    see.note('the guest reads that', prober.read(GPA));
    byte(see, 'userspace_addr', shared);
    if (memory !== undefined) byte(see, 'the mapping', memory);
    see.call('punch', () => kernel.fallocate(fd, SIZE | PUNCH, 0, 0x1000));
    see.note('the guest reads then', prober.read(GPA));
    see.call('attributes of an ordinary VM', () => setAttributes(kernel, vm, GPA, PAGE, PRIVATE));
    if (memory !== undefined) {
      memory.write8(0x1000, 0x98);
      see.note('the guest reads what the mapping wrote', prober.read(GPA + PAGE));
      memory.close();
    }
    kernel.close(fd);
    see.note('the guest reads after it was closed', prober.read(GPA));
    see.note('the guest writes after it was closed', prober.write(GPA, 0x5b));
    byte(see, 'userspace_addr then', shared);
  }),
);

const needing = (capability: number, list: readonly Case[]): Case[] =>
  list.map((one) => ({ ...one, needs: { ...one.needs, capability } }));

/** KVM_CAP_GUEST_MEMFD is older than KVM_CAP_GUEST_MEMFD_FLAGS: before, a file could not be mapped. */
export const gmemCases: Case[] = [
  ...needing(234, [...create, ...file, ...binding]),
  ...needing(244, [...mapping, ...touching, ...lifetimes, ...ordinary]),
];
