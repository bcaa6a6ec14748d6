import type { Width } from '../../kernel/memory.ts';
import { KVM_MEM_READONLY } from '../../uapi/kvm.ts';
import { PROT_READ, PROT_WRITE } from '../../uapi/sys.ts';
import type { Backing } from '../file.ts';
import { PAGE_SIZE } from '../pages.ts';
import type { Memslot } from './memslots.ts';
import type { Vm } from './vm.ts';

/** A guest page whose host mapping shows a device: the guest reaches it without an exit, by accesses of the width of its own. */
export interface DevicePage {
  readonly backing: Required<Pick<Backing, 'load' | 'store' | 'pfn'>>;
  /** The page of the backing. */
  readonly index: number;
  /** What the host mapping and the slot allow. */
  readonly readable: boolean;
  readonly writable: boolean;
}

/** The device behind a frame; undefined: memory, or nothing. */
export function devicePage({ mm }: Vm, slot: Memslot | undefined, gfn: number): DevicePage | undefined {
  if (slot === undefined) return undefined;
  const hva = Number(slot.userspace_addr) + (gfn - slot.base_gfn) * PAGE_SIZE;
  const vma = mm.vmaAt(hva);
  if (vma === undefined || !isDevice(vma.backing)) return undefined;
  return {
    backing: vma.backing,
    index: vma.page + Math.floor((hva - vma.start) / PAGE_SIZE),
    readable: (vma.prot & PROT_READ) !== 0,
    writable: (vma.prot & PROT_WRITE) !== 0 && (slot.flags & KVM_MEM_READONLY) === 0,
  };
}

function isDevice(backing: Backing): backing is Backing & DevicePage['backing'] {
  return backing.pfn !== undefined && backing.load !== undefined && backing.store !== undefined;
}

/** hva_to_pfn_remapped: the page can be mapped for this access now. */
export function reachable({ backing, index, readable, writable }: DevicePage, write: boolean): boolean {
  return (write ? writable : readable) && backing.pfn(index) !== null;
}

/** Loads of the guest; the accesses of one instruction that is not aligned are several to the device. */
export function loadDevice({ backing, index }: DevicePage, within: number, data: Uint8Array): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (const [at, width] of accesses(within, data.length)) {
    const value = backing.load(index * PAGE_SIZE + within + at, width);
    if (width === 8) view.setBigUint64(at, BigInt(value), true);
    else for (let i = 0, left = Number(value); i < width; i++, left = Math.floor(left / 256)) view.setUint8(at + i, left & 0xff);
  }
}

export function storeDevice({ backing, index }: DevicePage, within: number, data: Uint8Array): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (const [at, width] of accesses(within, data.length)) {
    let value = 0;
    for (let i = width - 1; i >= 0 && width < 8; i--) value = value * 256 + view.getUint8(at + i);
    backing.store(index * PAGE_SIZE + within + at, width, width === 8 ? view.getBigUint64(at, true) : value);
  }
}

function* accesses(within: number, length: number): Generator<readonly [at: number, width: Width]> {
  for (let at = 0; at < length; ) {
    let width: Width = 8;
    while (width > 1 && (width > length - at || (within + at) % width !== 0)) width = (width / 2) as Width;
    yield [at, width];
    at += width;
  }
}
