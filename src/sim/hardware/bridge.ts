import * as r from '../../uapi/pci-regs.ts';
import type { FunctionSpec } from './function-spec.ts';
import { PciFunction, type ResetKind } from './pci-function.ts';

/** The functions on one bus, by device and function number. */
export class PciBus {
  readonly segment: number;
  /** The bridge that leads to it; undefined: a root bus. */
  readonly bridge: PciBridge | undefined;
  readonly functions: Map<number, PciFunction> = new Map();

  constructor(segment: number, bridge: PciBridge | undefined) {
    this.segment = segment;
    this.bridge = bridge;
  }

  get number(): number {
    return this.bridge?.config.peek(r.PCI_SECONDARY_BUS, 1) ?? 0;
  }

  /** Functions in the order in which they are found. */
  sorted(): PciFunction[] {
    return [...this.functions].sort(([a], [b]) => a - b).map(([, fn]) => fn);
  }
}

/** A PCI-to-PCI bridge: a root port, a port of a switch, a PCIe-to-PCI bridge. */
export class PciBridge extends PciFunction {
  secondary: PciBus = new PciBus(0, this);

  constructor(spec: FunctionSpec) {
    super({ ...spec, bridge: true });
    this.config.onWrite(r.PCI_BRIDGE_CONTROL, (before, after) => {
      const bit = r.PCI_BRIDGE_CTL_BUS_RESET << 16;
      if ((before & bit) === 0 && (after & bit) !== 0) this.resetSecondary();
    });
  }

  /** A function was plugged in below it, or has gone. */
  populationChanged(): void {}

  /** Everything below is reset. */
  resetSecondary(): void {
    for (const fn of this.secondary.sorted()) fn.performReset('bus');
  }

  override reset(_kind: ResetKind): void {
    this.resetSecondary();
  }

  /** It lets through what comes from below: it may master the bus, is awake, and does not hold its secondary bus in reset. */
  get forwardsUp(): boolean {
    return this.masters && !this.#holdsReset();
  }

  /** Decodes an address for what is below: inside one of its windows. */
  forwardsDown(space: 'io' | 'mem', address: bigint): boolean {
    if (this.powerState !== 0 || this.#holdsReset()) return false;
    const command = this.config.peek(r.PCI_COMMAND, 2);
    if (space === 'io') return (command & r.PCI_COMMAND_IO) !== 0 && inside(this.#ioWindow(), address);
    return (
      (command & r.PCI_COMMAND_MEMORY) !== 0 &&
      (inside(this.#memoryWindow(), address) || inside(this.#prefetchableWindow(), address))
    );
  }

  /** I/O, memory and prefetchable memory that it lets down; undefined: closed. */
  windows(): (readonly [first: bigint, last: bigint] | undefined)[] {
    const all = [this.#ioWindow(), this.#memoryWindow(), this.#prefetchableWindow()];
    return all.map(([first, last]) => (first > last ? undefined : [first, last]));
  }

  #holdsReset(): boolean {
    return (this.config.peek(r.PCI_BRIDGE_CONTROL, 2) & r.PCI_BRIDGE_CTL_BUS_RESET) !== 0;
  }

  #ioWindow(): [first: bigint, last: bigint] {
    const first = (this.config.peek(r.PCI_IO_BASE, 1) & 0xf0) << 8;
    const last = ((this.config.peek(r.PCI_IO_LIMIT, 1) & 0xf0) << 8) + 0xfff;
    return [BigInt(first), BigInt(last)];
  }

  #memoryWindow(): [first: bigint, last: bigint] {
    const at = (register: number): bigint => BigInt(this.config.peek(register, 2) & 0xfff0) << 16n;
    return [at(r.PCI_MEMORY_BASE), at(r.PCI_MEMORY_LIMIT) + 0xf_ffffn];
  }

  #prefetchableWindow(): [first: bigint, last: bigint] {
    const at = (register: number, upper: number): bigint =>
      (BigInt(this.config.peek(register, 2) & 0xfff0) << 16n) | (BigInt(this.config.peek(upper, 4)) << 32n);
    return [
      at(r.PCI_PREF_MEMORY_BASE, r.PCI_PREF_BASE_UPPER32),
      at(r.PCI_PREF_MEMORY_LIMIT, r.PCI_PREF_LIMIT_UPPER32) + 0xf_ffffn,
    ];
  }
}

const inside = ([first, last]: readonly [bigint, bigint], address: bigint): boolean => first <= address && address <= last;
