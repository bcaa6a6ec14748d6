/** Dirty logging by bitmap: what is refused, what counts as a write, and who clears which bits. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_CLEAR_DIRTY_LOG,
  KVM_CREATE_VCPU,
  KVM_ENABLE_CAP,
  KVM_GET_DIRTY_LOG,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  kvm_clear_dirty_log,
  kvm_dirty_log,
  kvm_enable_cap,
} from 'kvio/uapi';
import { type Case, define, type Observer } from '../case.ts';
import { type Guest, startGuest } from '../guest.ts';
import { DATA, longModeGuest } from '../long-mode.ts';
import { addRam, newVm, PAGE, setRegion, setRegs, setSregs, UNSAFE } from '../machine.ts';

const section = 'Dirty logging';
const LOG = KVM_MEM_LOG_DIRTY_PAGES;

/** Where the logged slot of the guests begins; DS leads there. */
const BASE = 0x20000n;

export function enableCap(kernel: Kernel, vm: number, cap: number, args: readonly bigint[], flags = 0): number {
  const all = Array.from({ length: 4 }, (_, index) => args[index] ?? 0n);
  return kernel.ioctl(vm, KVM_ENABLE_CAP, kvm_enable_cap.encode({ cap, flags, args: all }));
}

const manual = (kernel: Kernel, vm: number, value: bigint): number =>
  enableCap(kernel, vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [value]);

/** KVM_GET_DIRTY_LOG into memory of the case's own; the bytes before it are 0xee. */
function getLog(kernel: Kernel, vm: number, slot: number, into: Memory): number {
  return kernel.ioctl(vm, KVM_GET_DIRTY_LOG, kvm_dirty_log.encode({ slot, dirty_bitmap: into.address }));
}

interface Clear {
  readonly slot?: number;
  readonly first?: bigint;
  readonly pages: number;
  readonly bitmap: Memory;
}

function clearLog(kernel: Kernel, vm: number, { slot = 1, first = 0n, pages, bitmap }: Clear): number {
  const struct = { slot, num_pages: pages, first_page: first, dirty_bitmap: bitmap.address };
  return kernel.ioctl(vm, KVM_CLEAR_DIRTY_LOG, kvm_clear_dirty_log.encode(struct));
}

/** Notes what GET_DIRTY_LOG answers and writes: `bytes` of it, and whether it wrote beyond. */
function noteLog(kernel: Kernel, see: Observer, label: string, vm: number, bytes: number, slot = 1): void {
  const into = kernel.guestRam(0x1000);
  into.bytes.fill(0xee);
  see.call(label, () => getLog(kernel, vm, slot, into));
  see.note(`${label}: bitmap`, [into.read(0, bytes), into.bytes.subarray(bytes).every((byte) => byte === 0xee)]);
}

/** A guest whose DS is a logged slot of `pages` pages, all of them touched by userspace before. */
function logged(kernel: Kernel, code: readonly number[], { pages = 16, flags = LOG }: { pages?: number; flags?: number } = {}) {
  const guest = startGuest(kernel, code, {
    sregs: (sregs) => {
      for (const segment of [sregs.ds, sregs.es]) Object.assign(segment, { base: BASE, selector: Number(BASE >> 4n) });
    },
    regs: { rax: 0x2211n, rdx: 0n },
  });
  const ram = kernel.guestRam(pages * 0x1000);
  ram.bytes.fill(1);
  const set = (change: Parameters<typeof setRegion>[2]): number =>
    setRegion(kernel, guest.vm, {
      ...{ slot: 1, flags, guest_phys_addr: BASE, memory_size: BigInt(ram.length), userspace_addr: ram.address },
      ...change,
    });
  set({});
  return { ...guest, guest, slot: ram, set };
}

