/**
 * The machines the lab can boot, as data. `args` are QEMU's, `append` goes to the kernel command line. Devices are named sets,
 * so that a case can ask for what it needs; `requires` names a QEMU device model that older versions lack.
 */

const q35 = ['-machine', 'q35,kernel-irqchip=off'];

export const variants = {
  vtd: {
    about: 'Intel VT-d with interrupt remapping',
    cpus: 2,
    machine: q35,
    args: ['-device', 'intel-iommu,intremap=on,caching-mode=on'],
    append: 'intel_iommu=on iommu=nopt',
  },
  amd: {
    about: 'AMD IOMMU; panics on its timer unless the IO-APIC is off and one CPU runs',
    cpus: 1,
    machine: q35,
    args: ['-device', 'amd-iommu'],
    append: 'amd_iommu=on iommu=nopt noapic vfio_iommu_type1.allow_unsafe_interrupts=1',
  },
  virtio: {
    about: 'virtio-iommu: no interrupt remapping, no dirty tracking',
    cpus: 2,
    machine: q35,
    args: ['-device', 'virtio-iommu-pci'],
    append: 'iommu=nopt vfio_iommu_type1.allow_unsafe_interrupts=1',
  },
  none: {
    about: 'no IOMMU: noiommu VFIO only',
    cpus: 2,
    machine: q35,
    args: [],
    append: 'vfio.enable_unsafe_noiommu_mode=1',
  },
};

/** x-speed: a root port without it cannot be hot-reset. romfile= spares the boot-ROM package. */
const rootPort = (n) => ['-device', `pcie-root-port,id=rp${n},x-speed=2_5,chassis=${n},slot=${n}`];

export const devices = {
  edu: {
    about: 'two edu (1234:11e8), each in a group of its own, no reset method',
    args: () => ['-device', 'edu,dma_mask=0xffffffffffffffff', '-device', 'edu,dma_mask=0xffffffffffffffff'],
  },
  nvme: {
    about: 'nvme behind a root port (flr, bus)',
    args: (scratch) => [
      ...rootPort(1),
      '-drive',
      `file=${scratch('nvme.img', 16 << 20)},if=none,id=nvme0,format=raw`,
      '-device',
      'nvme,bus=rp1,serial=kvio-lab,drive=nvme0',
    ],
  },
  e1000e: {
    about: 'e1000e behind a root port (pm, bus; INTx, MSI, MSI-X)',
    args: () => [...rootPort(2), '-device', 'e1000e,bus=rp2,romfile='],
  },
  testdev: { about: 'pci-testdev', args: () => ['-device', 'pci-testdev'] },
  igb: {
    about: 'igb behind a root port: SR-IOV with 8 VFs',
    requires: 'igb',
    args: () => [...rootPort(3), '-device', 'igb,bus=rp3,romfile='],
  },
  shared: {
    about: 'edu and pci-testdev behind a PCIe-to-PCI bridge: one group',
    args: () => [
      ...rootPort(4),
      '-device',
      'pcie-pci-bridge,id=pb,bus=rp4',
      '-device',
      'edu,bus=pb,addr=1',
      '-device',
      'pci-testdev,bus=pb,addr=2',
    ],
  },
};

export const defaults = { machine: 'vtd', devices: Object.keys(devices), memory: '4G' };
