import * as r from '../../uapi/pci-regs.ts';
import { EBUSY, EINVAL, ENODEV, ENOMEM, ENOSPC, ERANGE } from '../../uapi/sys.ts';
import type { Message } from '../hardware/msix-table.ts';
import type { PciDev } from './pci-dev.ts';
import type { Vector } from './vectors.ts';

/** What is in the device while nobody has requested the interrupt. */
const NO_MESSAGE: Message = { address: 0n, data: 0 };

export type IrqKind = 'none' | 'intx' | 'msi' | 'msix';

/** The kernel's side of a function's interrupts: drivers/pci/msi, and the line of INTx. */
export class PciIrq {
  /** DisINTx works, asked when the device is found: INTx is masked at the device, else at the line. */
  readonly intxSupported: boolean;
  readonly #dev: PciDev;
  #intxHandler: (() => void) | undefined;
  /** disable_irq: the line itself is masked. */
  #lineMasked = false;
  #kind: 'none' | 'msi' | 'msix' = 'none';
  #asked = false;
  readonly #vectors = new Map<number, Vector>();
  /** `msi_desc.msg`: what was written last, and is written again where the device has lost it. */
  readonly #messages = new Map<number, Message>();

  constructor(dev: PciDev) {
    this.#dev = dev;
    this.intxSupported = this.#probeDisIntx();
  }

