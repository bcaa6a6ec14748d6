import { rangeError } from '../../kernel/errors.ts';
import * as r from '../../uapi/pci-regs.ts';
import { Completion } from '../completion.ts';
import { PciBridge, type PciBus } from '../hardware/bridge.ts';
import { type Host, PciFabric, parseAddress } from '../hardware/fabric.ts';
import { assignAddresses, numberBuses } from '../hardware/firmware.ts';
import { IommuHardware } from '../hardware/iommu.ts';
import type { PciPlacement } from '../hardware/machine-pci.ts';
import { makeModel } from '../hardware/models/index.ts';
import type { PciFunction } from '../hardware/pci-function.ts';
import { Tsm } from '../hardware/tsm/tsm.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { enableAcs, IommuGroups, sharedGroup } from '../iommu/groups.ts';
import type { System } from '../system.ts';
import { errorMessage } from './aer.ts';
import { assignNew } from './assign.ts';
import { PciDev } from './pci-dev.ts';
import { RescanRemoveLock } from './rescan-remove.ts';
import { Vectors } from './vectors.ts';

/** Told of functions that come and go: the bus's sysfs, its drivers. */
export interface PciListener {
  added(dev: PciDev): void;
  /**
   * Drivers let go of it, which is unplugged (its registers read as all ones already) or a virtual function that goes. Where users hold it: what is complete
   * once they are gone; until then it stays in the list and in its group.
   */
  removed(dev: PciDev): Completion | void;
}

/** A device a test brought along. */
export interface PciPlug {
  readonly at: string;
  readonly device: PciFunction;
}

/** A function, and where it goes. */
interface Placed extends PciPlug {
  readonly segment: number;
  readonly bus: number;
  readonly devfn: number;
  readonly placement: PciPlacement | undefined;
}

/** Complete when all of them are. */
function allOf(parts: readonly Completion[]): Completion {
  const all = new Completion();
  let left = parts.length;
  if (left === 0) all.complete();
  for (const one of parts) one.whenDone(() => --left === 0 && all.complete());
  return all;
}

/** Each when the one before is complete. */
function inTurn(parts: readonly (() => Completion)[]): Completion {
  const all = new Completion();
  const next = (at: number): void => {
    const part = parts[at];
    if (part === undefined) all.complete();
    else part().whenDone(() => next(at + 1));
  };
  next(0);
  return all;
}

/** No bus mastering, no SERR, no INTx. */
function quiesce({ fn: { config } }: PciDev): void {
  const command = config.read(r.PCI_COMMAND, 2) & ~(r.PCI_COMMAND_MASTER | r.PCI_COMMAND_SERR);
  config.write(r.PCI_COMMAND, 2, command | r.PCI_COMMAND_INTX_DISABLE);
}

/** The PCI devices of a system (`pci_bus_type`'s list), its IOMMU and groups. `system.pci`. */
export class PciSubsystem {
  readonly system: System;
  readonly fabric: PciFabric;
  readonly iommu: IommuHardware | undefined;
  readonly vectors: Vectors;
  readonly iommuGroups: IommuGroups = new IommuGroups();
  /** Held by whoever looks for devices or removes some, until their drivers have let go. */
  readonly rescanRemove: RescanRemoveLock = new RescanRemoveLock();
  readonly #devices: PciDev[] = [];
  readonly #byFunction = new Map<PciFunction, PciDev>();
  readonly #listeners = new Set<PciListener>();

