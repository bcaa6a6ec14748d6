// Interrupts by eventfds, both ways and without an exit: a write to one eventfd is an interrupt of the guest, and the guest's OUT to a port signals another.
import { Kvm, openKernel } from 'kvio';
import { KVM_IOEVENTFD_FLAG_PIO } from 'kvio/uapi';

const kernel = openKernel();
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}
const vm = Kvm.open(kernel).createVm();
vm.createIrqchip(); // before the first vCPU
const ram = kernel.guestRam(0x10000);
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory: ram });

// Real mode; DS begins at the local APIC's registers, CS at 0.
const APIC = 0xfee00000n;
const VECTOR = 0x40;
const apicWrite = (register: number, value: number): number[] => [
  ...[0x66, 0xc7, 0x06, register & 0xff, register >> 8], // mov dword [register], value
  ...[value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24],
];
const program = [
  ...apicWrite(0xf0, 0x1ff), // SPIV: the APIC is on
  ...[0xe6, 0x31, 0xfb], // out 0x31, al: ready; sti
  ...[0xf4, 0xeb, 0xfd], // again: hlt; jmp again
];
const handler = [
  ...[0x2e, 0xff, 0x06, 0x00, 0x05], // inc word cs:[0x500]
  ...apicWrite(0xb0, 0), // EOI
  ...[0x2e, 0xa1, 0x00, 0x05, 0xe7, 0x30], // mov ax, cs:[0x500]; out 0x30, ax: the answer
  ...[0x83, 0xf8, 0x03, 0x75, 0x02, 0xe6, 0x31], // cmp ax, 3; jne on; out 0x31, al: the last one
  0xcf, // on: iret
];
ram.write(0x1000, Uint8Array.from(program));
ram.write(0x2000, Uint8Array.from(handler));
ram.write(VECTOR * 4, Uint8Array.of(0x00, 0x20, 0, 0)); // the vector's handler is at 0:0x2000

const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 }, ds: { ...sregs.ds, base: APIC } });
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x800n, rflags: 2n });

const GSI = 5;
const interrupt = kernel.eventfd();
const answer = kernel.eventfd();
vm.setGsiRouting([{ gsi: GSI, msi: { address_lo: Number(APIC), data: VECTOR } }]);
vm.irqfd({ fd: interrupt, gsi: GSI });
vm.ioeventfd({ fd: answer, addr: 0x30n, len: 2, flags: KVM_IOEVENTFD_FLAG_PIO });

await vcpu.runAsync();
console.log('the guest is ready');
const last = vcpu.runAsync(); // it sleeps in HLT, inside KVM_RUN
const eight = new Uint8Array(8);
for (let i = 1; i <= 3; i++) {
  kernel.write(interrupt, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
  await kernel.waitAsync(answer);
  kernel.read(answer, eight);
  console.log(`interrupt ${i}: the guest has answered`);
}
const exit = await last;
console.log(`then KVM_RUN came back: ${exit.reason}, and the guest has counted ${ram.read8(0x500)}`);
kernel.close();
