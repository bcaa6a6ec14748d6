import type { IommuMachine, PciPlacement } from '../hardware/machine-pci.ts';
import type { Machine } from '../machine.ts';
import { amdSvm72 } from './amd-svm-7.2.ts';

/**
 * The machines of the lab (scripts/lab/machines.mjs) with all devices at the same addresses, on the KVM of 'amd-svm-7.2'. What configuration space, sysfs and
 * /proc/iomem say of them was compared with QEMU's.
 */

const dmaMask = (1n << 64n) - 1n;
const root = (device: number): string => `0000:00:${device.toString(16).padStart(2, '0')}.0`;

/** What shares the host's files with the lab. */
const files = (device: number, ports = 32): PciPlacement => ({
  at: root(device),
  model: 'virtio-pci',
  options: { ports },
  driver: 'virtio-pci',
});

const serial = (device: number): PciPlacement => ({
  at: root(device),
  model: 'virtio-pci',
  options: { device: 0x1003, subsystem: 0x0003, class: 0x078000, ports: 64 },
  driver: 'virtio-pci',
});

const rootPort = (slot: number): PciPlacement => ({
  at: root(slot + 3),
  model: 'pcie-root-port',
  options: { slot },
  driver: 'pcieport',
});

const chipset: readonly PciPlacement[] = [
  { at: '0000:00:00.0', model: 'host-bridge' },
  { at: '0000:00:1f.0', model: 'isa-bridge' },
  { at: '0000:00:1f.2', model: 'ahci', master: true },
  { at: '0000:00:1f.3', model: 'smbus', bars: { 4: 0x700n } },
];

const edus: readonly PciPlacement[] = [
  { at: '0000:00:02.0', model: 'edu', options: { dmaMask } },
  { at: '0000:00:03.0', model: 'edu', options: { dmaMask } },
];

const behindPorts: readonly PciPlacement[] = [
  rootPort(1),
  { at: '0000:01:00.0', model: 'nvme', options: { serial: 'kvio-lab', size: 16 << 20, extendedTag: false }, master: true },
  rootPort(2),
  { at: '0000:02:00.0', model: 'e1000e', options: { rom: false, extendedTag: false } },
];

const shared: readonly PciPlacement[] = [
  rootPort(3),
  { at: '0000:03:00.0', model: 'pcie-pci-bridge' },
  { at: '0000:04:01.0', model: 'edu', options: { dmaMask, multifunction: true } },
  { at: '0000:04:01.1', model: 'pci-testdev' },
];

/** 4 KiB, of which the first quarter is an image. */
function xhciRom(): Uint8Array {
  const bytes = new Uint8Array(0x1000).fill(0x77);
  for (let at = 0; at < 0x400; at++) bytes[at] = at;
  bytes.set([0x55, 0xaa, 2]);
  bytes.set([0x1c, 0], 0x18);
  const data = [0x33, 0x10, 0x94, 0x01, 0, 0, 0x18, 0, 0, 0x30, 0x03, 0x0c, 2, 0, 0, 0, 3, 0x80, 0, 0];
  bytes.set([...Buffer.from('PCIR'), ...data], 0x1c);
  return bytes;
}

const conventional: readonly PciPlacement[] = [
  { at: '0000:00:08.0', model: 'pci-testdev' },
  { at: '0000:00:09.0', model: 'edu', options: { dmaMask, multifunction: true } },
  { at: '0000:00:09.1', model: 'pci-testdev' },
  { at: root(0x18), model: 'nec-usb-xhci', options: { integrated: true, rom: xhciRom(), extendedTag: false }, master: true },
];

const everything = [...chipset, ...edus, ...behindPorts, ...shared, ...conventional];

/** The same where the kernel has the slots: they say whether there is a card. One more has an edu. */
const slots: readonly PciPlacement[] = [
  ...everything.map((one) => (one.model === 'pcie-root-port' ? { ...one, options: { ...one.options, presence: true } } : one)),
  { ...rootPort(4), options: { slot: 4, presence: true } },
  { at: '0000:05:00.0', model: 'edu', options: { dmaMask } },
];

