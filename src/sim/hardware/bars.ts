import * as r from '../../uapi/pci-regs.ts';
import type { ConfigWidth } from './config-space.ts';

/** Configuration registers over the bus. */
export interface Registers {
  read(offset: number, width: ConfigWidth): number;
  write(offset: number, width: ConfigWidth, value: number): void;
}

/** A BAR as sizing finds it. */
export interface Bar {
  /** Offset of its register. */
  readonly at: number;
  readonly size: bigint;
  readonly io: boolean;
  readonly wide: boolean;
  readonly prefetchable: boolean;
  /** The type bits of the register. */
  readonly kind: number;
}

/** `count` BAR registers from `at` on, by writing all ones; undefined where there is none (the upper half of a wide one too). Values are put back. */
export function sizeBars(registers: Registers, at: number, count: number): (Bar | undefined)[] {
  const bars = new Array<Bar | undefined>(count).fill(undefined);
  for (let index = 0; index < count; index++) {
    const bar = sizeBar(registers, at + 4 * index);
    bars[index] = bar;
    if (bar?.wide === true) index++;
  }
  return bars;
}

function probe(registers: Registers, at: number, ones: number): number {
  const before = registers.read(at, 4);
  registers.write(at, 4, ones);
  const mask = registers.read(at, 4);
  registers.write(at, 4, before);
  return mask;
}

function sizeBar(registers: Registers, at: number): Bar | undefined {
  const low = probe(registers, at, 0xffff_ffff);
  if (low === 0 || low === 0xffff_ffff) return undefined;
  const io = (low & r.PCI_BASE_ADDRESS_SPACE_IO) !== 0;
  const kind = io ? low & 0x3 : low & 0xf;
  const wide = !io && (kind & 0x6) === r.PCI_BASE_ADDRESS_MEM_TYPE_64;
  const high = wide ? probe(registers, at + 4, 0xffff_ffff) : 0xffff_ffff;
  const mask = (BigInt(high) << 32n) | BigInt(low - kind);
  const size = BigInt.asUintN(wide ? 64 : 32, -mask);
  return size === 0n
    ? undefined
    : { at, size, io, wide, prefetchable: !io && (kind & r.PCI_BASE_ADDRESS_MEM_PREFETCH) !== 0, kind };
}

/** The expansion ROM's. */
export function sizeRom(registers: Registers, at: number): Bar | undefined {
  const mask = probe(registers, at, 0xffff_f800);
  const size = BigInt.asUintN(32, -BigInt(mask & 0xffff_f800));
  return mask === 0 || mask === 0xffff_ffff || size === 0n
    ? undefined
    : { at, size, io: false, wide: false, prefetchable: true, kind: 0 };
}

/** The address a BAR holds. */
export function barAddress(registers: Pick<Registers, 'read'>, { at, wide, io }: Pick<Bar, 'at' | 'wide' | 'io'>): bigint {
  const low = BigInt(registers.read(at, 4)) & (io ? 0xffff_fffcn : 0xffff_fff0n);
  return wide ? (BigInt(registers.read(at + 4, 4)) << 32n) | low : low;
}

export function setBarAddress(registers: Registers, { at, wide, kind }: Bar, address: bigint): void {
  registers.write(at, 4, Number(BigInt.asUintN(32, address)) + kind);
  if (wide) registers.write(at + 4, 4, Number(address >> 32n));
}
