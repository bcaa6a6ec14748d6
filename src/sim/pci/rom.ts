import type { PciDev } from './pci-dev.ts';

const ROM = 6;
const SIGNATURE = 0xaa55;
const DATA_SIGNATURE = 0x52494350;

/** pci_map_rom: bytes of the images that are there; 0 where the first has no signature, or nothing decodes. */
export function romSize(pdev: PciDev): number {
  const { start, end } = pdev.resources[ROM]!;
  if (start === 0n) return 0;
  const size = Number(end - start) + 1;
  const read = (offset: number, width: 1 | 2 | 4): number => Number(pdev.barRead(ROM, offset, width));
  for (let image = 0; ; ) {
    if (read(image, 2) !== SIGNATURE) return image;
    const data = image + read(image + 24, 2);
    if (data + 24 > size || read(data, 4) !== DATA_SIGNATURE) return image;
    const last = (read(data + 21, 1) & 0x80) !== 0;
    const length = read(data + 16, 2) * 512;
    image += length;
    if (last || length === 0 || image >= size) return Math.min(image, size);
  }
}
