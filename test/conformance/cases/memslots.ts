/** KVM_SET_USER_MEMORY_REGION and …REGION2: every check, the order of the checks, and what a change of a slot may change. */
import type { Kernel } from 'kvio';
import {
  KVM_SET_USER_MEMORY_REGION,
  KVM_SET_USER_MEMORY_REGION2,
  KVM_MEM_LOG_DIRTY_PAGES as LOG,
  KVM_MEM_READONLY as READONLY,
} from 'kvio/uapi';
import { type Case, define, hex, type Observer } from '../case.ts';
import { newVm, PAGE, type Region, setRegion, setRegion2 } from '../machine.ts';

const section = 'Memory slots';
const GMEM = 4;

/** A VM, and one call a line: `set(label, region)` notes what it answered. */
function scene(
  kernel: Kernel,
  see: Observer,
): { set: (label: string, region: Region) => void; set2: (label: string, region: Region) => void; vm: number } {
  const vm = newVm(kernel);
  return {
    vm,
    set: (label, region) => void see.call(label, () => setRegion(kernel, vm, region)),
    set2: (label, region) => void see.call(label, () => setRegion2(kernel, vm, region)),
  };
}

/** A region that is right in every way. */
const good = { slot: 0, guest_phys_addr: 0n, memory_size: PAGE, userspace_addr: 0x10000n };

