/** Huge pages: what the pool promises and gives, files of them, where they can be cut; and guests in them. */
import type { Kernel, Memory } from 'kvio';
import * as u from 'kvio/uapi';
import { type Case, define, type Observer } from '../case.ts';
import { exhausted, GIANT, giant, giantMemory, HUGE, huge, hugeMemory, POOL, peek, poke, pool, since } from '../hugepages.ts';
import { getRegs, mapRun, newVcpu, openKvm, PAGE, RunPage, setRegion, setRegs, setSregs, UNSAFE } from '../machine.ts';
import { show, store } from '../parts.ts';
import { guestMemfd, protectedVm, setAttributes, setGmem } from '../private.ts';

const section = 'Huge pages';
const { MAP_SHARED: SHARED, MAP_PRIVATE: PRIVATE, MAP_NORESERVE: NORESERVE } = u;
const PUNCH = u.FALLOC_FL_PUNCH_HOLE | u.FALLOC_FL_KEEP_SIZE;
const P = Number(PAGE);
const BIG = BigInt(HUGE);

/** A page is promised when it is mapped and taken when it is touched: shared ones for the object, private ones for the mapping. */
function reservations(kernel: Kernel, see: Observer): void {
  for (const [name, flags] of [
    ['shared', SHARED],
    ['private', PRIVATE],
    ['shared, without a promise', SHARED | NORESERVE],
    ['private, without a promise', PRIVATE | NORESERVE],
  ] as const) {
    const before = pool(kernel);
    const memory = hugeMemory(kernel, 3, { flags });
    see.note(`${name}: mapped`, since(kernel, before));
    see.note(`${name}: aligned`, memory.address % BIG === 0n);
    see.note(`${name}: a load`, [peek(memory, 5), since(kernel, before)]);
    see.note(`${name}: a store`, [poke(memory, HUGE + P, 7), since(kernel, before)]);
    kernel.madvise(memory, u.MADV_DONTNEED);
    see.note(`${name}: MADV_DONTNEED`, [since(kernel, before), peek(memory, HUGE + P)]);
    memory.close();
    see.note(`${name}: unmapped`, since(kernel, before));
  }
}

function exhaustion(kernel: Kernel, see: Observer): void {
  exhausted(kernel, () => {
    see.call('mmap, shared', () => typeof hugeMemory(kernel, 1));
    see.call('mmap, private', () => typeof hugeMemory(kernel, 1, { flags: PRIVATE }));
    const memory = hugeMemory(kernel, 1, { flags: SHARED | NORESERVE });
    see.note('a load', peek(memory, 0));
    see.note('a store', poke(memory, 0, 1));
    see.note('a system call that reads it', readFrom(kernel, memory));
    see.call('MADV_POPULATE_READ', () => kernel.madvise(memory, u.MADV_POPULATE_READ));
    const fd = kernel.memfd('none', u.MFD_HUGETLB);
    see.call('ftruncate', () => kernel.ftruncate(fd, HUGE));
    see.call('fallocate', () => kernel.fallocate(fd, 0, 0n, BIG));
    see.call('mmap of the file', () => typeof hugeMemory(kernel, 1, { fd }));
    see.call('populated, without a promise', () => hugeMemory(kernel, 2, { flags: SHARED | NORESERVE | u.MAP_POPULATE }).close());
  });
}

/** KVM_GET_MSR_INDEX_LIST into memory that may not be there. */
function readFrom(kernel: Kernel, memory: Memory): number {
  const kvm = openKvm(kernel);
  return kernel.tryIoctl(kvm, u.KVM_GET_MSR_INDEX_LIST, memory, UNSAFE);
}

