/** Dirty logs and rings, and the ring of coalesced writes, as objects: the same on every kernel. */
import { dirtyPages, type Kernel, type Vm } from 'kvio';
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
  KVM_MEM_LOG_DIRTY_PAGES,
} from 'kvio/uapi';
import { expect, it } from 'vitest';
import { boot, onEachKernel, thrown } from './each-kernel.ts';

const enable = (vm: Vm, cap: number, value: bigint): void => vm.enableCap({ cap, flags: 0, args: [value, 0n, 0n, 0n] });

/** Slot 1, logged, of 16 pages at 0x10000 and up; `code` has DS there. */
function logged(kernel: Kernel, vm: Vm): void {
  const memory = kernel.guestRam(0x10000);
  vm.setUserMemoryRegion({ slot: 1, flags: KVM_MEM_LOG_DIRTY_PAGES, guest_phys_addr: 0x10000n, memory });
}

/** mov ds, 0x1000; mov [0], al; mov [0x9000], al; hlt */
const WRITES = [0xb8, 0, 0x10, 0x8e, 0xd8, 0xa2, 0, 0, 0xa2, 0, 0x90, 0xf4];

onEachKernel('Tracked memory', (open) => {
  it('gets and clears the dirty log of a slot', () => {
    const { kernel, vm, vcpu } = boot(open(), WRITES);
    logged(kernel, vm);
    enable(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, BigInt(KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE));
    expect(vcpu.run().reason).toBe('hlt');
    const bitmap = kernel.guestRam(0x1000);
    const pages = (): number[] => {
      bitmap.bytes.fill(0xff);
      vm.getDirtyLog({ slot: 1, dirty_bitmap: bitmap });
      return [...dirtyPages(bitmap.bytes.subarray(0, 8))];
    };
    expect(pages()).toEqual([0, 9]);
    bitmap.bytes.set([0xfe, 0xff]);
    vm.clearDirtyLog({ slot: 1, num_pages: 16, dirty_bitmap: bitmap.address });
    expect(pages()).toEqual([0]);
    expect(thrown(() => vm.getDirtyLog({ slot: 0, dirty_bitmap: bitmap }))).toMatchObject({ code: 'ENOENT' });
    expect(thrown(() => vm.clearDirtyLog({ slot: 1, num_pages: 5, dirty_bitmap: bitmap }))).toMatchObject({ code: 'EINVAL' });
    expect(thrown(() => vm.resetDirtyRings())).toMatchObject({ code: 'EINVAL' });
  });

  it('reads a dirty ring in order, around its end', () => {
    const { kernel, kvm } = open();
    const vm = kvm.createVm();
    enable(vm, KVM_CAP_DIRTY_LOG_RING, 4096n);
    const ram = kernel.guestRam(0x1000);
    ram.bytes.set(WRITES);
    vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
    logged(kernel, vm);
    const vcpu = vm.createVcpu(0);
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
    using ring = vcpu.mapDirtyRing(4096);
    expect(ring.size).toBe(256);
    for (let round = 0; round < 200; round++) {
      vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
      expect(vcpu.run().reason).toBe('hlt');
      expect(ring.harvest(1)).toEqual([{ slot: 1, offset: 0n }]);
      expect(ring.harvest()).toEqual([{ slot: 1, offset: 9n }]);
      expect(ring.harvest()).toEqual([]);
      expect(vm.resetDirtyRings()).toBe(2);
    }
    expect(thrown(() => vm.getDirtyLog({ slot: 1, dirty_bitmap: 0n }))).toMatchObject({
      code: expect.stringMatching(/ENXIO|RANGE/),
    });
    expect(() => vcpu.mapDirtyRing(5000)).toThrow(/power of two/);
  });

  it('drains coalesced writes', () => {
    // mov ds,0x1000; mov [0],ax; out 0x80,al; mov [2],al; hlt; again
    const code = [0xb8, 0, 0x10, 0x8e, 0xd8, 0xa3, 0, 0, 0xe6, 0x80, 0xa2, 2, 0, 0xf4, 0xeb, 0xf5];
    const { vm, vcpu } = boot(open(), code);
    vm.registerCoalescedMmio({ addr: 0x10000n, size: 16 });
    vm.registerCoalescedMmio({ addr: 0x80n, size: 1, pio: 1 });
    const ring = vcpu.coalescedRing;
    const writes = [
      { phys_addr: 0x10000n, pio: false, data: Uint8Array.of(0, 0x10) },
      { phys_addr: 0x80n, pio: true, data: Uint8Array.of(0) },
      { phys_addr: 0x10002n, pio: false, data: Uint8Array.of(0) },
    ];
    for (let round = 0; round < 60; round++) {
      expect(vcpu.run().reason).toBe('hlt');
      expect(ring.length).toBe(3);
      expect(ring.drain()).toEqual(writes);
      expect(ring.length).toBe(0);
    }
    vm.unregisterCoalescedMmio({ addr: 0x10000n, size: 1 });
    expect(vcpu.run()).toMatchObject({ reason: 'mmio', phys_addr: 0x10000n });
  });
});
