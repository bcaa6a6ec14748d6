// A vCPU off the event loop's thread: timers keep firing while the guest spins, and an AbortSignal stops it.
import { Kvm, openKernel } from 'kvio';

const kernel = openKernel();
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}
const vm = Kvm.open(kernel).createVm();
const ram = kernel.guestRam(0x1000);
ram.write(0, Uint8Array.of(0xe6, 0x01, 0xeb, 0xfe)); // out 1, al; l: jmp l
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });

let ticks = 0;
const stop = new AbortController();
const timer = setInterval(() => {
  if (++ticks < 3) return;
  clearInterval(timer);
  stop.abort();
}, 10);

for await (const exit of vcpu.exits({ signal: stop.signal })) {
  console.log(exit.reason === 'io' ? `the guest wrote to port ${exit.port}` : exit.reason);
}
console.log(`the guest spun while the event loop ticked ${ticks} times; it stands at 0x${vcpu.getRegs().rip.toString(16)}`);
kernel.close();
