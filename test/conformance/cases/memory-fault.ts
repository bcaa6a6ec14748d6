/** KVM_EXIT_MEMORY_FAULT and what guests of a SW_PROTECTED VM see: private and shared memory, no memory, dead memory, emulated accesses. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_EXIT_MEMORY_FAULT,
  KVM_GET_REGS,
  PROT_READ,
  FALLOC_FL_PUNCH_HOLE as PUNCH,
  KVM_MEM_READONLY as READONLY,
  FALLOC_FL_KEEP_SIZE as SIZE,
} from 'kvio/uapi';
import { type Case, define, type Observer } from '../case.ts';
import { addRam, getRegs, PAGE, setRegion, setRegion2 } from '../machine.ts';
import { guestMemfd, Prober, protectedVm, setAttributes, setGmem } from '../private.ts';

const section = 'Private memory';
const GPA = 0x20000n;
const BARE = 0x40000n;
const NOWHERE = 0x60000n;
const LENGTH = 0x10000n;

interface Scene {
  readonly vm: number;
  readonly prober: Prober;
  readonly memfd: number;
  /** The shared side of the slot at GPA, which has a guest_memfd too. */
  readonly shared: Memory;
  /** The memory of the slot at BARE, which has none. */
  readonly bare: Memory;
}

function scene(kernel: Kernel, see: Observer, flags = 0n): Scene | undefined {
  const vm = protectedVm(kernel, see);
  if (vm < 0) return undefined;
  const prober = new Prober(kernel, vm);
  const memfd = guestMemfd(kernel, vm, LENGTH, flags);
  const shared = kernel.guestRam(LENGTH);
  setGmem(kernel, vm, { slot: 1, gpa: GPA, size: LENGTH, memfd, hva: shared.address });
  return { vm, prober, memfd, shared, bare: addRam(kernel, vm, 2, BARE, Number(LENGTH)) };
}

const inScene = (name: string, body: (kernel: Kernel, see: Observer, scene: Scene) => void, flags = 0n): Case =>
  define(`kvm/memory-fault/${name}`, section, (kernel, see) => {
    const made = scene(kernel, see, flags);
    if (made !== undefined) body(kernel, see, made);
  });

