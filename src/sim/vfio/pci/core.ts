import { EAGAIN, EINVAL, ENOTTY } from '../../../uapi/sys.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_REGIONS, VFIO_PCI_ROM_REGION_INDEX } from '../../../uapi/vfio.ts';
import { has } from '../../changes.ts';
import type { Backing, FileMap } from '../../file.ts';
import type { WriteLog } from '../../hardware/migratable.ts';
import type { PowerState } from '../../hardware/pci-function.ts';
import { RequestTable } from '../../ioctl-table.ts';
import type { DeviceMemory } from '../../mm/device-memory.ts';
import { idsOf } from '../../pci/ids.ts';
import type { PciIrq } from '../../pci/irq.ts';
import type { PciDev, SavedState } from '../../pci/pci-dev.ts';
import type { Process } from '../../process.ts';
import type { System } from '../../system.ts';
import { VfioDevice, type VfioDeviceFile } from '../device.ts';
import { deviceFeature, type FeatureDevice, type FeatureRequest } from '../feature.ts';
import type { MigrationOps } from '../migration.ts';
import { BarMemory } from './bar-memory.ts';
import { type ConfigOwner, ConfigSpaceView } from './config.ts';
import type { VfioPciDmaBuf } from './dma-buf.ts';
import { pciFeature } from './feature.ts';
import { getInfo, getIrqInfo, getRegionInfo } from './info.ts';
import { type IrqOwner, VfioPciIrqs } from './intrs.ts';
import { VfioPciIoeventfds } from './ioeventfd.ts';
import { checkMmap, type MapOwner, mappableBars, VfioPciBacking } from './mmap.ts';
import { VfioPciPower } from './power.ts';
import { hasNoIntx } from './quirks.ts';
import { accessBar, type RegionOwner } from './rdwr.ts';
import { deviceReset, hotReset, hotResetInfo, tryResetSet } from './reset.ts';
import { VfioPciTdi } from './tsm.ts';
import { checkToken, matchName, type VfToken } from './vf-token.ts';

const PCI_COMMAND = 4;
const COMMAND_MEMORY = 2;
const INTX_DISABLE = 0x400;
const CAP_EXPRESS = 0x10;
const CAP_MSIX = 0x11;
const MSIX_ENTRY = 16;
const DEVCTL = 8;
const OFFSET_MASK = (1n << 40n) - 1n;

/** What is there from the first open to the last close. */
interface Opened {
  readonly config: ConfigSpaceView;
  /** Registers as the user shall leave them. */
  readonly saved: SavedState;
  /** By BAR: 0, or why it cannot be used. */
  /** Of each BAR: 0, or the error it is used with; none: nobody has used it. */
  readonly claims: number[];
  readonly mappable: readonly boolean[];
}

/** `struct vfio_pci_core_device`: a PCI device assigned to its user (drivers/vfio/pci/vfio_pci_core.c). Vendor drivers extend it. */
export class VfioPciCoreDevice extends VfioDevice implements ConfigOwner, IrqOwner, RegionOwner, MapOwner, FeatureDevice {
  /** What is bound to VFIO's drivers, by system. */
  static readonly #bound = new WeakMap<System, Map<PciDev, VfioPciCoreDevice>>();

  readonly pdev: PciDev;
  readonly irqs: VfioPciIrqs;
  readonly power: VfioPciPower;
  readonly ioeventfds: VfioPciIoeventfds;
  readonly dmaBufs: Set<VfioPciDmaBuf> = new Set();
  /** RFC: absent where the machine has no confidential device assignment. */
  override readonly assigned: VfioPciTdi | undefined;
  readonly isExpress: boolean;
  readonly brokenIntx: boolean;
  readonly msixTable: { readonly bar: number; readonly start: number; readonly end: number } | undefined;
  readonly migration: MigrationOps | undefined = undefined;
  readonly logging: WriteLog | undefined = undefined;
  precopyInfoV2 = false;
  /** The function reset at the first open worked. */
  resetWorks = false;
  /** It was used and not reset since. */
  needsReset = false;
  intxMaskable = false;
  /** It has virtual functions that came by its driver. */
  sriovEnabled = false;
  /** Of a physical function. */
  vfToken: VfToken | undefined;
  /** The driver of a virtual function's physical one, which has enabled SR-IOV. */
  physical: VfioPciCoreDevice | undefined;
  readonly #backing: VfioPciBacking;
  readonly #bars: readonly BarMemory[];
  #opened: Opened | undefined;

