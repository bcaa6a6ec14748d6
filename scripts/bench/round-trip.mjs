// Interrupt round trip: a write to an irqfd, the guest's handler, its OUT to an ioeventfd, the eventfd read. The vCPU never leaves KVM_RUN:
// it sleeps in HLT on a thread of its own, or in the simulator.
import { Kvm } from 'kvio';
import { KVM_IOEVENTFD_FLAG_PIO } from 'kvio/uapi';

const VECTOR = 0x40;
const GSI = 5;
const APIC = 0xfee00000;

/** mov dword [register], value, with DS at the APIC. */
const apicWrite = (register, value) => [0x66, 0xc7, 0x06, register, 0, value & 0xff, value >> 8, 0, 0];
/** The APIC is on, before which an interrupt would be lost; out 0x31, al; sti; again: hlt; jmp again */
const program = [...apicWrite(0xf0, 0x1ff), 0xe6, 0x31, 0xfb, 0xf4, 0xeb, 0xfd];
/** EOI; out 0x30, al; iret */
const handler = [...apicWrite(0xb0, 0), 0xe6, 0x30, 0xcf];

/** `turn(count)`: nanoseconds of one trip, the mean of `count`. `close()` ends the guest's run. */
export function makeRoundTrip(kernel) {
  const vm = Kvm.open(kernel).createVm();
  vm.createIrqchip();
  const ram = kernel.guestRam(0x10000);
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory: ram });
  ram.write(0x1000, Uint8Array.from(program));
  ram.write(0x2000, Uint8Array.from(handler));
  ram.write(VECTOR * 4, Uint8Array.of(0x00, 0x20, 0, 0));
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 }, ds: { ...sregs.ds, base: BigInt(APIC) } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x800n, rflags: 2n });
  const interrupt = kernel.eventfd();
  const answer = kernel.eventfd();
  vm.setGsiRouting([{ gsi: GSI, msi: { address_lo: APIC, data: VECTOR } }]);
  vm.irqfd({ fd: interrupt, gsi: GSI });
  vm.ioeventfd({ fd: answer, addr: 0x30n, len: 1, flags: KVM_IOEVENTFD_FLAG_PIO });
  vcpu.run();
  const running = vcpu.runAsync();
  const one = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
  const eight = new Uint8Array(8);
  return {
    turn(count) {
      const start = process.hrtime.bigint();
      for (let i = 0; i < count; i++) {
        kernel.write(interrupt, one);
        kernel.read(answer, eight);
      }
      return Number(process.hrtime.bigint() - start) / count;
    },
    async close() {
      vcpu.kick();
      await running;
    },
  };
}
