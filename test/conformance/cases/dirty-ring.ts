/** Dirty logging by rings: when it can be chosen, what is mapped, what is pushed, harvested and reset, and what a full ring does. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
  KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_CLEAR_DIRTY_LOG,
  KVM_CREATE_VCPU,
  KVM_DIRTY_GFN_F_RESET,
  KVM_DIRTY_LOG_PAGE_OFFSET,
  KVM_GET_DIRTY_LOG,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_RESET_DIRTY_RINGS,
  kvm_clear_dirty_log,
  kvm_dirty_log,
} from 'kvio/uapi';
import { type Case, define, type Fact, hex } from '../case.ts';
import { addRam, mapRun, newVm, RunPage, setRegion, setRegs, setSregs, UNSAFE } from '../machine.ts';
import { enableCap } from './dirty-log.ts';

const section = 'Dirty rings';
const LOG = KVM_MEM_LOG_DIRTY_PAGES;
const BASE = 0x20000n;
const OFFSET = BigInt(KVM_DIRTY_LOG_PAGE_OFFSET) * 0x1000n;
const ENTRY = 16;

const enableRing = (kernel: Kernel, vm: number, bytes: bigint, cap = KVM_CAP_DIRTY_LOG_RING, flags = 0): number =>
  enableCap(kernel, vm, cap, [bytes], flags);
const reset = (kernel: Kernel, vm: number): number => kernel.ioctl(vm, KVM_RESET_DIRTY_RINGS, 0);

/** One vCPU's ring through a mapping. */
class Ring {
  readonly #memory: Memory;
  readonly #entries: number;

  constructor(kernel: Kernel, vcpu: number, bytes: number) {
    this.#memory = kernel.mmap({ fd: vcpu, offset: OFFSET, length: bytes });
    this.#entries = bytes / ENTRY;
  }

  /** `flags slot:page` of the entries from `from` to the last that has flags. */
  entries(from = 0, most = 12): Fact {
    const found: string[] = [];
    for (let at = from; at < this.#entries && found.length < most; at++) {
      const flags = this.#memory.read32(at * ENTRY);
      if (flags === 0) break;
      found.push(`${flags} ${hex(this.#memory.read32(at * ENTRY + 4))}:${this.#memory.read64(at * ENTRY + 8)}`);
    }
    return found;
  }

