import { idsOf } from '../../pci/ids.ts';
import type { PciDev } from '../../pci/pci-dev.ts';

const INTEL = 0x8086;

/** vfio_pci_nointx: functions whose INTx status cannot be trusted (X550; all of the XL710 family). */
const brokenIntx: readonly (readonly [first: number, last: number])[] = [
  [0x1563, 0x1563],
  [0x1572, 0x1572],
  [0x1574, 0x1574],
  [0x1580, 0x1581],
  [0x1583, 0x158b],
  [0x37d0, 0x37d2],
];

/** vfio_pci_dev_in_denylist: accelerators that a guest could use to break out. */
const denied: ReadonlySet<number> = new Set([0x0435, 0x0443, 0x0b25, 0x0cfe, 0x19e2, 0x19e3, 0x37c8, 0x37c9]);

export function hasNoIntx(pdev: PciDev): boolean {
  const { vendor, device } = idsOf(pdev);
  return vendor === INTEL && brokenIntx.some(([first, last]) => device >= first && device <= last);
}

export function isDenied(pdev: PciDev): boolean {
  const { vendor, device } = idsOf(pdev);
  return vendor === INTEL && denied.has(device);
}
