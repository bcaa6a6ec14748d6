import { rangeError } from '../../kernel/errors.ts';
import type { Width } from '../../kernel/memory.ts';
import * as r from '../../uapi/pci-regs.ts';
import type { DeviceMemory } from '../mm/device-memory.ts';
import { type Bar, sizeBars } from './bars.ts';
import { PciBridge, PciBus } from './bridge.ts';
import type { DmaTarget, IommuDomain } from './dma-target.ts';
import type { IommuHardware } from './iommu.ts';
import type { Message } from './msix-table.ts';
import type { PageRequest, PciFunction, Place, Severity } from './pci-function.ts';
import type { Tsm } from './tsm/tsm.ts';
import { ownWindow, type Physical, windowOf } from './windows.ts';

/** What hardware finds at its upper end: the clock, the interrupt controller, the root complex's error registers. */
export interface Host {
  readonly now: bigint;
  after(nanoseconds: bigint, run: () => void): () => void;
  random(): number;
  interrupt(fn: PciFunction, message: Message): boolean;
  wire(fn: PciFunction, level: boolean): void;
  error(fn: PciFunction, severity: Severity, bit: number): void;
  /** The hot-plug controller of a port has something to tell. */
  slotEvent(port: PciFunction): void;
}

/** Where messages go on x86. */
const MSI_WINDOW = 0xfee0_0000n;
const MSI_WINDOW_LAST = 0xfeef_ffffn;

/** Where a function is: what it reaches from there. */
class Slot implements Place {
  readonly fabric: PciFabric;
  readonly bus: PciBus;
  readonly devfn: number;
  /** Of a virtual function. */
  readonly physical: Physical | undefined;
  /** The bridges above, the nearest first. */
  readonly above: readonly PciBridge[];
  /** What was found out about its BARs, and when: the sum of the generations of all registers that decide it. */
  readonly decoded: Map<number, { readonly stamp: number; readonly base: bigint; readonly decodes: boolean }> = new Map();

  constructor(fabric: PciFabric, bus: PciBus, devfn: number, physical?: Physical) {
    this.fabric = fabric;
    this.bus = bus;
    this.devfn = devfn;
    this.physical = physical;
    this.above = bus.bridge === undefined ? [] : [bus.bridge, ...fabric.bridgesAbove(bus.bridge)];
  }

  get bdf(): string {
    return formatAddress(this.bus.segment, this.bus.number, this.devfn);
  }

  get requester(): number {
    return this.bus.segment * 2 ** 16 + (this.bus.number << 8) + this.devfn;
  }

  get now(): bigint {
    return this.fabric.host.now;
  }

  after(nanoseconds: bigint, run: () => void): () => void {
    return this.fabric.host.after(nanoseconds, run);
  }

  random(): number {
    return this.fabric.host.random();
  }

  translate(fn: PciFunction, iova: bigint, length: number, write: boolean, pasid?: number): DmaTarget | undefined {
    return this.fabric.translate(fn, iova, length, write, pasid);
  }

  requestPage(fn: PciFunction, request: PageRequest, answer: (granted: boolean) => void): void {
    if (this.fabric.opensUp(fn) && this.fabric.iommu !== undefined) this.fabric.iommu.requestPage(fn, request, answer);
    else answer(false);
  }

  /** The window of x86. Behind an SMMUv3 messages go through its tables like any other write. */
  takesMessages(address: bigint): boolean {
    return address >= MSI_WINDOW && address <= MSI_WINDOW_LAST && this.fabric.iommu?.machine.kind !== 'smmuv3';
  }

  interrupt(fn: PciFunction, message: Message): boolean {
    return this.fabric.opensUp(fn) && this.fabric.host.interrupt(fn, message);
  }

  wire(fn: PciFunction, level: boolean): void {
    this.fabric.host.wire(fn, level);
  }

  error(fn: PciFunction, severity: Severity, bit: number): void {
    this.fabric.host.error(fn, severity, bit);
  }

  virtualFunctions(fn: PciFunction, count: number): void {
    this.fabric.virtualFunctions(fn, count);
  }

  get running(): boolean {
    return this.fabric.running;
  }

  eject(fn: PciFunction): void {
    this.fabric.pull(fn);
  }

  slotEvent(port: PciFunction): void {
    this.fabric.host.slotEvent(port);
  }
}

