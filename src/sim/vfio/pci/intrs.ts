import { EFAULT, EINVAL, ENODEV, ENOTTY } from '../../../uapi/sys.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  vfio_irq_set,
} from '../../../uapi/vfio.ts';
import { type EventfdFile, eventfdOf } from '../../eventfd.ts';
import type { PciIrq } from '../../pci/irq.ts';
import type { Process } from '../../process.ts';
import { VirqfdSlot } from './virqfd.ts';

/** What interrupts ask of the device they belong to. */
export interface IrqOwner {
  readonly irq: PciIrq;
  /** DisINTx of the device works; else the line is masked. */
  readonly intxMaskable: boolean;
  readonly isExpress: boolean;
  /** The virtual interrupt pin. */
  readonly interruptPin: number;
  /** Vectors can be added to those of MSI-X that are enabled. */
  readonly growsMsix: boolean;
  /** The kernel refuses descriptors below −1 for ERR and REQ. */
  readonly checksTriggers: boolean;
  /** Runs `body` with memory decode on: the MSI-X table lies in a BAR. */
  withMemory<T>(body: () => T): T;
}

/** SET_IRQS after its checks: `data` is empty, or a byte or a descriptor for each of `count`. */
export interface Setting {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** One VFIO_IRQ_SET_DATA_*. */
  readonly data: number;
  readonly bytes: Uint8Array;
}

type Action = (p: Process, setting: Setting) => number;

const SIZES: ReadonlyMap<number, number> = new Map([
  [VFIO_IRQ_SET_DATA_NONE, 0],
  [VFIO_IRQ_SET_DATA_BOOL, 1],
  [VFIO_IRQ_SET_DATA_EVENTFD, 4],
]);

/** vfio_set_irqs_validate_and_prepare and the copy of the data. `counts`: interrupts of each index. −errno. */
export function copySetting(
  p: Process,
  arg: bigint,
  indexes: number,
  counts: (index: number) => number,
): (Setting & { action: number }) | number {
  const header = p.mm.copyFrom(arg, vfio_irq_set.size);
  if (header === null) return -EFAULT;
  const { argsz, flags, index, start, count } = vfio_irq_set.decode(header);
  if (argsz < vfio_irq_set.size || index >= indexes || count >= 0xffff_ffff - start) return -EINVAL;
  if (flags & ~(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK)) return -EINVAL;
  const available = counts(index);
  if (start >= available || start + count > available) return -EINVAL;
  const data = flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
  const size = SIZES.get(data);
  if (size === undefined || argsz - vfio_irq_set.size < count * size) return -EINVAL;
  const bytes = p.mm.copyFrom(arg + BigInt(vfio_irq_set.size), count * size);
  if (bytes === null) return -EFAULT;
  return { index, start, count, data, bytes, action: flags & VFIO_IRQ_SET_ACTION_TYPE_MASK };
}

/** The descriptor of the setting's n-th eventfd. */
export function descriptor({ bytes }: { readonly bytes: Uint8Array }, n: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(4 * n, true);
}

/** An eventfd that user space hands over once and the kernel signals: ERR and REQ (vfio_pci_set_ctx_trigger_single). */
class SingleTrigger {
  readonly #owner: IrqOwner;
  #eventfd: EventfdFile | undefined;

  constructor(owner: IrqOwner) {
    this.#owner = owner;
  }

  signal(): void {
    this.#eventfd?.signal();
  }

  clear(): void {
    this.#eventfd = undefined;
  }

