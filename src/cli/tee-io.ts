/** A trusted device on a simulated machine, in a dozen lines: the end of the tour. `examples/tdx-connect.ts` and its neighbours have more. */
import { bindDriver } from '../host/bind.ts';
import { pciDevice } from '../host/pci.ts';
import { Iommufd } from '../iommufd/iommufd.ts';
import { Kvm } from '../kvm/system.ts';
import { type Guest, type GuestAgent, type GuestScript, openSim } from '../sim/index.ts';
import { Tdi } from '../tee-io/tdi.ts';
import * as u from '../uapi/index.ts';
import { VfioDevice } from '../vfio/device.ts';
import { PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY } from '../vfio/pci-regs.ts';
import type { Paint } from './paint.ts';

const BDF = '0000:01:00.0';
const RAM_SIZE = 0x8000;
const BAR = 0xe000_0000n;
const BAR_SIZE = 0x4000n;
/** Private pages: a command of the device, what it adds up, and where it says the sum. */
const COMMAND = 0x1000n;
const DATA = 0x2000n;
const SUM = 0x3000n;
const RUN = 2;
const STATES = ['UNLOCKED', 'LOCKED', 'RUN', 'ERROR'];
const [WHO, WHAT] = [7, 58];

/** Who called what on which descriptor (K VM, V VFIO, I iommufd), then the state of the device's interface and who may reach its memory, and what it may reach. */
export function teeIoFlow(paint: Paint): string[] {
  const kernel = openSim({ machine: 'tee-io-7.2' });
  const lines: string[] = [];
  const access = (): string => {
    const { tdi, dmaEnabled } = kernel.tdi(BDF)!;
    const address = pciDevice(kernel, BDF).resource[0]!.start;
    const mmio = tdi.serves(address, { t: false }) ? 'all' : tdi.serves(address, { t: true }) ? 'guest' : '–';
    const dma = { ordinary: 'shared', none: '–', tee: dmaEnabled ? 'private' : 'shared' }[tdi.dma];
    return `${STATES[tdi.state]!.padEnd(9)} MMIO ${mmio.padEnd(6)} DMA ${dma}`;
  };
  const tell = (who: string, what: string): void =>
    void lines.push(`  ${who.padEnd(WHO)} ${what.padEnd(WHAT)} ${paint.dim(access())}`);
  const call = <T>(who: string, what: string, make: () => T): T => {
    const value = make();
    tell(who, what);
    return value;
  };
  try {
    bindDriver(kernel, BDF, 'vfio-pci');
    const vm = call('vmm K', 'KVM_CREATE_VM, a guest_memfd behind its memory', () =>
      Kvm.open(kernel).createVm(u.KVM_X86_SW_PROTECTED_VM),
    );
    const memory = kernel.guestRam(RAM_SIZE);
    const guest_memfd = vm.createGuestMemfd(RAM_SIZE);
    vm.setUserMemoryRegion2({ slot: 0, flags: u.KVM_MEM_GUEST_MEMFD, guest_phys_addr: 0n, memory, guest_memfd });
    vm.setMemoryAttributes({ address: 0n, size: BigInt(RAM_SIZE), attributes: u.KVM_MEMORY_ATTRIBUTE_PRIVATE });
    const vcpu = vm.createVcpu(0);
    const device = VfioDevice.open(kernel, pciDevice(kernel, BDF).vfio_device!);
    vm.createDevice(u.KVM_DEV_TYPE_VFIO).addFile(device.fd);
    const iommufd = Iommufd.open(kernel);
    const dev_id = call('vmm V', 'VFIO_DEVICE_BIND_IOMMUFD', () => device.bindIommufd({ iommufd }));
    device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    const hwpt = iommufd.hwptAlloc({ dev_id, pt: iommufd.ioasAlloc(), flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT });
    device.attachIommufdPt({ pt_id: hwpt.id });
    const dma_buf = device.getDmaBuf({ region_index: 0, dma_ranges: [{ offset: 0n, length: BAR_SIZE }] });
    call('vmm K', 'KVM_SET_USER_MEMORY_REGION2: its BAR, by a dma-buf', () =>
      vm.setUserMemoryRegion2({ slot: 1, guest_phys_addr: BAR, dma_buf }),
    );
    const viommu = iommufd.viommuAlloc({ type: u.IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt });
    const vdevice = call('vmm I', 'IOMMU_VDEVICE_ALLOC', () => viommu.vdeviceAlloc({ dev_id, virt_id: 0x10n }));
    const tdi = new Tdi({ device, vdevice });
    const play = (script: GuestAgent): void => {
      kernel.agent(vcpu.fd, script);
      vcpu.run();
    };

    call('vmm V', 'VFIO_DEVICE_TSM_BIND', () => tdi.bind());
    const report = tdi.readObject('report');
    tell('guest', `looks at the evidence: a report of ${report.length} bytes`);
    call('vmm K', 'KVM_SET_MEMORY_ATTRIBUTES: its MMIO is private', () =>
      vm.setMemoryAttributes({ address: BAR, size: BAR_SIZE, attributes: u.KVM_MEMORY_ATTRIBUTE_PRIVATE }),
    );
    call('vmm I', 'IOMMU_VDEVICE_TSM_GUEST_REQUEST: start', () => tdi.setTdiState(RUN));
    play(function* (guest) {
      tell('guest', `has it add up 1 to 4 in private memory: ${yield* addUp(guest, Uint8Array.of(1, 2, 3, 4))}`);
    });
    vm.setMemoryAttributes({ address: BAR, size: BAR_SIZE, attributes: 0n });
    play(function* (guest) {
      const seen = (yield* guest.readMmio(BAR, 4)).toString(16);
      tell('host', `makes the MMIO shared, and reads 0x${seen}`);
    });
    call('vmm V', 'VFIO_DEVICE_TSM_UNBIND', () => tdi.unbind());
  } finally {
    kernel.close();
  }
  return [
    `${paint.bold('A trusted device')} ${paint.dim('on a simulated machine (RFC: no released kernel has it; docs/tee-io.md)')}`,
    ...lines,
  ];
}

/** The device's SUM (docs/device-models.md), by private accesses to its registers. */
function* addUp(guest: Guest, bytes: Uint8Array): GuestScript<bigint> {
  const command = new DataView(new ArrayBuffer(64));
  command.setUint32(0, 4, true);
  command.setBigUint64(8, DATA, true);
  command.setUint32(24, bytes.length, true);
  command.setBigUint64(40, SUM, true);
  yield* guest.write(COMMAND, new Uint8Array(command.buffer));
  yield* guest.write(DATA, bytes);
  yield* guest.writeMmio(BAR + 0x10n, 8, COMMAND);
  yield* guest.writeMmio(BAR + 0x18n, 4, 2);
  yield* guest.writeMmio(BAR + 0x08n, 4, 1);
  yield* guest.writeMmio(BAR + 0x20n, 4, 1);
  yield* guest.pause(100_000);
  return new DataView((yield* guest.read(SUM, 16)).slice().buffer).getBigUint64(8, true);
}