/** '0000:02:1f.7'. */
function formatAddress(segment: number, bus: number, devfn: number): string {
  const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');
  return `${hex(segment, 4)}:${hex(bus, 2)}:${hex(devfn >> 3, 2)}.${devfn & 7}`;
}

export function parseAddress(text: string): { segment: number; bus: number; devfn: number } {
  const match = /^([0-9a-f]{4,8}):([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/.exec(text);
  if (match === null) throw rangeError(`'${text}' is no PCI address (0000:00:02.0)`);
  const [segment, bus, device, number] = match.slice(1).map((part) => Number.parseInt(part, 16)) as [
    number,
    number,
    number,
    number,
  ];
  return { segment, bus, devfn: (device << 3) | number };
}

/** The buses of a machine, and what is plugged into them. */
export class PciFabric {
  readonly host: Host;
  readonly iommu: IommuHardware | undefined;
  /** What addresses mean where no IOMMU translates them; absent: they reach other devices only, as RAM has no physical addresses here. */
  hostMemory: IommuDomain | undefined;
  /** Decides what a trusted device serves and reaches; absent: there is no TSM, and no T bit. */
  tsm: Tsm | undefined;
  /** The machine is on: from now on what is plugged in is told. */
  running = false;
  readonly #roots = new Map<number, PciBus>();
  readonly #virtual = new Map<PciFunction, PciFunction[]>();

  constructor(host: Host, iommu: IommuHardware | undefined) {
    this.host = host;
    this.iommu = iommu;
  }

  /** Root buses by segment. */
  get roots(): readonly PciBus[] {
    return [...this.#roots].sort(([a], [b]) => a - b).map(([, bus]) => bus);
  }

  /** The root bus of a segment, made with the first question. */
  root(segment: number): PciBus {
    let bus = this.#roots.get(segment);
    if (bus === undefined) this.#roots.set(segment, (bus = new PciBus(segment, undefined)));
    return bus;
  }

  /** All buses, each before those behind its bridges. */
  buses(): PciBus[] {
    const below = (bus: PciBus): PciBus[] => [
      bus,
      ...bus.sorted().flatMap((fn) => (fn instanceof PciBridge ? below(fn.secondary) : [])),
    ];
    return this.roots.flatMap(below);
  }

  find(address: string): PciFunction | undefined {
    const { segment, bus, devfn } = parseAddress(address);
    return this.buses()
      .find((one) => one.segment === segment && one.number === bus)
      ?.functions.get(devfn);
  }

  /** Puts a function on a bus. It wakes up with its reset values. */
  plug(fn: PciFunction, bus: PciBus, devfn: number, physical?: Physical): void {
    if (fn.place !== undefined) throw rangeError(`the function is plugged in already, at ${fn.place.bdf}`);
    if (bus.functions.has(devfn)) throw rangeError(`${formatAddress(bus.segment, bus.number, devfn)} is taken`);
    bus.functions.set(devfn, fn);
    if (fn instanceof PciBridge) fn.secondary = new PciBus(bus.segment, fn);
    fn.place = new Slot(this, bus, devfn, physical);
    fn.performReset('power');
    bus.bridge?.populationChanged();
  }

  /** Takes a function out, with what hangs on it; all of them, those below first. */
  pull(fn: PciFunction): PciFunction[] {
    const slot = this.slot(fn);
    if (slot === undefined) return [];
    const below = fn instanceof PciBridge ? fn.secondary.sorted() : [];
    const gone = [...below, ...(this.#virtual.get(fn) ?? [])].flatMap((one) => this.pull(one));
    this.#virtual.delete(fn);
    slot.bus.functions.delete(slot.devfn);
    fn.pulled();
    this.iommu?.forget(fn);
    slot.bus.bridge?.populationChanged();
    return [...gone, fn];
  }

  slot(fn: PciFunction): Slot | undefined {
    return fn.place instanceof Slot && fn.place.fabric === this ? fn.place : undefined;
  }

  /** A load by the CPU, or by another device, from the address `base` that a BAR had. All ones where nobody decodes it, or the device rejects it. `t`: the T bit. */
  load(fn: PciFunction, bar: number, base: bigint, offset: number, width: Width, t = false): number | bigint {
    if (this.#decodes(fn, bar, base) && this.tsm?.admits(fn, bar, base + BigInt(offset), t) !== false)
      return fn.load(bar, offset, width);
    return width === 8 ? 0xffff_ffff_ffff_ffffn : 2 ** (8 * width) - 1;
  }

  store(fn: PciFunction, bar: number, base: bigint, offset: number, width: Width, value: number | bigint, t = false): void {
    if (!this.#decodes(fn, bar, base) || this.tsm?.admits(fn, bar, base + BigInt(offset), t) === false) return;
    fn.store(bar, offset, width, value);
    this.tsm?.stored(fn, bar, offset);
  }

  translate(fn: PciFunction, address: bigint, length: number, write: boolean, pasid?: number): DmaTarget | undefined {
    if (!this.opensUp(fn)) return undefined;
    if (this.tsm === undefined) return this.#translate(fn, address, length, write, pasid);
    return this.tsm.translate(fn, address, length, (most) => this.#translate(fn, address, most, write, pasid));
  }

  #translate(fn: PciFunction, address: bigint, length: number, write: boolean, pasid?: number): DmaTarget | undefined {
    if (this.iommu !== undefined) return this.iommu.translate(fn, address, length, write, pasid);
    return this.#peer(address, length) ?? this.hostMemory?.translate(address, length, write);
  }

  /** Every bridge above lets requests of the function through. */
  opensUp(fn: PciFunction): boolean {
    return this.bridgesAbove(fn).every((bridge) => bridge.forwardsUp);
  }

  /** The nearest first. */
  bridgesAbove(fn: PciFunction): readonly PciBridge[] {
    return this.slot(fn)?.above ?? [];
  }

  /** VF_ENABLE was written, or the physical function was reset. */
  virtualFunctions(fn: PciFunction, count: number): void {
    const slot = this.slot(fn);
    const { sriov } = fn.spec;
    if (slot === undefined || sriov === undefined) return;
    const made = this.#virtual.get(fn) ?? [];
    for (const one of made.splice(0)) this.pull(one);
    this.#virtual.set(fn, made);
    for (let index = 0; index < Math.min(count, sriov.totalVfs); index++) {
      const virtual = sriov.create(index);
      made.push(virtual);
      this.plug(virtual, slot.bus, slot.devfn + sriov.firstOffset + index * sriov.stride, { fn, index });
    }
  }

  /** The virtual functions a physical one has now. */
  virtualOf(fn: PciFunction): readonly PciFunction[] {
    return this.#virtual.get(fn) ?? [];
  }

  #decodes(fn: PciFunction, bar: number, base: bigint): boolean {
    const slot = this.slot(fn);
    if (slot === undefined) return false;
    let stamp = fn.config.generation + (slot.physical?.fn.config.generation ?? 0);
    for (const bridge of slot.above) stamp += bridge.config.generation;
    const known = slot.decoded.get(bar);
    if (known?.stamp === stamp && known.base === base) return known.decodes;
    const decodes = this.#decodesNow(fn, slot, bar, base);
    slot.decoded.set(bar, { stamp, base, decodes });
    return decodes;
  }

  #decodesNow(fn: PciFunction, slot: Slot, bar: number, base: bigint): boolean {
    if (fn.powerState !== 0) return false;
    const window = windowOf(fn, slot.physical, bar);
    if (window === undefined || window.base !== base) return false;
    return slot.above.every((bridge) => bridge.forwardsDown(window.space, base));
  }

  /** Another device's BAR. */
  #peer(address: bigint, length: number): DmaTarget | undefined {
    for (const bus of this.buses()) {
      for (const fn of bus.functions.values()) {
        for (const [bar, spec] of Object.entries(fn.spec.bars ?? {})) {
          const window = ownWindow(fn, Number(bar));
          if (window?.space !== 'mem' || address < window.base || address >= window.base + BigInt(spec.size)) continue;
          const offset = Number(address - window.base);
          const { base } = window;
          const device: DeviceMemory = {
            load: (at, width) => this.load(fn, Number(bar), base, at, width),
            store: (at, width, value) => {
              this.store(fn, Number(bar), base, at, width, value);
              return 0;
            },
          };
          return { device, offset, length: Math.min(length, spec.size - offset) };
        }
      }
    }
    return undefined;
  }
}

/** The BARs of virtual functions as the physical one sizes them. */
export function virtualBars(fn: PciFunction): (Bar | undefined)[] {
  return fn.positions.sriov === 0 ? [] : sizeBars(fn.config, fn.positions.sriov + r.PCI_SRIOV_BAR, 6);
}
