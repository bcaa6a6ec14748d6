// What private DMA finds of a VM: pages that are committed to it, and what takes them away.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Memory } from '../../../src/kernel/memory.ts';
import type { GuestMemfdFile } from '../../../src/sim/kvm/guest-memfd.ts';
import type { Vm } from '../../../src/sim/kvm/vm.ts';
import { EFAULT, EHWPOISON, EINVAL, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from '../../../src/uapi/sys.ts';
import { DmaBufDouble, PRIVATE, TeeKit, u } from './kvm-kit.ts';

const PAGES = 4;
const committed = (vm: Vm): string => Array.from({ length: PAGES }, (_, gfn) => (vm.isCommitted(gfn) ? 'x' : '.')).join('');

class Ram extends TeeKit {
  readonly fd: number = this.vm();
  readonly gmem: number;
  readonly shared: Memory;
  readonly vcpuFd: number = this.vcpu(this.fd);
  readonly tvm: Vm = this.vmOf(this.fd);

  constructor() {
    super();
    ({ gmem: this.gmem, shared: this.shared } = this.ram(this.fd, PAGES));
  }

  /** Deletes the slot, or makes it anew, of the same guest_memfd. */
  toggle(there: boolean): void {
    const userspace_addr = this.shared.address;
    const region = { slot: 1, flags: u.KVM_MEM_GUEST_MEMFD, guest_phys_addr: 0n, userspace_addr, guest_memfd: this.gmem };
    expect(this.region2(this.fd, { ...region, memory_size: there ? 0n : BigInt(PAGES) * 4096n })).toBe(0);
  }

  all(): this {
    this.attributes(this.fd, 0n, 0x4000n, PRIVATE);
    for (let gfn = 0; gfn < PAGES; gfn++) expect(this.tvm.commit(gfn)).toBe(0);
    expect(committed(this.tvm)).toBe('xxxx');
    return this;
  }
}

describe('pages come', () => {
  test('by KVM_PRE_FAULT_MEMORY, of private frames', () => {
    const kit = new Ram();
    kit.attributes(kit.fd, 0x1000n, 0x2000n, PRIVATE);
    expect(kit.preFault(kit.vcpuFd, 0n, 0x2000n)).toBe(0);
    expect(committed(kit.tvm)).toBe('.x..');
    expect([1, 2].map((gfn) => kit.tvm.privatePage(gfn, false) !== null)).toEqual([true, false]);
  });

  test('by commit, whatever the attribute; not by the touch of a vCPU', () => {
    const kit = new Ram();
    expect([kit.tvm.commit(2), committed(kit.tvm)]).toEqual([0, '..x.']);
    kit.attributes(kit.fd, 0n, 0x4000n, PRIVATE);
    kit.kernel.agent(kit.vcpuFd, function* (guest) {
      yield* guest.write(0n, Uint8Array.of(7), { private: true });
    });
    kit.kernel.run(kit.vcpuFd);
    expect(committed(kit.tvm)).toBe('..x.');
    const page = kit.tvm.privatePage(0, false)!;
    expect(page.u8[page.offset]).toBe(7);
    expect([kit.tvm.privatePage(3, false), kit.tvm.privatePage(3, true) !== null]).toEqual([null, true]);
  });

  test('where there is no private memory they do not', () => {
    const kit = new Ram();
    const shared = kit.kernel.guestRam(4096);
    kit.region2(kit.fd, { slot: 2, guest_phys_addr: 0x10000n, memory_size: 0x1000n, userspace_addr: shared.address });
    kit.mmioSlot(kit.fd, new DmaBufDouble(kit), { slot: 3 });
    expect([0x100, 0x10, 0xe0000].map((gfn) => kit.tvm.commit(gfn))).toEqual([-EINVAL, -EINVAL, -EFAULT]);
    (kit.kernel.process.fds.get(kit.gmem) as GuestMemfdFile).inode.poison(1);
    expect(kit.tvm.commit(1)).toBe(-EHWPOISON);
    expect([kit.tvm.privatePage(0x100, true), kit.tvm.privatePage(1, true)]).toEqual([null, null]);
  });
});

describe('pages go', () => {
  test('with a conversion', () => {
    const kit = new Ram().all();
    kit.attributes(kit.fd, 0x1000n, 0x2000n, 0n);
    expect(committed(kit.tvm)).toBe('x..x');
    kit.attributes(kit.fd, 0x1000n, 0x2000n, PRIVATE);
    expect(committed(kit.tvm)).toBe('x..x');
  });

  test('with a hole in the guest_memfd', () => {
    const kit = new Ram().all();
    kit.kernel.fallocate(kit.gmem, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0x2000, 0x10_0000);
    expect(committed(kit.tvm)).toBe('xx..');
    expect(kit.tvm.privatePage(2, false)).toBe(null);
  });

  test('with a memory error, the slot, the last descriptor', () => {
    const kit = new Ram().all();
    const file = kit.kernel.process.fds.get(kit.gmem) as GuestMemfdFile;
    file.inode.poison(0);
    expect(committed(kit.tvm)).toBe('.xxx');
    const region = { slot: 1, guest_phys_addr: 0n, memory_size: 0n };
    expect(kit.region2(kit.fd, region)).toBe(0);
    expect([committed(kit.tvm), file.inode.committed.total]).toEqual(['....', 0]);
    const other = new Ram().all();
    other.kernel.close(other.gmem);
    expect([committed(other.tvm), other.tvm.privatePage(0, true)]).toEqual(['....', null]);
  });
});

test('whatever is done to a VM, what is committed is what a list of frames says', () => {
  const range = { first: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: PAGES }) };
  const step = fc.record({ ...range, what: fc.constantFrom('private', 'shared', 'commit', 'pre-fault', 'punch', 'slot') });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const kit = new Ram();
      const isPrivate = new Array<boolean>(PAGES).fill(false);
      const model = new Array<boolean>(PAGES).fill(false);
      let slot = true;
      for (const { what, first, pages } of steps) {
        const end = Math.min(first + pages, PAGES);
        const gpa = BigInt(first) * 4096n;
        const size = BigInt(end - first) * 4096n;
        if (what === 'private' || what === 'shared') {
          kit.attributes(kit.fd, gpa, size, what === 'private' ? PRIVATE : 0n);
          // A range that is what it is to be all over is left alone.
          if (what === 'shared' && isPrivate.slice(first, end).includes(true)) model.fill(false, first, end);
          isPrivate.fill(what === 'private', first, end);
        } else if (what === 'commit') {
          expect(kit.tvm.commit(first)).toBe(slot ? 0 : -EINVAL);
          if (slot) model[first] = true;
        } else if (what === 'pre-fault') {
          kit.preFault(kit.vcpuFd, gpa, size);
          for (let gfn = first; slot && gfn < end; gfn++) if (isPrivate[gfn]) model[gfn] = true;
        } else if (what === 'punch') {
          kit.kernel.fallocate(kit.gmem, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, gpa, size);
          model.fill(false, first, end);
        } else {
          kit.toggle(slot);
          slot = !slot;
          model.fill(false);
        }
        expect(committed(kit.tvm)).toBe(model.map((on) => (on ? 'x' : '.')).join(''));
      }
      kit.kernel.close();
    }),
    { numRuns: 40 },
  );
});