export const memoryFaultCases: Case[] = [
  inScene('conversions', (kernel, see, { vm, prober, memfd, shared }) => {
    shared.write8(0, 0x11);
    see.note('shared', prober.read(GPA));
    see.call('to private', () => setAttributes(kernel, vm, GPA, PAGE));
    see.note('private is a page of zeros', prober.read(GPA));
    prober.write(GPA, 0x22);
    see.note('the shared side', shared.read8(0));
    see.call('to shared', () => setAttributes(kernel, vm, GPA, PAGE, 0n));
    see.note('shared keeps what it was', prober.read(GPA));
    prober.write(GPA, 0x33);
    see.call('to private again', () => setAttributes(kernel, vm, GPA, PAGE));
    see.note('private keeps what it was', prober.read(GPA));
    see.call('to shared, and punch', () => setAttributes(kernel, vm, GPA, PAGE, 0n));
    see.call('punch', () => kernel.fallocate(memfd, SIZE | PUNCH, 0, 0x1000));
    see.call('to private once more', () => setAttributes(kernel, vm, GPA, PAGE));
    see.note('a new page of zeros', prober.read(GPA));
    prober.write(GPA, 0x44);
    see.call('punch under the guest', () => kernel.fallocate(memfd, SIZE | PUNCH, 0, 0x1000));
    see.note('zeros', prober.read(GPA));
    see.call('allocate', () => kernel.fallocate(memfd, SIZE, 0, 0x10000));
    see.note('the shared side at last', shared.read8(0));
  }),
  inScene('no-guest-memfd', (kernel, see, { vm, prober, bare }) => {
    bare.write8(0, 0x55);
    see.note('shared', prober.read(BARE));
    see.call('to private', () => setAttributes(kernel, vm, BARE, PAGE));
    see.note('read', prober.read(BARE));
    see.note('the same again', prober.next());
    see.note('read in the middle of the page', prober.execute(BARE, [0xa0, 0x34, 0x02, 0xe6, 0x10]));
    see.note('write', prober.write(BARE, 1));
    see.note('read of 4 bytes across out of it', prober.execute(BARE + PAGE - 2n, [0x66, 0xa1, 0, 0, 0xf4]));
    see.note('and its registers', getRegs(kernel, prober.vcpu).rax);
    see.call('to shared', () => setAttributes(kernel, vm, BARE, PAGE, 0n));
    see.note('the instruction goes on', prober.next());
  }),
  inScene('no-slot', (kernel, see, { vm, prober }) => {
    see.call('to private', () => setAttributes(kernel, vm, NOWHERE, PAGE));
    see.note('read', prober.read(NOWHERE));
    see.note('write', prober.write(NOWHERE, 1));
    see.note('the page behind it', prober.read(NOWHERE + PAGE));
    see.note('across both', prober.execute(NOWHERE + PAGE - 2n, [0x66, 0xa1, 0, 0, 0xf4]));
    see.call('to shared', () => setAttributes(kernel, vm, NOWHERE, PAGE, 0n));
    see.note('read then', prober.read(NOWHERE));
  }),
  inScene('mmio-remembered', (kernel, see, { vm, prober }) => {
    see.note('read of nothing', prober.read(NOWHERE));
    see.call('to private', () => setAttributes(kernel, vm, NOWHERE, PAGE));
    see.note('read then', prober.read(NOWHERE));
    see.note('write then', prober.write(NOWHERE, 1));
    see.call('a slot elsewhere', () => setRegion(kernel, vm, { slot: 5, guest_phys_addr: 0x90000n, memory_size: PAGE }));
    see.note('read after a slot has changed', prober.read(NOWHERE));
    see.note('write after a slot has changed', prober.write(NOWHERE, 1));
    const memfd = guestMemfd(kernel, vm, LENGTH);
    see.call('a slot there', () => setGmem(kernel, vm, { slot: 6, gpa: NOWHERE, size: LENGTH, memfd }));
    see.note('read in the slot', prober.read(NOWHERE));
    see.note('read in the slot again', prober.read(NOWHERE));
    see.note('read of its next page', prober.read(NOWHERE + PAGE));
    see.call('to private again', () => setAttributes(kernel, vm, NOWHERE, LENGTH));
    see.note('read once more', prober.read(NOWHERE));
    see.call('to shared', () => setAttributes(kernel, vm, NOWHERE, LENGTH, 0n));
    see.note('read without memory', prober.read(NOWHERE));
    see.call('private at last', () => setAttributes(kernel, vm, NOWHERE, LENGTH));
    see.note('read at last', prober.read(NOWHERE));
  }),
  inScene('mmio-remembered-slot-first', (kernel, see, { vm, prober }) => {
    see.note('read of nothing', prober.read(NOWHERE));
    const memfd = guestMemfd(kernel, vm, LENGTH);
    see.call('a slot there', () => setGmem(kernel, vm, { slot: 6, gpa: NOWHERE, size: LENGTH, memfd }));
    see.call('to private', () => setAttributes(kernel, vm, NOWHERE, LENGTH));
    see.note('read', prober.read(NOWHERE));
    see.note('read again', prober.read(NOWHERE));
    see.call('delete the slot', () => setGmem(kernel, vm, { slot: 6, gpa: NOWHERE, size: 0n, memfd }));
    see.note('read with the slot gone', prober.read(NOWHERE));
  }),
  inScene('fetch', (kernel, see, { vm, prober, shared }) => {
    const jump = (gpa: bigint): readonly number[] => [0xea, 0, 0, Number(gpa >> 4n) & 0xff, Number(gpa >> 12n)];
    shared.write(0, Uint8Array.of(0xb0, 0x77, 0xe6, 0x10));
    see.note('code in shared memory', prober.execute(0n, jump(GPA)));
    see.call('to private', () => setAttributes(kernel, vm, GPA, PAGE));
    see.call('without a guest_memfd', () => setAttributes(kernel, vm, BARE, PAGE));
    see.note('code in private memory that is not there', prober.execute(0n, jump(BARE)));
    see.call('without a slot', () => setAttributes(kernel, vm, NOWHERE, PAGE));
    see.note('code in private memory without a slot', prober.execute(0n, jump(NOWHERE)));
    see.call('to shared', () => setAttributes(kernel, vm, GPA, PAGE, 0n));
    see.note('code in shared memory again', prober.execute(0n, jump(GPA)));
  }),
  inScene('stack-and-copies', (kernel, see, { vm, prober, shared }) => {
    see.call('to private', () => setAttributes(kernel, vm, GPA, LENGTH));
    // mov byte [0..3],…; rep movsb 4 bytes to 0x100; out of both.
    const fill = [1, 2, 3, 4].flatMap((value, at) => [0xc6, 0x06, at, 0, value]);
    const copy = [0xbe, 0, 0, 0xbf, 0, 1, 0xb9, 4, 0, 0xf3, 0xa4];
    see.note('a copy within private memory', prober.execute(GPA, [...fill, ...copy, 0xa0, 3, 1, 0xe6, 0x10]));
    see.note(
      'none of it is in shared memory',
      shared.read(0, 0x104).every((byte) => byte === 0),
    );
    see.call('the second page shared', () => setAttributes(kernel, vm, GPA + PAGE, PAGE, 0n));
    const far = [0xbe, 0, 0, 0xbf, 0, 0x10, 0xb9, 4, 0, 0xf3, 0xa4, 0xf4];
    see.note('a copy from private to shared memory', prober.execute(GPA, far));
    see.note('which arrives', shared.read(0x1000, 4));
    see.call('the third page without memory', () => setRegion2(kernel, vm, { slot: 1 }));
    see.note('a copy from a page that is gone', prober.execute(GPA, far));
  }),
  inScene('rep-across', (kernel, see, { vm, prober, bare }) => {
    bare.write(0, new Uint8Array(0x3000).fill(0x61));
    see.call('the second page private', () => setAttributes(kernel, vm, BARE + PAGE, PAGE));
    // rep stosb over the border
    const code = [0xbf, 0xf0, 0x0f, 0xb0, 0x7a, 0xb9, 0x20, 0, 0xf3, 0xaa, 0xf4];
    see.note('rep stosb into it', prober.execute(BARE, code));
    const regs = getRegs(kernel, prober.vcpu);
    see.note('registers then', { rcx: regs.rcx, rdi: regs.rdi, rflags: regs.rflags });
    see.note('what is written', bare.read(0xff0, 0x20));
    see.call('shared', () => setAttributes(kernel, vm, BARE + PAGE, PAGE, 0n));
    see.note('it goes on', prober.next());
    see.note('all is written', bare.read(0xff0, 0x20));
  }),
  inScene('emulated', (kernel, see, { vm, prober, shared }) => {
    shared.write(0, Uint8Array.of(0xa1, 0xa2, 0xa3, 0xa4));
    see.call('to private', () => setAttributes(kernel, vm, GPA, PAGE));
    prober.write(GPA, 0xb1);
    // KVM's own accesses know userspace_addr only: string I/O, and instructions that touch MMIO.
    see.note('outsb from private memory', prober.execute(GPA, [0xbe, 0, 0, 0xba, 0x10, 0, 0x6e, 0xf4]));
    see.note('insb into private memory', prober.execute(GPA, [0xbf, 4, 0, 0xba, 0x10, 0, 0x6c, 0xa0, 4, 0, 0xe6, 0x10]));
    prober.run.bytes[0x1000] = 0xc3;
    see.note('what the guest then finds there', prober.next());
    see.note('and the shared side', shared.read(0, 5));
    see.call('without a guest_memfd', () => setAttributes(kernel, vm, BARE, PAGE));
    see.note('outsb from private memory that is not there', prober.execute(BARE, [0xbe, 0, 0, 0xba, 0x10, 0, 0x6e, 0xf4]));
    see.note('outsb from private memory without a slot', prober.execute(NOWHERE, [0xbe, 0, 0, 0xba, 0x10, 0, 0x6e, 0xf4]));
  }),
  inScene('emulated-move-to-mmio', (kernel, see, { vm, prober, shared }) => {
    shared.write8(0, 0xa1);
    see.call('to private', () => setAttributes(kernel, vm, GPA, PAGE));
    prober.write(GPA, 0xb1);
    // movsb from private memory to where no slot is: es is set far away first.
    const code = [0xb8, 0x00, 0x60, 0x8e, 0xc0, 0xbe, 0, 0, 0xbf, 0, 0, 0xa4, 0xf4];
    see.note('movsb to MMIO', prober.execute(GPA, code));
    see.note('the byte that left', prober.run.slice(40, 1));
    see.note('then', prober.next());
  }),
  inScene('emulated-write-across', (kernel, see, { vm, prober, bare }) => {
    see.call('private', () => setAttributes(kernel, vm, BARE, PAGE));
    see.note(
      'write of 4 bytes from MMIO into private memory',
      prober.execute(BARE - 2n, [0x66, 0xc7, 0x06, 0, 0, 1, 2, 3, 4, 0xf4]),
    );
    see.note('then', prober.next());
    see.note('the shared side', bare.read(0, 2));
  }),
  inScene(
    'emulated-mappable-file',
    (_kernel, see, { prober, shared }) => {
      shared.write8(0, 0x11);
      prober.write(GPA, 0x12);
      see.note('outsb takes userspace_addr', prober.execute(GPA, [0xbe, 0, 0, 0xba, 0x10, 0, 0x6e, 0xf4]));
      see.note('a load takes the guest_memfd', prober.read(GPA));
    },
    1n,
  ),
  inScene('closed-file', (kernel, see, { vm, prober, memfd, shared }) => {
    see.call('the first page private', () => setAttributes(kernel, vm, GPA, PAGE));
    prober.write(GPA, 0x66);
    const twin = kernel.dup(memfd);
    kernel.close(memfd);
    see.note('a dup is open', prober.read(GPA));
    kernel.close(twin);
    see.note('read of private memory', prober.read(GPA));
    see.note('write of private memory', prober.write(GPA, 1));
    shared.write8(0x1000, 0x67);
    see.note('shared memory of the same slot', prober.read(GPA + PAGE));
    see.call('to shared', () => setAttributes(kernel, vm, GPA, PAGE, 0n));
    see.note('read of shared memory', prober.read(GPA));
    see.call('delete the slot', () => setRegion2(kernel, vm, { slot: 1 }));
    see.note('nothing is there', prober.read(GPA));
  }),
  inScene(
    'mapping-keeps-it',
    (kernel, see, { vm, prober, memfd }) => {
      const memory = kernel.mmap({ fd: memfd, length: 0x1000, view: false });
      see.call('private', () => setAttributes(kernel, vm, GPA, PAGE));
      prober.write(GPA, 0x68);
      kernel.close(memfd);
      see.note('closed, but mapped', prober.read(GPA));
      see.call('the mapping shows nothing', () => memory.read8(0));
      memory.close();
      see.note('neither', prober.read(GPA));
    },
    1n,
  ),
  inScene(
    'mappable-file',
    (kernel, see, { vm, prober, shared }) => {
      shared.write8(0, 0x11);
      see.note('shared memory is in the guest_memfd', prober.read(GPA));
      prober.write(GPA, 0x12);
      see.note('userspace_addr', shared.read8(0));
      see.call('to private', () => setAttributes(kernel, vm, GPA, PAGE));
      see.note('private memory is the same page', prober.read(GPA));
    },
    1n,
  ),
  inScene('shared-host-page-gone', (kernel, see, { prober, shared, vm }) => {
    const hole = kernel.mmap({ length: 0x2000, view: false });
    see.call('a slot', () =>
      setRegion(kernel, vm, { slot: 4, guest_phys_addr: NOWHERE, memory_size: 0x2000n, userspace_addr: hole.address }),
    );
    kernel.mprotect(hole, 0, { offset: 0, length: 0x1000 });
    kernel.mprotect(hole, PROT_READ, { offset: 0x1000, length: 0x1000 });
    see.note('read of a page that userspace has protected', prober.read(NOWHERE));
    see.note('write of a page that userspace may only read', prober.write(NOWHERE + PAGE, 1));
    see.call('to private', () => setAttributes(kernel, vm, NOWHERE, PAGE));
    see.note('private', prober.read(NOWHERE));
    see.note('exit_reason is MEMORY_FAULT', Number(prober.run.get('exit_reason')) === KVM_EXIT_MEMORY_FAULT);
    see.call('shared', () => setAttributes(kernel, vm, NOWHERE, PAGE, 0n));
    see.note('shared: the reason is told anew', prober.read(NOWHERE));
    see.note('still there', shared.read8(0));
  }),
  inScene('readonly-slot', (kernel, see, { vm, prober }) => {
    const rom = kernel.guestRam(0x1000);
    rom.write8(0, 0x31);
    see.call('a READONLY slot', () =>
      setRegion(kernel, vm, {
        slot: 4,
        flags: READONLY,
        guest_phys_addr: NOWHERE,
        memory_size: PAGE,
        userspace_addr: rom.address,
      }),
    );
    see.note('read', prober.read(NOWHERE));
    see.note('write', prober.write(NOWHERE, 1));
    see.call('private', () => setAttributes(kernel, vm, NOWHERE, PAGE));
    see.note('private: read', prober.read(NOWHERE));
    see.note('private: write', prober.write(NOWHERE, 1));
  }),
  inScene('second-vcpu-call', (kernel, see, { prober, vm }) => {
    see.call('private', () => setAttributes(kernel, vm, BARE, PAGE));
    see.note('a fault', prober.read(BARE));
    see.call('registers can be read', () => kernel.ioctl(prober.vcpu, KVM_GET_REGS, new Uint8Array(144)));
    prober.run.set('immediate_exit', 1);
    see.note('immediate_exit comes before', prober.next());
    see.note('and leaves the fault in the page', prober.memoryFault());
  }),
];
