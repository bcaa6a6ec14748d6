import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DirtyTracking } from '../../../src/sim/kvm/dirty-log.ts';
import { KVM_USER_MEM_SLOTS, Memslots, type Region, type SlotLimits } from '../../../src/sim/kvm/memslots.ts';
import { amdSvm72 } from '../../../src/sim/machines/amd-svm-7.2.ts';
import { Kit, u } from './kit.ts';

const limits: SlotLimits = {
  userTop: 0x7fff_ffff_f000n,
  gpaBits: 52,
  readonlyMem: true,
  guestMemfd: true,
  bind: (fd) => (fd === 3 ? -u.EINVAL : -u.EBADF),
  dirty: new DirtyTracking(new Memslots(1), true),
};
const region = (change: Partial<Region>): Region => ({
  slot: 0,
  flags: 0,
  guest_phys_addr: 0n,
  memory_size: 0x1000n,
  userspace_addr: 0n,
  guest_memfd_offset: 0n,
  guest_memfd: 0,
  ...change,
});

/** The rules of kvm.md §3.3 for well-formed regions, in the plainest form: a list and nothing sorted. */
class Naive {
  slots: { id: number; base: number; pages: number; hva: bigint; flags: number }[] = [];

  set(id: number, base: number, pages: number, hva: bigint, flags: number): number {
    const old = this.slots.find((slot) => slot.id === id);
    if (pages === 0) {
      if (old === undefined) return -u.EINVAL;
      this.slots = this.slots.filter((slot) => slot !== old);
      return 0;
    }
    if (old !== undefined) {
      if (old.hva !== hva || old.pages !== pages || (old.flags ^ flags) & u.KVM_MEM_READONLY) return -u.EINVAL;
      if (old.base === base) {
        old.flags = flags;
        return 0;
      }
    }
    if (this.slots.some((slot) => slot !== old && slot.base < base + pages && base < slot.base + slot.pages)) return -u.EEXIST;
    this.slots = this.slots.filter((slot) => slot !== old);
    this.slots.push({ id, base, pages, hva, flags });
    return 0;
  }

  find(gfn: number): number | undefined {
    return this.slots.find((slot) => slot.base <= gfn && gfn < slot.base + slot.pages)?.id;
  }
}

describe('memslots', () => {
  test('any sequence of regions gives what the naive model gives', () => {
    const step = fc.record({
      id: fc.nat(7),
      base: fc.nat(40),
      pages: fc.nat(6),
      hva: fc.nat(2).map((n) => BigInt(n) << 12n),
      flags: fc.nat(3),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const slots = new Memslots(1);
        const naive = new Naive();
        for (const { id, base, pages, hva, flags } of steps) {
          const asked = region({
            slot: id,
            flags,
            guest_phys_addr: BigInt(base) << 12n,
            memory_size: BigInt(pages) << 12n,
            userspace_addr: hva,
          });
          expect(slots.set(asked, limits, true)).toBe(naive.set(id, base, pages, hva, flags));
        }
        for (let gfn = 0; gfn < 50; gfn++) expect(slots.find(gfn)?.id).toBe(naive.find(gfn));
        expect(slots.list().map((slot) => slot.base_gfn)).toEqual(naive.slots.map((slot) => slot.base).sort((a, b) => a - b));
      }),
      { numRuns: 300 },
    );
  });

  test('of several broken rules the first one decides', () => {
    const slots = new Memslots(1);
    slots.set(region({ slot: 1, guest_phys_addr: 0x10000n }), limits, false);
    const memfd = u.KVM_MEM_GUEST_MEMFD;
    // Overlap (17) comes before the guest_memfd descriptor (19), which comes before the highest frame (21).
    expect(slots.set(region({ flags: memfd, guest_memfd: -1, guest_phys_addr: 0x10000n }), limits, false)).toBe(-u.EEXIST);
    expect(slots.set(region({ flags: memfd, guest_memfd: -1, guest_phys_addr: 1n << 60n }), limits, false)).toBe(-u.EBADF);
    expect(slots.set(region({ flags: memfd, guest_memfd: 3, guest_phys_addr: 0x20000n }), limits, false)).toBe(-u.EINVAL);
    expect(slots.set(region({ guest_phys_addr: 1n << 52n }), limits, false)).toBe(-u.EINVAL);
    // A region past the highest frame that overlaps nothing leaves no trace.
    expect(slots.find(2 ** 40)).toBeUndefined();
    // An existing slot with the GUEST_MEMFD flag is EINVAL before the descriptor is looked at.
    expect(slots.set(region({ slot: 1, flags: memfd, guest_memfd: -1, guest_phys_addr: 0x10000n }), limits, false)).toBe(
      -u.EINVAL,
    );
    // v1 knows no GUEST_MEMFD at all.
    expect(slots.set(region({ slot: 2, flags: memfd, guest_memfd: -1, guest_phys_addr: 0x30000n }), limits, true)).toBe(
      -u.EINVAL,
    );
  });

  test('a refused region changes nothing, an accepted one moves the generation', () => {
    const slots = new Memslots(1);
    const before = slots.generation;
    expect(slots.set(region({ memory_size: 0x800n }), limits, true)).toBe(-u.EINVAL);
    expect(slots.generation).toBe(before);
    expect(slots.set(region({}), limits, true)).toBe(0);
    const created = slots.generation;
    expect(created).not.toBe(before);
    expect(slots.set(region({}), limits, true)).toBe(0);
    expect(slots.generation).toBe(created);
    expect(slots.set(region({ flags: 1 }), limits, true)).toBe(0);
    expect(slots.generation).not.toBe(created);
  });

  test('two address spaces do not see each other', () => {
    const slots = new Memslots(2);
    expect(slots.set(region({ slot: 0 }), limits, true)).toBe(0);
    expect(slots.set(region({ slot: 0x10000 }), limits, true)).toBe(0);
    expect(slots.set(region({ slot: 0x20000 }), limits, true)).toBe(-u.EINVAL);
    expect(slots.find(0, 1)).toMatchObject({ as_id: 1, id: 0 });
  });

  test('32764 slots in any order stay fast', () => {
    const slots = new Memslots(1);
    const started = performance.now();
    let refused = 0;
    for (let i = 0; i < KVM_USER_MEM_SLOTS; i++) {
      // 16381 and 32764 have no common divisor above 1: every frame comes once, in a scattered order.
      const place = BigInt((i * 16381) % KVM_USER_MEM_SLOTS);
      if (slots.set(region({ slot: i, guest_phys_addr: place << 13n }), limits, true) !== 0) refused++;
    }
    expect(refused).toBe(0);
    for (let i = 0; i < 200_000; i++) slots.find(i % (2 * KVM_USER_MEM_SLOTS));
    expect(slots.list().length).toBe(KVM_USER_MEM_SLOTS);
    expect(slots.find(2)?.base_gfn).toBe(2);
    expect(slots.find(3)).toBeUndefined();
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('a hardware machine has two address spaces and its own limit of guest addresses', () => {
    const kit = new Kit({ machine: amdSvm72 });
    const vm = kit.vm();
    expect(kit.region(vm, { slot: 0x10000 })).toBe(0);
    expect(kit.region(vm, { slot: 1, gpa: 1n << 40n })).toBe('EINVAL');
    expect(kit.region(vm, { slot: 1, gpa: (1n << 40n) - 0x1000n })).toBe(0);
    kit.kernel.close();
  });
});