  set(p: Process, setting: Setting): number {
    const { start, count, data, bytes } = setting;
    if (start !== 0 || count > 1) return -EINVAL;
    if (data === VFIO_IRQ_SET_DATA_NONE) {
      if (this.#eventfd === undefined) return -EINVAL;
      if (count > 0) this.signal();
      else this.clear();
      return 0;
    }
    if (count === 0) return -EINVAL;
    if (data === VFIO_IRQ_SET_DATA_BOOL) {
      if (bytes[0] !== 0) this.signal();
      return 0;
    }
    const fd = descriptor(setting, 0);
    if (fd < -1) return this.#owner.checksTriggers ? -EINVAL : 0;
    const eventfd = fd === -1 ? undefined : eventfdOf(p, fd);
    if (typeof eventfd === 'number') return eventfd;
    this.#eventfd = eventfd;
    return 0;
  }
}

/** The interrupts of an assigned device, as eventfds (drivers/vfio/pci/vfio_pci_intrs.c). At most one of INTx, MSI and MSI-X is enabled. */
export class VfioPciIrqs {
  readonly #owner: IrqOwner;
  readonly error: SingleTrigger;
  readonly request: SingleTrigger;
  /** The enabled index; VFIO_PCI_NUM_IRQS: none. */
  #mode: number = VFIO_PCI_NUM_IRQS;
  /** Of MSI and MSI-X, by vector. */
  readonly #triggers = new Map<number, EventfdFile>();
  /** Vectors that were enabled together. */
  #vectors = 0;
  #intxTrigger: EventfdFile | undefined;
  #intxMasked = false;
  readonly #unmask: VirqfdSlot = new VirqfdSlot();
  /** The user has set DisINTx, which is virtual. */
  #virqDisabled = false;
  #msiQmax = 0;

  constructor(owner: IrqOwner) {
    this.#owner = owner;
    this.error = new SingleTrigger(owner);
    this.request = new SingleTrigger(owner);
  }

  get msiActive(): boolean {
    return this.#mode === VFIO_PCI_MSI_IRQ_INDEX;
  }

  /** What the virtual MSI capability lets the user write as its queue size. */
  get msiQmax(): number {
    return this.#msiQmax;
  }

  /** vfio_pci_get_irq_count. */
  count(index: number): number {
    const { irq, isExpress, interruptPin } = this.#owner;
    const counts = [interruptPin === 0 ? 0 : 1, irq.msiCount, irq.msixCount, isExpress ? 1 : 0, 1];
    return counts[index] ?? 0;
  }

  /** VFIO_DEVICE_SET_IRQS. */
  set(p: Process, arg: bigint): number {
    const setting = copySetting(p, arg, VFIO_PCI_NUM_IRQS, (index) => this.count(index));
    if (typeof setting === 'number') return setting;
    return this.#actions[setting.index]!.get(setting.action)?.(p, setting) ?? -ENOTTY;
  }