export const memslotCases: Case[] = [
  define('kvm/memslots/argument', section, (kernel, see) => {
    const vm = newVm(kernel);
    for (const [name, request] of [
      ['REGION', KVM_SET_USER_MEMORY_REGION],
      ['REGION2', KVM_SET_USER_MEMORY_REGION2],
    ] as const) {
      see.call(`${name}: pointer 0`, () => kernel.ioctl(vm, request, 0));
      see.call(`${name}: pointer 8`, () => kernel.ioctl(vm, request, 8));
      see.call(`${name}: pointer in the kernel half`, () => kernel.ioctl(vm, request, 0xffff800000000000n));
      see.call(`${name}: non-canonical pointer`, () => kernel.ioctl(vm, request, 0x0001000000000000n << 4n));
    }
    see.call('right number, wrong size', () => kernel.ioctl(vm, 0x4008ae46, 0));
  }),
  ...(['set', 'set2'] as const).map((version) =>
    define(`kvm/memslots/checks-${version === 'set' ? 'region' : 'region2'}`, section, (kernel, see) => {
      const set = scene(kernel, see)[version];
      const one = (label: string, region: Region) => set(label, { ...good, ...region });
      // Nothing is deleted between these: only the last one succeeds.
      for (const flags of [4, 8, 0x10, 0x8000, 0x10000, 0x20000, 0x80000000])
        if (version === 'set' || flags !== GMEM) one(`flags ${hex(flags)}`, { flags });
      for (const slot of [32763, 32764, 32767, 32768, 65535, 0x10000, 0x17ffb, 0x17ffc, 0x20000, 0xffff0000, 0xffffffff]) {
        one(`slot ${hex(slot)}`, { slot, guest_phys_addr: 0x100000n });
      }
      one('size 1', { memory_size: 1n });
      one('size 4095', { memory_size: 4095n });
      one('size 4097', { memory_size: 4097n });
      one('gpa 1', { guest_phys_addr: 1n });
      one('gpa 0xfff', { guest_phys_addr: 0xfffn });
      one('hva 1', { userspace_addr: 0x10001n });
      one('hva in the kernel half', { userspace_addr: 0xffff800000000000n });
      one('hva at the last page of user space', { slot: 3, guest_phys_addr: 0x200000n, userspace_addr: 0x7fffffffe000n });
      one('hva at the boundary', { slot: 4, guest_phys_addr: 0x300000n, userspace_addr: 0x7ffffffff000n });
      one('hva range across the boundary', { memory_size: 0x2000n, userspace_addr: 0x7fffffffe000n });
      one('hva non-canonical', { userspace_addr: 0x8000000000000000n });
      one('gpa + size wraps to 0', { guest_phys_addr: 0xfffffffffffff000n });
      one('gpa + size wraps further', { guest_phys_addr: 0xfffffffffffff000n, memory_size: 0x2000n });
      one('2^31 pages', { memory_size: 1n << 43n });
      // The largest size that passes is not tried: a kernel without TDP allocates 8 bytes a page at once, 16 GiB.
      one('gpa 1<<52', { slot: 6, guest_phys_addr: 1n << 52n });
      one('last page below 1<<52', { slot: 7, guest_phys_addr: (1n << 52n) - PAGE });
      one('across 1<<52', { slot: 8, guest_phys_addr: (1n << 52n) - PAGE, memory_size: 0x2000n });
      one('hva 0', { slot: 9, guest_phys_addr: 0x400000n, userspace_addr: 0n });
      one('all right', {});
    }),
  ),
  define('kvm/memslots/order', section, (kernel, see) => {
    const { set } = scene(kernel, see);
    // Each names two rules at once whose errnos differ, or whose order shows in a slot that must stay as it was.
    set('a slot', good);
    set('overlap in another slot', { ...good, slot: 1 });
    set('overlap, bad flags', { ...good, slot: 1, flags: 8 });
    set('overlap, bad slot', { ...good, slot: 40000 });
    set('overlap, unaligned size', { ...good, slot: 1, memory_size: 0x1001n });
    set('overlap, unaligned hva', { ...good, slot: 1, userspace_addr: 1n });
    set('overlap, beyond the last gfn', { ...good, slot: 1, memory_size: 1n << 42n, userspace_addr: 0n });
    set('a slot at the top', { ...good, slot: 2, guest_phys_addr: (1n << 52n) - PAGE });
    set('overlap at the top, beyond the last gfn', {
      ...good,
      slot: 3,
      guest_phys_addr: (1n << 52n) - PAGE,
      memory_size: 0x2000n,
    });
    set('delete of a missing slot, unaligned gpa', { slot: 9, guest_phys_addr: 1n });
    set('delete of a missing slot', { slot: 9 });
    set('first one is still there: the same again', good);
  }),
  define('kvm/memslots/delete', section, (kernel, see) => {
    const { set, set2 } = scene(kernel, see);
    set('delete before create', { slot: 0 });
    set('create', good);
    set('delete, unaligned gpa', { slot: 0, guest_phys_addr: 1n });
    set('delete, unaligned hva', { slot: 0, userspace_addr: 1n });
    set('delete, bad flags', { slot: 0, flags: 8 });
    set('delete, hva in the kernel half', { slot: 0, userspace_addr: 0xffff800000000000n });
    set('delete, gpa at the top', { slot: 0, guest_phys_addr: 0xfffffffffffff000n });
    set('delete again', { slot: 0 });
    set('create again', good);
    set('delete with READONLY', { slot: 0, flags: READONLY });
    set('create a third time', good);
    set('delete with LOG_DIRTY and other addresses', { slot: 0, flags: LOG, guest_phys_addr: 0x5000n, userspace_addr: 0x7000n });
    set('it is gone', { slot: 0 });
    set('create for REGION2', good);
    set2('delete by REGION2', { slot: 0 });
    set2('delete by REGION2 again', { slot: 0 });
    set('delete with a gpa of 0 wraps nothing', { slot: 0, memory_size: 0n });
  }),
  define('kvm/memslots/change', section, (kernel, see) => {
    const { set, set2 } = scene(kernel, see);
    set('create', good);
    set('the same again', good);
    set2('the same by REGION2', good);
    set('another hva', { ...good, userspace_addr: 0x20000n });
    set('another size', { ...good, memory_size: 0x2000n });
    set('READONLY on', { ...good, flags: READONLY });
    set('LOG_DIRTY on', { ...good, flags: LOG });
    set('LOG_DIRTY on again', { ...good, flags: LOG });
    set('LOG_DIRTY off', good);
    set('another gpa: move', { ...good, guest_phys_addr: 0x5000n });
    set('the place it left is free', { ...good, slot: 1 });
    set('move onto another slot', good);
    set('move and LOG_DIRTY on', { ...good, guest_phys_addr: 0x6000n, flags: LOG });
    set('move and another size', { ...good, guest_phys_addr: 0x7000n, memory_size: 0x2000n });
    set('move and READONLY', { ...good, guest_phys_addr: 0x7000n, flags: READONLY });
    set('move and another hva', { ...good, guest_phys_addr: 0x7000n, userspace_addr: 0x20000n });
    set('it is where the last move put it: overlap there', { ...good, slot: 2, guest_phys_addr: 0x6000n });
    set('move beyond the last gfn', { ...good, guest_phys_addr: 1n << 52n });
    set('and it stayed', { ...good, slot: 2, guest_phys_addr: 0x6000n });
    set('a READONLY slot', { ...good, slot: 5, guest_phys_addr: 0x10000n, flags: READONLY });
    set('READONLY off', { ...good, slot: 5, guest_phys_addr: 0x10000n });
    set('READONLY|LOG_DIRTY', { ...good, slot: 5, guest_phys_addr: 0x10000n, flags: READONLY | LOG });
    set('READONLY moved', { ...good, slot: 5, guest_phys_addr: 0x20000n, flags: READONLY });
  }),
  define('kvm/memslots/overlap', section, (kernel, see) => {
    const { set } = scene(kernel, see);
    set('[4,8) pages', { ...good, guest_phys_addr: 0x4000n, memory_size: 0x4000n });
    const other = { ...good, slot: 1 };
    set('[3,4) touches below', { ...other, guest_phys_addr: 0x3000n });
    set('delete it', { slot: 1 });
    set('[8,9) touches above', { ...other, guest_phys_addr: 0x8000n });
    set('delete it too', { slot: 1 });
    set('[3,5)', { ...other, guest_phys_addr: 0x3000n, memory_size: 0x2000n });
    set('[7,9)', { ...other, guest_phys_addr: 0x7000n, memory_size: 0x2000n });
    set('[5,6) inside', { ...other, guest_phys_addr: 0x5000n });
    set('[0,16) around', { ...other, guest_phys_addr: 0n, memory_size: 0x10000n });
    set('[4,8) exactly', { ...other, guest_phys_addr: 0x4000n, memory_size: 0x4000n });
    set('the same host pages elsewhere', { ...other, guest_phys_addr: 0x100000n, memory_size: 0x4000n });
    set('a slot moved within its own range', { ...good, guest_phys_addr: 0x5000n, memory_size: 0x4000n });
    set('a third slot between', { ...good, slot: 2, guest_phys_addr: 0x4000n });
    set('moved back onto it', { ...good, guest_phys_addr: 0x4000n, memory_size: 0x4000n });
  }),
  define('kvm/memslots/independent', section, (kernel, see) => {
    const { set } = scene(kernel, see);
    const second = scene(kernel, see).vm;
    set('slot 0 of one VM', good);
    see.call('slot 0 of another VM', () => setRegion(kernel, second, good));
    see.call('delete in the other', () => setRegion(kernel, second, { slot: 0 }));
    set('the first is still there', { ...good, slot: 1 });
    set('the last slot id', { ...good, slot: 32763, guest_phys_addr: 0x9000n });
    set('the last slot id again, elsewhere', { ...good, slot: 32763, guest_phys_addr: 0xa000n });
  }),
  define('kvm/memslots/region2-fields', section, (kernel, see) => {
    const vm = newVm(kernel);
    const set = (label: string, region: Parameters<typeof setRegion2>[2]) =>
      see.call(label, () => setRegion2(kernel, vm, region));
    set('guest_memfd ignored without the flag', { ...good, guest_memfd: 12345, guest_memfd_offset: 1n });
    set('the same with other ignored fields is no change', { ...good, guest_memfd: 0xffffffff, guest_memfd_offset: 0xfffn });
    set('READONLY|LOG_DIRTY', { ...good, slot: 1, guest_phys_addr: 0x10000n, flags: READONLY | LOG });
  }),
];
