// A device of three registers behind I/O ports: the guest reads and writes it with IN and OUT of every width.
import { Kvm, openKernel } from 'kvio';
import { KVM_EXIT_IO_OUT } from 'kvio/uapi';

const kernel = openKernel();
const vm = Kvm.open(kernel).createVm();
const ram = kernel.guestRam(0x1000);
ram.write(
  0,
  Uint8Array.of(
    ...[0xe4, 0x10], //             in al, 0x10
    ...[0xe6, 0x11], //             out 0x11, al
    ...[0xe5, 0x12], //             in ax, 0x12
    ...[0x40], //                   inc ax
    ...[0xe7, 0x14], //             out 0x14, ax
    ...[0x66, 0xe5, 0x18], //       in eax, 0x18
    ...[0x66, 0xe7, 0x1c], //       out 0x1c, eax
    ...[0xf4], //                   hlt
  ),
);
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });

const registers: Record<number, number> = { 16: 0x2a, 18: 0x1fff, 24: 0xcafe_f00d };

for (const exit of vcpu.exits()) {
  if (exit.reason === 'hlt') break;
  if (exit.reason !== 'io') throw new Error(`unexpected exit ${exit.reason}`);
  const { port, size, data } = exit;
  const name = `${size * 8} bits at port 0x${port.toString(16)}`;
  let value = 0;
  if (exit.direction === KVM_EXIT_IO_OUT) {
    for (let i = size - 1; i >= 0; i--) value = value * 256 + data[i]!;
    console.log(`out ${name}: 0x${value.toString(16)}`);
  } else {
    value = registers[port]!;
    for (let i = 0; i < size; i++) data[i] = value >>> (8 * i); // what is written here is what IN returns
    console.log(`in  ${name}: 0x${value.toString(16)}`);
  }
}
console.log(`rax 0x${vcpu.getRegs().rax.toString(16)}`);
kernel.close();