function files(kernel: Kernel, see: Observer): void {
  const before = pool(kernel);
  const fd = kernel.memfd('huge', u.MFD_HUGETLB | u.MFD_ALLOW_SEALING);
  const stat = (): unknown => {
    const { size, blksize, blocks } = kernel.fstat(fd);
    return { size, blksize, blocks };
  };
  see.note('fstat', stat());
  for (const length of [P, HUGE - 1, 2 * HUGE]) see.call(`ftruncate to ${length}`, () => kernel.ftruncate(fd, length));
  see.call('write', () => kernel.write(fd, Uint8Array.of(1)));
  see.call('mmap at a page', () => typeof hugeMemory(kernel, 1, { fd, offset: PAGE }));
  const memory = hugeMemory(kernel, 2, { fd });
  see.note('mapped', since(kernel, before));
  poke(memory, HUGE + 5, 9);
  const bytes = new Uint8Array(2);
  see.call('pread', () => kernel.pread(fd, bytes, BIG + 4n));
  see.note('what it read', bytes);
  see.note('allocated', [stat(), since(kernel, before)]);
  see.call('a hole within a page', () => kernel.fallocate(fd, PUNCH, BIG + 5n, 1n));
  see.note('is zeros', [peek(memory, HUGE + 5), stat(), since(kernel, before)]);
  see.call('a hole of a page', () => kernel.fallocate(fd, PUNCH, BIG, BIG));
  see.note('is a hole, and the promise is gone', [stat(), since(kernel, before)]);
  memory.close();
  see.note('unmapped: the other promise stays', since(kernel, before));
  see.call('longer by a mapping', () => hugeMemory(kernel, 4, { fd }).close());
  see.note('then', [stat(), since(kernel, before)]);
  see.call('sealed', () => kernel.fcntl(fd, u.F_ADD_SEALS, u.F_SEAL_GROW));
  see.call('longer by ftruncate', () => kernel.ftruncate(fd, 5 * HUGE));
  see.call('longer by fallocate', () => kernel.fallocate(fd, 0, 4n * BIG, 1n));
  see.call('longer by a mapping, in spite of the seal', () => hugeMemory(kernel, 5, { fd }).close());
  see.note('it is', stat());
  see.call('shorter', () => kernel.ftruncate(fd, HUGE));
  see.note('promises past the end are gone', since(kernel, before));
  kernel.close(fd);
  see.note('closed', since(kernel, before));
}

/** A private mapping of a file has the file's pages until it stores, and pages of its own where the file has none. */
function privateOfFile(kernel: Kernel, see: Observer): void {
  const before = pool(kernel);
  const fd = kernel.memfd('huge', u.MFD_HUGETLB);
  kernel.ftruncate(fd, 2 * HUGE);
  const shared = hugeMemory(kernel, 2, { fd });
  poke(shared, 0, 1);
  const own = hugeMemory(kernel, 2, { fd, flags: PRIVATE });
  see.note('mapped', since(kernel, before));
  see.note('the file’s page', [peek(own, 0), poke(shared, 0, 2), peek(own, 0), since(kernel, before)]);
  see.note('one the file has not', [peek(own, HUGE), poke(shared, HUGE, 3), peek(own, HUGE), since(kernel, before)]);
  see.note('a store', [poke(own, 8, 4), poke(shared, 0, 5), peek(own, 0), peek(shared, 8), since(kernel, before)]);
  kernel.fallocate(fd, PUNCH, 0n, BIG);
  see.note('a hole takes the copy too', [peek(own, 0), since(kernel, before)]);
  own.close();
  shared.close();
  kernel.close(fd);
  see.note('gone', since(kernel, before));
}

