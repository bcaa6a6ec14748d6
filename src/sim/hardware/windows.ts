import * as r from '../../uapi/pci-regs.ts';
import { barAddress } from './bars.ts';
import type { BarSpec } from './function-spec.ts';
import type { PciFunction } from './pci-function.ts';

/** A virtual function's physical one, and its index. */
export interface Physical {
  readonly fn: PciFunction;
  readonly index: number;
}

export interface Window {
  readonly space: 'io' | 'mem';
  readonly base: bigint;
}

/** What a BAR decodes now; undefined: COMMAND says nothing. */
export function windowOf(fn: PciFunction, physical: Physical | undefined, bar: number): Window | undefined {
  return physical === undefined ? ownWindow(fn, bar) : virtualWindow(physical, bar);
}

/** The memory BARs of a function in ascending order, whether it decodes them or not. */
export function memoryBars(fn: PciFunction, physical: Physical | undefined): { bar: number; base: bigint; size: number }[] {
  const specs: Readonly<Record<number, BarSpec>> = (physical === undefined ? fn.spec.bars : physical.fn.spec.sriov?.vfBars) ?? {};
  const memory = Object.entries(specs).filter(([, { space }]) => space !== 'io');
  return memory.map(([key, one]) => {
    const bar = Number(key);
    return { bar, base: physical === undefined ? ownBase(fn, bar, one) : virtualBase(physical, bar, one), size: one.size };
  });
}

export function ownWindow(fn: PciFunction, bar: number): Window | undefined {
  const { config, spec } = fn;
  const command = config.peek(r.PCI_COMMAND, 2);
  if (bar === 6) {
    const at = spec.bridge === true ? r.PCI_ROM_ADDRESS1 : r.PCI_ROM_ADDRESS;
    const value = config.peek(at, 4);
    const on = (value & r.PCI_ROM_ADDRESS_ENABLE) !== 0 && (command & r.PCI_COMMAND_MEMORY) !== 0;
    return on ? { space: 'mem', base: BigInt((value & 0xffff_f800) >>> 0) } : undefined;
  }
  const one = spec.bars?.[bar];
  if (one === undefined) return undefined;
  const io = one.space === 'io';
  if ((command & (io ? r.PCI_COMMAND_IO : r.PCI_COMMAND_MEMORY)) === 0) return undefined;
  return { space: io ? 'io' : 'mem', base: ownBase(fn, bar, one) };
}

/** A virtual function's part of the physical function's VF BAR. */
function virtualWindow(physical: Physical, bar: number): Window | undefined {
  const { config, positions, spec } = physical.fn;
  const one = spec.sriov?.vfBars[bar];
  const on = r.PCI_SRIOV_CTRL_VFE | r.PCI_SRIOV_CTRL_MSE;
  if (one === undefined || (config.peek(positions.sriov + r.PCI_SRIOV_CTRL, 2) & on) !== on) return undefined;
  return { space: 'mem', base: virtualBase(physical, bar, one) };
}

function ownBase({ config }: PciFunction, bar: number, { space }: BarSpec): bigint {
  const registers = { read: (at: number, width: 1 | 2 | 4) => config.peek(at, width) };
  return barAddress(registers, { at: r.PCI_BASE_ADDRESS_0 + 4 * bar, wide: space === 'mem64', io: space === 'io' });
}

function virtualBase({ fn: { config, positions }, index }: Physical, bar: number, { space, size }: BarSpec): bigint {
  const registers = { read: (offset: number, width: 1 | 2 | 4) => config.peek(offset, width) };
  const at = positions.sriov + r.PCI_SRIOV_BAR + 4 * bar;
  return barAddress(registers, { at, wide: space === 'mem64', io: false }) + BigInt(index * size);
}
