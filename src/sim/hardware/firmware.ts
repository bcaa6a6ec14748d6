import * as r from '../../uapi/pci-regs.ts';
import { type Bar, setBarAddress, sizeBars, sizeRom } from './bars.ts';
import { PciBridge, type PciBus } from './bridge.ts';
import { type PciFabric, virtualBars } from './fabric.ts';
import type { PciFunction } from './pci-function.ts';

/** 'high': 64-bit memory that does not have to lie below 4 GiB. */
type Kind = 'io' | 'memory' | 'prefetchable' | 'high';

interface Entry {
  readonly size: bigint;
  readonly align: bigint;
  readonly kind: Kind;
  assign(base: bigint): void;
}

/** The end of the hole for devices: the IO-APIC comes next. */
const MEMORY_END = 0xfec0_0000n;
const HIGH_BASE = 0x1_8000_0000n;
const IO_WINDOW = 0x1000n;
const MEMORY_WINDOW = 0x20_0000n;
/** A BAR of this size goes above 4 GiB, if it can. */
const LARGE = 0x400_0000n;
const SERR_FORWARD = 0x2;
/** Interrupt lines of PIRQ A to D. */
const LINES = [10, 10, 11, 11];

const up = (value: bigint, align: bigint): bigint => ((value + align - 1n) / align) * align;
const down = (value: bigint, align: bigint): bigint => (value / align) * align;

/** Numbers the buses behind the bridges of `bus`, depth first; `fill` puts functions on each bus when it has its number. The last number given. */
export function numberBuses(bus: PciBus, number: number, fill: (bus: PciBus) => void): number {
  fill(bus);
  let last = number;
  for (const fn of bus.sorted()) {
    if (!(fn instanceof PciBridge)) continue;
    const secondary = last + 1;
    fn.config.write(r.PCI_PRIMARY_BUS, 1, number);
    fn.config.write(r.PCI_SECONDARY_BUS, 1, secondary);
    fn.config.write(r.PCI_SUBORDINATE_BUS, 1, 0xff);
    last = numberBuses(fn.secondary, secondary, fill);
    fn.config.write(r.PCI_SUBORDINATE_BUS, 1, last);
  }
  return last;
}

/** BARs that get an address of a chipset's own in the end; their turn comes all the same. */
export type Fixed = ReadonlyMap<PciFunction, Readonly<Record<number, bigint>>>;

/** Addresses, interrupt lines and decoding of everything: what firmware leaves to the kernel. Larger alignments first, windows behind BARs. */
export function assignAddresses(fabric: PciFabric, fixed: Fixed = new Map()): void {
  const bases: Record<Kind, bigint> = { io: 0xc000n, memory: MEMORY_END, prefetchable: MEMORY_END, high: HIGH_BASE };
  for (const root of fabric.roots) {
    const entries = busEntries(root, false, fixed);
    const of = (kind: Kind): Entry[] => entries.filter((entry) => entry.kind === kind);
    for (const kind of ['prefetchable', 'memory'] as const) {
      bases[kind] = down((kind === 'memory' ? bases.prefetchable : bases.memory) - sum(of(kind)), largest(of(kind)));
      lay(of(kind), bases[kind]);
    }
    bases.prefetchable = bases.memory;
    bases.io = lay(of('io'), up(bases.io, largest(of('io'))));
    bases.high = lay(of('high'), up(bases.high, largest(of('high'))));
  }
  spareIo(fabric);
  for (const bus of fabric.buses()) for (const fn of bus.functions.values()) finish(fabric, fn);
}

/** Slots for which firmware had no I/O ports get some from the kernel: the lowest that are free. */
function spareIo(fabric: PciFabric): void {
  let base = 0x1000n;
  for (const { functions } of fabric.buses()) {
    for (const fn of functions.values()) {
      if (!(fn instanceof PciBridge && hasSlot(fn)) || fn.windows()[0] !== undefined) continue;
      programIo(fn, base, base + IO_WINDOW - 1n);
      base += IO_WINDOW;
    }
  }
}

