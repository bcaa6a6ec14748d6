/** Where user memory and guest memory meet: addresses as arguments, protections, files as RAM. */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_SET_REGS,
  kvm_regs,
  MADV_DONTNEED,
  MAP_PRIVATE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from 'kvio/uapi';
import { type Case, define, nonZero } from '../case.ts';
import { play, startGuest } from '../guest.ts';
import { getRegs, newVcpu, type Sregs, setRegion, setRegs, UNSAFE } from '../machine.ts';

const section = 'User memory';
const HLT = 0xf4;

const dsAt = (base: bigint) => (s: Sregs) => void Object.assign(s.ds, { base, selector: Number(base >> 4n) });

export const memoryCases: Case[] = [
  define('kvm/memory/addresses-as-arguments', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const ram = kernel.guestRam(0x2000);
    see.call('a Memory', () => kernel.ioctl(vcpu, KVM_GET_REGS, ram));
    see.note('regs at its start', nonZero(kvm_regs.decode(ram.read(0, kvm_regs.size))));
    see.call('an unaligned address in it', () => kernel.ioctl(vcpu, KVM_GET_REGS, ram.address + 0x101n));
    see.note('regs there', nonZero(kvm_regs.decode(ram.read(0x101, kvm_regs.size))));
    see.call('across its pages', () => kernel.ioctl(vcpu, KVM_GET_REGS, ram.address + 0xff0n));
    see.note('regs across', nonZero(kvm_regs.decode(ram.read(0xff0, kvm_regs.size))));
    see.call('the last place it fits', () => kernel.ioctl(vcpu, KVM_GET_REGS, ram.address + 0x2000n - BigInt(kvm_regs.size)));
    ram.write64(0xff0, 0x1234n);
    see.call('SET_REGS from there', () => kernel.ioctl(vcpu, KVM_SET_REGS, ram.address + 0xff0n));
    see.note('rax', getRegs(kernel, vcpu).rax);
    see.call('bytes of a view in the middle', () => kernel.ioctl(vcpu, KVM_GET_SREGS, ram.bytes!.subarray(0x400, 0x400 + 312)));
    const wide = new Uint8Array(1024).fill(0xee);
    see.call('a buffer longer than the struct', () => kernel.ioctl(vcpu, KVM_GET_REGS, wide));
    see.note(
      'is not written behind it',
      wide.subarray(kvm_regs.size).every((byte) => byte === 0xee),
    );
    const shared = new Uint8Array(new SharedArrayBuffer(kvm_regs.size));
    see.call('shared memory', () => kernel.ioctl(vcpu, KVM_GET_REGS, shared));
    see.note('rip in it', kvm_regs.decode(shared).rip);
    see.call('a buffer one byte too short', () => kernel.ioctl(vcpu, KVM_GET_REGS, new Uint8Array(kvm_regs.size - 1)));
  }),
  define('kvm/memory/protections', section, (kernel, see) => {
    const { vcpu } = newVcpu(kernel);
    const memory = kernel.mmap({ length: 0x1000, view: false });
    const both = (what: string): void => {
      // The guard looks into memory too; this is about what the kernel can.
      see.call(`${what}: GET_REGS`, () => kernel.ioctl(vcpu, KVM_GET_REGS, memory, UNSAFE));
      see.call(`${what}: SET_REGS`, () => kernel.ioctl(vcpu, KVM_SET_REGS, memory, UNSAFE));
    };
    both('read-write');
    kernel.mprotect(memory, PROT_READ);
    both('read-only');
    kernel.mprotect(memory, PROT_WRITE);
    both('write-only');
    kernel.mprotect(memory, PROT_READ | PROT_WRITE);
    both('read-write again');
    const readOnly = kernel.mmap({ length: 0x1000, prot: PROT_READ });
    see.call('mapped read-only: GET_REGS', () => kernel.ioctl(vcpu, KVM_GET_REGS, readOnly, UNSAFE));
    kernel.mprotect(memory, PROT_NONE);
    both('no access');
    see.call('a view cannot lose its protection', () => kernel.mprotect(kernel.guestRam(0x1000), PROT_READ));
  }),
  define('kvm/memory/file-as-ram', 'Guest memory', (kernel, see) => {
    // mov al,[0]; inc al; mov [0],al; hlt; jmp back
    const guest = startGuest(kernel, [0xa0, 0, 0, 0xfe, 0xc0, 0xa2, 0, 0, HLT, 0xeb, 0xf5], { sregs: dsAt(0x40000n) });
    const fd = kernel.memfd('ram');
    kernel.ftruncate(fd, 0x2000);
    kernel.pwrite(fd, Uint8Array.of(0x41), 0);
    const memory = kernel.mmap({ fd, length: 0x2000 });
    see.call('slot', () =>
      setRegion(kernel, guest.vm, { slot: 1, guest_phys_addr: 0x40000n, memory_size: 0x2000n, userspace_addr: memory.address }),
    );
    const value = (): number => {
      const byte = new Uint8Array(1);
      kernel.pread(fd, byte, 0);
      return byte[0]!;
    };
    const turn = (label: string): void => {
      see.call(label, () => kernel.run(guest.vcpu));
      see.note(`${label}: exit_reason`, guest.run.get('exit_reason'));
      see.note(`${label}: in the file`, value());
      see.note(`${label}: in the mapping`, memory.read8(0));
    };
    turn('the guest counts');
    kernel.pwrite(fd, Uint8Array.of(0x60), 0);
    turn('after a write to the file');
    kernel.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 0x1000);
    turn('after a hole was punched');
    kernel.close(fd);
    see.call('the file is closed', () => kernel.run(guest.vcpu));
    see.note('and counts on', memory.read8(0));
  }),
  define('kvm/memory/private-file-as-ram', 'Guest memory', (kernel, see) => {
    const guest = startGuest(kernel, [0xc6, 0x06, 0, 0, 0x5a, HLT], { sregs: dsAt(0x40000n) });
    const fd = kernel.memfd('ram');
    kernel.ftruncate(fd, 0x1000);
    const memory = kernel.mmap({ fd, length: 0x1000, flags: MAP_PRIVATE, view: false });
    setRegion(kernel, guest.vm, { slot: 1, guest_phys_addr: 0x40000n, memory_size: 0x1000n, userspace_addr: memory.address });
    see.call('KVM_RUN', () => kernel.run(guest.vcpu));
    see.note('in the mapping', memory.read8(0));
    const byte = new Uint8Array(1);
    kernel.pread(fd, byte, 0);
    see.note('not in the file', byte);
  }),
  define('kvm/memory/read-only-mapping-as-ram', 'Guest memory', (kernel, see) => {
    // mov al,[0]; mov [0],al; hlt
    const guest = startGuest(kernel, [0xa0, 0, 0, 0xa2, 0, 0, HLT], { sregs: dsAt(0x40000n) });
    const memory = kernel.mmap({ length: 0x1000, view: false });
    memory.write8(0, 0x77);
    kernel.mprotect(memory, PROT_READ);
    setRegion(kernel, guest.vm, { slot: 1, guest_phys_addr: 0x40000n, memory_size: 0x1000n, userspace_addr: memory.address });
    play(guest, see);
    kernel.mprotect(memory, PROT_NONE);
    const again = startGuest(kernel, [0xa0, 0, 0, HLT], { sregs: dsAt(0x40000n) });
    setRegion(kernel, again.vm, { slot: 1, guest_phys_addr: 0x40000n, memory_size: 0x1000n, userspace_addr: memory.address });
    see.call('no access: KVM_RUN', () => kernel.run(again.vcpu));
    see.note('no access: exit_reason', again.run.get('exit_reason'));
  }),
  define('kvm/memory/discarded', 'Guest memory', (kernel, see) => {
    const guest = startGuest(kernel, [0xa0, 0, 0, HLT, 0xeb, 0xfa], { sregs: dsAt(0x40000n) });
    const memory = kernel.mmap({ length: 0x1000, flags: MAP_PRIVATE, view: false });
    memory.write8(0, 0x77);
    setRegion(kernel, guest.vm, { slot: 1, guest_phys_addr: 0x40000n, memory_size: 0x1000n, userspace_addr: memory.address });
    see.call('KVM_RUN', () => kernel.run(guest.vcpu));
    see.note('al', getRegs(kernel, guest.vcpu).rax);
    see.call('MADV_DONTNEED', () => kernel.madvise(memory, MADV_DONTNEED));
    see.call('KVM_RUN again', () => kernel.run(guest.vcpu));
    see.note('al then', getRegs(kernel, guest.vcpu).rax);
  }),
  define('kvm/memory/slots-side-by-side', 'Guest memory', (kernel, see) => {
    // mov eax,[0xffe]; hlt: half from one slot, half from the next
    const guest = startGuest(kernel, [0x66, 0xa1, 0xfe, 0x0f, HLT], { sregs: dsAt(0x40000n) });
    for (const [slot, gpa, byte] of [
      [1, 0x40000n, 0x11],
      [2, 0x41000n, 0x22],
    ] as const) {
      const ram = kernel.guestRam(0x1000);
      ram.bytes!.fill(byte);
      setRegion(kernel, guest.vm, { slot, guest_phys_addr: gpa, memory_size: 0x1000n, userspace_addr: ram.address });
    }
    see.call('KVM_RUN', () => kernel.run(guest.vcpu));
    see.note('eax', getRegs(kernel, guest.vcpu).rax);
    see.call('the first is deleted', () => setRegion(kernel, guest.vm, { slot: 1 }));
    setRegs(kernel, guest.vcpu, { rip: guest.entry });
    see.call('KVM_RUN again', () => kernel.run(guest.vcpu));
    see.note('its half is MMIO now', [guest.run.get('exit_reason'), guest.run.get('mmio.phys_addr'), guest.run.get('mmio.len')]);
  }),
];
