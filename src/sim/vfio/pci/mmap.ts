import type { Width } from '../../../kernel/memory.ts';
import { EFAULT, EINVAL } from '../../../uapi/sys.ts';
import type { Backing, FileMap } from '../../file.ts';
import type { DeviceMemory } from '../../mm/device-memory.ts';
import { PAGE_SIZE } from '../../mm/pages.ts';
import type { PciDev, Resource } from '../../pci/pci-dev.ts';
import { barLength } from './rdwr.ts';

const OFFSET_SPAN = 2 ** 40;
const IORESOURCE_MEM = 0x200n;

/** What mappings ask of the device they belong to. */
export interface MapOwner {
  readonly pdev: PciDev;
  /** Memory can be reached: decode is on, not in D3, not in low power. */
  readonly reachable: boolean;
  mappable(bar: number): boolean;
  /** The BAR is used: 0, or why it cannot be. */
  useBar(bar: number, by?: string): number;
  barMemory(bar: number): DeviceMemory;
}

/** What lies behind the mappings of a device's BARs. Pages of the device file are numbered through all regions. */
export class VfioPciBacking implements Backing {
  readonly notifiers: Set<(truncatedFrom?: number) => void> = new Set();
  readonly #owner: MapOwner;

  constructor(owner: MapOwner) {
    this.#owner = owner;
  }

  /** Device memory has no pages. */
  page(): null {
    return null;
  }

  /** The next access faults again. */
  zap(): void {
    for (const notifier of this.notifiers) notifier();
  }

  load(offset: number, width: Width): number | bigint {
    const { memory, offset: at } = this.#place(offset);
    return this.#owner.reachable ? memory.load(at, width) : -EFAULT;
  }

  store(offset: number, width: Width, value: number | bigint): number {
    const { memory, offset: at } = this.#place(offset);
    return this.#owner.reachable ? memory.store(at, width, value) : -EFAULT;
  }

  pfn(index: number): (DeviceMemory & { readonly offset: number }) | null {
    if (!this.#owner.reachable) return null;
    const { memory, offset } = this.#place(index * PAGE_SIZE);
    return { offset, load: (at, width) => memory.load(at, width), store: (at, width, value) => memory.store(at, width, value) };
  }

  #place(offset: number): { memory: DeviceMemory; offset: number } {
    return { memory: this.#owner.barMemory(Math.floor(offset / OFFSET_SPAN)), offset: offset % OFFSET_SPAN };
  }
}

/** vfio_pci_core_mmap: 0 or −errno. `regions`: how many there are. */
export function checkMmap(owner: MapOwner, regions: number, { page, pages, shared }: FileMap): number {
  const pagesPerRegion = OFFSET_SPAN / PAGE_SIZE;
  const bar = Math.floor(page / pagesPerRegion);
  if (bar >= regions) return -EINVAL;
  if (!shared) return -EINVAL;
  if (bar > 5 || !owner.mappable(bar)) return -EINVAL;
  const first = page % pagesPerRegion;
  if (first + pages > Math.ceil(barLength(owner.pdev, bar) / PAGE_SIZE)) return -EINVAL;
  return owner.useBar(bar, 'vfio-pci');
}

/** vfio_pci_probe_mmaps: memory BARs of whole pages, and shorter ones that have their page for themselves. */
export function mappableBars(pdev: PciDev): boolean[] {
  return pdev.resources.slice(0, 6).map((resource, bar) => {
    const length = barLength(pdev, bar);
    if (length === 0 || (resource.flags & IORESOURCE_MEM) === 0n) return false;
    return length >= PAGE_SIZE || ownsItsPage(pdev, resource);
  });
}

function ownsItsPage({ subsystem }: PciDev, resource: Resource): boolean {
  const { start } = resource;
  const end = start + BigInt(PAGE_SIZE);
  if (start % BigInt(PAGE_SIZE) !== 0n) return false;
  const memory = subsystem.devices
    .flatMap(({ resources }) => resources.slice(0, 7))
    .filter(({ flags }) => flags & IORESOURCE_MEM);
  return memory.every((one) => one === resource || one.end < start || one.start >= end);
}