const msi = { start: 0xfee0_0000n, last: 0xfeef_ffffn, type: 'msi' } as const;

function words(...values: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

const VTD_CAP = 0xd2_008c_2226_0286n;
const VTD_ECAP = 0xf0_0f4an;

const vtd: IommuMachine = {
  kind: 'vtd',
  pageSizes: 0x4020_1000n,
  aperture: [0n, 0x7f_ffff_ffffn],
  coherent: true,
  enforceCoherency: false,
  interruptRemapping: true,
  reserved: [msi],
  dirtyTracking: false,
  pasidBits: 0,
  defaultType: 'DMA',
  hwInfo: { type: 1, bytes: words(1n, VTD_CAP, VTD_ECAP) },
  sysfs: {
    name: 'dmar0',
    group: 'intel-iommu',
    files: {
      address: 'fed90000',
      cap: VTD_CAP.toString(16),
      domains_supported: '65536',
      domains_used: '16',
      ecap: VTD_ECAP.toString(16),
      version: '1:0',
    },
  },
};

const amd: IommuMachine = {
  kind: 'amd',
  pageSizes: 0x7f7f_ffff_f000n,
  aperture: [0n, 0xffff_ffff_ffffn],
  coherent: true,
  enforceCoherency: true,
  interruptRemapping: false,
  reserved: [msi, { start: 0xfd_0000_0000n, last: 0xff_ffff_ffffn, type: 'reserved' }],
  dirtyTracking: false,
  pasidBits: 0,
  defaultType: 'DMA',
  sysfs: { name: 'ivhd0', group: 'amd-iommu', files: {}, below: root(1) },
};

const virtio: IommuMachine = {
  kind: 'virtio',
  pageSizes: 0xffff_ffff_ffff_f000n,
  aperture: [0n, 0xffff_ffff_ffff_ffffn],
  coherent: true,
  enforceCoherency: false,
  interruptRemapping: false,
  reserved: [msi],
  dirtyTracking: false,
  pasidBits: 0,
  defaultType: 'DMA-FQ',
  unmanaged: ['0000:00:1e.0'],
  sysfs: { name: '0000:00:1e.0', files: {}, below: '0000:00:1e.0', via: 'virtio0' },
};

function machine(name: string, more: Partial<Machine>): Machine {
  return { ...amdSvm72, name: `lab-${name}-7.2`, pciDrivers: ['pcieport', 'virtio-pci'], mtty: true, iommufdTest: true, ...more };
}

const ALLOW_UNSAFE = {
  vfio_iommu_type1: { allow_unsafe_interrupts: true },
  iommufd: { allow_unsafe_interrupts: true },
};

export const labVtd72: Machine = machine('vtd', {
  pci: [...everything, files(1), files(7, 64), files(0xa, 64), serial(0xb)],
  iommu: vtd,
});

export const labHotplug72: Machine = machine('hotplug', {
  pci: [...slots, files(1), files(0xa, 64), files(0xb, 64), serial(0xc)],
  iommu: vtd,
  pciehp: true,
});

export const labAmd72: Machine = machine('amd', {
  cpus: 1,
  pci: [
    ...everything,
    { at: root(1), model: 'fixture', options: { vendor: 0x1022, device: 0x0008, class: 0x080600 } },
    files(7),
    files(0xa, 64),
    files(0xb, 64),
    serial(0xc),
  ],
  iommu: { ...amd, unmanaged: [root(1)] },
  ioapic: false,
  parameters: ALLOW_UNSAFE,
});

/** No device behind the PCIe-to-PCI bridge: the virtio-iommu refuses them. */
export const labVirtio72: Machine = machine('virtio', {
  pci: [
    ...chipset,
    ...edus,
    ...behindPorts,
    ...conventional,
    files(1),
    files(6, 64),
    files(7, 64),
    serial(0xa),
    { at: '0000:00:1e.0', model: 'virtio-iommu', driver: 'virtio-pci' },
  ],
  iommu: virtio,
  parameters: ALLOW_UNSAFE,
});

export const labNone72: Machine = machine('none', {
  pci: labVtd72.pci ?? [],
  parameters: { vfio: { enable_unsafe_noiommu_mode: true } },
});