  constructor(pdev: PciDev) {
    super(pdev.system, pdev.bdf, pdev);
    this.pdev = pdev;
    this.isExpress = pdev.findCapability(CAP_EXPRESS) !== 0;
    this.irqs = new VfioPciIrqs(this);
    this.power = new VfioPciPower(pdev, this.irqs);
    this.ioeventfds = new VfioPciIoeventfds(this);
    this.brokenIntx = hasNoIntx(pdev);
    this.msixTable = msixTable(pdev);
    const { teeIo } = this.system.machine;
    this.assigned = teeIo === undefined ? undefined : new VfioPciTdi(this, teeIo);
    this.#backing = new VfioPciBacking(this);
    this.#bars = [0, 1, 2, 3, 4, 5].map((bar) => new BarMemory(pdev, bar));
  }

  static boundIn(system: System): Map<PciDev, VfioPciCoreDevice> {
    const found = VfioPciCoreDevice.#bound.get(system);
    if (found !== undefined) return found;
    const made = new Map<PciDev, VfioPciCoreDevice>();
    VfioPciCoreDevice.#bound.set(system, made);
    return made;
  }

  /** The device of a function that is bound to a VFIO driver. */
  static of(pdev: PciDev): VfioPciCoreDevice | undefined {
    return VfioPciCoreDevice.boundIn(pdev.system).get(pdev);
  }

