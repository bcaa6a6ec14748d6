import type { Width } from '../../kernel/memory.ts';
import { EINVAL, ENXIO, EPERM, PROT_EXEC } from '../../uapi/sys.ts';
import type { Backing, FileMap } from '../file.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { IommufdObject } from './objects.ts';

/** Memory a driver offers on /dev/iommu, from a byte offset on. */
interface Region {
  readonly offset: number;
  readonly length: number;
  readonly owner: IommufdObject;
  readonly backing: Backing;
}

/** `ictx->mt_mmap`: offsets are given out first-fit, from 4096 on. */
export class MmapRegions {
  readonly #regions: Region[] = [];

  add(owner: IommufdObject, length: number, backing: Backing): bigint {
    let offset = PAGE_SIZE;
    let at = 0;
    for (; at < this.#regions.length; at++) {
      const next = this.#regions[at]!;
      if (offset + length <= next.offset) break;
      offset = next.offset + next.length;
    }
    this.#regions.splice(at, 0, { offset, length, owner, backing });
    return BigInt(offset);
  }

  remove(owner: IommufdObject): void {
    for (const region of this.#regions.filter((other) => other.owner === owner))
      this.#regions.splice(this.#regions.indexOf(region), 1);
  }

  /** iommufd_fops_mmap: a whole region. While it is mapped its owner cannot be destroyed. */
  mmap({ page, pages, prot, shared }: FileMap): Backing | number {
    if (!shared) return -EINVAL;
    if (prot & PROT_EXEC) return -EPERM;
    const region = this.#regions.find(({ offset }) => offset === page * PAGE_SIZE);
    if (region === undefined || region.length !== pages * PAGE_SIZE) return -ENXIO;
    const { load, store } = region.backing;
    if (load === undefined || store === undefined) return new MappedRegion(region, page);
    return new MappedRegisters(region, page, { load: load.bind(region.backing), store: store.bind(region.backing) });
  }
}

/** A region as one mapping shows it: page numbers are those of the descriptor. */
class MappedRegion implements Backing {
  readonly notifiers: Backing['notifiers'];
  readonly #region: Region;
  readonly #first: number;

  constructor(region: Region, first: number) {
    this.#region = region;
    this.#first = first;
    this.notifiers = region.backing.notifiers;
  }

  page(index: number, write: boolean) {
    return this.#region.backing.page(index - this.#first, write);
  }

  openView(index: number, count: number) {
    return this.#region.backing.openView?.(index - this.#first, count);
  }

  closeView(index: number, count: number): void {
    this.#region.backing.closeView?.(index - this.#first, count);
  }

  opened(): void {
    this.#region.owner.users++;
  }

  closed(): void {
    this.#region.owner.users--;
  }
}

/** A region of registers, not of memory. */
class MappedRegisters extends MappedRegion {
  readonly #device: DeviceMemory;
  readonly #from: number;

  constructor(region: Region, first: number, device: DeviceMemory) {
    super(region, first);
    this.#device = device;
    this.#from = first * PAGE_SIZE;
  }

  load(offset: number, width: Width): number | bigint {
    return this.#device.load(offset - this.#from, width);
  }

  store(offset: number, width: Width, value: number | bigint): number {
    return this.#device.store(offset - this.#from, width, value);
  }

  pfn(index: number): DeviceMemory & { readonly offset: number } {
    const { load, store } = this.#device;
    return { offset: index * PAGE_SIZE - this.#from, load, store };
  }
}
