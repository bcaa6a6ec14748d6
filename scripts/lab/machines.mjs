/**
 * The machines the lab can boot, as data. `args` are QEMU's, `append` goes to the kernel command line. Devices are named sets, so that a
 * case can ask for what it needs; `requires` names a QEMU device model that older versions lack, `without` the sets a machine cannot
 * have, and why. `only` is the machine a set is for, `slot` what is in a slot of the machine's: its address, and what puts it there again after
 * it was pulled out. Devices have fixed addresses: the same function is at the same place on every machine.
 */

const q35 = ['-machine', 'q35,kernel-irqchip=off'];

/** Without interrupt remapping a device could forge any interrupt: VFIO and iommufd refuse it unless told. */
const unsafe = 'vfio_iommu_type1.allow_unsafe_interrupts=1 iommufd.allow_unsafe_interrupts=1';

const vtd = {
  cpus: 2,
  machine: q35,
  args: ['-device', 'intel-iommu,intremap=on,caching-mode=on'],
  append: 'intel_iommu=on iommu=nopt',
};

export const variants = {
  vtd: { about: 'Intel VT-d with interrupt remapping', ...vtd },
  amd: {
    about: 'AMD IOMMU; one CPU, no IO-APIC: the kernel panics on its timer otherwise',
    cpus: 1,
    machine: q35,
    args: ['-device', 'amd-iommu'],
    append: `amd_iommu=on iommu=nopt noapic ${unsafe}`,
  },
  virtio: {
    about: 'virtio-iommu: no interrupt remapping, no dirty tracking',
    cpus: 2,
    machine: q35,
    args: ['-device', 'virtio-iommu-pci,addr=1e.0'],
    append: `iommu=nopt ${unsafe}`,
    without: { shared: 'the virtio-iommu refuses an endpoint behind a PCI bridge, and Linux then registers none at all' },
  },
  none: {
    about: 'no IOMMU: noiommu VFIO only',
    cpus: 2,
    machine: q35,
    args: [],
    append: 'vfio.enable_unsafe_noiommu_mode=1',
  },
  hotplug: {
    about: 'as vtd, and the kernel itself drives the slots behind root ports: what is in one can be pulled out',
    ...vtd,
    // Otherwise ACPI does, and the kernel is never told that a slot has become empty.
    args: [...vtd.args, '-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'],
    slots: true,
    cases: 'vfio/surprise/,vfio/slots/',
  },
};

/** x-speed: a root port without it cannot be hot-reset. romfile= spares the boot-ROM package. */
const rootPort = (n) => ['-device', `pcie-root-port,id=rp${n},x-speed=2_5,chassis=${n},slot=${n},addr=${(n + 3).toString(16)}.0`];
const nic = (model, bus) => `${model},bus=${bus},romfile=`;
const edu = 'edu,dma_mask=0xffffffffffffffff';
const nvme = 'nvme,bus=rp1,serial=kvio-lab,drive=nvme0';

/** An option ROM of 4 KiB whose image is the first quarter. Its code is for EFI, so firmware runs none of it. */
function rom() {
  const bytes = Buffer.alloc(0x1000, 0x77);
  for (let at = 0; at < 0x400; at++) bytes[at] = at;
  bytes.set([0x55, 0xaa, 2]);
  bytes.writeUInt16LE(0x1c, 0x18);
  bytes.set(Buffer.from('PCIR\x33\x10\x94\x01\0\0\x18\0\0\x30\x03\x0c\x02\0\0\0\x03\x80\0\0', 'latin1'), 0x1c);
  return bytes;
}

/**
 * Device sets. `args` makes QEMU's options; it is given a function that makes a file of the machine's own, of so many zero bytes or with
 * these in it.
 */
export const devices = {
  edu: {
    about: 'two edu (1234:11e8) at 00:02.0 and 00:03.0, each in a group of its own, no reset method',
    args: () => ['-device', `${edu},addr=2.0`, '-device', `${edu},addr=3.0`],
  },
  nvme: {
    about: 'nvme behind a root port (flr, bus)',
    args: (scratch) => [
      ...rootPort(1),
      // not -drive, which would go with a device that is pulled out
      ...['-blockdev', `driver=raw,node-name=nvme0,file.driver=file,file.filename=${scratch('nvme.img', 16 << 20)}`],
      ...['-device', nvme],
    ],
    slot: { at: '0000:01:00.0', device: nvme },
  },
  e1000e: {
    about: 'e1000e behind a root port (pm, bus; INTx, MSI, MSI-X)',
    args: () => [...rootPort(2), '-device', nic('e1000e', 'rp2')],
    slot: { at: '0000:02:00.0', device: nic('e1000e', 'rp2') },
  },
  shared: {
    about: 'edu and pci-testdev, two functions of one slot behind a PCIe-to-PCI bridge: one group with the bridge',
    args: () => [
      ...rootPort(3),
      ...['-device', 'pcie-pci-bridge,id=pb,bus=rp3'],
      ...['-device', `${edu},bus=pb,addr=1.0,multifunction=on`, '-device', 'pci-testdev,bus=pb,addr=1.1'],
    ],
  },
  testdev: { about: 'pci-testdev at 00:08.0', args: () => ['-device', 'pci-testdev,addr=8.0'] },
  functions: {
    about: 'edu and pci-testdev, two functions of slot 00:09: one group',
    args: () => ['-device', `${edu},addr=9.0,multifunction=on`, '-device', 'pci-testdev,addr=9.1'],
  },
  xhci: {
    about: 'nec-usb-xhci at 00:18.0, without anything plugged into it: INTx, MSI with 16 vectors, MSI-X, a ROM; no reset method',
    args: (scratch) => ['-device', `nec-usb-xhci,addr=18.0,romfile=${scratch('xhci.rom', rom())}`],
  },
  igb: {
    about: 'igb behind a root port: SR-IOV with 8 VFs',
    requires: 'igb',
    args: () => [...rootPort(7), '-device', nic('igb', 'rp7')],
  },
  express: {
    about: 'edu 05:00.0 behind a root port, as if it were PCI Express',
    only: 'hotplug',
    args: () => [...rootPort(4), '-device', `${edu},bus=rp4`],
    slot: { at: '0000:05:00.0', device: `${edu},bus=rp4` },
  },
};

export const defaults = { machine: 'vtd', memory: '4G' };

/** The sets a machine has where none are named. */
export function setsOf(machine) {
  return Object.keys(devices).filter((name) => devices[name].only === undefined || devices[name].only === machine);
}
