// Private MMIO (RFC, January 2025): the BARs of a private device as a dma-buf in memslots of a VM, shared or private in place; who is refused what, and what a revoked one is. Simulated.
import { bindDriver, Iommufd, Kvm, type KvmExit, PCI_COMMAND_MEMORY, pciDevice, VfioDevice } from 'kvio';
import { type AccessKind, type Guest, type GuestScript, openSim } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { codeOf, outcome } from './parts/timeline.ts';

const GPA = 0xe000_0000n;
const BAR0_SIZE = 0x4000n;
const BAR2_SIZE = 0x1_0000n;
const PRIVATE = { private: true };
const SHARED = { private: false };
const bdf = '0000:01:00.0';

const kernel = openSim({ machine: 'tee-io-7.2', teeIo: { dmaBufLayout: 'rfc', dmabufOwner: 'xj', whileBound: 'error' } });
bindDriver(kernel, bdf, 'vfio-pci');
const vm = Kvm.open(kernel).createVm(u.KVM_X86_SW_PROTECTED_VM);
const vcpu = vm.createVcpu(0);
const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
const kvmVfio = vm.createDevice(u.KVM_DEV_TYPE_VFIO);
kvmVfio.addFile(device.fd);
const iommufd = Iommufd.open(kernel);
const dev_id = device.bindIommufd({ iommufd, private: true });
device.config.setCommand(PCI_COMMAND_MEMORY);
const failed = device.irqs(u.VFIO_PCI_ERR_IRQ_INDEX).enable()[0];

console.log('— a private device');
const bar = device.region(0);
console.log(`region 0: flags 0x${bar.flags.toString(16)}`);
console.log(
  `mapped: ${outcome(() => bar.mmap())}, read: ${outcome(() => bar.read32(0))}, written: ${outcome(() => bar.write32(8, 1))}`,
);
const dma_ranges = [
  { region_index: 0, offset: 0n, length: BAR0_SIZE },
  { region_index: 2, offset: 0n, length: BAR2_SIZE },
];
const bars = device.getDmaBuf({ dma_ranges });
console.log(
  `one dma-buf of two BARs: 0x${bars.size!.toString(16)} bytes; mapped: ${outcome(() => kernel.mmap({ fd: bars.fd, length: 0x1000, view: false }))}`,
);

console.log('— a memslot of it');
const slot = { slot: 1, guest_phys_addr: GPA, dma_buf: bars };
const plain = Kvm.open(kernel).createVm();
console.log(`of a VM without private memory: ${outcome(() => plain.setUserMemoryRegion2(slot))}`);
console.log(`of another size: ${outcome(() => vm.setUserMemoryRegion2({ ...slot, memory_size: 0x1000n }))}`);
console.log(`read-only: ${outcome(() => vm.setUserMemoryRegion2({ ...slot, flags: u.KVM_MEM_READONLY }))}`);
console.log(
  `a memfd: ${outcome(() => vm.setUserMemoryRegion2({ ...slot, dma_buf: kernel.memfd('no dma-buf'), memory_size: 0x1000n }))}`,
);
console.log(`with a guest_memfd: ${outcome(() => vm.setUserMemoryRegion2({ ...slot, flags: u.KVM_MEM_GUEST_MEMFD }))}`);
console.log(`as it should be: ${outcome(() => vm.setUserMemoryRegion2(slot))}`);
console.log(`moved: ${outcome(() => vm.setUserMemoryRegion2({ ...slot, guest_phys_addr: GPA + 0x100_0000n }))}`);

console.log('— shared or private, in place');
const MEMORY = GPA + BAR0_SIZE;
play('a shared read of the registers', (guest) => show(guest, GPA, SHARED));
play('a shared write of the memory behind them', (guest) => guest.writeMmio(MEMORY, 4, 0x5e, SHARED));
play('a private read, while it is shared', (guest) => show(guest, MEMORY, PRIVATE));
convert(true);
play('a shared read, when it is private', (guest) => show(guest, MEMORY, SHARED));

console.log('— a trusted device: locked, then running');
const ioas = iommufd.ioasAlloc();
const hwpt = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
const viommu = iommufd.viommuAlloc({ type: u.IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt });
const vdevice = viommu.vdeviceAlloc({ dev_id, virt_id: 0x10n });
device.tsmBind({ vdevice });
const tdi = kernel.tdi(bdf)!;
const state = (): string => ['CONFIG_UNLOCKED', 'CONFIG_LOCKED', 'RUN', 'ERROR'][tdi.tdi.state]!;
play(`${state()}: a private read is rejected`, (guest) => show(guest, MEMORY, PRIVATE));
tdi.request({ op: 'set-tdi-state', state: 2 });
play(`${state()}: a private read has what was written when it was shared`, (guest) => show(guest, MEMORY, PRIVATE));
convert(false);
play(`${state()}: a shared read is rejected`, (guest) => show(guest, MEMORY, SHARED));
console.log(`now it is ${state()}, and VFIO’s error eventfd was signalled ${failed.take()} times`);
device.tsmUnbind();

console.log('— revoked');
device.config.setCommand(0, PCI_COMMAND_MEMORY);
play('memory is disabled', (guest) => show(guest, MEMORY));
device.config.setCommand(PCI_COMMAND_MEMORY);
play('and enabled again; what was the guest’s is gone', (guest) => show(guest, MEMORY));
device.close();
play('the device is closed; KVM-VFIO still holds it', (guest) => show(guest, MEMORY));
kvmVfio.close();
play('and not any more', (guest) => show(guest, MEMORY));
kernel.close();

function* show(guest: Guest, gpa: bigint, kind: AccessKind = {}): GuestScript<string> {
  return `0x${(yield* guest.readMmio(gpa, 4, kind)).toString(16)}`;
}

function convert(isPrivate: boolean): void {
  const attributes = isPrivate ? u.KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;
  vm.setMemoryAttributes({ address: GPA, size: BAR0_SIZE + BAR2_SIZE, attributes });
}

/** Plays a guest of a step or two: what it found, or how its KVM_RUN ended. */
function play(what: string, script: (guest: Guest) => GuestScript<string | void>): void {
  let found = 'done';
  kernel.agent(vcpu.fd, function* (guest) {
    found = (yield* script(guest)) ?? found;
  });
  const end = attempt(() => vcpu.run());
  console.log(`${what}: ${end ?? found}`);
}

function attempt(run: () => KvmExit): string | undefined {
  try {
    const exit = run();
    if (exit.reason === 'shutdown') return undefined;
    if (exit.reason !== 'memory_fault') return exit.reason;
    return `memory_fault at 0x${exit.gpa.toString(16)}, ${exit.flags === 0n ? 'shared' : 'private'}`;
  } catch (error) {
    return codeOf(error);
  }
}
