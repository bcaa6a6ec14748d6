import type { Width } from '../../kernel/memory.ts';
import * as r from '../../uapi/pci-regs.ts';
import { BusMaster, type Dma, type PageRequest } from './bus-master.ts';
import type { ConfigSpace } from './config-space.ts';
import type { DmaTarget } from './dma-target.ts';
import type { FunctionSpec } from './function-spec.ts';
import { layOut, type Positions } from './layout.ts';
import { type Message, MsixTable } from './msix-table.ts';
import type { LockFault } from './tdisp/lock.ts';

export type { Dma, PageRequest } from './bus-master.ts';
export type { ConfigSpace, ConfigWidth } from './config-space.ts';

/** What resets a function: power-on, a function level reset, D3hot → D0 without No_Soft_Reset, its bus. */
export type ResetKind = 'power' | 'flr' | 'pm' | 'bus';
export type Severity = 'correctable' | 'nonfatal' | 'fatal';
export type PowerState = 0 | 1 | 2 | 3;

/** What a function finds above its connector. */
export interface Place {
  readonly bdf: string;
  /** Segment, bus, device and function as one number. */
  readonly requester: number;
  readonly now: bigint;
  after(nanoseconds: bigint, run: () => void): () => void;
  random(): number;
  /** One step of a transfer; undefined: it goes nowhere. */
  translate(fn: PciFunction, iova: bigint, length: number, write: boolean, pasid?: number): DmaTarget | undefined;
  /** Whether a write there is a message, and never memory. */
  takesMessages(address: bigint): boolean;
  requestPage(fn: PciFunction, request: PageRequest, answer: (granted: boolean) => void): void;
  /** A message signalled interrupt; false: nobody took it. */
  interrupt(fn: PciFunction, message: Message): boolean;
  /** The level of the interrupt wire changed. */
  wire(fn: PciFunction, level: boolean): void;
  error(fn: PciFunction, severity: Severity, bit: number): void;
  /** VF_ENABLE and NumVFs: how many virtual functions there are now. */
  virtualFunctions(fn: PciFunction, count: number): void;
  /** The machine is on, and no longer put together. */
  readonly running: boolean;
  /** Lets go of a function below. */
  eject(fn: PciFunction): void;
  /** The hot-plug controller of the port has something to tell. */
  slotEvent(port: PciFunction): void;
}

/** Who watches what happens to a function: the TSM. */
export interface FunctionObserver {
  /** It is about to be reset. */
  reset(kind: ResetKind): void;
  /** It has lost its place. */
  pulled(): void;
}

const allOnes = (width: Width): number | bigint => (width === 8 ? 0xffff_ffff_ffff_ffffn : 2 ** (8 * width) - 1);

/**
 * One PCI function: the device's side of a driver. A device model is a class that extends it, describes itself by a `FunctionSpec`, answers `read`
 * and `write` of its BARs, and uses `dma`, `raise`, `setIntx` and `after`. Whoever holds the object holds the back door.
 */
export abstract class PciFunction {
  readonly spec: FunctionSpec;
  /** The registers of configuration space, as hardware has them. */
  readonly config: ConfigSpace;
  /** Where the capabilities are in it. */
  readonly positions: Positions;
  /** Bus mastering. */
  readonly dma: Dma = new BusMaster(this);
  /** Where it is plugged in. */
  place: Place | undefined;
  observer: FunctionObserver | undefined;
  readonly #msix: MsixTable | undefined;
  #intx = false;
  #wire = false;
  readonly #timers = new Set<() => void>();

  constructor(spec: FunctionSpec) {
    this.spec = spec;
    const { config, positions } = layOut(spec);
    this.config = config;
    this.positions = positions;
    if (spec.msix !== undefined) this.#msix = new MsixTable(spec.msix, () => this.#flush());
    this.#watch();
  }

  // ---- overridden by models

  /** A load from a BAR, of exactly this width. What a model does not answer reads as all ones. */
  read(_bar: number, _offset: number, width: Width): number | bigint {
    return allOnes(width);
  }

  /** A store to a BAR. */
  write(_bar: number, _offset: number, _width: Width, _value: number | bigint): void {}

  /** Back to what the model is after this kind of reset; timers are cancelled and configuration space has been reset. */
  reset(_kind: ResetKind): void {}

