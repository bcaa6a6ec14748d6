// The TypeScript blocks of README.md and docs/ as programs: which blocks of a page, in what order, and what a reader would have around them.

/** A block of the page, by its number; or text that stands around blocks. */
export type Part = number | string;

export interface Program {
  /** Without `.md`; `README` is that at the top. */
  readonly page: string;
  readonly parts: readonly Part[];
  /** What it prints. Default: nothing. */
  readonly prints?: readonly string[];
}

/** Two devices that can be migrated, each opened by its own node on an iommufd of its own. */
const twoAccelerators = `
import { bindDriver, dirtyPages, Iommufd, PCI_COMMAND_MASTER, pciDevice, VfioDevice } from 'kvio';
import { MigratableAccelerator, openSim } from 'kvio/sim';
import * as u from 'kvio/uapi';
const { VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_STOP_COPY, VFIO_PCI_BAR2_REGION_INDEX } = u;
const places = ['0000:00:10.0', '0000:00:11.0'];
const kernel = openSim({ machine: 'lab-vtd-7.2', pci: places.map((at) => ({ at, device: new MigratableAccelerator({ memory: 0x4000 }) })) });
bindDriver(kernel, places, 'migratable-vfio-pci');
const opened = places.map((bdf) => {
  const iommufd = Iommufd.open(kernel);
  const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
  const dev_id = device.bindIommufd({ iommufd });
  const ioas = iommufd.ioasAlloc();
  device.attachIommufdPt({ pt_id: ioas });
  device.config.setCommand(PCI_COMMAND_MASTER);
  return { iommufd, device, dev_id, ioas };
});
const [{ device: source }, { device: target, ioas }] = opened as [typeof opened[0] & {}, typeof opened[0] & {}];
const memory = (device: VfioDevice) => device.region(VFIO_PCI_BAR2_REGION_INDEX);
`;

