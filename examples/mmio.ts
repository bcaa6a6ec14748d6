// A device in guest-physical memory: where no memslot is, a load or store is an exit.
import { Kvm, openKernel } from 'kvio';

const kernel = openKernel();
const vm = Kvm.open(kernel).createVm();
const ram = kernel.guestRam(0x1000);
ram.write(
  0,
  Uint8Array.of(
    ...[0xa1, 0x00, 0xd0], //                         mov ax, [0xd000]
    ...[0xa3, 0x02, 0xd0], //                         mov [0xd002], ax
    ...[0x66, 0xc7, 0x06, 0x04, 0xd0, 1, 2, 3, 4], // mov dword [0xd004], 0x04030201
    ...[0xfe, 0x06, 0x08, 0xd0], //                   inc byte [0xd008]: a read, then a write
    ...[0xf4], //                                     hlt
  ),
);
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });

const BAR = 0xd000n;
const device = Uint8Array.of(0x34, 0x12, 0, 0, 0, 0, 0, 0, 0x7f);
const show = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');

for (const exit of vcpu.exits()) {
  if (exit.reason === 'hlt') break;
  if (exit.reason !== 'mmio') throw new Error(`unexpected exit ${exit.reason}`);
  const offset = Number(exit.phys_addr - BAR);
  if (exit.is_write) device.set(exit.data, offset);
  else exit.data.set(device.subarray(offset, offset + exit.len)); // what is written here is what the guest loads
  console.log(`${exit.is_write ? 'write' : 'read '} ${exit.len} at ${offset}: ${show(exit.data)}`);
}
console.log(`device: ${show(device)}`);
kernel.close();