/** Runs from the start to the next HLT. */
function again({ kernel, vcpu, run }: Guest, change: Parameters<typeof setRegs>[2] = {}): string {
  setRegs(kernel, vcpu, { rip: 0x1000n, ...change });
  const returned = kernel.run(vcpu);
  return `${returned}, exit ${run.get('exit_reason')}`;
}

/** mov [offset],al */
const store = (offset: number): number[] => [0xa2, offset & 0xff, offset >> 8];

export const dirtyLogCases: Case[] = [
  define('kvm/dirty-log/get-checks', section, (kernel, see) => {
    const vm = newVm(kernel);
    addRam(kernel, vm, 0, 0n, 0x10000);
    addRam(kernel, vm, 1, 0x10000n, 0x10000, LOG);
    const into = kernel.guestRam(0x1000);
    const get = (label: string, slot: number, bitmap = into.address): void =>
      void see.call(label, () =>
        kernel.ioctl(vm, KVM_GET_DIRTY_LOG, kvm_dirty_log.encode({ slot, dirty_bitmap: bitmap }), UNSAFE),
      );
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_GET_DIRTY_LOG, 0));
    for (const slot of [32764, 65535, 0x20000, 0xffff0001]) get(`slot 0x${slot.toString(16)}`, slot);
    get('a slot there is none of', 2);
    get('a slot that is not logged', 0);
    get('a slot that is', 1);
    get('bitmap at 0', 1, 0n);
    get("bitmap in the kernel's half", 1, 0xffff_8000_0000_0000n);
    get('bitmap at 0 of a slot that is not logged', 0, 0n);
    get('bitmap unaligned', 1, into.address + 1n);
  }),
  define('kvm/dirty-log/clear-checks', section, (kernel, see) => {
    const vm = newVm(kernel);
    addRam(kernel, vm, 0, 0n, 0x10000);
    // 200 pages: four words, the last of 8 bits.
    addRam(kernel, vm, 1, 0x10000n, 200 * 0x1000, LOG);
    const bitmap = kernel.guestRam(0x1000);
    const clear = (label: string, first: bigint, pages: number, slot = 1, address = bitmap.address): void =>
      void see.call(label, () => {
        const struct = { slot, num_pages: pages, first_page: first, dirty_bitmap: address };
        return kernel.ioctl(vm, KVM_CLEAR_DIRTY_LOG, kvm_clear_dirty_log.encode(struct), UNSAFE);
      });
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_CLEAR_DIRTY_LOG, 0));
    for (const slot of [32764, 65535, 0x20000]) clear(`slot 0x${slot.toString(16)}`, 1n, 64, slot);
    clear('first page 1, of a slot there is none of', 1n, 64, 2);
    clear('first page 64, of a slot there is none of', 64n, 64, 2);
    clear('a slot that is not logged', 0n, 64, 0);
    for (const first of [1n, 63n, 65n, 0x8000_0000_0000_0001n]) clear(`first page ${first}`, first, 64);
    for (const pages of [0, 1, 63, 64, 65, 128, 192, 199, 200, 201, 256, 0xffffffff]) clear(`0 + ${pages} pages`, 0n, pages);
    for (const pages of [0, 1, 7, 8, 9, 64]) clear(`192 + ${pages} pages`, 192n, pages);
    clear('first page 256', 256n, 0);
    clear('first page 2^63', 1n << 63n, 0);
    clear('bitmap at 0', 0n, 64, 1, 0n);
    clear('bitmap at 0, no pages', 0n, 0, 1, 0n);
    clear('bitmap at 0, bad count', 0n, 63, 1, 0n);
    const exact = newVm(kernel);
    addRam(kernel, exact, 1, 0n, 128 * 0x1000, LOG);
    const end = (label: string, first: bigint, pages: number): void =>
      void see.call(label, () => clearLog(kernel, exact, { first, pages, bitmap }));
    end('128 pages, 128 + 0', 128n, 0);
    end('128 pages, 128 + 1', 128n, 1);
    end('128 pages, 192 + 0', 192n, 0);
  }),
  define('kvm/dirty-log/manual-protect-checks', section, (kernel, see) => {
    const vm = newVm(kernel);
    const set = (label: string, value: bigint, flags = 0): void =>
      void see.call(label, () => enableCap(kernel, vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [value], flags));
    for (const value of [0n, 1n, 2n, 3n, 4n, 5n, 7n, 1n << 32n, (1n << 63n) | 1n, 1n, 0n]) {
      see.call(`args[0] ${value}${value === 1n || value === 0n ? `, time ${Object.keys(see.facts).length}` : ''}`, () =>
        enableCap(kernel, vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [value]),
      );
    }
    set('flags 1', 1n, 1);
    set('flags 1, args[0] 2', 2n, 1);
    see.call('args[1] 1', () => enableCap(kernel, vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [1n, 1n, 1n, 1n]));
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    set('after a vCPU', 3n);
  }),
  define('kvm/dirty-log/fetch-and-clear', section, (kernel, see) => {
    const { guest, vm, slot } = logged(kernel, [...store(0), ...store(0x1000), ...store(0x3000), ...store(0x3001), 0xf4]);
    noteLog(kernel, see, 'before', vm, 8);
    see.note('run', again(guest));
    slot.write8(0x5000, 9);
    noteLog(kernel, see, 'the guest has written pages 0, 1, 3; userspace 5', vm, 8);
    noteLog(kernel, see, 'at once again', vm, 8);
    see.note('run again', again(guest));
    noteLog(kernel, see, 'after that', vm, 8);
    see.note('run a third time', again(guest));
    see.call('into nothing', () =>
      kernel.ioctl(vm, KVM_GET_DIRTY_LOG, kvm_dirty_log.encode({ slot: 1, dirty_bitmap: 0n }), UNSAFE),
    );
    noteLog(kernel, see, 'the bits are lost', vm, 8);
    see.note('run a fourth time', again(guest));
    noteLog(kernel, see, 'and tracked all the same', vm, 8);
  }),
  define('kvm/dirty-log/manual', section, (kernel, see) => {
    const { guest, vm } = logged(kernel, [...store(0), ...store(0x1000), ...store(0x3000), 0xf4]);
    see.call('manual protection', () => manual(kernel, vm, 1n));
    see.note('run', again(guest));
    noteLog(kernel, see, 'pages 0, 1, 3', vm, 8);
    noteLog(kernel, see, 'they stay', vm, 8);
    const bitmap = kernel.guestRam(0x1000);
    bitmap.bytes.set([0xfa, 0xff, 0xff]);
    see.call('CLEAR of 1, 3 and more', () => clearLog(kernel, vm, { pages: 16, bitmap }));
    noteLog(kernel, see, 'page 0', vm, 8);
    see.note('run again', again(guest));
    noteLog(kernel, see, 'pages 0, 1, 3 again', vm, 8);
    bitmap.bytes.fill(0xff, 0, 8);
    see.call('CLEAR of all', () => clearLog(kernel, vm, { pages: 16, bitmap }));
    noteLog(kernel, see, 'none', vm, 8);
    see.note('run a third time', again(guest));
    see.call('no more manual protection', () => manual(kernel, vm, 0n));
    noteLog(kernel, see, 'fetched and cleared', vm, 8);
    noteLog(kernel, see, 'none again', vm, 8);
    see.note('run a fourth time', again(guest));
    see.call('CLEAR without manual protection', () => clearLog(kernel, vm, { pages: 16, bitmap }));
    noteLog(kernel, see, 'cleared', vm, 8);
    see.note('run a fifth time', again(guest));
    noteLog(kernel, see, 'and tracked', vm, 8);
  }),
  define('kvm/dirty-log/clear-a-part', section, (kernel, see) => {
    // Page 0, 63, 64, 127, 128, 199 of 200: mov es,[bx] walks a table of segments; mov [0],al each.
    const pages = [0, 63, 64, 127, 128, 199];
    const segments = pages.flatMap((page) => [(page * 0x100) & 0xff, (0x2000 + page * 0x100) >> 8]);
    const code = [0xb9, pages.length, 0, 0xbb, 0, 2, 0x2e, 0x8e, 7, 0x26, 0xa2, 0, 0, 0x43, 0x43, 0xe2, 0xf5, 0xf4];
    const scene = logged(kernel, code, { pages: 200 });
    scene.ram.write(0x200, Uint8Array.from(segments));
    const { guest, vm } = scene;
    manual(kernel, vm, 1n);
    see.note('run', again(guest));
    noteLog(kernel, see, 'all', vm, 32);
    const bitmap = kernel.guestRam(0x1000);
    bitmap.bytes.fill(0xff);
    see.call('CLEAR of word 1', () => clearLog(kernel, vm, { first: 64n, pages: 64, bitmap }));
    noteLog(kernel, see, 'without word 1', vm, 32);
    see.call('CLEAR of the end', () => clearLog(kernel, vm, { first: 192n, pages: 8, bitmap }));
    noteLog(kernel, see, 'without the end', vm, 32);
    see.call('CLEAR of words 0 to 2', () => clearLog(kernel, vm, { pages: 192, bitmap }));
    noteLog(kernel, see, 'none', vm, 32);
  }),
  define('kvm/dirty-log/initially-set', section, (kernel, see) => {
    const { guest, vm, set } = logged(kernel, [...store(0), 0xf4], { pages: 70, flags: 0 });
    see.note('run, not logged', again(guest));
    see.call('INITIALLY_SET', () => manual(kernel, vm, 3n));
    see.call('LOG_DIRTY on', () => set({ flags: LOG }));
    noteLog(kernel, see, 'all', vm, 16);
    const bitmap = kernel.guestRam(0x1000);
    bitmap.bytes.fill(0xff);
    see.call('CLEAR', () => clearLog(kernel, vm, { pages: 70, bitmap }));
    noteLog(kernel, see, 'none', vm, 16);
    see.note('run', again(guest));
    noteLog(kernel, see, 'page 0', vm, 16);
    see.call('LOG_DIRTY off', () => set({ flags: 0 }));
    noteLog(kernel, see, 'not logged', vm, 16);
    see.call('LOG_DIRTY on again', () => set({ flags: LOG }));
    noteLog(kernel, see, 'all again', vm, 16);
    see.call('no manual protection', () => manual(kernel, vm, 0n));
    noteLog(kernel, see, 'fetched', vm, 16);
    see.call('LOG_DIRTY off and on', () => set({ flags: 0 }) + set({ flags: LOG }));
    noteLog(kernel, see, 'a fresh bitmap is empty', vm, 16);
    manual(kernel, vm, 3n);
    see.call('a new slot', () =>
      setRegion(kernel, vm, { slot: 5, flags: LOG, guest_phys_addr: 1n << 30n, memory_size: 65n * PAGE }),
    );
    noteLog(kernel, see, 'its bitmap', vm, 16, 5);
    see.call('a new slot, not logged', () => setRegion(kernel, vm, { slot: 6, guest_phys_addr: 1n << 31n, memory_size: PAGE }));
    noteLog(kernel, see, 'it has none', vm, 8, 6);
  }),
  define('kvm/dirty-log/on-and-off', section, (kernel, see) => {
    const { guest, vm, set } = logged(kernel, [...store(0), ...store(0x1000), 0xf4], { flags: 0 });
    see.note('run, not logged', again(guest));
    see.call('on', () => set({ flags: LOG }));
    noteLog(kernel, see, 'nothing yet', vm, 8);
    see.note('run', again(guest));
    see.call('on again', () => set({ flags: LOG }));
    noteLog(kernel, see, 'pages 0, 1', vm, 8);
    see.note('run again', again(guest));
    see.call('off', () => set({ flags: 0 }));
    see.call('on once more', () => set({ flags: LOG }));
    noteLog(kernel, see, 'a fresh bitmap', vm, 8);
    see.note('run a third time', again(guest));
    noteLog(kernel, see, 'pages 0, 1 again', vm, 8);
    see.note('run a fourth time', again(guest));
    see.call('moved', () => set({ flags: LOG, guest_phys_addr: BASE + 0x10000n }));
    noteLog(kernel, see, 'the bitmap moves with it', vm, 8);
    see.call('moved back, logging off', () => set({ flags: 0 }));
    noteLog(kernel, see, 'none', vm, 8);
    see.call('moved, logging on', () => set({ flags: LOG, guest_phys_addr: BASE + 0x10000n }));
    noteLog(kernel, see, 'fresh', vm, 8);
    see.call('deleted', () => setRegion(kernel, vm, { slot: 1 }));
    noteLog(kernel, see, 'no slot', vm, 8);
  }),
  define('kvm/dirty-log/what-writes', section, (kernel, see) => {
    const programs: Readonly<Record<string, readonly number[]>> = {
      'a load': [0xa0, 0, 0],
      'a store of what is there': [0xa0, 0, 0x10, 0xa2, 0, 0x10],
      'a store across two pages': [0xa3, 0xff, 0x1f],
      inc: [0xfe, 6, 0, 0x30],
      'a compare': [0x38, 6, 0, 0x40],
      test: [0x84, 6, 0, 0x40],
      xchg: [0x86, 6, 0, 0x50],
      'cmpxchg that fails': [0x0f, 0xb0, 0x16, 0, 0x60],
      'lock cmpxchg that fails': [0xf0, 0x0f, 0xb0, 0x16, 0, 0x60],
      'bt, bts': [0x0f, 0xba, 0x26, 0, 0x70, 1, 0x0f, 0xba, 0x2e, 0, 0x80, 1],
      'rep stosb over three pages': [0xbf, 0xff, 0x8f, 0xb9, 2, 0x10, 0xf3, 0xaa],
      'rep stosb of nothing': [0xbf, 0, 0x90, 0x31, 0xc9, 0xf3, 0xaa],
      movsb: [0xbe, 0, 0xa0, 0xbf, 0, 0xb0, 0xa4],
      'a push': [0x16, 0x1e, 0x17, 0xbc, 0, 0xd0, 0x50, 0x17],
      lodsb: [0xbe, 0, 0xe0, 0xac],
    };
    const { guest, vm } = logged(kernel, []);
    noteLog(kernel, see, 'nothing', vm, 8);
    for (const [name, code] of Object.entries(programs)) {
      guest.ram.write(0x1000, Uint8Array.from([...code, 0xf4]));
      see.note(name, again(guest, { rax: 0x2211n, rdx: 0x33n, rsp: 0x8000n }));
      noteLog(kernel, see, `${name}: pages`, vm, 8);
    }
  }),
  define('kvm/dirty-log/faulted-in', section, (kernel, see) => {
    // Code, stack and data of the guest in one logged slot: a page that is only read.
    const guest = startGuest(kernel, [0xa0, 0, 0x30, 0xa0, 0, 0x40, 0xf4]);
    // A page nobody has stored to may be one of zeros, or part of a huge page: that is the host's affair.
    for (const page of [0x3000, 0x4000]) guest.ram.write8(page, 1);
    const log = (flags: number): number =>
      setRegion(kernel, guest.vm, { flags, memory_size: 0x10000n, userspace_addr: guest.ram.address });
    see.call('LOG_DIRTY on, before the guest has run', () => log(LOG));
    see.note('run', again(guest));
    noteLog(kernel, see, 'read and fetched', guest.vm, 8, 0);
    see.note('run again', again(guest));
    noteLog(kernel, see, 'read and fetched again', guest.vm, 8, 0);
    see.call('LOG_DIRTY off and on', () => log(0) + log(LOG));
    see.note('run a third time', again(guest));
    noteLog(kernel, see, 'once more', guest.vm, 8, 0);
    see.call('another slot comes', () => setRegion(kernel, guest.vm, { slot: 3, guest_phys_addr: 1n << 30n, memory_size: PAGE }));
    see.note('run a fourth time', again(guest));
    noteLog(kernel, see, 'with another slot', guest.vm, 8, 0);
    see.call('and goes', () => setRegion(kernel, guest.vm, { slot: 3 }));
    see.note('run a fifth time', again(guest));
    noteLog(kernel, see, 'with one gone', guest.vm, 8, 0);
  }),
  define('kvm/dirty-log/aliases', section, (kernel, see) => {
    const { guest, vm, slot } = logged(kernel, [...store(0x1000), 0xf4]);
    const other = (flags: number): number =>
      setRegion(kernel, vm, {
        ...{ slot: 2, flags, guest_phys_addr: 0x100000n, memory_size: 0x10000n, userspace_addr: slot.address },
      });
    see.call('the same memory in another slot', () => other(LOG));
    see.note('run', again(guest));
    noteLog(kernel, see, 'the slot that was written', vm, 8);
    noteLog(kernel, see, 'the other one', vm, 8, 2);
    see.call('a read-only slot is logged too', () =>
      setRegion(kernel, vm, { slot: 3, flags: LOG | KVM_MEM_READONLY, guest_phys_addr: 0x200000n, memory_size: 0x1000n }),
    );
    noteLog(kernel, see, 'it has a bitmap', vm, 8, 3);
  }),
  define('kvm/dirty-log/long-mode', section, (kernel, see) => {
    // mov byte [DATA],1; hlt, then mov al,[DATA]; hlt: the page tables lie in the logged slot.
    const code = [0xc6, 0x04, 0x25, 0, 0x20, 0, 0, 1, 0xf4, 0x8a, 0x04, 0x25, 0, 0x20, 0, 0, 0xf4];
    const guest = longModeGuest(kernel, code);
    guest.ram.write8(DATA, 7);
    const { vm, vcpu, run } = guest;
    see.call('LOG_DIRTY on', () =>
      setRegion(kernel, vm, { flags: LOG, memory_size: BigInt(guest.ram.length), userspace_addr: guest.ram.address }),
    );
    const step = (rip: bigint): string => {
      setRegs(kernel, vcpu, { rip });
      return `${kernel.run(vcpu)}, exit ${run.get('exit_reason')}`;
    };
    see.note('a store', step(0x1000n));
    noteLog(kernel, see, 'pages, the first time', vm, 8, 0);
    see.note('a store again', step(0x1000n));
    noteLog(kernel, see, 'pages, again', vm, 8, 0);
    see.note('a load', step(0x1009n));
    noteLog(kernel, see, 'pages, of a load', vm, 8, 0);
  }),
  define('kvm/dirty-log/two-vcpus', section, (kernel, see) => {
    const { guest, vm } = logged(kernel, [...store(0), 0xf4]);
    const second = kernel.ioctl(vm, KVM_CREATE_VCPU, 1);
    setSregs(kernel, second, (sregs) => {
      Object.assign(sregs.cs, { base: 0n, selector: 0 });
      Object.assign(sregs.ds, { base: BASE + 0x2000n, selector: Number((BASE + 0x2000n) >> 4n) });
    });
    const both = (): string => {
      setRegs(kernel, second, { rip: 0x1000n, rflags: 2n });
      return `${again(guest)}; ${kernel.run(second)}`;
    };
    see.note('both run', both());
    noteLog(kernel, see, 'pages 0, 2', vm, 8);
    see.note('both run again', both());
    noteLog(kernel, see, 'pages 0, 2 again', vm, 8);
  }),
];