function cuts(kernel: Kernel, see: Observer): void {
  const memory = hugeMemory(kernel, 3);
  const half = { offset: HUGE, length: HUGE / 2 };
  const page = { offset: HUGE, length: HUGE };
  for (const [name, advice] of Object.entries({
    DONTNEED: u.MADV_DONTNEED,
    REMOVE: u.MADV_REMOVE,
    FREE: u.MADV_FREE,
    COLD: u.MADV_COLD,
    PAGEOUT: u.MADV_PAGEOUT,
    WILLNEED: u.MADV_WILLNEED,
    RANDOM: u.MADV_RANDOM,
    DONTFORK: u.MADV_DONTFORK,
    DOFORK: u.MADV_DOFORK,
    DONTDUMP: u.MADV_DONTDUMP,
    DODUMP: u.MADV_DODUMP,
    HUGEPAGE: u.MADV_HUGEPAGE,
    NOHUGEPAGE: u.MADV_NOHUGEPAGE,
    WIPEONFORK: u.MADV_WIPEONFORK,
    COLLAPSE: u.MADV_COLLAPSE,
  })) {
    poke(memory, HUGE, 1);
    see.call(`MADV_${name} of half a page`, () => kernel.madvise(memory, advice, half));
    see.note(`MADV_${name}: then`, peek(memory, HUGE));
    see.call(`MADV_${name} of a page`, () => kernel.madvise(memory, advice, page));
    see.note(`MADV_${name}: then, of a page`, peek(memory, HUGE));
  }
  see.call('mprotect of half a page to what it is', () => kernel.mprotect(memory, u.PROT_READ | u.PROT_WRITE, half));
  see.call('mprotect of half a page', () => kernel.mprotect(memory, u.PROT_READ, half));
  see.call('mprotect of a page', () => kernel.mprotect(memory, u.PROT_READ, page));
  see.note('which is as it was asked', [poke(memory, HUGE - 1, 1), poke(memory, HUGE, 1), poke(memory, 2 * HUGE, 1)]);
}

/** A vCPU whose memory is one huge page at 0; DS leads to its last 64 KiB. */
function guestIn(
  kernel: Kernel,
  memory: Memory,
  code: readonly number[],
  more: { gpa?: bigint; flags?: number; offset?: bigint } = {},
) {
  const { vm, vcpu } = newVcpu(kernel);
  const { gpa = 0n, flags = 0, offset = 0n } = more;
  const size = BigInt(memory.length) - offset;
  setRegion(kernel, vm, { guest_phys_addr: gpa, flags, memory_size: size, userspace_addr: memory.address + offset });
  memory.write(0x1000 + Number(offset), Uint8Array.from(code));
  setSregs(kernel, vcpu, (sregs) => {
    Object.assign(sregs.cs, { base: 0n, selector: 0 });
    Object.assign(sregs.ds, { base: BIG - 0x10000n, selector: 0xf000 });
  });
  const run = new RunPage(mapRun(kernel, vcpu));
  const again = (regs: Parameters<typeof setRegs>[2] = {}): unknown => {
    setRegs(kernel, vcpu, { rip: 0x1000n, rflags: 2n, rsp: 0x8000n, ...regs });
    const returned = kernel.run(vcpu);
    return [returned, run.get('exit_reason'), getRegs(kernel, vcpu).rax];
  };
  return {
    vm,
    vcpu,
    again,
    set: (change: Parameters<typeof setRegion>[2]) =>
      setRegion(kernel, vm, { memory_size: size, userspace_addr: memory.address + offset, ...change }),
  };
}

/** mov al, [0x1234]; inc al; mov [0xffff], al; hlt */
const COUNT = [0xa0, 0x34, 0x12, 0xfe, 0xc0, 0xa2, 0xff, 0xff, 0xf4];

function guests(kernel: Kernel, see: Observer): void {
  for (const [name, flags] of [
    ['shared', SHARED],
    ['private', PRIVATE],
    ['without a promise', SHARED | NORESERVE],
  ] as const) {
    const before = pool(kernel);
    const memory = hugeMemory(kernel, 1, { flags });
    const guest = guestIn(kernel, memory, COUNT);
    memory.write(HUGE - 0x10000 + 0x1234, Uint8Array.of(0x41));
    see.note(`${name}: runs`, guest.again({ rax: 0n }));
    see.note(`${name}: what it stored`, [peek(memory, HUGE - 1), since(kernel, before)]);
    kernel.madvise(memory, u.MADV_DONTNEED);
    see.note(`${name}: after MADV_DONTNEED`, [peek(memory, HUGE - 1), since(kernel, before)]);
    memory.write(0x1000, Uint8Array.from(COUNT));
    see.note(`${name}: runs again`, guest.again({ rax: 0n }));
    see.note(`${name}: what it stored then`, peek(memory, HUGE - 1));
    memory.close();
    kernel.close(guest.vcpu);
    kernel.close(guest.vm);
  }
}