  /** TDISP: all work and DMA is finished or aborted, when the function is locked and when it is stopped. */
  quiesce(): void {}

  /** TDISP: what the guest that had it has left in it is overwritten. */
  scrub(): void {}

  /** TDISP: what of the model's own stands in the way of a lock. */
  lockFaults(): readonly LockFault[] {
    return [];
  }

  // ---- used by models

  /** Sends the MSI-X or MSI message of a vector. False: nothing went out, because it is off, masked (it is pending then) or bus mastering is off. */
  raise(vector = 0): boolean {
    const { msi, msix } = this.positions;
    if (msix !== 0 && (this.config.peek(msix + r.PCI_MSIX_FLAGS, 2) & r.PCI_MSIX_FLAGS_ENABLE) !== 0)
      return this.#raiseMsix(vector);
    if (msi !== 0 && (this.config.peek(msi + r.PCI_MSI_FLAGS, 2) & r.PCI_MSI_FLAGS_ENABLE) !== 0) return this.#raiseMsi(vector);
    return false;
  }

  /** MSI or MSI-X is on: INTx must not be used. */
  get messages(): boolean {
    const { msi, msix } = this.positions;
    return (
      (msix !== 0 && (this.config.peek(msix + r.PCI_MSIX_FLAGS, 2) & r.PCI_MSIX_FLAGS_ENABLE) !== 0) ||
      (msi !== 0 && (this.config.peek(msi + r.PCI_MSI_FLAGS, 2) & r.PCI_MSI_FLAGS_ENABLE) !== 0)
    );
  }

  /** The level of INTx. It shows in STATUS, and on the wire unless COMMAND.INTX_DISABLE is set. */
  setIntx(level: boolean): void {
    this.#intx = level;
    this.config.flag(r.PCI_STATUS, 2, r.PCI_STATUS_INTERRUPT, level);
    this.#updateWire();
  }

  /** Calls `run` when this many nanoseconds of simulated time have passed; the result cancels. A reset cancels all. */
  after(nanoseconds: number | bigint, run: () => void): () => void {
    const cancel = this.place?.after(BigInt(nanoseconds), () => {
      this.#timers.delete(forget);
      run();
    });
    const forget = (): void => {
      this.#timers.delete(forget);
      cancel?.();
    };
    if (cancel !== undefined) this.#timers.add(forget);
    return forget;
  }

  /** 32 bits of the machine's seed. */
  random(): number {
    if (this.place === undefined) throw new Error('a function that is not plugged in has no random numbers');
    return this.place.random();
  }

  /** Sets the bit in the AER status (where there is one) and in Device Status, and sends the error message upwards unless it is masked or off. */
  reportError(severity: Severity, bit: number): void {
    const { aer, express } = this.positions;
    if (express === 0) return;
    const correctable = severity === 'correctable';
    const index = severity === 'correctable' ? 0 : severity === 'nonfatal' ? 1 : 2;
    this.config.flag(express + r.PCI_EXP_DEVSTA, 2, 1 << index, true);
    if (aer !== 0) {
      const [status, mask] = correctable
        ? [r.PCI_ERR_COR_STATUS, r.PCI_ERR_COR_MASK]
        : [r.PCI_ERR_UNCOR_STATUS, r.PCI_ERR_UNCOR_MASK];
      const value = (1 << bit) >>> 0;
      if (!correctable) this.config.flag(aer + r.PCI_ERR_UNCOR_SEVER, 4, value, severity === 'fatal');
      this.config.flag(aer + status, 4, value, true);
      if ((this.config.peek(aer + mask, 4) & value) !== 0) return;
    }
    const enable = [r.PCI_EXP_DEVCTL_CERE, r.PCI_EXP_DEVCTL_NFERE, r.PCI_EXP_DEVCTL_FERE][index]!;
    if ((this.config.peek(express + r.PCI_EXP_DEVCTL, 2) & enable) !== 0) this.place?.error(this, severity, bit);
  }

  /** The D-state of the power management registers. */
  get powerState(): PowerState {
    const { pm } = this.positions;
    return pm === 0 ? 0 : ((this.config.peek(pm + r.PCI_PM_CTRL, 2) & r.PCI_PM_CTRL_STATE_MASK) as PowerState);
  }

