// Flags the architecture leaves undefined come out as the machine's processor leaves them: what a guest can see between two instructions.
import { Kvm, openKernel } from 'kvio';
import { expect, it } from 'vitest';

const AF = 0x10n;

// QEMU's: observed in the lab (found by fuzzing, seed 823, in the flags a single step pushes). The paravirtual machine was recorded on an AMD host.
it.each([
  ['amd-svm-7.2', 0n],
  ['pvm-6.18', AF],
])('AF after a shift, on %s', (machine, expected) => {
  using kernel = openKernel({ kernel: 'sim', machine });
  const vm = Kvm.open(kernel).createVm();
  const ram = kernel.guestRam(0x2000);
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
  // shl eax, 24; hlt
  ram.write(0, Uint8Array.of(0x66, 0xc1, 0xe0, 0x18, 0xf4));
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n | (expected ^ AF) });
  expect(vcpu.run().reason).toBe('hlt');
  expect(vcpu.getRegs().rflags & AF).toBe(expected);
});
