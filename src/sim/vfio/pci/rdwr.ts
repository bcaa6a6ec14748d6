import { loadWidth, storeWidth } from '../../../kernel/by-width.ts';
import type { Width } from '../../../kernel/memory.ts';
import { EINVAL, EIO, ENOMEM } from '../../../uapi/sys.ts';
import { has } from '../../changes.ts';
import type { PciDev } from '../../pci/pci-dev.ts';
import { romSize } from '../../pci/rom.ts';

const ROM = 6;
const IORESOURCE_MEM = 0x200n;

/** What regions ask of the device they belong to. */
export interface RegionOwner {
  readonly pdev: PciDev;
  /** Memory decode is on as the user sees it, and the device is not in D3. */
  readonly memoryEnabled: boolean;
  /** Of the MSI-X table; undefined: none. */
  readonly msixTable: { readonly bar: number; readonly start: number; readonly end: number } | undefined;
  /** The BAR is used: 0, or why it cannot be. */
  useBar(bar: number): number;
  /** RFC: its user may not reach it (VFIO_DEVICE_BIND_IOMMUFD_PRIVATE). */
  isPrivateBar(bar: number): boolean;
}

/** A read or a write of user memory that goes to a region, piece by piece. */
interface Transfer {
  readonly bytes: Uint8Array;
  readonly write: boolean;
}

/** Bytes of a BAR. */
export function barLength(pdev: PciDev, bar: number): number {
  const { start, end } = pdev.resources[bar]!;
  return start === 0n ? 0 : Number(end - start) + 1;
}

/** vfio_pci_bar_rw: bytes, or −errno. A transfer is cut at the end of the BAR. */
export function accessBar(owner: RegionOwner, bar: number, { bytes, write }: Transfer, offset: number): number {
  const { pdev } = owner;
  const end = barLength(pdev, bar);
  if (end === 0 || offset >= end) return -EINVAL;
  const transfer = { bytes: bytes.subarray(0, end - offset), write };
  if (bar === ROM) return write ? -EINVAL : readRom(owner, transfer, offset, end);
  if (owner.isPrivateBar(bar)) return -EINVAL;
  const error = owner.useBar(bar);
  if (error < 0) return error;
  const table = owner.msixTable?.bar === bar ? owner.msixTable : { start: end, end };
  const memory = isMemory(pdev, bar);
  return move(owner, transfer, offset, {
    bar,
    gated: memory,
    maxWidth: has(pdev.system.machine, 'regionsByEightBytes') ? 8 : 4,
    hole: table,
    read: (at, width) => (width === 8 && !memory ? readTwice(pdev, bar, at) : pdev.barRead(bar, at, width)),
    store: (at, width, value) => storeBar(pdev, bar, at, width, value),
  });
}

/** The ROM decodes while it is read, whatever the user has in its BAR. What is past the images reads as ones. */
function readRom(owner: RegionOwner, transfer: Transfer, offset: number, end: number): number {
  const size = romSize(owner.pdev);
  if (size === 0) return -ENOMEM;
  return move(owner, transfer, offset, {
    ...{ bar: ROM, gated: true, maxWidth: 4, hole: { start: size, end } },
    read: (at, width) => owner.pdev.barRead(ROM, at, width),
    store: () => {},
  });
}

interface Target {
  readonly bar: number;
  /** Without memory decode each access is EIO. */
  readonly gated: boolean;
  readonly maxWidth: Width;
  /** Reads as ones, drops writes. */
  readonly hole: { readonly start: number; readonly end: number };
  read(at: number, width: Width): number | bigint;
  store(at: number, width: Width, value: number | bigint): void;
}

const WIDTHS: readonly Width[] = [8, 4, 2, 1];

/** vfio_pci_core_do_io_rw: the widest accesses that are aligned and fit. An error discards the count of what was done before. */
function move(owner: RegionOwner, { bytes, write }: Transfer, offset: number, target: Target): number {
  const { hole, maxWidth } = target;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let done = 0; done < bytes.length; ) {
    const at = offset + done;
    const left = bytes.length - done;
    if (at >= hole.start && at < hole.end) {
      const skipped = Math.min(left, hole.end - at);
      if (!write) bytes.fill(0xff, done, done + skipped);
      done += skipped;
      continue;
    }
    const room = at < hole.start ? Math.min(left, hole.start - at) : left;
    const width = WIDTHS.find((each) => each <= maxWidth && each <= room && at % each === 0)!;
    if (target.gated && !owner.memoryEnabled) return -EIO;
    if (write) target.store(at, width, loadWidth(view, done, width));
    else storeWidth(view, done, width, target.read(at, width));
    done += width;
  }
  return bytes.length;
}

/** An I/O port has no accesses of eight bytes: two of four, the low half first. */
function readTwice(pdev: PciDev, bar: number, at: number): bigint {
  const low = BigInt(pdev.barRead(bar, at, 4));
  return low | (BigInt(pdev.barRead(bar, at + 4, 4)) << 32n);
}

export function storeBar(pdev: PciDev, bar: number, at: number, width: Width, value: number | bigint): void {
  if (width < 8 || isMemory(pdev, bar)) pdev.barWrite(bar, at, width, value);
  else {
    pdev.barWrite(bar, at, 4, Number(BigInt(value) & 0xffff_ffffn));
    pdev.barWrite(bar, at + 4, 4, Number(BigInt(value) >> 32n));
  }
}

function isMemory(pdev: PciDev, bar: number): boolean {
  return (pdev.resources[bar]!.flags & IORESOURCE_MEM) !== 0n;
}