function hasSlot({ spec: { express } }: PciBridge): boolean {
  return typeof express === 'object' && express.slot === true;
}

function programIo({ config }: PciBridge, first: bigint, last: bigint): void {
  config.write(r.PCI_IO_BASE, 1, Number(first >> 8n) & 0xf0);
  config.write(r.PCI_IO_LIMIT, 1, Number(last >> 8n) & 0xf0);
}

function sum(entries: readonly Entry[]): bigint {
  return entries.reduce((total, { size }) => total + size, 0n);
}

function largest(entries: readonly Entry[]): bigint {
  return entries.reduce((most, { align }) => (align > most ? align : most), 1n);
}

/** One after the other from `base` on; where the next could begin. */
function lay(entries: readonly Entry[], base: bigint): bigint {
  const order = entries.toSorted((a, b) => Number(b.align - a.align) || Number(b.size - a.size));
  let at = base;
  for (const entry of order) {
    at = up(at, entry.align);
    entry.assign(at);
    at += entry.size;
  }
  return at;
}

/** What a bus asks for: the BARs on it, then a window for each bridge, the last bus first. */
function busEntries(bus: PciBus, high: boolean, fixed: Fixed): Entry[] {
  const functions = bus.sorted();
  const bars = functions.flatMap((fn) => functionEntries(fn, high || isLarge(fn), fixed.get(fn) ?? {}));
  const windows = functions
    .filter((fn) => fn instanceof PciBridge)
    .flatMap((bridge) => bridgeEntries(bridge, high || isLarge(bridge), fixed));
  return [...bars, ...windows.toReversed()];
}

/** A function, or one below it, has a BAR that belongs above 4 GiB. */
function isLarge(fn: PciFunction): boolean {
  if (allBars(fn).some(({ bar, count }) => bar.wide && bar.size * BigInt(count) >= LARGE)) return true;
  return fn instanceof PciBridge && fn.secondary.sorted().some(isLarge);
}

interface Counted {
  readonly bar: Bar;
  /** How many of them lie side by side: those of virtual functions. */
  readonly count: number;
}

/** Sizes do not change. */
const sized = new WeakMap<PciFunction, readonly Counted[]>();

function allBars(fn: PciFunction): readonly Counted[] {
  const known = sized.get(fn);
  if (known !== undefined) return known;
  const bridge = fn instanceof PciBridge;
  const own = fn.spec.virtual === true ? [] : sizeBars(fn.config, r.PCI_BASE_ADDRESS_0, bridge ? 2 : 6);
  const rom = sizeRom(fn.config, romAt(fn));
  const one = [...own, rom].flatMap((bar) => (bar === undefined ? [] : [{ bar, count: 1 }]));
  const many = virtualBars(fn).flatMap((bar) => (bar === undefined ? [] : [{ bar, count: fn.spec.sriov!.totalVfs }]));
  const all = [...one, ...many];
  sized.set(fn, all);
  return all;
}

function functionEntries(fn: PciFunction, high: boolean, fixed: Readonly<Record<number, bigint>>): Entry[] {
  return allBars(fn).map(({ bar, count }) => ({
    size: bar.size * BigInt(count),
    align: bar.size,
    kind: kindOf(fn, bar, high),
    assign: (base) => setBarAddress(fn.config, bar, fixed[(bar.at - r.PCI_BASE_ADDRESS_0) / 4] ?? base),
  }));
}

function kindOf(fn: PciFunction, bar: Bar, high: boolean): Kind {
  if (bar.io) return 'io';
  if (bar.wide && high) return 'high';
  return bar.prefetchable && bar.at !== romAt(fn) ? 'prefetchable' : 'memory';
}

const romAt = (fn: PciFunction): number => (fn instanceof PciBridge ? r.PCI_ROM_ADDRESS1 : r.PCI_ROM_ADDRESS);