  /** COMMAND.MASTER is set, and the function is in D0 and plugged in. */
  get masters(): boolean {
    return this.place !== undefined && this.powerState === 0 && (this.config.peek(r.PCI_COMMAND, 2) & r.PCI_COMMAND_MASTER) !== 0;
  }

  // ---- used by what is above

  /** Asserts INTx, whether it is masked or not. */
  get intx(): boolean {
    return this.#intx;
  }

  /** A load that the function decodes: its MSI-X table, its ROM, or the model's. */
  load(bar: number, offset: number, width: Width): number | bigint {
    if (bar === 6) return this.#readRom(offset, width);
    return this.#msix?.read(bar, offset, width) ?? this.read(bar, offset, width);
  }

  store(bar: number, offset: number, width: Width, value: number | bigint): void {
    if (bar === 6 || this.#msix?.write(bar, offset, width, value) === true) return;
    this.write(bar, offset, width, width === 8 ? BigInt(value) : Number(value));
  }

  /** Everything a reset does: the registers, the interrupts, then the model. */
  performReset(kind: ResetKind): void {
    this.observer?.reset(kind);
    for (const cancel of [...this.#timers]) cancel();
    const virtualFunctions = this.positions.sriov !== 0;
    this.config.reset(kind === 'power');
    this.#msix?.reset();
    this.setIntx(false);
    if (virtualFunctions) this.place?.virtualFunctions(this, 0);
    this.reset(kind);
  }

  /** A message on its way to the interrupt controller. */
  sendMessage(message: Message): boolean {
    return this.place?.interrupt(this, message) ?? false;
  }

  /** Taken out of its slot: nothing of it happens any more. */
  pulled(): void {
    for (const cancel of [...this.#timers]) cancel();
    this.#intx = false;
    this.#updateWire();
    this.place = undefined;
    this.observer?.pulled();
  }

  // ---- inside

  #raiseMsix(vector: number): boolean {
    const table = this.#msix!;
    const flags = this.config.peek(this.positions.msix + r.PCI_MSIX_FLAGS, 2);
    if (vector >= this.spec.msix!.vectors) return false;
    if ((flags & r.PCI_MSIX_FLAGS_MASKALL) !== 0 || table.masked(vector)) {
      table.setPending(vector, true);
      return false;
    }
    return this.masters && this.sendMessage(table.message(vector));
  }

  /** With fewer vectors enabled than the device has, it folds them: the low bits of the data are the vector. */
  #raiseMsi(vector: number): boolean {
    const { config } = this;
    const at = this.positions.msi;
    const flags = config.peek(at + r.PCI_MSI_FLAGS, 2);
    const enabled = 1 << ((flags & r.PCI_MSI_FLAGS_QSIZE) >> 4);
    const own = vector % enabled;
    const wide = (flags & r.PCI_MSI_FLAGS_64BIT) !== 0;
    if ((flags & r.PCI_MSI_FLAGS_MASKBIT) !== 0) {
      const mask = at + (wide ? 0x10 : 0x0c);
      if (((config.peek(mask, 4) >>> own) & 1) === 1) {
        config.flag(mask + 4, 4, (1 << own) >>> 0, true);
        return false;
      }
    }
    const high = wide ? config.peek(at + 8, 4) : 0;
    const address = (BigInt(high) << 32n) | BigInt(config.peek(at + r.PCI_MSI_ADDRESS_LO, 4));
    const data = config.peek(at + (wide ? 0x0c : 8), 2);
    return this.masters && this.sendMessage({ address, data: (data & ~(enabled - 1)) | own });
  }

  /** Sends what was pending and is masked no longer. */
  #flush(): void {
    const { msi, msix } = this.positions;
    if (msix !== 0 && (this.config.peek(msix + r.PCI_MSIX_FLAGS, 2) & r.PCI_MSIX_FLAGS_ENABLE) !== 0) {
      if ((this.config.peek(msix + r.PCI_MSIX_FLAGS, 2) & r.PCI_MSIX_FLAGS_MASKALL) !== 0) return;
      for (let vector = 0; vector < this.spec.msix!.vectors; vector++) {
        if (!this.#msix!.pending(vector) || this.#msix!.masked(vector)) continue;
        this.#msix!.setPending(vector, false);
        this.raise(vector);
      }
    } else if (msi !== 0 && this.spec.msi?.maskable === true) {
      const mask = msi + (this.spec.msi.wide === false ? 0x0c : 0x10);
      const ready = this.config.peek(mask + 4, 4) & ~this.config.peek(mask, 4);
      for (let vector = 0; vector < 32; vector++) {
        if (((ready >>> vector) & 1) === 0) continue;
        this.config.flag(mask + 4, 4, (1 << vector) >>> 0, false);
        this.raise(vector);
      }
    }
  }

  #updateWire(): void {
    const disabled = (this.config.peek(r.PCI_COMMAND, 2) & r.PCI_COMMAND_INTX_DISABLE) !== 0 || this.powerState !== 0;
    const level = this.#intx && !disabled;
    if (level === this.#wire) return;
    this.#wire = level;
    this.place?.wire(this, level);
  }

  #readRom(offset: number, width: Width): number | bigint {
    const { rom } = this.spec;
    let value = 0n;
    for (let i = width - 1; i >= 0; i--) value = (value << 8n) | BigInt(rom?.[offset + i] ?? 0xff);
    return width === 8 ? value : Number(value);
  }

  /** The registers that do something when they are written. */
  #watch(): void {
    const { config, spec } = this;
    const { pm, msi, msix, express, af, sriov } = this.positions;
    config.onWrite(r.PCI_COMMAND, () => this.#updateWire());
    if (pm !== 0) config.onWrite(pm + r.PCI_PM_CTRL, (before, after) => this.#power(before & 3, after & 3));
    if (msix !== 0) config.onWrite(msix, () => this.#flush());
    if (msi !== 0) config.onWrite(msi, () => this.#clampMsi());
    if (msi !== 0 && spec.msi?.maskable === true)
      config.onWrite(msi + (spec.msi.wide === false ? 0x0c : 0x10), () => this.#flush());
    if (spec.flr === true && express !== 0) {
      config.onWrite(express + r.PCI_EXP_DEVCTL, (_before, after) => {
        config.flag(express + r.PCI_EXP_DEVCTL, 2, r.PCI_EXP_DEVCTL_BCR_FLR, false);
        if ((after & r.PCI_EXP_DEVCTL_BCR_FLR) !== 0) this.performReset('flr');
      });
    }
    if (spec.flr === true && af !== 0) {
      config.onWrite(af + r.PCI_AF_CTRL, (_before, after) => {
        config.flag(af + r.PCI_AF_CTRL, 1, r.PCI_AF_CTRL_FLR, false);
        if ((after & r.PCI_AF_CTRL_FLR) !== 0) this.performReset('flr');
      });
    }
    if (sriov !== 0) {
      config.onWrite(sriov + r.PCI_SRIOV_CTRL, (before, after) => {
        if (((before ^ after) & r.PCI_SRIOV_CTRL_VFE) === 0) return;
        const enabled = (after & r.PCI_SRIOV_CTRL_VFE) !== 0;
        this.place?.virtualFunctions(this, enabled ? config.peek(sriov + r.PCI_SRIOV_NUM_VF, 2) : 0);
      });
    }
  }

  /** MSI that is enabled with more messages than the function asked for has as many as it asked for. */
  #clampMsi(): void {
    const at = this.positions.msi + r.PCI_MSI_FLAGS;
    const flags = this.config.peek(at, 2);
    const most = (flags & r.PCI_MSI_FLAGS_QMASK) << 3;
    if ((flags & r.PCI_MSI_FLAGS_ENABLE) === 0 || (flags & r.PCI_MSI_FLAGS_QSIZE) <= most) return;
    this.config.poke(at, 2, (flags & ~r.PCI_MSI_FLAGS_QSIZE) | most);
  }

  /** A write to the power state: one the function does not have is dropped; back from D3hot it has forgotten everything, unless it says otherwise. */
  #power(before: number, after: number): void {
    const { config, spec } = this;
    const control = this.positions.pm + r.PCI_PM_CTRL;
    const capabilities = spec.pm?.capabilities ?? 0;
    const missing = (after === 1 && (capabilities & 0x200) === 0) || (after === 2 && (capabilities & 0x400) === 0);
    if (missing) config.poke(control, 2, (config.peek(control, 2) & ~3) | before);
    else if (before === 3 && after === 0 && spec.pm?.noSoftReset !== true) this.performReset('pm');
    this.#updateWire();
  }
}
