// A small VMM that gives a PCI device to its guest: the device's registers are a memslot, its DMA reaches the guest's memory at the guest's addresses, its message is an
// interrupt of the guest, and a doorbell goes from the guest to the device without leaving the kernel. QEMU's teaching device (1234:11e8). `passthrough group` (the default) or `passthrough cdev`.
import { bindDriver, Eventfd, Kvm, openKernel, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from 'kvio';
import { KVM_DEV_TYPE_VFIO, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX } from 'kvio/uapi';
import { openDevice, type Way } from './parts/open-device.ts';

const [way = 'group', bdf = '0000:00:02.0'] = process.argv.slice(2) as [Way?, string?];
const devices = ['/dev/kvm', way === 'cdev' ? '/dev/iommu' : '/dev/vfio/vfio'];
using kernel = openKernel({ devices, machine: 'lab-vtd-7.2' }); // the machine, should it be a simulated one
if (!kernel.features.async) {
  console.log(`the ${kernel.kind} kernel has synchronous calls only`);
  process.exit(0);
}

// Guest-physical addresses.
const RAM_SIZE = 0x10000;
const BAR = 0xe000_0000n;
const DOORBELL = 0xe020_0000n;
const APIC = 0xfee0_0000n;

// What `using` declares is closed in the reverse order. The VM goes before the device is given back: its memslot of the BAR has the device open.
using _bound = bindDriver(kernel, bdf, 'vfio-pci');
using kvm = Kvm.open(kernel);
using vm = kvm.createVm();
vm.createIrqchip(); // before the first vCPU
const ram = kernel.guestRam(RAM_SIZE);
vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0n, memory: ram });

using kvmVfio = vm.createDevice(KVM_DEV_TYPE_VFIO);
using opened = openDevice(kernel, bdf, way, (file) => kvmVfio.addFile(file)); // KVM knows of it before it is opened
const { device } = opened;
opened.map(ram, 0n); // an IOVA is a guest-physical address
device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);

const bar = device.region(VFIO_PCI_BAR0_REGION_INDEX);
using registers = bar.mmap();
vm.setUserMemoryRegion({ slot: 1, guest_phys_addr: BAR, memory: registers });

const GSI = 24;
const VECTOR = 0x40;
const [interrupt] = device.irqs(VFIO_PCI_MSI_IRQ_INDEX).enable();
vm.setGsiRouting([{ gsi: GSI, msi: { address_lo: Number(APIC), data: VECTOR } }]);
vm.irqfd({ fd: interrupt, gsi: GSI });

const IRQ_RAISE = 0x60;
using doorbell = Eventfd.create(kernel);
vm.ioeventfd({ fd: doorbell, addr: DOORBELL, len: 4 });
device.ioeventfd({ fd: doorbell, region: bar, at: IRQ_RAISE, width: 4, data: 0x77n });

// The guest, in real mode. Segments begin at: CS 0, DS the local APIC, ES the device, FS the doorbell.
const u32 = (value: number): number[] => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];
const store = (segment: number[], at: number, value: number): number[] => [
  ...[...segment, 0x66, 0xc7, 0x06, at & 0xff, at >> 8], // mov dword segment:[at], value
  ...u32(value),
];
const toApic = (at: number, value: number): number[] => store([], at, value);
const toDevice = (at: number, value: number): number[] => store([0x26], at, value);
const untilInterrupt = [0xfb, 0xf4, 0xfa]; // sti; hlt; cli
const transfer = (source: number, destination: number, command: number): number[] => [
  ...toDevice(0x80, source),
  ...toDevice(0x88, destination),
  ...toDevice(0x90, TEXT.length),
  ...toDevice(0x98, command),
  ...untilInterrupt,
];
const TEXT = 'from the guest, through the device';
const HERE = 0x3000;
const THERE = 0x4000;
const BUFFER = 0x40000; // in the device
const program = [
  ...toApic(0xf0, 0x1ff), // SPIV: the APIC is on
  ...toDevice(0x08, 10), // the factorial of 10
  ...[0x26, 0x66, 0xa1, 0x20, 0x00, 0xa8, 0x01, 0x75, 0xf7], // again: mov eax, es:[0x20]; test al, 1; jnz again
  ...[0x26, 0x66, 0xa1, 0x08, 0x00, 0x66, 0xe7, 0x30], // mov eax, es:[8]; out 0x30, eax
  ...transfer(HERE, BUFFER, 1 | 4),
  ...transfer(BUFFER, THERE, 1 | 2 | 4),
  ...store([0x64], 0, 1), // the doorbell
  ...untilInterrupt,
  ...[0xe6, 0x31], // out 0x31, al: the end
];
const handler = [
  ...[0x26, 0x66, 0xa1, 0x24, 0x00, 0x26, 0x66, 0xa3, 0x64, 0x00], // mov eax, es:[0x24]; mov es:[0x64], eax: acknowledged
  ...[0x66, 0xe7, 0x32], // out 0x32, eax
  ...toApic(0xb0, 0), // EOI
  0xcf, // iret
];
ram.write(0x1000, Uint8Array.from(program));
ram.write(0x2000, Uint8Array.from(handler));
ram.write(VECTOR * 4, Uint8Array.of(0x00, 0x20, 0, 0)); // the vector's handler is at 0:0x2000
ram.write(HERE, Buffer.from(TEXT));

using vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
const { cs, ds, es, fs } = sregs;
vcpu.setSregs({
  ...sregs,
  cs: { ...cs, base: 0n, selector: 0 },
  ds: { ...ds, base: APIC },
  es: { ...es, base: BAR },
  fs: { ...fs, base: DOORBELL },
});
vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rsp: 0x800n, rflags: 2n });

for await (const exit of vcpu.exits({ signal: AbortSignal.timeout(60_000) })) {
  if (exit.reason !== 'io') throw new Error(`unexpected exit ${exit.reason}`);
  if (exit.port === 0x31) break;
  const value = new DataView(exit.data.buffer, exit.data.byteOffset).getUint32(0, true);
  console.log(exit.port === 0x30 ? `the guest: 10! is ${value}` : `the guest: interrupt, its bits 0x${value.toString(16)}`);
}
console.log(`the guest's memory: ${Buffer.from(ram.read(THERE, TEXT.length)).toString('latin1')}`);