/** The guest's addresses need not be congruent with the host's. */
function unaligned(kernel: Kernel, see: Observer): void {
  const memory = hugeMemory(kernel, 2);
  const guest = guestIn(kernel, memory, COUNT, { offset: 3n * PAGE });
  memory.write(HUGE - 0x10000 + 0x1234 + 3 * P, Uint8Array.of(0x51));
  see.note('runs', guest.again({ rax: 0n }));
  see.note('what it stored', peek(memory, HUGE + 3 * P - 1));
  see.call('a slot of half a page', () =>
    setRegion(kernel, guest.vm, {
      slot: 1,
      guest_phys_addr: 1n << 32n,
      memory_size: BIG / 2n,
      userspace_addr: memory.address + PAGE,
    }),
  );
  see.call('a slot of no whole page', () =>
    setRegion(kernel, guest.vm, { slot: 2, guest_phys_addr: 1n << 33n, memory_size: 0x800n, userspace_addr: memory.address }),
  );
}

/** The log is of pages of 4 KiB, whatever the memory's are. */
function dirtyLog(kernel: Kernel, see: Observer): void {
  const memory = hugeMemory(kernel, 1);
  const guest = guestIn(kernel, memory, COUNT);
  see.note('runs before', guest.again({ rax: 0n }));
  see.call('LOG_DIRTY', () => guest.set({ flags: u.KVM_MEM_LOG_DIRTY_PAGES }));
  const log = (): unknown => {
    const into = kernel.guestRam(0x1000);
    kernel.ioctl(guest.vm, u.KVM_GET_DIRTY_LOG, u.kvm_dirty_log.encode({ slot: 0, dirty_bitmap: into.address }));
    const bytes = into.read(0, 64);
    return Array.from({ length: 512 }, (_, page) => page).filter((page) => (bytes[page >> 3]! & (1 << (page & 7))) !== 0);
  };
  log();
  see.note('runs', guest.again({ rax: 0n }));
  see.note('pages', log());
  see.note('runs once more', guest.again({ rax: 0n }));
  see.note('pages, again', log());
  see.call('without LOG_DIRTY', () => guest.set({}));
  see.note('runs without', guest.again({ rax: 0n }));
  see.call('LOG_DIRTY again', () => guest.set({ flags: u.KVM_MEM_LOG_DIRTY_PAGES }));
  see.note('runs with it', guest.again({ rax: 0n }));
  see.note('pages of the new log', log());
}

/** A page the pool does not have, when a guest wants it. */
function noPage(kernel: Kernel, see: Observer): void {
  const memory = hugeMemory(kernel, 2, { flags: SHARED | NORESERVE });
  memory.write(0x1000, Uint8Array.from(COUNT));
  const guest = guestIn(kernel, memory, COUNT);
  // mov al, [0x1234] of the second page
  setSregs(kernel, guest.vcpu, (sregs) => Object.assign(sregs.ds, { base: BIG, selector: 0xf000 }));
  exhausted(kernel, () => {
    see.note('it has none', peek(memory, HUGE));
    see.note('the guest’s load', guest.again({ rax: 0n }));
  });
  memory.write(HUGE + 0x1234, Uint8Array.of(0x61));
  see.note('once there is one', guest.again({ rax: 0n }));
  see.note('what it stored', peek(memory, HUGE + 0xffff));
}

/** A hole in the file is zeros to the guest. */
function holes(kernel: Kernel, see: Observer): void {
  const fd = kernel.memfd('guest', u.MFD_HUGETLB);
  kernel.ftruncate(fd, 2 * HUGE);
  const memory = hugeMemory(kernel, 2, { fd });
  const guest = guestIn(kernel, memory, COUNT);
  setSregs(kernel, guest.vcpu, (sregs) => Object.assign(sregs.ds, { base: BIG, selector: 0xf000 }));
  memory.write(HUGE + 0x1234, Uint8Array.of(0x61));
  see.note('runs', guest.again({ rax: 0n }));
  kernel.fallocate(fd, PUNCH, BIG, BIG);
  see.note('over a hole', guest.again({ rax: 0n }));
  see.note('the file has a page again', [peek(memory, HUGE + 0xffff), kernel.fstat(fd).blocks]);
  kernel.ftruncate(fd, HUGE);
  see.note('past the end', guest.again({ rax: 0n }));
}