  readonly #actions: readonly ReadonlyMap<number, Action>[] = [
    new Map<number, Action>([
      [VFIO_IRQ_SET_ACTION_MASK, (_p, setting) => this.#maskIntx(setting)],
      [VFIO_IRQ_SET_ACTION_UNMASK, (p, setting) => this.#unmaskIntx(p, setting)],
      [VFIO_IRQ_SET_ACTION_TRIGGER, (p, setting) => this.#triggerIntx(p, setting)],
    ]),
    new Map<number, Action>([[VFIO_IRQ_SET_ACTION_TRIGGER, (p, setting) => this.#triggerMsi(p, setting)]]),
    new Map<number, Action>([[VFIO_IRQ_SET_ACTION_TRIGGER, (p, setting) => this.#triggerMsi(p, setting)]]),
    new Map<number, Action>([[VFIO_IRQ_SET_ACTION_TRIGGER, (p, setting) => this.error.set(p, setting)]]),
    new Map<number, Action>([[VFIO_IRQ_SET_ACTION_TRIGGER, (p, setting) => this.request.set(p, setting)]]),
  ];

  /** The last close: whatever is enabled goes. */
  disable(): void {
    if (this.#mode === VFIO_PCI_INTX_IRQ_INDEX) this.#disableIntx();
    else if (this.#mode !== VFIO_PCI_NUM_IRQS) this.#disableMsi();
    this.#virqDisabled = false;
  }

  // ---- INTx

  /** Before the device sleeps; false: its line is masked already, or not in use. */
  maskForSleep(): boolean {
    if (!this.#isIntx() || this.#intxMasked) return false;
    this.#mask();
    return true;
  }

  unmaskAfterSleep(): void {
    this.#unmaskAndResend();
  }

  /** Virtual DisINTx was written. */
  setIntxDisabled(disabled: boolean): void {
    if (disabled === this.#virqDisabled) return;
    this.#virqDisabled = disabled;
    if (disabled) this.#mask();
    else this.#unmaskAndResend();
  }

  #isIntx(): boolean {
    return this.#mode === VFIO_PCI_INTX_IRQ_INDEX;
  }

  /** Where INTx is not in use the physical bit follows the virtual one. */
  #mask(): void {
    const { irq, intxMaskable } = this.#owner;
    if (!this.#isIntx()) {
      if (intxMaskable) irq.maskIntx(true);
    } else if (!this.#intxMasked) {
      irq.maskIntx(true);
      this.#intxMasked = true;
    }
  }

  /** A line that is still asserted is signalled once more and stays masked. */
  #unmaskAndResend(): void {
    const { irq, intxMaskable } = this.#owner;
    if (!this.#isIntx()) {
      if (intxMaskable) irq.maskIntx(false);
      return;
    }
    if (!this.#intxMasked || this.#virqDisabled) return;
    if (intxMaskable && irq.intxAsserted()) {
      this.#signalIntx();
      return;
    }
    this.#intxMasked = false;
    irq.maskIntx(false);
  }

  #signalIntx(): void {
    if (this.#isIntx() && !this.#virqDisabled) this.#intxTrigger?.signal();
  }

  /** vfio_intx_handler: masks the device, or the line, and signals once. */
  #handleIntx(): void {
    const { irq, intxMaskable } = this.#owner;
    if (this.#intxMasked || (intxMaskable && !irq.intxAsserted())) return;
    irq.maskIntx(true);
    this.#intxMasked = true;
    this.#signalIntx();
  }

  #maskIntx({ start, count, data, bytes }: Setting): number {
    if (!this.#isIntx() || start !== 0 || count !== 1) return -EINVAL;
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) return -ENOTTY;
    if (data === VFIO_IRQ_SET_DATA_NONE || bytes[0] !== 0) this.#mask();
    return 0;
  }

  #unmaskIntx(p: Process, setting: Setting): number {
    const { start, count, data, bytes } = setting;
    if (!this.#isIntx() || start !== 0 || count !== 1) return -EINVAL;
    if (data !== VFIO_IRQ_SET_DATA_EVENTFD) {
      if (data === VFIO_IRQ_SET_DATA_NONE || bytes[0] !== 0) this.#unmaskAndResend();
      return 0;
    }
    const fd = descriptor(setting, 0);
    if (fd < 0) {
      this.#unmask.disable();
      return 0;
    }
    const eventfd = eventfdOf(p, fd);
    if (typeof eventfd === 'number') return eventfd;
    return this.#unmask.enable(eventfd, () => this.#unmaskAndResend());
  }

  #triggerIntx(p: Process, setting: Setting): number {
    const { start, count, data, bytes } = setting;
    if (this.#isIntx() && count === 0 && data === VFIO_IRQ_SET_DATA_NONE) {
      this.#disableIntx();
      return 0;
    }
    if (!(this.#isIntx() || this.#mode === VFIO_PCI_NUM_IRQS) || start !== 0 || count !== 1) return -EINVAL;
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) {
      const fd = descriptor(setting, 0);
      const eventfd = fd < 0 ? undefined : eventfdOf(p, fd);
      if (typeof eventfd === 'number') return eventfd;
      if (!this.#isIntx()) return this.#enableIntx(eventfd);
      this.#intxTrigger = eventfd;
      return 0;
    }
    if (!this.#isIntx()) return -EINVAL;
    if (data === VFIO_IRQ_SET_DATA_NONE || bytes[0] !== 0) this.#signalIntx();
    return 0;
  }

  /** It starts masked where the user has set DisINTx already. */
  #enableIntx(trigger: EventfdFile | undefined): number {
    const { irq, intxMaskable } = this.#owner;
    if (irq.line === 0) return -ENODEV;
    this.#intxTrigger = trigger;
    this.#intxMasked = this.#virqDisabled;
    this.#mode = VFIO_PCI_INTX_IRQ_INDEX;
    if (intxMaskable) irq.maskIntx(this.#intxMasked);
    const error = irq.requestIntx(() => this.#handleIntx());
    if (error < 0) {
      this.#mode = VFIO_PCI_NUM_IRQS;
      this.#intxTrigger = undefined;
      return error;
    }
    if (!intxMaskable && this.#intxMasked) irq.maskIntx(true);
    return 0;
  }

  #disableIntx(): void {
    this.#unmask.disable();
    this.#owner.irq.freeIntx();
    this.#intxTrigger = undefined;
    this.#mode = VFIO_PCI_NUM_IRQS;
  }

  // ---- MSI and MSI-X

  #triggerMsi(p: Process, setting: Setting): number {
    const { index, start, count, data, bytes } = setting;
    const active = this.#mode === index;
    if (active && count === 0 && data === VFIO_IRQ_SET_DATA_NONE) {
      this.#disableMsi();
      return 0;
    }
    if (!(active || this.#mode === VFIO_PCI_NUM_IRQS)) return -EINVAL;
    if (data === VFIO_IRQ_SET_DATA_EVENTFD) {
      if (active) return this.#setBlock(p, setting);
      const enabled = this.#enableMsi(index, start + count);
      if (enabled !== 0) return enabled;
      const error = this.#setBlock(p, setting);
      if (error !== 0) this.#disableMsi();
      return error;
    }
    if (!active || this.#beyond(start + count)) return -EINVAL;
    for (let i = 0; i < count; i++) {
      if (data === VFIO_IRQ_SET_DATA_NONE || bytes[i] !== 0) this.#triggers.get(start + i)?.signal();
    }
    return 0;
  }

  /** All vectors or none: fewer are given back, and their number is the result. */
  #enableMsi(index: number, vectors: number): number {
    const { irq } = this.#owner;
    const kind = index === VFIO_PCI_MSIX_IRQ_INDEX ? 'msix' : 'msi';
    const got = this.#owner.withMemory(() => irq.allocVectors(kind, 1, vectors));
    if (got < vectors) {
      if (got > 0) this.#owner.withMemory(() => irq.freeVectors());
      return got;
    }
    this.#mode = index;
    this.#vectors = vectors;
    if (kind === 'msi') this.#msiQmax = Math.ceil(Math.log2(vectors));
    return 0;
  }

  /** Before there were vectors that are added, none beyond those that are enabled was known. */
  #beyond(end: number): boolean {
    return !this.#owner.growsMsix && end > this.#vectors;
  }

  /** After an error none of the vectors from the first to the one that failed has a trigger. */
  #setBlock(p: Process, setting: Setting): number {
    const { start, count } = setting;
    if (this.#beyond(Math.max(start + 1, start + count))) return -EINVAL;
    for (let i = 0; i < count; i++) {
      const error = this.#setVector(p, start + i, descriptor(setting, i));
      if (error === 0) continue;
      for (let j = 0; j <= i; j++) this.#clearVector(start + j);
      return error;
    }
    return 0;
  }

  #setVector(p: Process, vector: number, fd: number): number {
    const { irq } = this.#owner;
    this.#clearVector(vector);
    if (fd < 0) return 0;
    if (irq.irqOf(vector) === 0) {
      if (this.#mode !== VFIO_PCI_MSIX_IRQ_INDEX) return -EINVAL;
      const error = this.#owner.withMemory(() => irq.growMsix(vector));
      if (error < 0) return error;
    }
    const eventfd = eventfdOf(p, fd);
    if (typeof eventfd === 'number') return eventfd;
    this.#triggers.set(vector, eventfd);
    this.#owner.withMemory(() => irq.setHandler(vector, () => eventfd.signal()));
    return 0;
  }

  #clearVector(vector: number): void {
    if (!this.#triggers.delete(vector)) return;
    this.#owner.withMemory(() => this.#owner.irq.setHandler(vector, undefined));
  }

  /** The vectors that are allocated stay so until here. */
  #disableMsi(): void {
    for (const vector of [...this.#triggers.keys()]) this.#clearVector(vector);
    this.#owner.withMemory(() => this.#owner.irq.freeVectors());
    this.#mode = VFIO_PCI_NUM_IRQS;
  }
}
