// A guest's own page table on an SMMUv3: what a VMM does so that a device's accesses go through the guest's stage 1 and the host's stage 2, the guest is told of its faults by the number it
// knows the device by, and its invalidations reach the hardware. This machine is simulated; the calls are those of a host with such an SMMU (Linux 6.15).
import { bindDriver, Iommufd, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY, pciDevice, VfioDevice } from 'kvio';
import { openSim, PciFunction } from 'kvio/sim';
import { IOMMU_HWPT_ALLOC_NEST_PARENT, IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, IOMMU_VIOMMU_TYPE_ARM_SMMUV3 } from 'kvio/uapi';

/** Writes what it is told to an address: 0 the address, 8 the value, which starts it; 12 whether it went well. */
class Writer extends PciFunction {
  #address = 0n;
  #good = false;

  constructor() {
    super({ vendor: 0x1234, device: 0x567a, class: 0xff0000, bars: { 0: { size: 0x1000, space: 'mem32' } } });
  }

  override read(_bar: number, offset: number): number {
    return offset === 12 && this.#good ? 1 : 0;
  }

  override write(_bar: number, offset: number, _width: number, value: number | bigint): void {
    if (offset === 0) this.#address = BigInt(value);
    else this.#good = this.dma.write(this.#address, Uint8Array.of(Number(value)));
  }
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;

// ---- the host: memory of a VM, and the page table of it, which may be a parent

const bdf = '0000:00:10.0';
const kernel = openSim({ machine: 'smmuv3-7.2', pci: [{ at: bdf, device: new Writer() }] });
bindDriver(kernel, bdf, 'vfio-pci');
const iommufd = Iommufd.open(kernel);
const device = VfioDevice.open(kernel, pciDevice(kernel, bdf).vfio_device!);
const dev_id = device.bindIommufd({ iommufd });
device.config.setCommand(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
const registers = device.region(0);

const { arm_smmuv3 } = iommufd.getHwInfo(dev_id);
console.log(`an SMMUv3 whose IDR0 is ${hex(BigInt(arm_smmuv3!.idr[0]!))}: the VMM shows the guest as much of it as it wants`);

const GPA = 0x4000_0000n;
const ram = kernel.guestRam(0x10_0000);
const ioas = iommufd.ioasAlloc();
ioas.map(ram, { iova: GPA });
const parent = iommufd.hwptAlloc({ dev_id, pt: ioas, flags: IOMMU_HWPT_ALLOC_NEST_PARENT });

// ---- the VMM: the guest's slice of the SMMU, and the device as the guest knows it

const viommu = iommufd.viommuAlloc({ type: IOMMU_VIOMMU_TYPE_ARM_SMMUV3, dev_id, hwpt: parent });
const vSID = 0x2an;
viommu.vdeviceAlloc({ dev_id, virt_id: vSID });
const events = viommu.veventqAlloc({ type: IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, veventq_depth: 64 });

// ---- the guest: a context descriptor and a page table in its memory, all addresses its own

const gpa = (page: number): bigint => GPA + BigInt(page) * 0x1000n;
const [contexts, tables, data] = [0, 1, 8];
/** 48 bits of 4 KiB pages, TTB1 off, valid, 48 bits out, VMSAv8-64, faults are recorded and abort. */
const CD = 16n | (1n << 30n) | (1n << 31n) | (5n << 32n) | (1n << 41n) | (1n << 45n) | (1n << 46n);
ram.write64(contexts * 0x1000, CD);
ram.write64(contexts * 0x1000 + 8, gpa(tables));

const entry = (level: number, iova: bigint): number =>
  (tables + level) * 0x1000 + Number((iova >> BigInt(12 + 9 * (3 - level))) & 0x1ffn) * 8;
/** Valid, for the unprivileged too, accessed. */
const PAGE = 3n | (1n << 6n) | (1n << 10n);
function map(iova: bigint, page: number): void {
  for (let level = 0; level < 3; level++) ram.write64(entry(level, iova), gpa(tables + level + 1) | 3n);
  ram.write64(entry(3, iova), gpa(page) | PAGE);
}

const IOVA = 0x1234_5000n;
map(IOVA, data);

// The guest writes its stream table entry, which the VMM traps: valid, stage 1, contexts at the beginning of its memory.
const ste = [1n | (5n << 1n) | gpa(contexts), 0n];
const nested = iommufd.hwptAlloc({ dev_id, pt: viommu, data: { arm_smmuv3: { ste } } });
device.attachIommufdPt({ pt_id: nested.id });

// ---- the device works for the guest

function write(iova: bigint, value: number): void {
  registers.write64(0, iova);
  registers.write32(8, value);
  const good = registers.read32(12) === 1;
  console.log(`the device writes ${value} to ${hex(iova)}: ${good ? 'done' : 'stopped'}`);
  for (const { arm_smmuv3: event } of events.read()) {
    const [what, , address] = event!.evt as [bigint, bigint, bigint];
    console.log(`  the guest has an event ${hex(what & 0xffn)} of stream ${hex(what >> 32n)} at ${hex(address)}`);
  }
}

write(IOVA + 4n, 17);
console.log(`  in the guest's page ${data}: ${ram.read8(data * 0x1000 + 4)}`);

write(IOVA + 0x1000n, 18);

// It maps the page, and says so, as it must when it changes what was there: TLBI_NH_VA, and CFGI_CD for its stream.
map(IOVA + 0x1000n, data + 1);
viommu.invalidate({
  arm_smmuv3: [{ cmd: [0x12n, IOVA + 0x1000n] }, { cmd: [0x05n | (vSID << 32n), 1n] }],
});
write(IOVA + 0x1000n, 19);

// What the hardware was told has the host's numbers in it.
for (const [first, second] of kernel.process.system.pci.iommu!.smmu!.commands)
  console.log(`the SMMU is given ${hex(first)} ${hex(second)}`);

device.close();
events.close();
kernel.close();