/** Private memory is a guest_memfd’s; a file of huge pages is none. */
function privateMemory(kernel: Kernel, see: Observer): void {
  const vm = protectedVm(kernel, see);
  const shared = hugeMemory(kernel, 1);
  const file = kernel.memfd('huge', u.MFD_HUGETLB);
  kernel.ftruncate(file, HUGE);
  const slot = { slot: 0, gpa: 0n, size: BIG, hva: shared.address };
  see.call('a memfd of huge pages for a guest_memfd', () => setGmem(kernel, vm, { ...slot, memfd: file }));
  see.call('CREATE_GUEST_MEMFD, flag 2', () => guestMemfd(kernel, vm, BIG, 1n << 2n));
  const memfd = guestMemfd(kernel, vm, BIG);
  see.call('a guest_memfd beside huge pages', () => setGmem(kernel, vm, { ...slot, memfd }));
  see.call('half of it private', () => setAttributes(kernel, vm, 0n, BIG / 2n));
}

/** What a private mapping was promised is promised again only while no page is surplus: one that is thrown away then is nobody's, and the next may be refused. */
function promiseLost(kernel: Kernel, see: Observer): void {
  const limit = `${POOL}/nr_overcommit_hugepages`;
  const before = show(kernel, limit);
  const own = hugeMemory(kernel, 1, { flags: PRIVATE });
  poke(own, 0, 1);
  try {
    exhausted(kernel, () => {
      const counted = pool(kernel);
      store(kernel, limit, '1');
      const other = hugeMemory(kernel, 1, { flags: PRIVATE });
      see.note('another, of a surplus page', since(kernel, counted));
      kernel.madvise(own, u.MADV_DONTNEED);
      see.note('MADV_DONTNEED', since(kernel, counted));
      store(kernel, limit, '0');
      see.note('a load', peek(own, 0));
      see.note('a store', poke(own, 0, 2));
      see.note('a system call that reads it', readFrom(kernel, own));
      see.call('MADV_POPULATE_WRITE', () => kernel.madvise(own, u.MADV_POPULATE_WRITE));
      see.note('then', since(kernel, counted));
      see.note('the other’s', [poke(other, 0, 3), since(kernel, counted)]);
      other.close();
      see.note('unmapped', since(kernel, counted));
      see.note('a load, then', [peek(own, 0), since(kernel, counted)]);
    });
  } finally {
    store(kernel, limit, before);
  }
}

/** A page of 1 GiB: a pool of its own, and nothing smaller is cut from it. */
function giants(kernel: Kernel, see: Observer): void {
  const before = pool(kernel, GIANT);
  const counts = (): unknown => since(kernel, before, GIANT);
  for (const [name, flags] of [
    ['shared', SHARED],
    ['private', PRIVATE],
    ['without a promise', SHARED | NORESERVE],
  ] as const) {
    const memory = giantMemory(kernel, flags);
    see.note(`${name}: mapped`, [counts(), memory.address % BigInt(GIANT) === 0n]);
    see.call(`${name}: another`, () => giantMemory(kernel, flags).close());
    see.note(`${name}: a store`, [poke(memory, GIANT - 1, 7), counts()]);
    for (const [part, range] of [
      ['a page', { offset: HUGE, length: P }],
      ['a page of 2 MiB', { offset: HUGE, length: HUGE }],
      ['the second half', { offset: GIANT / 2, length: GIANT / 2 }],
      ['its end and its start', { offset: 0, length: GIANT }],
    ] as const) {
      see.call(`${name}: mprotect of ${part}`, () => kernel.mprotect(memory, u.PROT_READ, range));
      see.call(`${name}: MADV_DONTNEED of ${part}`, () => kernel.madvise(memory, u.MADV_DONTNEED, range));
      see.note(`${name}: then, of ${part}`, [peek(memory, GIANT - 1), counts()]);
    }
    memory.close();
    see.note(`${name}: unmapped`, counts());
  }
  const fd = kernel.memfd('giant', u.MFD_HUGETLB | u.MFD_HUGE_1GB);
  const stat = (): unknown => {
    const { size, blksize, blocks } = kernel.fstat(fd);
    return { size, blksize, blocks };
  };
  see.note('a file', stat());
  see.call('ftruncate to a page of 2 MiB', () => kernel.ftruncate(fd, HUGE));
  see.call('ftruncate', () => kernel.ftruncate(fd, GIANT));
  see.call('fallocate of a byte', () => kernel.fallocate(fd, 0, 0n, 1n));
  see.note('allocated', [stat(), counts()]);
  see.call('a hole of 2 MiB', () => kernel.fallocate(fd, PUNCH, 0n, BIG));
  see.note('a hole of 2 MiB: then', [stat(), counts()]);
  see.call('a hole of it all', () => kernel.fallocate(fd, PUNCH, 0n, BigInt(GIANT)));
  see.note('a hole of it all: then', [stat(), counts()]);
  kernel.close(fd);
}

