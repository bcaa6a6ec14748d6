import { bytes as checkBytes, integer, pageMultiple } from '../kernel/arguments.ts';
import { KernelError, rangeError, typeError } from '../kernel/errors.ts';
import { hex, showAs } from '../kernel/inspect.ts';
import type { Memory, Width } from '../kernel/memory.ts';
import { EIO, PROT_READ, PROT_WRITE } from '../uapi/sys.ts';
import { VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE } from '../uapi/vfio.ts';
import type { RegionInfo, VfioDevice } from './device.ts';
import { flags } from './show.ts';

/** Where a mapping of a region begins and how long it is; default all of it. */
export interface RegionMap {
  offset?: number;
  length?: number;
  /** PROT_*; default read and write as far as the region allows. */
  prot?: number;
}

/**
 * A region of a device: a BAR, the ROM, configuration space. `read32(at)` is one access of the device of exactly this width, by pread(2); `mmap()`
 * gives the same accessors on the mapped region, without a system call each. Offsets are in bytes from the region's start.
 */
export class Region {
  readonly device: VfioDevice;
  /** VFIO_PCI_BAR0_REGION_INDEX … */
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  /** In bytes; 0: there is no such region. */
  readonly size: number;
  /** Where pread(2), pwrite(2), mmap(2) and VFIO_DEVICE_IOEVENTFD find it in the device's descriptor. */
  readonly offset: bigint;
  readonly caps: RegionInfo['caps'];
  readonly #buffer: Uint8Array = new Uint8Array(8);
  readonly #view: DataView = new DataView(this.#buffer.buffer);
  readonly #widths: readonly Uint8Array[] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((width) => this.#buffer.subarray(0, width));

  constructor(device: VfioDevice, info: RegionInfo) {
    this.device = device;
    this.index = info.index;
    this.flags = info.flags;
    this.size = Number(info.size);
    this.offset = info.offset;
    this.caps = info.caps;
  }

  /** pread(2) of one byte. EIO: memory decoding is off, or the device is in D3. */
  read8(at: number): number {
    this.#load(at, 1);
    return this.#view.getUint8(0);
  }

  /** pread(2) of two bytes at an offset that is a multiple of two. */
  read16(at: number): number {
    this.#load(at, 2);
    return this.#view.getUint16(0, true);
  }

  /** pread(2) of four bytes at a multiple of four. */
  read32(at: number): number {
    this.#load(at, 4);
    return this.#view.getUint32(0, true);
  }

  /** pread(2) of eight bytes at a multiple of eight. A port BAR, configuration space and kernels before 6.10 make two accesses of it, the low half first. */
  read64(at: number): bigint {
    this.#load(at, 8);
    return this.#view.getBigUint64(0, true);
  }

  /** pwrite(2) of one byte. EIO as `read8`. */
  write8(at: number, value: number): void {
    this.#view.setUint8(0, integer(value, 'value', 0, 0xff));
    this.#store(at, 1);
  }

  /** pwrite(2) of two bytes at a multiple of two. */
  write16(at: number, value: number): void {
    this.#view.setUint16(0, integer(value, 'value', 0, 0xffff), true);
    this.#store(at, 2);
  }

  /** pwrite(2) of four bytes at a multiple of four. */
  write32(at: number, value: number): void {
    this.#view.setUint32(0, integer(value, 'value', 0, 0xffff_ffff), true);
    this.#store(at, 4);
  }

  /** pwrite(2) of eight bytes at a multiple of eight; in two accesses where `read64` is. */
  write64(at: number, value: bigint): void {
    if (typeof value !== 'bigint') throw typeError(`value must be a bigint, not ${typeof value}`);
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw rangeError(`value must fit 64 unsigned bits, not ${value}n`);
    this.#view.setBigUint64(0, value, true);
    this.#store(at, 8);
  }

  /** pread(2) of a range, in accesses as wide as alignment allows: a copy, or fills `into`. */
  read(at: number, what: number | Uint8Array): Uint8Array {
    const into = typeof what === 'number' ? new Uint8Array(integer(what, 'length', 0, this.size)) : checkBytes(what, 'into');
    this.#within(at, into.length);
    this.#whole('pread', this.device.pread(into, this.offset + BigInt(at)), into.length);
    return into;
  }

  /** pwrite(2) of a range, in accesses as wide as alignment allows. */
  write(at: number, from: Uint8Array): void {
    const bytes = checkBytes(from, 'bytes');
    this.#within(at, bytes.length);
    this.#whole('pwrite', this.device.pwrite(bytes, this.offset + BigInt(at)), bytes.length);
  }

  /**
   * mmap(2), shared: memory without `bytes`, since a touch may fault; `read32` and the others are one access each. It keeps the device open
   * until it is closed. While memory decoding is off an access throws EFAULT; on again, it works again. EINVAL: VFIO_REGION_INFO_FLAG_MMAP is not set.
   */
  mmap({ offset = 0, length, prot }: RegionMap = {}): Memory {
    pageMultiple(integer(offset, 'offset', 0, this.size), 'offset');
    this.#within(offset, length ?? 0);
    const allowed =
      (this.flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) | (this.flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);
    return this.device.mmap({
      length: length ?? this.size - offset,
      offset: this.offset + BigInt(offset),
      prot: prot ?? allowed,
    });
  }

  #load(at: number, width: Width): void {
    this.#aligned(at, width);
    this.#whole('pread', this.device.pread(this.#widths[width]!, this.offset + BigInt(at)), width);
  }

  #store(at: number, width: Width): void {
    this.#aligned(at, width);
    this.#whole('pwrite', this.device.pwrite(this.#widths[width]!, this.offset + BigInt(at)), width);
  }

  #aligned(at: number, width: Width): void {
    this.#within(at, width);
    if (at % width !== 0) throw rangeError(`${hex(at)} is no multiple of ${width}: the kernel would make several accesses of it`);
  }

  #within(at: number, length: number): void {
    integer(at, 'offset', 0, Number.MAX_SAFE_INTEGER);
    if (at + length > this.size)
      throw rangeError(`offset ${hex(at)} + ${length} bytes passes the end of region ${this.index} (${hex(this.size)})`);
  }

  #whole(syscall: string, done: number, length: number): void {
    if (done !== length)
      throw new KernelError(EIO, syscall, { note: `${done} of ${length} bytes of region ${this.index} were done` });
  }
}

showAs(Region, (region) => {
  const { index, size } = region;
  return `${region.constructor.name} { ${index}, ${hex(size)} bytes, ${flags('vfio_region_info', region.flags)} }`;
});
