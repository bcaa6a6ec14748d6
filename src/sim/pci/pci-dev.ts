import type { Width } from '../../kernel/memory.ts';
import * as r from '../../uapi/pci-regs.ts';
import { EBUSY, EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { type Bar, barAddress, sizeBars, sizeRom } from '../hardware/bars.ts';
import { PciBridge } from '../hardware/bridge.ts';
import { type PciFabric, virtualBars } from '../hardware/fabric.ts';
import { interruptPin } from '../hardware/firmware.ts';
import type { ConfigWidth, PciFunction, PowerState, Severity } from '../hardware/pci-function.ts';
import type { IommuGroup, IommuMember } from '../iommu/group.ts';
import type { System } from '../system.ts';
import type { AerCounts } from './aer.ts';
import type { PciDriver } from './driver.ts';
import { PciIrq } from './irq.ts';
import type { PciSubsystem } from './pci-subsystem.ts';
import { setPowerState } from './power.ts';
import { busDevices, resetFunction, resetMethods, resetSlotOrBus, saveAndReset, slotOrBusResettable } from './reset.ts';
import { restoreState, type SavedState, saveState } from './save-state.ts';
import { PciSriov } from './sriov.ts';
import { Vpd } from './vpd.ts';

export type { SavedState } from './save-state.ts';
export type { PciSriov } from './sriov.ts';

/** `struct resource` of a BAR. `end` is inclusive; absent: all three are 0. */
export interface Resource {
  readonly start: bigint;
  readonly end: bigint;
  readonly flags: bigint;
}

const NONE: Resource = { start: 0n, end: 0n, flags: 0n };

const IORESOURCE_IO = 0x100n;
const IORESOURCE_MEM = 0x200n;
const IORESOURCE_PREFETCH = 0x2000n;
const IORESOURCE_READONLY = 0x4000n;
const IORESOURCE_SIZEALIGN = 0x40000n;
const IORESOURCE_MEM_64 = 0x10_0000n;

/** I/O, memory, 64-bit prefetchable memory. */
const WINDOW_FLAGS = [0x100n, 0x200n, 0x10_2201n];

/** The ROM's place among the resources, and where those of virtual functions and of a bridge's windows begin. */
export const PCI_ROM_RESOURCE = 6;
const PCI_IOV_RESOURCES = 7;
const PCI_BRIDGE_RESOURCES = 13;

/** What an access to a register costs, in nanoseconds. */
const ACCESS = 1000n;

/** `struct pci_dev`: what the kernel's PCI core knows of a function, and does to it. */
export class PciDev implements IommuMember {
  readonly fn: PciFunction;
  readonly subsystem: PciSubsystem;
  readonly segment: number;
  readonly bus: number;
  readonly devfn: number;
  /** '0000:01:00.0'. */
  readonly bdf: string;
  /** The bridge above; undefined on a root bus. */
  readonly parent: PciDev | undefined;
  /** A virtual function's physical one. */
  readonly physfn: PciDev | undefined;
  readonly irq: PciIrq;
  readonly vpd: Vpd;
  readonly configSize: 256 | 4096;
  /** The interrupt of the line once the device has been enabled. */
  readonly interruptLine: number;
  /** The resets the function has. Told when it was found: a method that later turns out not to work stays in the list. */
  readonly supportedResets: readonly string[];
  /** Those that are tried, in order. */
  resetMethods: readonly string[];
  /** SR-IOV of a physical function. */
  readonly sriov: PciSriov | undefined;
  iommuGroup: IommuGroup<PciDev> | undefined;
  driver: PciDriver | undefined;
  /** The driver the machine's description binds at boot. */
  bootDriver: string | undefined;
  driverOverride: string | null = null;
  /** The interrupt of its hot-plug controller. */
  onSlotEvent: (() => void) | undefined;
  /** The driver's error_detected. */
  onError: ((severity: Severity) => void) | undefined;
  /** Errors it has reported. */
  readonly aer: AerCounts = { correctable: 0, nonfatal: 0, fatal: 0 };
  /** The same by status bit. */
  readonly aerBits: Readonly<Record<Severity, Map<number, number>>> = {
    correctable: new Map(),
    nonfatal: new Map(),
    fatal: new Map(),
  };
  /** pci_enable_device has worked once: the line is routed. */
  everEnabled = false;
  #resources: readonly Resource[] = [];
  #enabled = 0;
  #forgotten = false;
  #powerLost = false;
  #powerStateSet = false;
  #disconnected = false;
  readonly #capabilities: ReadonlyMap<number, number>;
  readonly #claims = new Map<number, string>();

  constructor(subsystem: PciSubsystem, fn: PciFunction, parent: PciDev | undefined, physfn?: PciDev) {
    const slot = subsystem.fabric.slot(fn);
    if (slot === undefined) throw new Error('a device is found where it is plugged in');
    this.subsystem = subsystem;
    this.fn = fn;
    this.parent = parent;
    this.physfn = physfn;
    this.segment = slot.bus.segment;
    this.bus = slot.bus.number;
    this.devfn = slot.devfn;
    this.bdf = slot.bdf;
    this.configSize = fn.config.size;
    this.#capabilities = this.#walkCapabilities();
    this.irq = new PciIrq(this);
    this.vpd = new Vpd(this, this.findCapability(r.PCI_CAP_ID_VPD));
    const firmware = fn.config.peek(r.PCI_INTERRUPT_LINE, 1);
    this.interruptLine = subsystem.system.machine.ioapic === false ? firmware : lineOf(subsystem.fabric, fn);
    this.sizeResources();
    this.supportedResets = resetMethods(this);
    this.resetMethods = this.supportedResets;
    this.sriov = fn.positions.sriov === 0 ? undefined : new PciSriov(this);
  }

  get system(): System {
    return this.subsystem.system;
  }

  // ---- configuration space

  /** Hardware registers; all ones where there is no hardware, whether or not the kernel knows. */
  readConfig(offset: number, width: ConfigWidth): number {
    return this.removed ? 2 ** (8 * width) - 1 : this.fn.config.read(offset, width);
  }

  writeConfig(offset: number, width: ConfigWidth, value: number): void {
    if (!this.removed) this.fn.config.write(offset, width, value);
  }

  /** Offset of a capability, as its list had it when the device was found; 0: there is none. */
  findCapability(id: number): number {
    return this.#capabilities.get(id) ?? 0;
  }

  /** The first of each kind. */
  #walkCapabilities(): Map<number, number> {
    const found = new Map<number, number>();
    if ((this.readConfig(r.PCI_STATUS, 2) & r.PCI_STATUS_CAP_LIST) === 0) return found;
    let at = this.readConfig(r.PCI_CAPABILITY_LIST, 1) & ~3;
    for (let left = 48; at >= 0x40 && left > 0; left--) {
      const id = this.readConfig(at, 1);
      if (!found.has(id)) found.set(id, at);
      at = this.readConfig(at + 1, 1) & ~3;
    }
    return found;
  }

  findExtCapability(id: number): number {
    if (this.configSize === 256) return 0;
    let at = r.PCI_CFG_SPACE_SIZE;
    for (let left = 960; at >= r.PCI_CFG_SPACE_SIZE && left > 0; left--) {
      const header = this.readConfig(at, 4);
      if (header === 0 || header === 0xffff_ffff) return 0;
      if ((header & 0xffff) === id) return at;
      at = (header >>> 20) & ~3;
    }
    return 0;
  }

  // ---- resources

  /** 0 to 5 BARs, 6 the ROM, 7 to 12 the BARs of virtual functions, 13 to 16 a bridge's windows (empty ones absent). */
  get resources(): readonly Resource[] {
    return this.#resources;
  }

  /** Length of a BAR; 0n: there is none. */
  resourceLength(bar: number): bigint {
    const one = this.#resources[bar];
    return one === undefined || one.flags === 0n ? 0n : one.end - one.start + 1n;
  }

  /** Reads the BARs: at boot, and after addresses were assigned. */
  sizeResources(): void {
    const bridge = this.fn instanceof PciBridge;
    const list = new Array<Resource>(bridge ? 17 : this.fn.positions.sriov === 0 ? 7 : 13).fill(NONE);
    if (this.physfn !== undefined) this.#virtualResources(list, this.physfn);
    else {
      const bars = sizeBars(this.fn.config, r.PCI_BASE_ADDRESS_0, bridge ? 2 : 6);
      for (const [index, bar] of bars.entries()) if (bar !== undefined) list[index] = this.#resource(bar, 1);
      const rom = sizeRom(this.fn.config, this.romRegister);
      if (rom !== undefined) list[PCI_ROM_RESOURCE] = this.#resource(rom, 1, IORESOURCE_READONLY);
    }
    const total = this.fn.spec.sriov?.totalVfs ?? 0;
    for (const [index, bar] of virtualBars(this.fn).entries()) {
      if (bar !== undefined) list[PCI_IOV_RESOURCES + index] = this.#resource(bar, total);
    }
    if (this.fn instanceof PciBridge) {
      for (const [index, window] of this.fn.windows().entries()) {
        if (window !== undefined)
          list[PCI_BRIDGE_RESOURCES + index] = { start: window[0], end: window[1], flags: WINDOW_FLAGS[index]! };
      }
    }
    this.#resources = list;
  }

  get romRegister(): number {
    return this.fn instanceof PciBridge ? r.PCI_ROM_ADDRESS1 : r.PCI_ROM_ADDRESS;
  }

  #resource(bar: Bar, count: number, more = 0n): Resource {
    const start = barAddress(this.fn.config, bar);
    const size = bar.size * BigInt(count);
    const kind = bar.io ? IORESOURCE_IO : IORESOURCE_MEM;
    const wide = bar.wide ? IORESOURCE_MEM_64 : 0n;
    const prefetch = bar.prefetchable ? IORESOURCE_PREFETCH : 0n;
    return { start, end: start + size - 1n, flags: kind | wide | prefetch | more | IORESOURCE_SIZEALIGN | BigInt(bar.kind) };
  }

  /** A virtual function's BARs are slices of what the physical one has for all. */
  #virtualResources(list: Resource[], physfn: PciDev): void {
    const index = this.subsystem.fabric.slot(this.fn)?.physical?.index ?? 0;
    for (let bar = 0; bar < 6; bar++) {
      const spec = physfn.fn.spec.sriov?.vfBars[bar];
      const whole = physfn.resources[PCI_IOV_RESOURCES + bar];
      if (spec === undefined || whole === undefined) continue;
      const start = whole.start + BigInt(index * spec.size);
      list[bar] = { start, end: start + BigInt(spec.size) - 1n, flags: whole.flags };
    }
  }

  /** pci_request_selected_regions of one BAR: 0; −EBUSY, somebody has it; −EINVAL, it is not there. */
  claim(bar: number, name: string): number {
    if (this.resourceLength(bar) === 0n) return -EINVAL;
    if (this.#claims.has(bar)) return -EBUSY;
    this.#claims.set(bar, name);
    return 0;
  }

  unclaim(bar: number): void {
    this.#claims.delete(bar);
  }

  /** Who has a BAR, as /proc/iomem names it. */
  claimant(bar: number): string | undefined {
    return this.#claims.get(bar);
  }

  // ---- registers of the device

  /** By the address of the resource: what nobody decodes reads as all ones. Bar 6 is the ROM, whose decoding is on for this access (pci_map_rom). `t`: the T bit. */
  barRead(bar: number, offset: number, width: Width, t = false): number | bigint {
    this.system.runner.spend(ACCESS);
    return this.#withRom(bar, () => this.subsystem.fabric.load(this.fn, bar, this.#base(bar), offset, width, t));
  }

  /** Stores that nobody decodes are dropped. */
  barWrite(bar: number, offset: number, width: Width, value: number | bigint, t = false): void {
    this.system.runner.spend(ACCESS);
    this.subsystem.fabric.store(this.fn, bar, this.#base(bar), offset, width, value, t);
  }

  /** A store of the kernel's own, in no time. */
  storeQuietly(bar: number, offset: number, value: number): void {
    this.subsystem.fabric.store(this.fn, bar, this.#base(bar), offset, 4, value);
  }

  #base(bar: number): bigint {
    return this.#resources[bar]?.start ?? 0n;
  }

  #withRom<T>(bar: number, access: () => T): T {
    if (bar !== PCI_ROM_RESOURCE) return access();
    const before = this.readConfig(this.romRegister, 4);
    this.writeConfig(this.romRegister, 4, (before | r.PCI_ROM_ADDRESS_ENABLE) >>> 0);
    try {
      return access();
    } finally {
      this.writeConfig(this.romRegister, 4, before);
    }
  }

  // ---- enabling

  get enableCount(): number {
    return this.#enabled;
  }

  /** pci_enable_device: bridges first, then D0 and decoding of what the BARs have. −EINVAL where a BAR has no address. */
  enableDevice(): number {
    if (this.#enabled++ > 0) return 0;
    this.parent?.enableBridge();
    this.setPowerState(0);
    let command = this.readConfig(r.PCI_COMMAND, 2);
    for (const { start, flags } of this.#resources.slice(0, PCI_ROM_RESOURCE)) {
      if (flags === 0n) continue;
      if (start === 0n) {
        this.#enabled--;
        return -EINVAL;
      }
      command |= (flags & IORESOURCE_IO) !== 0n ? r.PCI_COMMAND_IO : r.PCI_COMMAND_MEMORY;
    }
    this.everEnabled = true;
    this.writeConfig(r.PCI_COMMAND, 2, command);
    return 0;
  }

  /** pci_disable_device: the last one turns bus mastering off; decoding stays on. */
  disableDevice(): void {
    if (this.#enabled > 0 && --this.#enabled === 0) this.setMaster(false);
  }

  /** pci_enable_bridge: those above, then this one, with bus mastering. */
  enableBridge(): void {
    this.parent?.enableBridge();
    if (this.#enabled === 0) this.enableDevice();
    this.setMaster(true);
  }

  /** pci_set_master, pci_clear_master. */
  setMaster(on: boolean): void {
    const command = this.readConfig(r.PCI_COMMAND, 2);
    this.writeConfig(r.PCI_COMMAND, 2, on ? command | r.PCI_COMMAND_MASTER : command & ~r.PCI_COMMAND_MASTER);
  }

  // ---- state

  /** pci_save_state. */
  saveState(): SavedState {
    return saveState(this);
  }

  /** pci_restore_state: the registers that were saved, and the messages the kernel has set up. */
  restoreState(saved: SavedState): void {
    restoreState(this, saved);
  }

  /** `current_state`: what the kernel has put it into, which one that was pulled out stays in. 4: D3cold. */
  get powerState(): PowerState | 4 {
    return this.#powerLost ? 4 : this.fn.powerState;
  }

  /** It did not answer when it was to enter another state. */
  losePower(): void {
    this.#powerLost = true;
  }

  /** Older kernels put a device into a state only when somebody uses it: until then its `current_state` is PCI_UNKNOWN. */
  get powerStateKnown(): boolean {
    return this.#powerStateSet || has(this.system.machine, 'devicesPutIntoD0');
  }

  /** pci_set_power_state: a state the device does not have is not entered. */
  setPowerState(state: PowerState): void {
    this.#powerStateSet = true;
    setPowerState(this, state);
  }

  /** sysfs reset_method: these from now on, in this order; all of them are supported. */
  setResetMethods(methods: readonly string[]): void {
    this.resetMethods = methods;
  }

  /** __pci_reset_function_locked: 0, −ENOTTY … Saves and restores nothing. */
  resetFunction(): number {
    return resetFunction(this);
  }

  /** pci_reset_function, pci_try_reset_function: the same with everything saved and restored around it, of which its driver is told. */
  saveAndReset(): number {
    return saveAndReset(this);
  }

  /** What a hot reset would reset. */
  slotOrBusResettable(): 'slot' | 'bus' | undefined {
    return slotOrBusResettable(this);
  }

  /** pci_reset_bus: every function it hits is saved and restored. 0; −ENOTTY on a root bus, or where the link does not return. */
  resetSlotOrBus(): number {
    return resetSlotOrBus(this);
  }

  /** The functions a hot reset hits, those below bridges too. */
  busDevices(): readonly PciDev[] {
    return busDevices(this);
  }

  /** There is no hardware any more: pulled out, or forgotten by the kernel. */
  get removed(): boolean {
    return this.#forgotten || this.fn.place === undefined;
  }

  /** pci_dev_is_disconnected: the kernel knows that it was pulled out, and asks it nothing. */
  get disconnected(): boolean {
    return this.#disconnected;
  }

  /** pci_dev_set_disconnected. */
  disconnect(): void {
    this.#disconnected = true;
  }

  /** It is off the list: whoever holds it still reaches nothing by it. */
  forget(): void {
    this.#forgotten = true;
  }
}

/** The IO-APIC's input: slots below 25 turn through 20 to 23, the others through 16 to 19. */
function lineOf(fabric: PciFabric, fn: PciFunction): number {
  const { pin, slot } = interruptPin(fabric, fn);
  if (fn.config.peek(r.PCI_INTERRUPT_PIN, 1) === 0) return 0;
  return (slot < 25 ? 20 : 16) + ((slot + pin - 1) & 3);
}
