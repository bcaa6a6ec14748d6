import type { PciDev } from '../../pci/pci-dev.ts';

const ROM = 6;
const PCI_ROM_ADDRESS = 0x30;
const ENABLE = 1;
const SIGNATURE = 0xaa55;
const DATA_SIGNATURE = 0x52494350;

/** An expansion ROM that decodes for as long as `body` runs (pci_map_rom). `read` answers what is on the bus. */
export function withRom<T>(pdev: PciDev, body: (read: (offset: number, width: 1 | 2 | 4) => number) => T): T {
  const before = pdev.readConfig(PCI_ROM_ADDRESS, 4);
  const { start } = pdev.resources[ROM]!;
  pdev.writeConfig(PCI_ROM_ADDRESS, 4, (before & 0x7ff) | Number(start) | ENABLE);
  try {
    return body((offset, width) => Number(pdev.barRead(ROM, offset, width)));
  } finally {
    pdev.writeConfig(PCI_ROM_ADDRESS, 4, before);
  }
}

/** pci_get_rom_size: bytes of the images that are there; 0 where the first has no signature. `size`: of the BAR. */
export function romSize(read: (offset: number, width: 1 | 2 | 4) => number, size: number): number {
  let image = 0;
  for (;;) {
    if (read(image, 2) !== SIGNATURE) return image;
    const data = image + read(image + 24, 2);
    if (data + 24 > size || read(data, 4) !== DATA_SIGNATURE) return image;
    const last = (read(data + 21, 1) & 0x80) !== 0;
    const length = read(data + 16, 2) * 512;
    image += length;
    if (last || length === 0 || image >= size) return Math.min(image, size);
  }
}
