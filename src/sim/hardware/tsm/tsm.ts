import * as r from '../../../uapi/pci-regs.ts';
import type { DmaTarget } from '../dma-target.ts';
import type { PciFabric } from '../fabric.ts';
import type { PciFunction } from '../pci-function.ts';
import { TDISP_STATE } from '../tdisp/vocabulary.ts';
import type { TsmResponse } from './requests.ts';
import type { TeeIo } from './switches.ts';
import { reportRejected, TdiContext } from './tdi-context.ts';
import type { Tvm } from './tvm.ts';
import { TSM_VENDORS, type TsmVendor } from './vendor.ts';

/** PCI_ROM_RESOURCE. */
const ROM = 6;

/** The security manager of the machine: firmware that binds TDIs to VMs, speaks for their guests to the devices, and says what crosses the root complex. */
export class Tsm {
  readonly vendor: TsmVendor;
  readonly switches: TeeIo;
  /** Answers the guest's requests of no known form first: bytes in, bytes out. Undefined, or an answer that is: the built-in TSM takes them. */
  forward: ((tdi: TdiContext, blob: Uint8Array, responseLength: number) => TsmResponse | undefined) | undefined;
  readonly #fabric: PciFabric;
  readonly #contexts = new Map<PciFunction, TdiContext>();
  /** Guests whose I/O is fenced off. */
  readonly #fenced = new Set<Tvm>();

  constructor(switches: TeeIo, fabric: PciFabric) {
    this.switches = switches;
    this.vendor = TSM_VENDORS[switches.vendor];
    this.#fabric = fabric;
  }

  /** The interface of a function; undefined: it has none (TEE-IO Supported is clear in Device Capabilities), or it is plugged in nowhere. */
  tdiOf(fn: PciFunction): TdiContext | undefined {
    const known = this.#contexts.get(fn);
    const slot = this.#fabric.slot(fn);
    if (slot === undefined || known?.isAt(slot) === true || known?.binding !== undefined) return known;
    const { express } = fn.positions;
    if (express === 0 || (fn.config.peek(express + r.PCI_EXP_DEVCAP, 4) & r.PCI_EXP_DEVCAP_TEE) === 0) return undefined;
    const physical = slot.physical === undefined ? undefined : this.tdiOf(slot.physical.fn);
    known?.tdi.gone();
    const context = new TdiContext(this, fn, slot, physical);
    this.#contexts.set(fn, context);
    return context;
  }

  /** The interface of a function that is nowhere any more, and nobody's. */
  forget(context: TdiContext): void {
    context.tdi.gone();
    if (this.#contexts.get(context.fn) === context) this.#contexts.delete(context.fn);
  }

  /** Those that were asked for. */
  get tdis(): readonly TdiContext[] {
    return [...this.#contexts.values()];
  }

  // ---- what the root complex and the device let through

  /** Whether a function serves a memory request to an address its BAR decodes. What is rejected is told. */
  admits(fn: PciFunction, bar: number, address: bigint, t: boolean): boolean {
    const isMemory = bar !== ROM && (fn.spec.virtual === true || fn.spec.bars?.[bar]?.space !== 'io');
    const context = t ? this.tdiOf(fn) : this.#contexts.get(fn);
    if (!isMemory || context === undefined) {
      if (t) reportRejected(fn);
      return !t;
    }
    if (!t && context.tdi.state === TDISP_STATE.CONFIG_UNLOCKED) return true;
    return context.admits(address, t);
  }

  /** A store was served. */
  stored(fn: PciFunction, bar: number, offset: number): void {
    const { msix } = fn.spec;
    if (msix === undefined || bar !== msix.tableBar || offset < msix.table) return;
    if (offset < msix.table + msix.vectors * r.PCI_MSIX_ENTRY_SIZE) this.#contexts.get(fn)?.tdi.happens('msix-change');
  }

  /** One step of DMA. `ordinary`: where it leads, at most so many bytes of it, without the T bit. */
  translate(
    fn: PciFunction,
    iova: bigint,
    length: number,
    ordinary: (length: number) => DmaTarget | undefined,
  ): DmaTarget | undefined {
    const context = this.#contexts.get(fn);
    return context === undefined ? ordinary(length) : context.translate(iova, length, ordinary);
  }

  // ---- the fence around a guest's I/O

  isFenced(kvm: Tvm): boolean {
    return this.#fenced.has(kvm);
  }

  setFenced(kvm: Tvm, on: boolean): void {
    if (on) this.#fenced.add(kvm);
    else this.#fenced.delete(kvm);
  }
}
