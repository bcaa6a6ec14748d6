// REP OUTS and REP INS: the guest sends a line to one port and reads a block from another.
// The kernel decides how many elements one exit carries: exit.count of them, of exit.size bytes, in exit.data.
import { Kvm, openKernel } from 'kvio';
import { KVM_EXIT_IO_OUT } from 'kvio/uapi';

const line = 'a string, written by REP OUTSB';
const block = Uint8Array.from({ length: 1500 }, (_, i) => i & 0xff);

const kernel = openKernel();
const vm = Kvm.open(kernel).createVm();
const ram = kernel.guestRam(0x2000);
ram.write(
  0,
  Uint8Array.of(
    ...[0xba, 0xf8, 0x03], //                                mov dx, 0x3f8
    ...[0xbe, 0x00, 0x11], //                                mov si, 0x1100
    ...[0xb9, line.length, 0x00], //                         mov cx, line.length
    ...[0xf3, 0x6e], //                                      rep outsb
    ...[0xba, 0x60, 0x00], //                                mov dx, 0x60
    ...[0xbf, 0x00, 0x20], //                                mov di, 0x2000
    ...[0xb9, block.length & 0xff, block.length >> 8], //    mov cx, block.length
    ...[0xf3, 0x6c], //                                      rep insb
    ...[0xf4], //                                            hlt
  ),
);
ram.write(0x100, new TextEncoder().encode(line));
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });

let text = '';
let sent = 0;
for (const exit of vcpu.exits()) {
  if (exit.reason === 'hlt') break;
  if (exit.reason !== 'io') throw new Error(`unexpected exit ${exit.reason}`);
  if (exit.direction === KVM_EXIT_IO_OUT) {
    text += String.fromCharCode(...exit.data);
  } else {
    console.log(`REP INSB asks for ${exit.count} bytes`);
    exit.data.set(block.subarray(sent, (sent += exit.count)));
  }
}
console.log(`REP OUTSB wrote: ${text}`);
const received = ram.read(0x1000, block.length);
console.log(`the guest has ${received.every((byte, i) => byte === block[i]) ? 'all' : 'NOT all'} ${sent} bytes in its memory`);
kernel.close();