  /** What vfio_pci_core_register_device does to the function: in D0, then asleep: the bus's count of its power is given back. */
  bind(): void {
    VfioPciCoreDevice.boundIn(this.system).set(this.pdev, this);
    this.setPowerState(0);
    this.power.allowSleep(true);
    if (!this.#idlesAwake) this.power.put();
  }

  /** The driver has let go of it. */
  unbind(): void {
    if (!this.#idlesAwake) this.power.get();
    this.power.allowSleep(false);
    VfioPciCoreDevice.boundIn(this.system).delete(this.pdev);
  }

  /** vfio_assign_device_set: functions on a root bus and virtual ones are alone, others with those of their bus that VFIO has. */
  deviceSet(): VfioPciCoreDevice[] {
    const { pdev } = this;
    if (pdev.parent === undefined || pdev.physfn !== undefined) return [this];
    const bound = [...VfioPciCoreDevice.boundIn(this.system).values()];
    return bound.filter(({ pdev: each }) => each.segment === pdev.segment && each.bus === pdev.bus && each.physfn === undefined);
  }

  // ---- open and close

  /** vfio_pci_core_enable, vfio_pci_core_finish_enable. The user begins with decode on, bus mastering off and the host's addresses in the BARs. */
  override openDevice(_p: Process): number {
    const { pdev } = this;
    if (!this.#idlesAwake) this.power.get();
    pdev.setMaster(false);
    const enabled = pdev.enableDevice();
    if (enabled < 0) {
      if (!this.#idlesAwake) this.power.put();
      return enabled;
    }
    const reset = this.tryReset();
    if (reset === -EAGAIN) {
      pdev.disableDevice();
      if (!this.#idlesAwake) this.power.put();
      return reset;
    }
    this.resetWorks = reset === 0;
    const saved = pdev.saveState();
    this.#probeIntx();
    const config = new ConfigSpaceView(this);
    const bars = has(this.system.machine, 'barsClaimedByOpen') ? pdev.resources.slice(0, VFIO_PCI_ROM_REGION_INDEX) : [];
    const claims = bars.map((_, bar) => pdev.claim(bar, 'vfio'));
    this.#opened = { config, saved, claims, mappable: mappableBars(pdev) };
    this.migrationOpened();
    if (this.physical?.vfToken !== undefined) this.physical.vfToken.users++;
    pdev.onError = (severity) => {
      if (severity !== 'correctable') this.irqs.error.signal();
    };
    return 0;
  }

  /** vfio_pci_core_close_device. The saved registers go back before the reset, which keeps them. */
  override closeDevice(_p: Process): void {
    const { pdev } = this;
    this.assigned?.close();
    const { saved, claims } = this.#opened!;
    if (this.physical?.vfToken !== undefined) this.physical.vfToken.users--;
    for (const dmaBuf of [...this.dmaBufs]) dmaBuf.end();
    this.power.exit();
    this.setPowerState(0);
    pdev.setMaster(false);
    this.irqs.disable();
    this.ioeventfds.removeAll();
    claims.forEach((claim, bar) => {
      if (claim === 0) pdev.unclaim(bar);
    });
    this.#opened = undefined;
    this.precopyInfoV2 = false;
    this.needsReset = true;
    pdev.restoreState(saved);
    pdev.writeConfig(PCI_COMMAND, 2, INTX_DISABLE);
    if (this.resetWorks && !this.unregistering && pdev.resetFunction() === 0) this.needsReset = false;
    pdev.restoreState(saved);
    pdev.disableDevice();
    tryResetSet(this);
    if (!this.#idlesAwake) this.power.put();
    this.irqs.error.clear();
    this.irqs.request.clear();
    pdev.onError = undefined;
  }

  /** What a vendor driver does at the first open, and after a reset. */
  protected migrationOpened(): void {}

  /** The driver's reset_done: the function was reset. */
  resetDone(): void {}

  get #idlesAwake(): boolean {
    return this.system.parameters.vfio_pci.disable_idle_d3;
  }

  #probeIntx(): void {
    const { pdev } = this;
    const command = pdev.readConfig(PCI_COMMAND, 2);
    if (this.brokenIntx) {
      pdev.writeConfig(PCI_COMMAND, 2, command | INTX_DISABLE);
      return;
    }
    this.intxMaskable = !this.system.parameters.vfio_pci.nointxmask && pdev.irq.intxSupported;
    if (this.intxMaskable) pdev.writeConfig(PCI_COMMAND, 2, command & ~INTX_DISABLE);
  }

  // ---- the device file

  override ioctl(file: VfioDeviceFile, p: Process, request: number, arg: bigint): number {
    return this.#awake(
      () => this.assigned?.ioctl(p, request, arg) ?? deviceIoctls.dispatch({ device: this, file }, p, request, arg),
    );
  }

  override read(_file: VfioDeviceFile, _p: Process, into: Uint8Array, offset: bigint): number {
    return into.length === 0 ? 0 : this.#awake(() => this.#access(into, offset, false));
  }

  override write(_file: VfioDeviceFile, _p: Process, from: Uint8Array, offset: bigint): number {
    return from.length === 0 ? 0 : this.#awake(() => this.#access(from, offset, true));
  }

  #access(bytes: Uint8Array, offset: bigint, write: boolean): number {
    const index = Number(offset >> 40n);
    const at = Number(offset & OFFSET_MASK);
    if (index >= VFIO_PCI_NUM_REGIONS) return -EINVAL;
    if (index <= VFIO_PCI_ROM_REGION_INDEX) return accessBar(this, index, { bytes, write }, at);
    if (index !== VFIO_PCI_CONFIG_REGION_INDEX) return -EINVAL;
    return write ? this.config.write(bytes, at) : this.config.read(bytes, at);
  }

  override mmap(_file: VfioDeviceFile, _p: Process, map: FileMap): Backing | number {
    if (this.isPrivate) return -EINVAL;
    const error = checkMmap(this, VFIO_PCI_NUM_REGIONS, map);
    return error < 0 ? error : this.#backing;
  }

  override match(text: string): boolean | number {
    return matchName(this, text);
  }

  override matchToken(token: Uint8Array | undefined): number {
    return checkToken(this, token);
  }

  override request(): void {
    this.irqs.request.signal();
  }

  deviceFeature(p: Process, request: FeatureRequest): number {
    return pciFeature(p, this, request);
  }

  /** A device that sleeps wakes for as long as it is asked something. */
  #awake(body: () => number): number {
    this.power.get();
    try {
      return body();
    } finally {
      this.power.put();
    }
  }

  // ---- what the parts ask

  get config(): ConfigSpaceView {
    return this.#opened!.config;
  }

  get irq(): PciIrq {
    return this.pdev.irq;
  }

  /** No interrupt line leads anywhere, or the function's must not be used. */
  get noIntx(): boolean {
    return this.brokenIntx || this.pdev.irq.line === 0;
  }

  get interruptPin(): number {
    return this.config.interruptPin;
  }

  get isVirtualFunction(): boolean {
    return this.pdev.physfn !== undefined;
  }

  get ids(): readonly [vendor: number, device: number] {
    const { vendor, device } = idsOf(this.pdev);
    return [vendor, device];
  }

  get msiActive(): boolean {
    return this.irqs.msiActive;
  }

  get msiQmax(): number {
    return this.irqs.msiQmax;
  }

  /** A virtual function's memory is enabled by its physical one. */
  get memoryEnabled(): boolean {
    return this.pdev.powerState < 3 && (this.isVirtualFunction || this.config.memoryEnabled);
  }

  get reachable(): boolean {
    return this.#opened !== undefined && !this.power.engaged && this.memoryEnabled;
  }

  mappable(bar: number): boolean {
    return this.#opened!.mappable[bar]!;
  }

  get growsMsix(): boolean {
    return has(this.system.machine, 'msixGrows');
  }

  get checksTriggers(): boolean {
    return has(this.system.machine, 'triggersChecked');
  }

  /** vfio_pci_core_setup_barmap. Who was not claimed yet is as often as it is tried. */
  barError(bar: number, by = 'vfio'): number {
    const { claims } = this.#opened!;
    const claim = claims[bar] ?? this.pdev.claim(bar, by);
    if (claim === 0) claims[bar] = claim;
    return claim;
  }

  useBar(bar: number, by?: string): number {
    return this.barError(bar, by) || (this.assigned?.claims.use(bar) ?? 0);
  }

  isPrivateBar(bar: number): boolean {
    return this.isPrivate && this.mappable(bar);
  }

  barMemory(bar: number): DeviceMemory {
    return this.#bars[bar]!;
  }

  /** RFC: memory or state of the function is about to go: −EBUSY where it must not while its TDI is bound. */
  disturb(): number {
    return this.assigned?.disturb() ?? 0;
  }

  allowedCommand(value: number): number {
    return this.assigned?.command(value) ?? value;
  }

  memoryGoesDown(): void {
    this.#backing.zap();
    for (const dmaBuf of [...this.dmaBufs]) dmaBuf.move(true);
  }

  memoryComesUp(): void {
    if (this.memoryEnabled) for (const dmaBuf of [...this.dmaBufs]) dmaBuf.move(false);
  }

  /** Runs `body` while nobody can reach the BARs. */
  withoutMemory(body: () => number): number {
    this.memoryGoesDown();
    try {
      return body();
    } finally {
      this.memoryComesUp();
    }
  }

  /**
   * vfio_pci_memory_lock_and_enable, and vfio_pci_memory_unlock_and_restore: the hardware decodes for as long as `body` runs, whatever the user has set. What
   * `body` has done to COMMAND is undone: INTX_DISABLE, which the kernel sets and clears with messages.
   */
  withMemory<T>(body: () => T): T {
    const { pdev } = this;
    const command = pdev.readConfig(PCI_COMMAND, 2);
    if ((command & COMMAND_MEMORY) === 0) pdev.writeConfig(PCI_COMMAND, 2, command | COMMAND_MEMORY);
    try {
      return body();
    } finally {
      pdev.writeConfig(PCI_COMMAND, 2, command);
    }
  }

  setIntxDisabled(disabled: boolean): void {
    this.irqs.setIntxDisabled(disabled);
  }

  /** vfio_lock_and_set_power_state. */
  changePowerState(state: PowerState): void {
    if (state === 3) {
      if (this.disturb() < 0) return;
      this.memoryGoesDown();
    }
    this.setPowerState(state);
    this.memoryComesUp();
  }

  setPowerState(state: PowerState): void {
    this.power.set(state, this.pdev.sriov?.vfs.length ?? 0);
  }

  resetFunction(): void {
    if (this.disturb() < 0) return;
    this.withoutMemory(() => this.tryReset());
  }

  /** pci_try_reset_function: −ENOTTY without a method, −EAGAIN while an unbind has the device's lock. */
  tryReset(): number {
    const { resetMethods } = this.pdev;
    return this.unregistering && resetMethods.length > 0 ? -EAGAIN : this.pdev.saveAndReset();
  }

  get maxPayload(): number {
    const at = this.pdev.findCapability(CAP_EXPRESS);
    return 128 << ((this.pdev.readConfig(at + DEVCTL, 2) >>> 5) & 7);
  }

  /** pcie_set_readrq: more than 4096 is refused. */
  setReadRequest(bytes: number): void {
    if (bytes > 4096) return;
    const at = this.pdev.findCapability(CAP_EXPRESS) + DEVCTL;
    const control = this.pdev.readConfig(at, 2);
    this.pdev.writeConfig(at, 2, (control & ~0x7000) | ((Math.log2(bytes) - 7) << 12));
  }
}

/** An ioctl's device, and the file it came by. */
interface Asked {
  readonly device: VfioPciCoreDevice;
  readonly file: VfioDeviceFile;
}

/** Every request of an assigned PCI device but those by which it is bound to an iommufd. */
export const deviceIoctls: RequestTable<Asked> = new RequestTable<Asked>('vfio-device', ENOTTY, {
  VFIO_DEVICE_GET_INFO: ({ device }, p, arg) => getInfo(device, p, arg),
  VFIO_DEVICE_GET_REGION_INFO: ({ device }, p, arg) => getRegionInfo(device, p, arg),
  VFIO_DEVICE_GET_IRQ_INFO: ({ device }, p, arg) => getIrqInfo(device, p, arg),
  VFIO_DEVICE_SET_IRQS: ({ device }, p, arg) => device.irqs.set(p, arg),
  VFIO_DEVICE_RESET: ({ device }) => deviceReset(device),
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: ({ device, file }, p, arg) => hotResetInfo(device, file, p, arg),
  VFIO_DEVICE_PCI_HOT_RESET: ({ device, file }, p, arg) => hotReset(device, file, p, arg),
  VFIO_DEVICE_IOEVENTFD: ({ device }, p, arg) => device.ioeventfds.ioctl(p, arg),
  VFIO_DEVICE_FEATURE: ({ device }, p, arg) => deviceFeature(p, device, arg),
});

function msixTable(pdev: PciDev): { bar: number; start: number; end: number } | undefined {
  const at = pdev.findCapability(CAP_MSIX);
  if (at === 0) return undefined;
  const entries = (pdev.readConfig(at + 2, 2) & 0x7ff) + 1;
  const table = pdev.readConfig(at + 4, 4);
  const start = (table & ~7) >>> 0;
  return { bar: table & 7, start, end: start + entries * MSIX_ENTRY };
}