  get kind(): IrqKind {
    if (this.#kind !== 'none') return this.#kind;
    return this.#intxHandler === undefined ? 'none' : 'intx';
  }

  // ---- INTx

  /** INTA is 1; 0: none. */
  get pin(): number {
    return this.#dev.fn.config.peek(r.PCI_INTERRUPT_PIN, 1);
  }

  /** Linux interrupt number of the line: what firmware wrote until the device is enabled, then the IO-APIC's. 0: none. */
  get line(): number {
    if (this.pin === 0) return 0;
    return this.#dev.everEnabled ? this.#dev.interruptLine : this.#dev.fn.config.peek(r.PCI_INTERRUPT_LINE, 1);
  }

  /** request_irq of the line: −ENODEV without one, −EBUSY when it is requested. The handler is called while the level stands and nothing masks it. */
  requestIntx(handler: () => void): number {
    if (this.line === 0) return -ENODEV;
    if (this.#intxHandler !== undefined) return -EBUSY;
    this.#intxHandler = handler;
    this.#lineMasked = false;
    this.#deliver();
    return 0;
  }

  freeIntx(): void {
    this.#intxHandler = undefined;
  }

  /** pci_intx where the device can, else disable_irq and enable_irq. Unmasking an asserted line calls the handler. */
  maskIntx(masked: boolean): void {
    if (this.intxSupported) this.setDisIntx(masked);
    else {
      this.#lineMasked = masked;
      if (!masked) this.#deliver();
    }
  }

  /** The function asserts INTx now, masked or not. What does not answer seems to. */
  intxAsserted(): boolean {
    return (this.#dev.readConfig(r.PCI_STATUS, 2) & r.PCI_STATUS_INTERRUPT) !== 0;
  }

  /** The wire changed its level. */
  wire(level: boolean): void {
    this.#level = level;
    this.#deliver();
  }

  #level = false;

  #deliver(): void {
    if (this.#level && !this.#lineMasked) this.#intxHandler?.();
  }

  /** pci_intx_mask_broken: whether the bit can be turned over. */
  #probeDisIntx(): boolean {
    const before = this.#dev.readConfig(r.PCI_COMMAND, 2);
    this.#dev.writeConfig(r.PCI_COMMAND, 2, before ^ r.PCI_COMMAND_INTX_DISABLE);
    const after = this.#dev.readConfig(r.PCI_COMMAND, 2);
    this.#dev.writeConfig(r.PCI_COMMAND, 2, before);
    return ((before ^ after) & r.PCI_COMMAND_INTX_DISABLE) !== 0;
  }

  setDisIntx(on: boolean): void {
    const command = this.#dev.readConfig(r.PCI_COMMAND, 2);
    const bit = r.PCI_COMMAND_INTX_DISABLE;
    this.#dev.writeConfig(r.PCI_COMMAND, 2, on ? command | bit : command & ~bit);
  }

  // ---- MSI and MSI-X

  /** 2^MMC; 0 without the capability. */
  get msiCount(): number {
    const { msi } = this.#dev.fn.positions;
    return msi === 0 ? 0 : 1 << ((this.#dev.readConfig(msi + r.PCI_MSI_FLAGS, 2) & r.PCI_MSI_FLAGS_QMASK) >> 1);
  }

  get msixCount(): number {
    const { msix } = this.#dev.fn.positions;
    return msix === 0 ? 0 : (this.#dev.readConfig(msix + r.PCI_MSIX_FLAGS, 2) & r.PCI_MSIX_FLAGS_QSIZE) + 1;
  }

  /** msi_setup_device_data: the driver has asked for messages, if it has them now or not. Of the device's managed resources: gone with the driver. */
  get asked(): boolean {
    return this.#asked;
  }

  /** devres_release_all. */
  driverGone(): void {
    this.#asked = false;
  }

  /** Vectors there are now, ascending. */
  get vectors(): readonly number[] {
    return [...this.#vectors.keys()].sort((a, b) => a - b);
  }

  /** One more than the highest vector. */
  get allocated(): number {
    return this.#vectors.size === 0 ? 0 : Math.max(...this.#vectors.keys()) + 1;
  }

  /** Linux interrupt number of a vector; 0 where it is not allocated. */
  irqOf(vector: number): number {
    return this.#vectors.get(vector)?.irq ?? 0;
  }

  /** pci_alloc_irq_vectors of one kind: how many, or −errno; a device that is gone seems to have as many as there can be. Without interrupt remapping MSI has one vector, whatever the device has. */
  allocVectors(kind: 'msi' | 'msix', min: number, max: number): number {
    if (max < min) return -ERANGE;
    if (min < 1 || this.#dev.powerState !== 0 || this.#kind !== 'none') return -EINVAL;
    const has = kind === 'msi' ? this.msiCount : this.msixCount;
    if (has === 0) return -EINVAL;
    if (has < min) return -ENOSPC;
    this.#asked = true;
    // Where its table is cannot be read.
    if (kind === 'msix' && this.#dev.removed) return -ENOMEM;
    const single = kind === 'msi' && !this.#dev.subsystem.interruptRemapping;
    const count = single ? 1 : Math.min(has, max);
    if (count < min) return -ENOSPC;
    this.#kind = kind;
    const block = this.#dev.subsystem.vectors.allocate(this.#dev, kind === 'msi' ? 2 ** Math.ceil(Math.log2(count)) : 1, count);
    for (const [index, vector] of block.entries()) this.#vectors.set(index, vector);
    this.program();
    return count;
  }

  /** pci_msix_alloc_irq_at of this index: 0; −EINVAL where MSI-X is off or has no such entry, −EBUSY where it is there. */
  growMsix(vector: number): number {
    if (this.#kind !== 'msix' || vector >= this.msixCount) return -EINVAL;
    if (this.#vectors.has(vector)) return -EBUSY;
    const [one] = this.#dev.subsystem.vectors.allocate(this.#dev, 1, 1);
    this.#vectors.set(vector, one!);
    this.#programEntry(vector);
    return 0;
  }

  /** pci_free_irq_vectors. */
  freeVectors(): void {
    const { msi, msix } = this.#dev.fn.positions;
    if (this.#kind === 'none') return;
    if (this.#kind === 'msi') this.#flag(msi + r.PCI_MSI_FLAGS, r.PCI_MSI_FLAGS_ENABLE, false);
    else this.#flag(msix + r.PCI_MSIX_FLAGS, r.PCI_MSIX_FLAGS_ENABLE, false);
    for (const [index, vector] of this.#vectors) {
      this.#writeMessage(index, NO_MESSAGE);
      this.#dev.subsystem.vectors.free(vector);
    }
    this.#vectors.clear();
    this.#messages.clear();
    this.#kind = 'none';
    this.setDisIntx(false);
  }

  /** request_irq of a vector, which unmasks it, and free_irq, which takes the message out of the device. */
  setHandler(vector: number, handler: (() => void) | undefined): void {
    const one = this.#vectors.get(vector);
    if (one === undefined) throw new Error(`${this.#dev.bdf}: vector ${vector} is not allocated`);
    one.handler = handler;
    this.#writeMessage(vector, handler === undefined ? NO_MESSAGE : one);
    this.#setMask(vector, handler === undefined);
  }

  /** pci_restore_msi_state: puts into the device what the kernel knows. */
  program(): void {
    if (this.#kind !== 'none') this.setDisIntx(true);
    if (this.#kind === 'msi') this.#programMsi();
    else if (this.#kind === 'msix') {
      const at = this.#dev.fn.positions.msix + r.PCI_MSIX_FLAGS;
      this.#flag(at, r.PCI_MSIX_FLAGS_ENABLE | r.PCI_MSIX_FLAGS_MASKALL, true);
      for (const vector of this.#vectors.keys()) this.#programEntry(vector);
      this.#flag(at, r.PCI_MSIX_FLAGS_MASKALL, false);
    }
  }

  #programMsi(): void {
    const at = this.#dev.fn.positions.msi;
    const flags = this.#dev.readConfig(at + r.PCI_MSI_FLAGS, 2);
    this.#writeMessage(0, this.#messages.get(0) ?? this.#vectors.get(0)!);
    const size = Math.ceil(Math.log2(this.#vectors.size)) << 4;
    this.#dev.writeConfig(at + r.PCI_MSI_FLAGS, 2, (flags & ~r.PCI_MSI_FLAGS_QSIZE) | size | r.PCI_MSI_FLAGS_ENABLE);
    for (const [vector, { handler }] of this.#vectors) this.#setMask(vector, handler === undefined);
  }

  #programEntry(vector: number): void {
    const one = this.#vectors.get(vector)!;
    this.#writeMessage(vector, this.#messages.get(vector) ?? one);
    this.#setMask(vector, one.handler === undefined);
  }

  /** pci_msi_domain_write_msg: the vectors of MSI share one message, that of the first. A device that sleeps is left alone. */
  #writeMessage(vector: number, { address, data }: Message): void {
    this.#messages.set(vector, { address, data });
    if (this.#dev.powerState !== 0) return;
    const low = Number(address & 0xffff_ffffn);
    const high = Number(address >> 32n);
    if (this.#kind === 'msix') {
      for (const [index, word] of [low, high, data].entries()) this.#writeTable(vector * r.PCI_MSIX_ENTRY_SIZE + 4 * index, word);
      return;
    }
    if (vector !== 0) return;
    const at = this.#dev.fn.positions.msi;
    const wide = (this.#dev.readConfig(at + r.PCI_MSI_FLAGS, 2) & r.PCI_MSI_FLAGS_64BIT) !== 0;
    this.#dev.writeConfig(at + r.PCI_MSI_ADDRESS_LO, 4, low);
    if (wide) this.#dev.writeConfig(at + 8, 4, high);
    this.#dev.writeConfig(at + (wide ? 0x0c : 8), 2, data);
  }

  #setMask(vector: number, masked: boolean): void {
    if (this.#kind === 'msix') {
      this.#writeTable(vector * r.PCI_MSIX_ENTRY_SIZE + r.PCI_MSIX_ENTRY_VECTOR_CTRL, masked ? r.PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
      return;
    }
    const at = this.#dev.fn.positions.msi;
    const flags = this.#dev.readConfig(at + r.PCI_MSI_FLAGS, 2);
    if ((flags & r.PCI_MSI_FLAGS_MASKBIT) === 0) return;
    const mask = at + ((flags & r.PCI_MSI_FLAGS_64BIT) !== 0 ? 0x10 : 0x0c);
    const bit = (1 << vector) >>> 0;
    const before = this.#dev.readConfig(mask, 4);
    this.#dev.writeConfig(mask, 4, (masked ? before | bit : before & ~bit) >>> 0);
  }

  /** The table is memory: with decoding off the store is lost, as it is for the kernel. */
  #writeTable(offset: number, value: number): void {
    const { msix } = this.#dev.fn.spec;
    if (msix !== undefined) this.#dev.storeQuietly(msix.tableBar, msix.table + offset, value);
  }

  #flag(at: number, bits: number, on: boolean): void {
    const before = this.#dev.readConfig(at, 2);
    this.#dev.writeConfig(at, 2, on ? before | bits : before & ~bits);
  }
}
