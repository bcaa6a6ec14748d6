import type { IommuMachine, PciPlacement } from '../hardware/machine-pci.ts';
import { teeIoOf } from '../hardware/tsm/switches.ts';
import type { Machine } from '../machine.ts';
import { labVtd72 } from './lab-7.2.ts';

/**
 * RFC. A machine for confidential device assignment, which no released kernel has: the KVM of 'lab-vtd-7.2' with its software-protected VMs, its IOMMU with two stages and as many address
 * bits as a guest can have, and two accelerators that can be trusted, each behind a root port and in a group of its own.
 */

const port = (device: string, slot: number): PciPlacement => ({
  at: `0000:00:${device}.0`,
  model: 'pcie-root-port',
  options: { slot },
  driver: 'pcieport',
});

const iommu: IommuMachine = { ...labVtd72.iommu!, aperture: [0n, 0xffff_ffff_ffffn], nesting: true };

export const teeIo72: Machine = {
  ...labVtd72,
  name: 'tee-io-7.2',
  iommufdTest: false,
  mtty: false,
  pci: [
    { at: '0000:00:00.0', model: 'host-bridge' },
    port('04', 1),
    { at: '0000:01:00.0', model: 'accelerator' },
    port('05', 2),
    { at: '0000:02:00.0', model: 'accelerator' },
  ],
  iommu,
  teeIo: teeIoOf('rfc')!,
};
