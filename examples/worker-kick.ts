// One thread is inside KVM_RUN, where no JavaScript of its own can run; another worker gets it out with the vCPU's kicker.
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { Kvm, kick, openKernel } from 'kvio';

if (isMainThread) main();
else kick(workerData);

function main(): void {
  const kernel = openKernel();
  if (!kernel.features.kick) {
    console.log(`the ${kernel.kind} kernel cannot interrupt a vCPU`);
    return;
  }
  const vm = Kvm.open(kernel).createVm();
  const ram = kernel.guestRam(0x1000);
  ram.write(0, Uint8Array.of(0xeb, 0xfe)); // l: jmp l
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });

  const worker = new Worker(new URL(import.meta.url), { workerData: vcpu.kicker });
  worker.once('online', () => {
    const exit = vcpu.run(); // the guest never leaves by itself
    console.log(`KVM_RUN came back: ${exit.reason}, rip 0x${vcpu.getRegs().rip.toString(16)}`);
    worker.once('exit', () => kernel.close());
  });
}
