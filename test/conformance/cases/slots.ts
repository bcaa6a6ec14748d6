/** What memslots do to a running guest: moved and deleted ones, two address spaces, host memory that is not there, read-only slots. */
import type { Memory } from 'kvio';
import {
  KVM_CAP_MULTI_ADDRESS_SPACE,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VM,
  KVM_GET_DIRTY_LOG,
  KVM_GET_NR_MMU_PAGES,
  KVM_GET_VCPU_EVENTS,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  KVM_SET_NR_MMU_PAGES,
  KVM_SET_VCPU_EVENTS,
  KVM_VCPUEVENT_VALID_SMM,
  KVM_X86_SW_PROTECTED_VM,
  kvm_dirty_log,
  kvm_vcpu_events,
  MAP_PRIVATE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from 'kvio/uapi';
import { type Case, define, errnoName, type Fact, type Observer, toFact } from '../case.ts';
import { type Guest, play, startGuest } from '../guest.ts';
import { addRam, getRegs, newVcpu, newVm, PAGE, type Region, setRegion, setRegs } from '../machine.ts';

const memslots = 'Memslots and the guest';
const readOnly = 'Read-only slots';
const LOG = KVM_MEM_LOG_DIRTY_PAGES;
const HLT = 0xf4;
const BASE = 0x40000n;

const dsAtBase: NonNullable<Parameters<typeof startGuest>[2]> = {
  sregs: (sregs) => {
    for (const segment of [sregs.ds, sregs.es]) Object.assign(segment, { base: BASE, selector: Number(BASE >> 4n) });
  },
};

const at = (memory: Memory, change: Region = {}): Region => ({
  ...{ slot: 1, guest_phys_addr: BASE, memory_size: BigInt(memory.length), userspace_addr: memory.address },
  ...change,
});

/** Runs from the start; what came of it, with AL. */
function again(guest: Guest, change: Parameters<typeof setRegs>[2] = {}): Fact {
  const { kernel, vcpu, run } = guest;
  setRegs(kernel, vcpu, { rip: 0x1000n, rax: 0x55n, ...change });
  return outcome(guest, kernel.run(vcpu), run.get('exit_reason'));
}

function outcome({ kernel, vcpu, run }: Guest, returned: number, reason: number | bigint): Fact {
  const regs = getRegs(kernel, vcpu);
  return toFact({
    returned: returned < 0 ? errnoName(returned) : returned,
    reason,
    rip: regs.rip,
    rax: regs.rax,
    ...(reason === 6 ? { gpa: run.get('mmio.phys_addr'), len: run.get('mmio.len'), is_write: run.get('mmio.is_write') } : {}),
  });
}

/** mov al,[0]; hlt and mov [0],al; hlt. */
const LOAD = [0xa0, 0, 0, HLT];
const STORE = [0xa2, 0, 0, HLT];

/** A load and a store, told; the guest's memory stays as it is. */
function both(guest: Guest, see: Observer, label: string): void {
  for (const [name, code] of [
    ['load', LOAD],
    ['store', STORE],
  ] as const) {
    guest.ram.write(0x1000, Uint8Array.from(code));
    see.note(`${label}: ${name}`, again(guest));
    // An MMIO read that waits for its data would be finished by the next run.
    if (guest.run.get('exit_reason') === 6) see.note(`${label}: ${name}, finished`, guest.kernel.run(guest.vcpu));
  }
}

export const slotCases: Case[] = [
  define('kvm/slots/moved-and-deleted', memslots, (kernel, see) => {
    const guest = startGuest(kernel, LOAD, dsAtBase);
    const ram = kernel.guestRam(0x1000);
    ram.bytes[0] = 0x77;
    const set = (change: Region): number => setRegion(kernel, guest.vm, at(ram, change));
    see.call('created', () => set({}));
    both(guest, see, 'there');
    see.call('moved', () => set({ guest_phys_addr: BASE + PAGE }));
    both(guest, see, 'it has moved away');
    see.call('moved back', () => set({}));
    both(guest, see, 'it is back');
    see.call('a move that fails', () => set({ guest_phys_addr: 0n }));
    both(guest, see, 'it is still there');
    see.call('deleted', () => set({ memory_size: 0n }));
    both(guest, see, 'it is gone');
    see.call('other memory in its place', () => set({ slot: 2, userspace_addr: kernel.guestRam(0x1000).address }));
    both(guest, see, 'other memory');
  }),
  define('kvm/slots/code-moved-away', memslots, (kernel, see) => {
    // The guest halts, its memory moves, it goes on.
    const guest = startGuest(kernel, [HLT, 0x40, HLT], { regs: { rax: 1n } });
    see.note('run', kernel.run(guest.vcpu));
    const set = (gpa: bigint): number =>
      setRegion(kernel, guest.vm, { guest_phys_addr: gpa, memory_size: 0x10000n, userspace_addr: guest.ram.address });
    see.call('moved up', () => set(0x10000n));
    play(guest, see);
    see.call('moved back', () => set(0n));
    setRegs(kernel, guest.vcpu, { rip: 0x1001n });
    see.note('run again', kernel.run(guest.vcpu));
  }),
  define('kvm/slots/no-memory', memslots, (kernel, see) => {
    const guest = startGuest(kernel, LOAD, dsAtBase);
    const memory = kernel.mmap({ length: 0x2000, flags: MAP_PRIVATE, view: false });
    setRegion(kernel, guest.vm, at(memory));
    for (const [name, prot] of [
      ['read-write', PROT_READ | PROT_WRITE],
      ['read-only', PROT_READ],
      ['no access', PROT_NONE],
      ['write-only', PROT_WRITE],
      ['read-write again', PROT_READ | PROT_WRITE],
    ] as const) {
      kernel.mprotect(memory, prot);
      both(guest, see, name);
    }
    const fd = kernel.memfd('short');
    kernel.ftruncate(fd, 0x1000);
    const file = kernel.mmap({ fd, length: 0x2000, view: false });
    setRegion(kernel, guest.vm, at(memory, { memory_size: 0n }));
    setRegion(kernel, guest.vm, at(file));
    both(guest, see, 'a page of a file');
    kernel.ftruncate(fd, 0);
    both(guest, see, 'behind its end');
    kernel.ftruncate(fd, 0x1000);
    both(guest, see, 'the file has grown again');
    see.note('in the file', file.read8(0));
  }),
  define('kvm/slots/fetch-from-no-memory', memslots, (kernel, see) => {
    // jmp 0x4000:0
    const guest = startGuest(kernel, [0xea, 0, 0, 0, 0x40]);
    setRegion(kernel, guest.vm, { slot: 1, guest_phys_addr: BASE, memory_size: PAGE, userspace_addr: 0n });
    play(guest, see);
    see.call('memory comes', () => setRegion(kernel, guest.vm, { slot: 1 }));
    const ram = addRam(kernel, guest.vm, 1, BASE, 0x1000);
    ram.write8(0, HLT);
    see.note('run', kernel.run(guest.vcpu));
    see.note('exit', guest.run.get('exit_reason'));
  }),
  define('kvm/slots/address-spaces', memslots, (kernel, see) => {
    const { vm } = newVcpu(kernel);
    see.note('MULTI_ADDRESS_SPACE', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE));
    const good: Region = { memory_size: 0x4000n, userspace_addr: 0x10000n };
    const set = (label: string, region: Region): void =>
      void see.call(label, () => setRegion(kernel, vm, { ...good, ...region }));
    set('slot 0 of space 0', {});
    set('slot 0 of space 1, the same place', { slot: 0x10000 });
    set('slot 1 of space 1, over it', { slot: 0x10001, guest_phys_addr: 0x2000n });
    set('slot 1 of space 1, elsewhere', { slot: 0x10001, guest_phys_addr: 0x4000n, flags: LOG });
    set('slot 0 of space 2', { slot: 0x20000 });
    set('slot 0 of space 2, unaligned', { slot: 0x20000, guest_phys_addr: 1n });
    set('slot 32764 of space 2', { slot: 0x27ffc });
    set('space 0 loses its slot', { memory_size: 0n });
    set('and space 1 has its own', { slot: 0x10000 });
    set('it moves', { slot: 0x10000, guest_phys_addr: 0x100000n });
    set('onto the other', { slot: 0x10000, guest_phys_addr: 0x4000n });
    const into = kernel.guestRam(0x1000);
    const log = (label: string, slot: number): void =>
      void see.call(label, () => kernel.ioctl(vm, KVM_GET_DIRTY_LOG, kvm_dirty_log.encode({ slot, dirty_bitmap: into.address })));
    log('dirty log of slot 1 of space 1', 0x10001);
    log('dirty log of slot 1 of space 0', 1);
    log('dirty log of slot 1 of space 2', 0x20001);
    set('deleted', { slot: 0x10001, memory_size: 0n });
    set('deleted again', { slot: 0x10001, memory_size: 0n });
  }),
  define('kvm/slots/memory-of-smm', memslots, (kernel, see) => {
    const guest = startGuest(kernel, [0xa0, 0, 0x20, 0xa2, 0, 0x30, HLT]);
    const other = kernel.guestRam(0x10000);
    const region: Region = { slot: 0x10000, flags: LOG, memory_size: 0x10000n, userspace_addr: other.address };
    if (see.call('memory of space 1', () => setRegion(kernel, guest.vm, region)) === undefined) return;
    guest.ram.write8(0x2000, 0x11);
    // mov al,[0x2000]; inc al; mov [0x3000],al; hlt
    other.write(0x1000, Uint8Array.from([0xa0, 0, 0x20, 0xfe, 0xc0, 0xa2, 0, 0x30, HLT]));
    other.write8(0x2000, 0x22);
    other.write8(0x3000, 1);
    const smm = (active: number): number => {
      const events = kvm_vcpu_events.alloc();
      kernel.ioctl(guest.vcpu, KVM_GET_VCPU_EVENTS, events);
      const now = kvm_vcpu_events.decode(events);
      const smi = { ...now.smi, smm: active, pending: 0, smm_inside_nmi: 0 };
      const flags = KVM_VCPUEVENT_VALID_SMM;
      return kernel.ioctl(guest.vcpu, KVM_SET_VCPU_EVENTS, kvm_vcpu_events.encode({ ...now, flags, smi }));
    };
    const told = (label: string): void => {
      see.note(label, again(guest));
      see.note(`${label}: flags`, guest.run.get('flags'));
      see.note(`${label}: both memories`, [guest.ram.read8(0x3000), other.read8(0x3000)]);
    };
    told('outside');
    see.note('into system management mode', smm(1));
    told('inside');
    const into = kernel.guestRam(0x1000);
    see.call('dirty log of space 1', () =>
      kernel.ioctl(guest.vm, KVM_GET_DIRTY_LOG, kvm_dirty_log.encode({ slot: 0x10000, dirty_bitmap: into.address })),
    );
    see.note('page 3 of it', into.read8(0) & 8);
    see.note('and out again', smm(0));
    told('outside again');
    see.call('memory of space 1 goes', () => setRegion(kernel, guest.vm, { slot: 0x10000 }));
    see.note('into system management mode without memory', smm(1));
    see.note('a fetch there', again(guest));
  }),
  define('kvm/slots/one-space-where-protected', memslots, (kernel, see) => {
    const kvm = kernel.open('/dev/kvm');
    const vm = see.descriptor('CREATE_VM of SW_PROTECTED', () => kernel.ioctl(kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM));
    if (vm < 0) return;
    see.note('MULTI_ADDRESS_SPACE', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE));
    const good: Region = { memory_size: 0x4000n, userspace_addr: 0x10000n };
    see.call('slot 0', () => setRegion(kernel, vm, good));
    see.call('slot 0 of space 1', () => setRegion(kernel, vm, { ...good, slot: 0x10000 }));
    see.call('LOG_DIRTY', () => setRegion(kernel, vm, { ...good, flags: LOG }));
    see.call('READONLY', () => setRegion(kernel, vm, { ...good, slot: 1, guest_phys_addr: 0x10000n, flags: KVM_MEM_READONLY }));
  }),
  define('kvm/slots/mmu-pages', memslots, (kernel, see) => {
    const vm = newVm(kernel);
    const set = (pages: number | bigint): void =>
      void see.call(`SET_NR_MMU_PAGES ${pages}`, () => kernel.ioctl(vm, KVM_SET_NR_MMU_PAGES, pages));
    for (const pages of [0, 1, 63, 64, 65, 1n << 32n, (1n << 32n) + 1n, (1n << 64n) - 1n]) set(pages);
    see.call('GET_NR_MMU_PAGES', () => kernel.ioctl(vm, KVM_GET_NR_MMU_PAGES, 0));
  }),
  define('kvm/readonly/instructions', readOnly, (kernel, see) => {
    const programs: Readonly<Record<string, readonly number[]>> = {
      'mov al,[0]': [0xa0, 0, 0],
      'mov [0],al': [0xa2, 0, 0],
      'inc byte [0]': [0xfe, 6, 0, 0],
      'lock inc byte [0]': [0xf0, 0xfe, 6, 0, 0],
      'add [0],al': [0, 6, 0, 0],
      'xchg [0],al': [0x86, 6, 0, 0],
      'cmpxchg [0],dl, equal': [0xb0, 0x41, 0x0f, 0xb0, 0x16, 0, 0],
      'cmpxchg [0],dl, not equal': [0xb0, 0x40, 0x0f, 0xb0, 0x16, 0, 0],
      'bts word [0],1': [0x0f, 0xba, 0x2e, 0, 0, 1],
      'mov word [0xfff],ax': [0xa3, 0xff, 0x0f],
      'push [0]; pop [2]': [0xff, 0x36, 0, 0, 0x8f, 6, 2, 0],
      'rep movsw into it': [0xbe, 0, 0x20, 0xbf, 0x10, 0, 0xb9, 2, 0, 0xf3, 0x2e, 0xa5],
      'movsw out of it': [0x31, 0xf6, 0x31, 0xff, 0xa5],
      'cmp [0],al': [0x38, 6, 0, 0],
    };
    for (const [name, code] of Object.entries(programs)) {
      const guest = startGuest(kernel, [...code, HLT], { ...dsAtBase, regs: { rax: 0x2211n, rdx: 0x33n } });
      const rom = addRam(kernel, guest.vm, 1, BASE, 0x1000, KVM_MEM_READONLY);
      rom.write(0, Uint8Array.of(0x41, 0x42, 0x43, 0x44));
      const exits: Fact[] = [];
      for (let count = 0; count < 8; count++) {
        const returned = kernel.run(guest.vcpu);
        exits.push(outcome(guest, returned, guest.run.get('exit_reason')));
        if (returned < 0 || guest.run.get('exit_reason') !== 6) break;
        if (guest.run.get('mmio.is_write') === 1) {
          exits.push(`data ${Buffer.from(guest.run.slice(40, Number(guest.run.get('mmio.len')))).toString('hex')}`);
        }
      }
      see.note(name, exits);
      see.note(`${name}: memory`, [rom.read(0, 4), rom.read(0x10, 4)]);
    }
  }),
  define('kvm/readonly/code-and-stack', readOnly, (kernel, see) => {
    // jmp 0x4000:0. There: inc ax; mov cs:[0x20],al; push ax with the stack in the same slot; hlt.
    const guest = startGuest(kernel, [0xea, 0, 0, 0, 0x40], { regs: { rax: 0x2211n } });
    const rom = addRam(kernel, guest.vm, 1, BASE, 0x1000, KVM_MEM_READONLY);
    rom.write(0, Uint8Array.from([0x40, 0x2e, 0xa2, 0x20, 0, 0x8c, 0xc8, 0x8e, 0xd0, 0xbc, 0x80, 0, 0x50, HLT]));
    play(guest, see);
    see.note(
      'the slot',
      rom.read(0x20, 0x60).every((byte) => byte === 0),
    );
  }),
  define('kvm/readonly/shared-with-a-writable-slot', readOnly, (kernel, see) => {
    const guest = startGuest(kernel, [0xa0, 0, 0, 0xa2, 0, 0x10, 0xa0, 0, 0, HLT], dsAtBase);
    const ram = kernel.guestRam(0x1000);
    ram.bytes[0] = 0x41;
    setRegion(kernel, guest.vm, at(ram, { flags: KVM_MEM_READONLY }));
    setRegion(kernel, guest.vm, at(ram, { slot: 2, guest_phys_addr: BASE + PAGE }));
    see.note('run', again(guest));
    ram.bytes[0] = 0x42;
    see.note('what userspace writes is seen', again(guest));
    see.call('a read-only slot over nothing', () =>
      setRegion(kernel, guest.vm, { slot: 3, flags: KVM_MEM_READONLY, guest_phys_addr: BASE + 2n * PAGE, memory_size: PAGE }),
    );
    guest.ram.write(0x1000, Uint8Array.from([0xa2, 0, 0x20, HLT]));
    see.note('a store there', again(guest));
    guest.ram.write(0x1000, Uint8Array.from([0xa0, 0, 0x20, HLT]));
    see.note('a load there', again(guest));
  }),
];