/** Windows of a bridge: as large as what is below, or for what may come where things can be plugged in. Ports are given to it when something asks for them. */
function bridgeEntries(bridge: PciBridge, high: boolean, fixed: Fixed): Entry[] {
  const below = busEntries(bridge.secondary, high, fixed);
  const window = (
    kind: Kind,
    parts: readonly Entry[],
    least: bigint,
    spare: boolean,
    program: (first: bigint, last: bigint) => void,
  ): Entry[] => {
    const total = sum(parts) > 0n ? sum(parts) : spare ? least : 0n;
    if (total === 0n) return [];
    const align = largest(parts) > least ? largest(parts) : least;
    const size = up(total, align);
    const assign = (base: bigint): void => {
      lay(parts, base);
      program(base, base + size - 1n);
    };
    return [{ kind, size, align, assign }];
  };
  const of = (kind: Kind): Entry[] => below.filter((entry) => entry.kind === kind);
  const { config } = bridge;
  const prefetchable = (first: bigint, last: bigint): void => {
    config.write(r.PCI_PREF_MEMORY_BASE, 2, Number((first >> 16n) & 0xfff0n));
    config.write(r.PCI_PREF_MEMORY_LIMIT, 2, Number((last >> 16n) & 0xfff0n));
    config.write(r.PCI_PREF_BASE_UPPER32, 4, Number(first >> 32n));
    config.write(r.PCI_PREF_LIMIT_UPPER32, 4, Number(last >> 32n));
  };
  const { hotplug = hasSlot(bridge) } = bridge.spec;
  close(bridge);
  return [
    ...window('io', of('io'), IO_WINDOW, false, (first, last) => programIo(bridge, first, last)),
    ...window('memory', of('memory'), MEMORY_WINDOW, hotplug, (first, last) => {
      config.write(r.PCI_MEMORY_BASE, 2, Number((first >> 16n) & 0xfff0n));
      config.write(r.PCI_MEMORY_LIMIT, 2, Number((last >> 16n) & 0xfff0n));
    }),
    ...(high
      ? window('high', of('high'), MEMORY_WINDOW, hotplug, prefetchable)
      : window('prefetchable', of('prefetchable'), MEMORY_WINDOW, hotplug, prefetchable)),
  ];
}

/** A window whose end lies below its beginning decodes nothing. */
function close(bridge: PciBridge): void {
  bridge.config.write(r.PCI_IO_BASE, 2, 0x00f0);
  bridge.config.write(r.PCI_MEMORY_BASE, 4, 0x0000_fff0);
  bridge.config.write(r.PCI_PREF_MEMORY_BASE, 4, 0x0000_fff0);
}

/** INTA to INTD of a function as they arrive at the root: behind a bridge they turn with the slot. */
export function interruptPin(fabric: PciFabric, fn: PciFunction): { pin: number; slot: number } {
  let pin = fn.config.peek(r.PCI_INTERRUPT_PIN, 1);
  let at = fabric.slot(fn);
  for (const bridge of fabric.bridgesAbove(fn)) {
    pin = ((pin - 1 + (at!.devfn >> 3)) % 4) + 1;
    at = fabric.slot(bridge);
  }
  return { pin, slot: (at?.devfn ?? 0) >> 3 };
}

function finish(fabric: PciFabric, fn: PciFunction): void {
  if (fn.config.peek(r.PCI_INTERRUPT_PIN, 1) !== 0) {
    const { pin, slot } = interruptPin(fabric, fn);
    fn.config.write(r.PCI_INTERRUPT_LINE, 1, LINES[((slot < 25 ? slot : 0) + pin - 1) & 3]!);
  }
  const decode = r.PCI_COMMAND_IO | r.PCI_COMMAND_MEMORY | r.PCI_COMMAND_SERR;
  fn.config.write(r.PCI_COMMAND, 2, fn.config.read(r.PCI_COMMAND, 2) | decode);
  if (fn instanceof PciBridge) fn.config.write(r.PCI_BRIDGE_CONTROL, 2, SERR_FORWARD);
}
