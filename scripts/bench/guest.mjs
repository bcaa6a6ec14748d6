// The guest of the port-exit measurement, the same as in baseline.c, through the object layer of any kernel.
import { Kvm } from 'kvio';

/** mov dx,0x3f8; mov al,'H'; again: out dx,al; jmp again */
const code = [0xba, 0xf8, 0x03, 0xb0, 0x48, 0xee, 0xeb, 0xfd];

export function makeGuest(kernel) {
  const kvm = Kvm.open(kernel);
  const vm = kvm.createVm();
  const ram = kernel.guestRam(0x1000);
  ram.write(0, Uint8Array.from(code));
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  sregs.cs.base = 0n;
  sregs.cs.selector = 0;
  vcpu.setSregs(sregs);
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
  return { kvm, vcpu };
}
