/** KVM_SET_MEMORY_ATTRIBUTES: every check in its order, and that it asks nothing of memslots. */
import type { Kernel } from 'kvio';
import { KVM_SET_MEMORY_ATTRIBUTES, KVM_X86_SW_PROTECTED_VM, kvm_memory_attributes } from 'kvio/uapi';
import { type Case, define, hex, type Observer } from '../case.ts';
import { newVm, PAGE } from '../machine.ts';
import { guestMemfd, PRIVATE, Prober, protectedVm, setAttributes, setGmem } from '../private.ts';

const section = 'Private memory';
const GPA = 0x20000n;
const TOP = 0xfffffffffffff000n;

function checks(kernel: Kernel, see: Observer, vm: number): void {
  const set = (label: string, address: bigint, size: bigint, attributes = 0n, flags = 0n) =>
    see.call(label, () => setAttributes(kernel, vm, address, size, attributes, flags));
  see.call('pointer 0', () => kernel.ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, 0));
  // First, while nothing is private: the kernel looks at every frame of what it changes.
  set('all of it, which is shared', 0n, TOP);
  set('flags 1', 0n, PAGE, 0n, 1n);
  set('flags 2^63', 0n, PAGE, 0n, 1n << 63n);
  for (let bit = 0n; bit < 64n; bit++)
    if (bit < 8n || bit > 60n || bit === 32n) set(`attributes ${hex(1n << bit)}`, 0n, PAGE, 1n << bit);
  set('size 0', 0n, 0n);
  set('size 0, private', 0n, 0n, PRIVATE);
  set('size 1', 0n, 1n);
  set('address 1', 1n, PAGE);
  set('address 1, size 4095', 1n, 0xfffn);
  set('the last page', TOP, PAGE);
  set('the page before it', TOP - PAGE, PAGE);
  set('the page before it, private', TOP - PAGE, PAGE, PRIVATE);
  set('wraps', TOP, 2n * PAGE);
  set('beyond the last guest frame, private', 1n << 52n, PAGE, PRIVATE);
  set('no slot there, private', GPA, PAGE, PRIVATE);
  set('private again', GPA, PAGE, PRIVATE);
  set('shared', GPA, PAGE);
  set('shared again', GPA, PAGE);
  const bytes = kvm_memory_attributes.encode({ address: GPA, size: PAGE, attributes: 0n, flags: 0n });
  const before = bytes.slice();
  see.call('once more', () => kernel.ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, bytes));
  see.note(
    'the struct is not written',
    before.every((byte, at) => bytes[at] === byte),
  );
}

export const attributeCases: Case[] = [
  define('kvm/attributes/ordinary-vm', section, (kernel, see) => checks(kernel, see, newVm(kernel))),
  define('kvm/attributes/protected-vm', section, (kernel, see) => {
    const vm = protectedVm(kernel, see);
    if (vm >= 0) checks(kernel, see, vm);
  }),
  define('kvm/attributes/order', section, (kernel, see) => {
    const vm = protectedVm(kernel, see);
    if (vm < 0) return;
    // What is right or nothing at all is told from what is wrong by the errno alone: each names a rule and one that comes later.
    see.call('all wrong', () => setAttributes(kernel, vm, 1n, 0n, 1n, 1n));
    see.call('only the type of VM is special', () => setAttributes(kernel, vm, 0n, PAGE, BigInt(KVM_X86_SW_PROTECTED_VM)));
  }),
  define('kvm/attributes/independent-of-slots', section, (kernel, see) => {
    const vm = protectedVm(kernel, see);
    if (vm < 0) return;
    const prober = new Prober(kernel, vm);
    const memfd = guestMemfd(kernel, vm, 0x10000n);
    const shared = kernel.guestRam(0x10000);
    for (let page = 0; page < 16; page++) shared.write8(page * 0x1000, 0x10 + page);
    const slot = { slot: 1, gpa: GPA, size: 0x10000n, memfd, hva: shared.address };
    see.call('before there is a slot', () => setAttributes(kernel, vm, GPA + PAGE, PAGE));
    see.call('private before there is a slot', () => setAttributes(kernel, vm, GPA + PAGE, 2n * PAGE));
    see.call('the slot', () => setGmem(kernel, vm, slot));
    const pages = (when: string): void =>
      see.note(
        when,
        [0n, 1n, 2n, 3n].map((page) => prober.read(GPA + page * PAGE)),
      );
    pages('pages 0 to 3');
    prober.write(GPA + PAGE, 0x91);
    prober.write(GPA + 2n * PAGE, 0x92);
    pages('pages 1 and 2 were written');
    see.call('page 1 shared', () => setAttributes(kernel, vm, GPA + PAGE, PAGE, 0n));
    pages('page 1 is shared');
    see.call('all private', () => setAttributes(kernel, vm, GPA, 0x10000n));
    pages('all are private');
    see.call('delete the slot', () => setGmem(kernel, vm, { ...slot, size: 0n }));
    see.call('a slot with the pages the other way', () => setGmem(kernel, vm, { ...slot, size: 0xf000n, offset: PAGE }));
    pages('they stay private: page n of the guest is n + 1 of the file');
    see.call('all shared', () => setAttributes(kernel, vm, GPA, 0x10000n, 0n));
    pages('all are shared');
  }),
  define('kvm/attributes/alternating', section, (kernel, see) => {
    const vm = protectedVm(kernel, see);
    if (vm < 0) return;
    const prober = new Prober(kernel, vm);
    const shared = kernel.guestRam(0x40000);
    const memfd = guestMemfd(kernel, vm, 0x40000n);
    for (let page = 0; page < 64; page++) shared.write8(page * 0x1000, page);
    see.call('the slot', () => setGmem(kernel, vm, { slot: 1, gpa: GPA, size: 0x40000n, memfd, hva: shared.address }));
    for (let page = 0n; page < 64n; page += 2n) setAttributes(kernel, vm, GPA + page * PAGE, PAGE);
    const kinds = (): string =>
      Array.from({ length: 64 }, (_, page) =>
        JSON.stringify(prober.read(GPA + BigInt(page) * PAGE)) === '{"out":"00"}' ? 'p' : 's',
      ).join('');
    see.note('every other page', kinds());
    setAttributes(kernel, vm, GPA + 5n * PAGE, 20n * PAGE);
    see.note('a stretch of private ones', kinds());
    setAttributes(kernel, vm, GPA + 10n * PAGE, 40n * PAGE, 0n);
    see.note('a stretch of shared ones', kinds());
    setAttributes(kernel, vm, GPA, 64n * PAGE);
    see.note('all private', kinds());
  }),
];
