import { loadWidth, storeWidth } from '../../kernel/by-width.ts';
import type { Width } from '../../kernel/memory.ts';
import { KVM_MEM_READONLY } from '../../uapi/kvm.ts';
import { PROT_READ, PROT_WRITE } from '../../uapi/sys.ts';
import type { Backing } from '../file.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { DmaBufSlot } from './dma-buf-slot.ts';
import type { Memslot } from './memslots.ts';
import type { Vm } from './vm.ts';

type DeviceBacking = Backing & Required<Pick<Backing, 'load' | 'store' | 'pfn'>>;

/** A guest page that is a device's: the guest reaches it without an exit, by accesses of the width of its own. */
export interface DevicePage {
  readonly memory: DeviceMemory;
  /** Of the page, in that memory. */
  readonly offset: number;
  /** It can be mapped for loads, and for stores. */
  readonly readable: boolean;
  readonly writable: boolean;
  /** RFC: accesses carry the T bit. */
  readonly t: boolean;
}

/** The device behind a frame; undefined: memory, or nothing. */
export function devicePage(vm: Vm, slot: Memslot | undefined, gfn: number): DevicePage | undefined {
  if (slot === undefined) return undefined;
  if (slot.dmaBuf !== undefined) return assignedPage(vm, slot.dmaBuf, gfn);
  const { mm } = vm;
  const hva = Number(slot.userspace_addr) + (gfn - slot.base_gfn) * PAGE_SIZE;
  const vma = mm.vmaAt(hva);
  if (vma === undefined || !isDevice(vma.backing)) return undefined;
  const index = vma.page + Math.floor((hva - vma.start) / PAGE_SIZE);
  // hva_to_pfn_remapped
  const mappable = vma.backing.pfn(index) !== null;
  return {
    memory: vma.backing,
    offset: index * PAGE_SIZE,
    readable: mappable && (vma.prot & PROT_READ) !== 0,
    writable: mappable && (vma.prot & PROT_WRITE) !== 0 && (slot.flags & KVM_MEM_READONLY) === 0,
    t: false,
  };
}

/** RFC: a page of a dma-buf in the slot. */
function assignedPage(vm: Vm, dmaBuf: DmaBufSlot, gfn: number): DevicePage {
  const t = vm.isPrivate(gfn);
  return { ...dmaBuf.fault(gfn, t), readable: true, writable: true, t };
}

function isDevice(backing: Backing): backing is DeviceBacking {
  return backing.pfn !== undefined && backing.load !== undefined && backing.store !== undefined;
}

/** Loads of the guest; the accesses of one instruction that is not aligned are several to the device. */
export function loadDevice({ memory, offset, t }: DevicePage, within: number, data: Uint8Array): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (const [at, width] of accesses(within, data.length)) {
    storeWidth(view, at, width, memory.load(offset + within + at, width, t));
  }
}

export function storeDevice({ memory, offset, t }: DevicePage, within: number, data: Uint8Array): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  for (const [at, width] of accesses(within, data.length)) {
    memory.store(offset + within + at, width, loadWidth(view, at, width), t);
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