export const programs: readonly Program[] = [
  { page: 'README', parts: [0], prints: ['H'] },
  {
    page: 'getting-started',
    parts: [
      0,
      `
import { KVM_EXIT_IO_IN } from 'kvio/uapi';
const code = Uint8Array.of(0xe4, 0x10, 0xa2, 0x00, 0x05, 0xf4); // in al, 0x10; mov [0x500], al; hlt
const device = { write: (at: bigint, data: Uint8Array) => console.log(at, [...data]) };
`,
      ...[1, 2, 3],
    ],
    prints: ['sim 6.18.44 asked for by KVIO_KERNEL=sim', '1280n [ 42 ]'],
  },
  {
    page: 'getting-started',
    parts: [
      `
const describe = { skipIf: (skip: unknown) => (title: string, f: () => void) => skip || (f(), title === 'sim' && console.log(title)) };
const it = (_: string, f: () => void) => f();
`,
      4,
    ],
    prints: ['sim'],
  },
  {
    page: 'kvm',
    parts: [0, 1, 2, 3, 4, 5, 'line.signal();\nkernel.close();'],
    prints: ['port 0x11: 42', '0x500: 42', 'dirty 5', 'stopped by intr', 'stopped by intr'],
  },
  {
    page: 'vfio',
    parts: [
      0,
      `
async function wait(interrupt: import('kvio').Eventfd): Promise<void> {
  const served = (count: bigint): boolean => (console.log('served', count > 0n), bar.read32(0x24) !== 0);
  bar.write32(0x60, 1);
`,
      1,
      '}\nconst raising = setInterval(() => bar.write32(0x60, 1), 5);\nawait wait(interrupt);\nclearInterval(raising);',
    ],
    prints: ['16777453', 'served true'],
  },
  {
    page: 'vfio',
    parts: [
      `${twoAccelerators}const exporter = source;\n{`,
      2,
      '  console.log(dmaBuf.size, ioas.unmap(iova, 0x2000));\n}\n{\n  const [device, iova] = [target, ioas.map(kernel.guestRam(0x10000))];',
      3,
      '}',
    ],
    prints: ['8192n 8192n', '[]'],
  },
  {
    page: 'vfio',
    parts: [
      `${twoAccelerators}memory(source).write32(0x1000, 0xdeadbeef);\n{`,
      4,
      '  console.log(memory(target).read32(0x1000).toString(16));\n}\nsource.reset();\nmemory(source).write32(0x3000, 0x12345678);',
      'using resuming = target.setMigDeviceState(VFIO_DEVICE_STATE_RESUMING)!;',
      5,
      'target.setMigDeviceState(VFIO_DEVICE_STATE_RUNNING);\nconsole.log(memory(target).read32(0x3000).toString(16));',
    ],
    prints: ['deadbeef', '12345678'],
  },
  { page: 'iommufd', parts: [0, 'console.log(pt_id > ioas.id, iova >= 0n);'], prints: ['true true'] },
  {
    page: 'iommufd',
    parts: [
      `
import { bindDriver, Iommufd, PCI_COMMAND_MASTER, PCI_EXT_CAP_ID_ATS, PCI_EXT_CAP_ID_PRI, pciDevice, VfioDevice } from 'kvio';
import { PciFunction } from 'kvio/sim';
import { IOMMU_HWPT_ALLOC_DIRTY_TRACKING, IOMMUFD_PAGE_RESP_SUCCESS } from 'kvio/uapi';
class MyDevice extends PciFunction {
  constructor() {
    const extended = [{ id: PCI_EXT_CAP_ID_ATS, bytes: new Uint8Array(4) }, { id: PCI_EXT_CAP_ID_PRI, bytes: new Uint8Array(12) }];
    super({ vendor: 0x1234, device: 0x5678, class: 0xff0000, express: true, extended });
  }
}
`,
      3,
      `
const bdf = '0000:00:10.0';
bindDriver(kernel, bdf, 'vfio-pci');
const iommufd = Iommufd.open(kernel);
const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
const dev_id = device.bindIommufd({ iommufd });
device.config.setCommand(PCI_COMMAND_MASTER);
const ram = kernel.guestRam(0x4000);
const { dma } = kernel.pci(bdf)!;
{
  const ioas = iommufd.ioasAlloc();
  const table = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_DIRTY_TRACKING });
  const [iova, length] = [ioas.map(ram), 0x4000];
  device.attachIommufdPt({ pt_id: table });
  dma.write(iova, Uint8Array.of(1));
`,
      1,
      `
  console.log(bitmap[0]);
  dma.write(iova + 0x2000n, Uint8Array.of(1));
  console.log(table.getDirtyBitmap({ iova, length, page_size: 4096 })[0]);
}
const ioas = iommufd.ioasAlloc();
const fault = iommufd.faultQueueAlloc();
device.attachIommufdPt({ pt_id: iommufd.hwptAlloc({ dev_id, pt: ioas, fault }) });
dma.requestPage({ iova: 0x7000n }, (granted) => {
  console.log('granted', granted, dma.read(0x7000n, 1));
  fault.close();
});
`,
      2,
    ],
    prints: ['0', '4', 'granted true Uint8Array(1) [ 1 ]'],
  },
  {
    page: 'device-models',
    parts: [
      0,
      1,
      `
import { bindDriver, pciDevice } from 'kvio';
console.log(other.closed, kernel.readdir('/sys/bus/pci/devices').filter((bdf) => bdf.startsWith('0000:00:1') && !bdf.startsWith('0000:00:1f')).sort());
using bound = bindDriver(kernel, '0000:00:11.0', 'vfio-pci');
console.log(pciDevice(kernel, '0000:00:11.0').driver, bound.bdfs);
`,
    ],
    prints: ["false [ '0000:00:11.0', '0000:00:18.0' ]", "vfio-pci [ '0000:00:11.0' ]"],
  },
  { page: 'device-models', parts: [2] },
  {
    page: 'threads',
    parts: [
      `
import { isMainThread, MessageChannel, Worker, workerData } from 'node:worker_threads';
import { attachKernel, Kvm, type KvmExit, Vcpu } from 'kvio';
import { openSim } from 'kvio/sim';
const file = new URL(import.meta.url);
function handle(exit: KvmExit): void {
  console.log(exit.reason);
  process.exit();
}

if (isMainThread) {
  const kernel = openSim({ machine: 'amd-svm-7.2' });
  const vm = Kvm.open(kernel).createVm();
  const ram = kernel.guestRam(0x1000);
  ram.bytes[0] = 0xf4; // hlt
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
`,
      0,
      "  process.on('exit', () => console.log('kept', vcpu.closed));\n} else {",
      1,
      '}',
    ],
    prints: ['hlt', 'kept false'],
  },
  {
    page: 'uapi',
    parts: [
      "import { kvm_regs } from 'kvio/uapi';\nconst bytes = kvm_sregs.alloc();\nconst mapping = new Uint8Array(new SharedArrayBuffer(12288));\n",
      0,
      'console.log(kvm_sregs.decode(bytes).cs.base, mapping[kvm_run.offsetOf("immediate_exit")], kvm_run.offsetOf("io.port"), kvm_regs.size);',
    ],
    prints: ['0n 1 34 144'],
  },
  {
    page: 'uapi',
    parts: [
      1,
      `
console.log(teeIo.aikV2.IOMMU_VDEVICE_TSM_BIND.toString(16), teeIo.aneeshMay25.IOMMU_VDEVICE_TSM_BIND.toString(16));
console.log(teeIo.aneeshV5.IOMMU_VDEVICE_TSM_BIND, teeIo.aneeshV1.iommu_vdevice_tsm_map.size);
`,
    ],
    prints: ['3b93 3b94', '1 32'],
  },
  {
    page: 'tdisp',
    parts: [0, 'console.log(response.type, tdi.state === TDISP_STATE.ERROR);'],
    prints: ['LOCK_INTERFACE_RESPONSE true'],
  },
  {
    page: 'tee-io',
    parts: [
      `
import { bindDriver, Iommufd, Kvm, pciDevice, Tdi, VfioDevice } from 'kvio';
import { IOMMU_HWPT_ALLOC_NEST_PARENT, KVM_DEV_TYPE_VFIO, KVM_MEMORY_ATTRIBUTE_PRIVATE, KVM_X86_SW_PROTECTED_VM } from 'kvio/uapi';
`,
      0,
      `
const bdf = '0000:01:00.0';
using bound = bindDriver(kernel, bdf, 'vfio-pci');
using iommufd = Iommufd.open(kernel);
using device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
const viommu = {
  vdeviceAlloc(request: { dev_id: number; virt_id: bigint }) {
    const hwpt = iommufd.hwptAlloc({ dev_id: request.dev_id, pt: iommufd.ioasAlloc(), flags: IOMMU_HWPT_ALLOC_NEST_PARENT });
    device.attachIommufdPt({ pt_id: hwpt });
    return iommufd.viommuAlloc({ type: 1, dev_id: request.dev_id, hwpt, vm }).vdeviceAlloc(request);
  },
};
const [gpa_base, gpa_top, pa_base] = [0xe000_0000n, 0xe000_2000n, pciDevice(kernel, bdf).resource[0]!.start];
`,
      1,
      `
console.log(kernel.tdi(bdf)!.tdi.state, kvmVfio.closed);
function guestOf(vcpu: import('kvio').Vcpu, answer: (exit: import('kvio').KvmExit) => void): void {
`,
      2,
      '}\nconsole.log(typeof guestOf);\ntdi.unbind();\nkvmVfio.close();',
    ],
    prints: ['2 false', 'function'],
  },
  { page: 'tee-io', parts: [0, 'console.log(kernel.release, other.machine.teeIo!.vendor);'], prints: ['7.2.13 tdx'] },
];

/** Blocks that are no programs, and why. */
export const others: readonly { readonly page: string; readonly block: number; readonly reason: string }[] = [
  { page: 'conformance', block: 0, reason: 'a case, as those of test/conformance/cases are' },
  { page: 'conformance', block: 1, reason: 'a case, as those of test/conformance/cases are' },
];
