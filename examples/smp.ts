// Two vCPUs in one thread: the boot processor starts the other one by INIT and SIPI, both count in one word of memory, and an NMI wakes the other.
import { Kvm, openKernel, type Vcpu } from 'kvio';

const kernel = openKernel();
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}
const vm = Kvm.open(kernel).createVm();
vm.createIrqchip(); // local APICs, before the first vCPU
const ram = kernel.guestRam(0x10000);
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory: ram });

// Real mode. The APIC's registers are at DS:0 on the boot processor (its DS begins at 0xfee00000), the memory at CS:0 on both.
const APIC = 0xfee00000n;
const apicWrite = (register: number, value: number): number[] => [
  ...[0x66, 0xc7, 0x06, register & 0xff, register >> 8], // mov dword [register], value
  ...[value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24],
];
const boot = [
  ...apicWrite(0xf0, 0x1ff), // SPIV: the APIC is on
  ...apicWrite(0x310, 1 << 24), // ICR: to the APIC with id 1 …
  ...apicWrite(0x300, 0x4500), // … INIT
  ...apicWrite(0x300, 0x4609), // … SIPI, vector 9: it begins at 0x9000
  ...[0xb9, 0xe8, 0x03], // mov cx, 1000
  ...[0xf0, 0x2e, 0xff, 0x06, 0x00, 0x05], // again: lock inc word cs:[0x500]
  ...[0xe2, 0xf8], // loop again
  ...[0x2e, 0x80, 0x3e, 0x02, 0x05, 0x01, 0x75, 0xf8], // wait: cmp byte cs:[0x502], 1; jne wait
  ...apicWrite(0x300, 0x4400), // wake: an NMI, which may come before the other one halts, and so …
  ...[0x2e, 0x80, 0x3e, 0x03, 0x05, 0x01, 0x75, 0xef], // … until it says so: cmp byte cs:[0x503], 1; jne wake
  ...[0x2e, 0xa1, 0x00, 0x05, 0xe7, 0x10], // mov ax, cs:[0x500]; out 0x10, ax
];
const second = [
  ...[0xe6, 0x11, 0xb9, 0xe8, 0x03], // out 0x11, al; mov cx, 1000
  ...[0xf0, 0xff, 0x06, 0x00, 0x05, 0xe2, 0xfa], // again: lock inc word [0x500]; loop again
  ...[0xc6, 0x06, 0x02, 0x05, 0x01, 0xf4], // mov byte [0x502], 1; hlt
  ...[0xc6, 0x06, 0x03, 0x05, 0x01, 0xe6, 0x12], // mov byte [0x503], 1; out 0x12, al
];
ram.write(0x1000, Uint8Array.from(boot));
ram.write(0x9000, Uint8Array.from(second));
ram.write(2 * 4, Uint8Array.of(0x00, 0x20, 0, 0)); // interrupt vector 2, NMI: at 0:0x2000
ram.write(0x2000, Uint8Array.of(0xcf)); // iret

const bsp = vm.createVcpu(0);
const ap = vm.createVcpu(1);
const sregs = bsp.getSregs();
bsp.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 }, ds: { ...sregs.ds, base: APIC } });
bsp.setRegs({ ...bsp.getRegs(), rip: 0x1000n, rflags: 2n, rsp: 0x800n });

/** Runs a vCPU to its last port; the first KVM_RUN of one that waits for INIT ends with EAGAIN. */
async function run(name: string, vcpu: Vcpu, last: number): Promise<void> {
  for (;;) {
    try {
      const exit = await vcpu.runAsync();
      if (exit.reason !== 'io') throw new Error(`${name}: ${exit.reason}`);
      said.push(`${name} says ${exit.data.length === 2 ? exit.data[0]! + 256 * exit.data[1]! : 'hello'} on port ${exit.port}`);
      if (exit.port === last) return;
    } catch (error) {
      if ((error as { code?: string }).code !== 'EAGAIN') throw error;
      said.push(`${name} has got INIT`);
    }
  }
}
const said: string[] = [];
await Promise.all([run('the boot processor', bsp, 0x10), run('the other', ap, 0x12)]);
for (const line of said.sort()) console.log(line);
kernel.close();
