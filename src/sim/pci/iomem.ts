import { Attribute } from '../fs/attribute.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import type { PciDev } from './pci-dev.ts';

const IORESOURCE_MEM = 0x200n;
/** A bridge's windows among its resources. */
const WINDOWS = 13;

interface Range {
  readonly start: bigint;
  readonly end: bigint;
  readonly name: string;
}

/** /proc/iomem, as far as PCI is in it: windows of bridges, BARs, and who has claimed them. */
export function addIomem(system: System, devices: () => readonly PciDev[]): void {
  system.fs.mkdirp('/proc').add('iomem', new Attribute(0o444, { show: (p) => iomem(p, devices()) }));
}

function iomem(p: Process, devices: readonly PciDev[]): string {
  // Outer ranges before what lies in them; of equal ones the first found is the outer.
  const ranges = devices.flatMap(rangesOf).sort((a, b) => order(a.start, b.start) || order(b.end, a.end));
  // Addresses are for the privileged only.
  const address = (value: bigint): string => (p.capable('CAP_SYS_ADMIN') ? value : 0n).toString(16).padStart(8, '0');
  const around: Range[] = [];
  return ranges
    .map(({ start, end, name }) => {
      while (around.length > 0 && around.at(-1)!.end < start) around.pop();
      const line = `${'  '.repeat(around.length)}${address(start)}-${address(end)} : ${name}\n`;
      around.push({ start, end, name });
      return line;
    })
    .join('');
}

function rangesOf(dev: PciDev): Range[] {
  return dev.resources.flatMap(({ start, end, flags }, at) => {
    if (start === 0n || (flags & IORESOURCE_MEM) === 0n) return [];
    if (at >= WINDOWS) return [{ start, end, name: `PCI Bus ${dev.bdf.slice(0, 4)}:${secondary(dev)}` }];
    const claimant = dev.claimant(at);
    return [{ start, end, name: dev.bdf }, ...(claimant === undefined ? [] : [{ start, end, name: claimant }])];
  });
}

const secondary = (dev: PciDev): string => dev.readConfig(0x19, 1).toString(16).padStart(2, '0');
const order = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