  /** Entries with any flags. */
  get used(): number {
    let count = 0;
    for (let at = 0; at < this.#entries; at++) if (this.#memory.read32(at * ENTRY) !== 0) count++;
    return count;
  }

  /** Marks entries as harvested: from `from`, `count` of them. */
  harvest(from: number, count: number, flags = KVM_DIRTY_GFN_F_RESET): void {
    for (let at = from; at < from + count; at++) this.#memory.write32((at % this.#entries) * ENTRY, flags);
  }

  set(at: number, slot: number, page: bigint): void {
    this.#memory.write32(at * ENTRY + 4, slot);
    this.#memory.write64(at * ENTRY + 8, page);
  }
}

/** A guest whose DS and ES are a logged slot, in a VM with rings. */
function scene(kernel: Kernel, code: readonly number[], { bytes = 4096, pages = 16, vcpus = 1 } = {}) {
  const vm = newVm(kernel);
  enableRing(kernel, vm, BigInt(bytes));
  const ram = addRam(kernel, vm, 0, 0n, 0x10000);
  ram.write(0x1000, Uint8Array.from(code));
  const slot = addRam(kernel, vm, 1, BASE, pages * 0x1000, LOG);
  slot.bytes!.fill(1);
  const all = Array.from({ length: vcpus }, (_, id) => {
    const vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, id);
    setSregs(kernel, vcpu, (sregs) => {
      Object.assign(sregs.cs, { base: 0n, selector: 0 });
      for (const segment of [sregs.ds, sregs.es]) Object.assign(segment, { base: BASE, selector: Number(BASE >> 4n) });
    });
    setRegs(kernel, vcpu, { rip: 0x1000n, rflags: 2n, rsp: 0x8000n });
    return { vcpu, run: new RunPage(mapRun(kernel, vcpu)), ring: new Ring(kernel, vcpu, bytes) };
  });
  const step = (id = 0): Fact => {
    const { vcpu, run } = all[id]!;
    try {
      const returned = kernel.run(vcpu);
      return `${returned}, exit ${run.get('exit_reason')}`;
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const again = (id = 0, change: Parameters<typeof setRegs>[2] = {}): Fact => {
    setRegs(kernel, all[id]!.vcpu, { rip: 0x1000n, ...change });
    return step(id);
  };
  return { vm, ram, slot, step, again, vcpus: all, ring: all[0]!.ring, run: all[0]!.run, vcpu: all[0]!.vcpu };
}

const store = (offset: number): number[] => [0xa2, offset & 0xff, offset >> 8];

/** Page after page of 200, over and over: mov ds,bx; mov [0],al; add bx,0x100; cmp bx,0xe800; jb; mov bx,0x2000; `then`; jmp. */
const walk = (then: readonly number[]): number[] => {
  const turn = [0x8e, 0xdb, 0xa2, 0, 0, 0x81, 0xc3, 0, 1, 0x81, 0xfb, 0, 0xe8, 0x72, 3, 0xbb, 0, 0x20, ...then];
  return [...turn, 0xeb, 0xfe - turn.length];
};
const PAGES = 200;

export const dirtyRingCases: Case[] = [
  define('kvm/dirty-ring/enable', section, (kernel, see) => {
    const vm = newVm(kernel);
    const set = (label: string, bytes: bigint, cap = KVM_CAP_DIRTY_LOG_RING, flags = 0): void =>
      void see.call(label, () => enableRing(kernel, vm, bytes, cap, flags));
    see.call('RESET without rings', () => reset(kernel, vm));
    set('WITH_BITMAP before', 0n, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP);
    for (const bytes of [0n, 1n, 16n, 1024n, 2048n, 4095n, 4097n, 0x3000n, 0x200000n, 0x80000000n, 0x100000001n])
      set(`${bytes} bytes`, bytes);
    set('2^32', 1n << 32n);
    set('2^32 + 4096', (1n << 32n) + 4096n, KVM_CAP_DIRTY_LOG_RING, 7);
    set('a second time', 4096n);
    set('a second time, another size', 8192n, KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
    set('a second time, too large', 0x200000n);
    set('WITH_BITMAP after', 0n, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP);
    see.call('manual protection besides', () => enableCap(kernel, vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, [1n]));
    see.call('RESET with no vCPU', () => reset(kernel, vm));
    kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    see.call('RESET of an empty ring', () => reset(kernel, vm));
    const late = newVm(kernel);
    kernel.ioctl(late, KVM_CREATE_VCPU, 0);
    see.call('after a vCPU', () => enableRing(kernel, late, 4096n));
    see.call('after a vCPU, too large', () => enableRing(kernel, late, 0x200000n));
    const largest = newVm(kernel);
    see.call('1 MiB, ACQ_REL', () => enableRing(kernel, largest, 0x100000n, KVM_CAP_DIRTY_LOG_RING_ACQ_REL));
    const logged = newVm(kernel);
    addRam(kernel, logged, 0, 0n, 0x10000, LOG);
    see.call('with a logged slot', () => enableRing(kernel, logged, 4096n));
    const into = kernel.guestRam(0x1000);
    see.call('GET_DIRTY_LOG of it', () =>
      kernel.ioctl(logged, KVM_GET_DIRTY_LOG, kvm_dirty_log.encode({ slot: 0, dirty_bitmap: into.address })),
    );
  }),
  define('kvm/dirty-ring/no-bitmaps', section, (kernel, see) => {
    const { vm } = scene(kernel, [0xf4]);
    const get = (label: string, slot: number): void =>
      void see.call(label, () => kernel.ioctl(vm, KVM_GET_DIRTY_LOG, kvm_dirty_log.encode({ slot, dirty_bitmap: 0n }), UNSAFE));
    const clear = (label: string, slot: number, first = 0n): void =>
      void see.call(label, () => {
        const struct = { slot, num_pages: 16, first_page: first, dirty_bitmap: 0n };
        return kernel.ioctl(vm, KVM_CLEAR_DIRTY_LOG, kvm_clear_dirty_log.encode(struct), UNSAFE);
      });
    get('GET of a logged slot', 1);
    get('GET of a bad slot', 0xffff);
    see.call('GET, pointer 0', () => kernel.ioctl(vm, KVM_GET_DIRTY_LOG, 0));
    clear('CLEAR of a logged slot', 1);
    clear('CLEAR of a bad slot', 0xffff);
    clear('CLEAR from page 1', 1, 1n);
    see.call('CLEAR, pointer 0', () => kernel.ioctl(vm, KVM_CLEAR_DIRTY_LOG, 0));
  }),
  define('kvm/dirty-ring/mapping', section, (kernel, see) => {
    const { vcpu } = scene(kernel, [0xf4], { bytes: 8192 });
    const map = (label: string, page: number, pages: number, flags = 1, prot = 3): void => {
      const memory = see.call(`${label}: mmap`, () => {
        const mapped = kernel.mmap({ fd: vcpu, offset: BigInt(page) * 0x1000n, length: pages * 0x1000, flags, prot });
        for (let at = 0; at < pages; at++) see.call(`${label}: page ${page + at}`, () => mapped.read32(at * 0x1000));
        return 'done';
      });
      if (memory === undefined) return;
    };
    map('the ring', 64, 2);
    map('its second page', 65, 1);
    map('the ring and a page', 64, 3);
    map('a page and the ring', 63, 3);
    map('private', 64, 2, 2);
    map('private, the second page', 65, 1, 2);
    map('private, ends in the ring', 63, 2, 2);
    map('private, begins in the ring', 65, 2, 2);
    map('private, around it', 63, 4, 2);
    map('private, behind it', 66, 1, 2);
    map('read-only', 64, 2, 1, 1);
    map('executable', 64, 2, 1, 5);
    map('the first three pages', 0, 3);
  }),
  define('kvm/dirty-ring/push-and-reset', section, (kernel, see) => {
    const { vm, again, ring } = scene(kernel, [...store(0), ...store(0x3000), ...store(0x1000), 0xf4]);
    see.note('run', again());
    see.note('entries', ring.entries());
    see.note('RESET, nothing harvested', reset(kernel, vm));
    ring.harvest(1, 2);
    see.note('RESET, the first not harvested', reset(kernel, vm));
    see.note('entries after that', ring.entries());
    ring.harvest(0, 1, 3);
    see.note('RESET of all three', reset(kernel, vm));
    see.note('entries, none left', ring.entries());
    see.note('in use', ring.used);
    see.note('run again', again());
    see.note('entries of the second run', ring.entries(3));
    ring.harvest(3, 1);
    see.note('RESET of one', reset(kernel, vm));
    see.note('run a third time', again());
    see.note('the page of the one is told first', (ring.entries(6) as string[]).slice(0, 1));
  }),
  define('kvm/dirty-ring/harvest-flags', section, (kernel, see) => {
    const { vm, again, ring } = scene(kernel, [...store(0), ...store(0x1000), ...store(0x2000), ...store(0x3000), 0xf4]);
    see.note('run', again());
    ring.harvest(0, 1, 0);
    see.note('RESET, flags 0', reset(kernel, vm));
    ring.harvest(0, 1, 0xfffffffd);
    see.note('RESET, all but RESET', reset(kernel, vm));
    ring.harvest(0, 1, 0xffffffff);
    see.note('RESET, all flags', reset(kernel, vm));
    // What userspace makes of slot and page is looked at only to track the page again.
    ring.set(1, 0x7777, 0n);
    ring.set(2, 1, 1n << 60n);
    ring.set(3, 0xffff0001, (1n << 64n) - 1n);
    ring.harvest(1, 3);
    see.note('RESET of entries that name nothing', reset(kernel, vm));
    see.note('in use', ring.used);
    see.note('run again', again());
    see.note('page 0 was tracked again', (ring.entries(4) as string[]).slice(0, 1));
  }),
  define('kvm/dirty-ring/tracked-again', section, (kernel, see) => {
    // Page 0 is written, harvested and reset, again and again.
    const { vm, again, ring } = scene(kernel, [...store(0), 0xf4]);
    for (const round of [1, 2, 3]) {
      see.note(`run ${round}`, again());
      see.note(`run ${round}: entries`, ring.entries(round - 1));
      ring.harvest(round - 1, 1);
      see.note(`run ${round}: RESET`, reset(kernel, vm));
    }
  }),
  define('kvm/dirty-ring/full', section, (kernel, see) => {
    const { vm, step, ring, run, vcpu } = scene(kernel, walk([0xe6, 0x80]), { pages: PAGES });
    setRegs(kernel, vcpu, { rbx: BASE >> 4n });
    const until = (most: number): Fact => {
      for (let exits = 0; exits <= most; exits++) {
        const outcome = step();
        if (outcome !== '0, exit 2') return { exits, outcome, used: ring.used };
      }
      return 'never';
    };
    see.note('the ring is full', until(400));
    see.note('and stays full', [step(), step()]);
    run.set('immediate_exit', 1);
    see.note('immediate_exit', step());
    see.note('exit reason', run.get('exit_reason'));
    run.set('immediate_exit', 0);
    ring.harvest(0, 1);
    see.note('RESET of one', reset(kernel, vm));
    see.note('one more', until(400));
    ring.harvest(1, 10);
    see.note('RESET of ten', reset(kernel, vm));
    see.note('ten more', until(400));
    ring.harvest(11, ring.used);
    see.note('RESET of all', reset(kernel, vm));
    see.note('all around the end of the ring', until(400));
  }),
  define('kvm/dirty-ring/full-within-a-run', section, (kernel, see) => {
    // A page every 40 instructions and never an exit: what KVM's emulator still does in its turn fits into the entries kept free.
    const { vm, step, ring, vcpu } = scene(kernel, walk(Array<number>(33).fill(0x90)), { pages: PAGES });
    setRegs(kernel, vcpu, { rbx: BASE >> 4n });
    // How far the emulator goes on depends on what else the host does.
    const kept = (): boolean => ring.used >= 192 && ring.used <= 256;
    see.note('run', step());
    see.note('192 entries, and some of those kept free', kept());
    see.note('run again', step());
    const used = ring.used;
    ring.harvest(0, used);
    see.note('RESET of all', reset(kernel, vm) === used);
    see.note('run on', step());
    see.note('192 entries and some again', kept());
  }),
  define('kvm/dirty-ring/two-vcpus', section, (kernel, see) => {
    const code = [...store(0), ...store(0x1000), 0xf4];
    const { vm, again, vcpus } = scene(kernel, code, { vcpus: 2 });
    const [first, second] = [vcpus[0]!.ring, vcpus[1]!.ring];
    see.note('the first runs', again(0));
    see.note('its ring', first.entries());
    see.note('the other ring', second.entries());
    first.harvest(0, 2);
    see.note('RESET', reset(kernel, vm));
    see.note('the second runs', again(1));
    see.note('the first ring', first.entries());
    see.note('its own ring', second.entries());
    first.harvest(0, 2);
    second.harvest(0, 1);
    see.note('RESET of both', reset(kernel, vm));
  }),
  define('kvm/dirty-ring/slots', section, (kernel, see) => {
    const { vm, again, ring, slot } = scene(kernel, [...store(0), 0xf4]);
    see.note('run', again());
    const set = (change: Parameters<typeof setRegion>[2]): number =>
      setRegion(kernel, vm, {
        ...{ slot: 1, flags: LOG, guest_phys_addr: BASE, memory_size: 0x10000n, userspace_addr: slot.address },
        ...change,
      });
    see.call('not logged', () => set({ flags: 0 }));
    see.note('run, not logged', again());
    see.call('logged again', () => set({}));
    see.note('run, logged', again());
    see.note('entries', ring.entries());
    see.call('the slot goes', () => set({ memory_size: 0n }));
    ring.harvest(0, 2);
    see.note('RESET of entries whose slot is gone', reset(kernel, vm));
    see.call('as slot 7', () => set({ slot: 7 }));
    see.note('run, slot 7', again());
    see.note('entries of slot 7', ring.entries(2));
    see.call('slot 7 goes', () => set({ slot: 7, memory_size: 0n }));
    see.call('16 pages below', () => set({ slot: 1, guest_phys_addr: BASE - 0x10000n }));
  }),
  define('kvm/dirty-ring/closed', section, (kernel, see) => {
    const { vm, again, vcpus, ring } = scene(kernel, [...store(0), 0xf4], { vcpus: 2 });
    see.note('run', again());
    kernel.close(vcpus[0]!.vcpu);
    see.note('the ring is still mapped', ring.entries());
    ring.harvest(0, 1);
    see.note('RESET', reset(kernel, vm));
    see.note('the other runs', again(1));
  }),
];
