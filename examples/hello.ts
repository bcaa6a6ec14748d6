import { Kvm, openKernel } from 'kvio';

const kernel = openKernel(); // kernel.kind, kernel.reason
const vm = Kvm.open(kernel).createVm();
const ram = kernel.guestRam(0x1000);
ram.bytes.set([0xba, 0xf8, 0x03, 0xb0, 0x48, 0xee, 0xf4]); // mov dx,0x3f8; mov al,'H'; out dx,al; hlt
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
sregs.cs.base = 0n;
sregs.cs.selector = 0;
vcpu.setSregs(sregs);
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
for (const exit of vcpu.exits()) {
  if (exit.reason === 'io') console.log(String.fromCharCode(exit.data[0]!));
  else if (exit.reason === 'hlt') break;
  else throw new Error(`unexpected exit ${exit.reason}`);
}
kernel.close();