/** /proc/meminfo has the pool of the default size, and what all of them take. */
function meminfo(kernel: Kernel, see: Observer): void {
  const lines = (): string[] =>
    show(kernel, '/proc/meminfo')
      .split('\n')
      .filter((line) => /^Huge/.test(line));
  const values = (): bigint[] => lines().map((line) => BigInt(/\d+/.exec(line)![0]));
  see.note(
    'lines',
    lines().map((line) => `${line.replace(/\s*\d+/, ' n')}, ${line.length} characters`),
  );
  see.note('Hugepagesize', Number(values()[4]));
  const before = values();
  const changes = (): string =>
    values()
      .map((value, at) => value - before[at]!)
      .join(' ');
  const memory = hugeMemory(kernel, 3);
  see.note('three promised', changes());
  poke(memory, 0, 1);
  see.note('one taken', changes());
  memory.close();
  see.note('unmapped', changes());
}

/** A guest whose memory is one: its slots may be parts of it. */
function guestInGiant(kernel: Kernel, see: Observer): void {
  const before = pool(kernel, GIANT);
  const memory = giantMemory(kernel, PRIVATE);
  const guest = guestIn(kernel, memory, COUNT);
  memory.write(HUGE - 0x10000 + 0x1234, Uint8Array.of(0x41));
  see.note('runs', guest.again({ rax: 0n }));
  see.note('what it stored', [peek(memory, HUGE - 1), since(kernel, before, GIANT)]);
  see.call('without the slot', () => guest.set({ memory_size: 0n }));
  see.call('a slot of 2 MiB and a page', () => guest.set({ memory_size: BIG + PAGE, userspace_addr: memory.address }));
  see.note('runs in a part', guest.again({ rax: 0n }));
}

export const hugepageCases: Case[] = [
  define('file/hugepages/reservations', section, reservations, huge(8)),
  define('file/hugepages/exhaustion', section, exhaustion, huge(1)),
  define('file/hugepages/files', section, files, huge(8)),
  define('file/hugepages/private-of-file', section, privateOfFile, huge(8)),
  define('file/hugepages/cuts', section, cuts, huge(4)),
  define('file/hugepages/promise-lost', section, promiseLost, huge(4)),
  define('file/hugepages/meminfo', section, meminfo, huge(4)),
  define('file/hugepages/giants', section, giants, giant()),
  define('kvm/hugepages/giant', section, guestInGiant, giant()),
  define('kvm/hugepages/guests', section, guests, huge(4)),
  define('kvm/hugepages/unaligned', section, unaligned, huge(4)),
  define('kvm/hugepages/dirty-log', section, dirtyLog, huge(4)),
  define('kvm/hugepages/no-page', section, noPage, huge(4)),
  define('kvm/hugepages/holes', section, holes, huge(4)),
  define('kvm/hugepages/private-memory', section, privateMemory, huge(4, { vmType: u.KVM_X86_SW_PROTECTED_VM })),
];