  constructor(system: System) {
    const { pci = [], iommu } = system.machine;
    this.system = system;
    this.iommu = iommu === undefined || iommu.kind === 'none' ? undefined : new IommuHardware(iommu);
    this.vectors = new Vectors(this.interruptRemapping);
    this.fabric = new PciFabric(this.#host(), this.iommu);
    const { teeIo } = system.machine;
    if (teeIo !== undefined) this.fabric.tsm = new Tsm(teeIo, this.fabric);
    const placed = [
      ...pci.map((placement) => ({ at: placement.at, device: makeModel(placement), placement })),
      ...system.plugs.map((plug) => ({ ...plug, placement: undefined })),
    ];
    this.#boot(placed.map((one) => ({ ...one, ...parseAddress(one.at) })));
    this.fabric.running = true;
    for (const { device, placement } of placed) {
      const dev = this.devOf(device);
      if (dev === undefined || placement === undefined) continue;
      dev.bootDriver = placement.driver;
      if (placement.master === true) dev.setMaster(true);
    }
  }

  /** In the order of enumeration. */
  get devices(): readonly PciDev[] {
    return this.#devices;
  }

  /** Those that functions are in, by number. */
  get groups(): readonly IommuGroup<PciDev>[] {
    return [...new Set(this.#devices.flatMap(({ iommuGroup }) => iommuGroup ?? []))].sort((a, b) => a.id - b.id);
  }

  get interruptRemapping(): boolean {
    return this.iommu?.machine.interruptRemapping ?? false;
  }

  find(bdf: string): PciDev | undefined {
    return this.#devices.find((dev) => dev.bdf === bdf);
  }

  devOf(fn: PciFunction): PciDev | undefined {
    return this.#byFunction.get(fn);
  }

  /** Adds a listener, which is told of the devices that are there. Returns what removes it. */
  listen(listener: PciListener): () => void {
    this.#listeners.add(listener);
    for (const dev of [...this.#devices]) listener.added(dev);
    return () => this.#listeners.delete(listener);
  }

  /** Hot-plug of a function at a free place of a bus there is. Undefined: the kernel has not yet let go of what was there, and finds it later. */
  plug(fn: PciFunction, at: string): PciDev | undefined {
    const { segment, bus, devfn } = parseAddress(at);
    const where = this.fabric.buses().find((one) => one.segment === segment && one.number === bus);
    if (where === undefined) throw rangeError(`${at}: there is no such bus`);
    if (fn instanceof PciBridge) throw rangeError(`${at}: a bridge cannot be plugged in while the machine runs`);
    this.fabric.plug(fn, where, devfn);
    const parent = where.bridge === undefined ? undefined : this.devOf(where.bridge);
    this.rescanRemove.call(() => {
      if (fn.place === undefined) return 0;
      assignNew(this, fn);
      this.found(fn, parent);
      return 0;
    });
    return this.devOf(fn);
  }

  /** Surprise removal: reads answer all ones from now on, and drivers are told: by the hot-plug driver that has the slot, or as one would. */
  unplug(fn: PciFunction): void {
    if (this.devOf(fn) === undefined) throw rangeError('the function is not plugged into this machine');
    this.surpriseRemove(this.fabric.pull(fn).flatMap((one) => this.devOf(one) ?? []));
  }

  /** pciehp_unconfigure_device without a card: nothing more is asked of the devices, and they are removed; those behind bridges first. Complete when they are. */
  surpriseRemove(gone: readonly PciDev[]): Completion {
    const known = gone.filter(({ disconnected }) => !disconnected);
    for (const dev of known) dev.disconnect();
    return this.rescanRemove.run(() => inTurn(known.map((dev) => () => this.lost(dev))));
  }

  /** The same with the card still there: drivers let go of the devices, which are told to start nothing any more. Complete when they are gone. */
  safeRemove(going: readonly PciDev[]): Completion {
    return this.rescanRemove.run(() =>
      inTurn(
        going.map((dev) => () => {
          const gone = this.lost(dev);
          gone.whenDone(() => quiesce(dev));
          return gone;
        }),
      ),
    );
  }

  /** A function is found: it gets its device, its group, and the bus is told. */
  found(fn: PciFunction, parent: PciDev | undefined, physfn?: PciDev): PciDev {
    const dev = new PciDev(this, fn, parent, physfn);
    this.#devices.push(dev);
    this.#byFunction.set(fn, dev);
    if (this.iommu !== undefined) enableAcs(fn);
    this.#enableErrorReporting(dev);
    this.#join(dev);
    for (const listener of [...this.#listeners]) listener.added(dev);
    return dev;
  }

  /** A device goes: complete when its drivers have let go of it, and it has. */
  lost(dev: PciDev): Completion {
    const gone = new Completion();
    allOf([...this.#listeners].flatMap((listener) => listener.removed(dev) ?? [])).whenDone(() => {
      this.remove(dev);
      gone.complete();
    });
    return gone;
  }

  /** sysfs `remove`, after its driver has let go: the kernel forgets the device; what is soldered stays, and `rescan` finds it again. */
  remove(dev: PciDev): void {
    const at = this.#devices.indexOf(dev);
    if (at < 0) return;
    for (const child of this.#devices.filter(({ parent }) => parent === dev)) this.lost(child);
    this.#devices.splice(this.#devices.indexOf(dev), 1);
    this.#byFunction.delete(dev.fn);
    if (dev.iommuGroup !== undefined) this.iommuGroups.remove(dev.iommuGroup, dev);
    dev.iommuGroup = undefined;
    dev.forget();
  }

  /** pci_rescan_bus: functions that are there and not known. */
  rescan(): void {
    for (const root of this.fabric.roots) this.#scan(root, undefined);
  }

  // ---- inside

  /** Plugs everything in as buses get their numbers, gives out addresses, and finds it all. */
  #boot(placed: readonly Placed[]): void {
    const left = new Set(placed);
    this.fabric.root(0);
    for (const segment of [...new Set(placed.map((one) => one.segment))].sort((a, b) => a - b)) {
      numberBuses(this.fabric.root(segment), 0, (bus) => {
        for (const one of [...left]) {
          if (one.segment !== segment || one.bus !== bus.number) continue;
          this.fabric.plug(one.device, bus, one.devfn);
          left.delete(one);
        }
      });
    }
    for (const { at } of left) throw rangeError(`${at}: no bridge leads to this bus`);
    assignAddresses(
      this.fabric,
      new Map(placed.flatMap(({ device, placement }) => (placement?.bars ? [[device, placement.bars]] : []))),
    );
    this.rescan();
  }

  /** A bus, then what is behind its bridges. */
  #scan(bus: PciBus, parent: PciDev | undefined): void {
    for (const fn of bus.sorted()) {
      if (this.devOf(fn) === undefined && fn.spec.virtual !== true) this.found(fn, parent);
    }
    for (const fn of bus.sorted()) if (fn instanceof PciBridge) this.#scan(fn.secondary, this.devOf(fn));
  }

  /** pci_aer_init, and the port driver for its own messages. */
  #enableErrorReporting(dev: PciDev): void {
    const { aer, express } = dev.fn.positions;
    if (aer === 0 || express === 0) return;
    dev.writeConfig(express + r.PCI_EXP_DEVCTL, 2, dev.readConfig(express + r.PCI_EXP_DEVCTL, 2) | 0xf);
    if (dev.fn instanceof PciBridge) dev.writeConfig(aer + r.PCI_ERR_ROOT_COMMAND, 4, 0x7);
  }

  #join(dev: PciDev): void {
    if (this.iommu === undefined || this.iommu.machine.unmanaged?.includes(dev.bdf)) return;
    const of = (fn: PciFunction): IommuGroup<PciDev> | undefined => this.devOf(fn)?.iommuGroup;
    const group = sharedGroup(this.fabric, dev.fn, of) ?? this.iommuGroups.create(undefined, this.iommu);
    dev.iommuGroup = group;
    group.add(dev);
  }

  #host(): Host {
    const { runner } = this.system;
    const system = this.system;
    return {
      get now() {
        return runner.now;
      },
      after: (nanoseconds, run) => runner.at(runner.ticks + runner.ticksOf(nanoseconds), run, true),
      random: () => system.random(),
      interrupt: (fn, message) => this.vectors.deliver(fn, message),
      wire: (fn, level) => this.devOf(fn)?.irq.wire(level),
      slotEvent: (port) => this.devOf(port)?.onSlotEvent?.(),
      error: (fn, severity) => {
        const dev = this.devOf(fn);
        if (dev !== undefined) errorMessage(dev, severity);
      },
    };
  }
}
