import * as r from '../../../uapi/pci-regs.ts';
import { EBUSY, EINVAL, EIO, ENXIO, EOPNOTSUPP } from '../../../uapi/sys.ts';
import type { DmaTarget } from '../dma-target.ts';
import type { FunctionObserver, PciFunction, ResetKind } from '../pci-function.ts';
import { decodeTdisp, encodeTdisp } from '../tdisp/codec.ts';
import { configWriteEvents } from '../tdisp/config-events.ts';
import { Dsm } from '../tdisp/dsm.ts';
import type { TdiEvent } from '../tdisp/events.ts';
import type { TdispMessage, TdispMmioRange } from '../tdisp/messages.ts';
import { decodeInterfaceReport } from '../tdisp/report.ts';
import { Tdi } from '../tdisp/tdi.ts';
import { TDISP_STATE } from '../tdisp/vocabulary.ts';
import { type AcceptedMmio, AcceptedRanges } from './accepted-mmio.ts';
import type { TdiBinding } from './binding.ts';
import { Evidence } from './evidence.ts';
import { answer } from './guest-requests.ts';
import { type TdiSlot, tdiDevice, watchRequesterId } from './plumbing.ts';
import type { TsmRequest, TsmResponse } from './requests.ts';
import type { Tsm } from './tsm.ts';
import type { UnbindStep } from './vendor.ts';

const { CONFIG_UNLOCKED, CONFIG_LOCKED } = TDISP_STATE;
const PAGE = 4096;
/** PCI_ERR_UNC_UNSUP. */
const UNSUPPORTED_REQUEST = 20;

/** The name of the TSM in /sys/class/tsm. */
export const TSM_NAME = 'tsm0';

const RESETS: Readonly<Record<ResetKind, TdiEvent>> = {
  power: 'conventional-reset',
  bus: 'conventional-reset',
  flr: 'flr',
  pm: 'power-loss',
};

/** A memory request the function does not serve: an unsupported request, which is no fatal error. */
export function reportRejected(fn: PciFunction): void {
  const { express } = fn.positions;
  if (express !== 0) fn.config.flag(express + r.PCI_EXP_DEVSTA, 2, r.PCI_EXP_DEVSTA_URD, true);
  fn.reportError('nonfatal', UNSUPPORTED_REQUEST);
}

/** What the TSM knows of a function's TEE device interface, and does with it. */
export class TdiContext implements FunctionObserver {
  readonly tsm: Tsm;
  readonly fn: PciFunction;
  readonly tdi: Tdi;
  readonly dsm: Dsm;
  readonly evidence: Evidence;
  /** Of a virtual function: its physical one, whose session it uses. */
  readonly physical: TdiContext | undefined;
  readonly counters = { rejectedAccesses: 0, droppedDma: 0 };
  /** TDISP_LOCK_FLAG: what the next LOCK asks for. Default: what the vendor asks for. */
  lockFlags: number;
  #session = true;
  #keys = true;
  #binding: TdiBinding | undefined;
  #unbinding = false;
  /** From LOCK to START. */
  #nonce: Uint8Array = new Uint8Array(0);
  readonly #accepted = new AcceptedRanges();
  #dmaEnabled = false;

  constructor(tsm: Tsm, fn: PciFunction, slot: TdiSlot, physical: TdiContext | undefined) {
    this.tsm = tsm;
    this.fn = fn;
    this.physical = physical;
    this.lockFlags = tsm.vendor.lockFlags;
    this.tdi = new Tdi({
      interfaceId: { requesterId: (slot.bus.number << 8) | slot.devfn, segment: slot.bus.segment },
      device: tdiDevice(fn, slot, () => this.#keys),
      onMove: ({ to }) => this.#moved(to),
      ...(physical === undefined ? {} : { physicalFunction: physical.tdi }),
    });
    this.dsm = new Dsm();
    this.dsm.add(this.tdi);
    this.evidence = new Evidence(fn, () => this.#report());
    fn.observer = this;
    watchRequesterId(slot, this.tdi);
  }

  /** Whether this is where the function was when it got its interface id. */
  isAt({ bus, devfn }: TdiSlot): boolean {
    const { requesterId, segment } = this.tdi.interfaceId;
    return segment === bus.segment && requesterId === ((bus.number << 8) | devfn);
  }

  // ---- session and link

  /** There is an SPDM session with the device, and its IDE stream has keys. */
  get connected(): boolean {
    return this.physical?.connected ?? this.#session;
  }

  set connected(on: boolean) {
    if (on) this.connect();
    else this.disconnect();
  }

  /** sysfs tsm/connect: 0; −EBUSY, it is; −ENXIO, it is a virtual function, or gone. */
  connect(): number {
    if (this.physical !== undefined || this.fn.place === undefined) return -ENXIO;
    if (this.#session) return -EBUSY;
    this.#session = true;
    this.#keys = true;
    this.evidence.forget();
    return 0;
  }

  /** sysfs tsm/disconnect: 0; −ENXIO, it is not connected. What depends on the session is unbound first. */
  disconnect(): number {
    if (this.physical !== undefined || !this.#session) return -ENXIO;
    const dependent = [...this.tsm.tdis.filter(({ physical }) => physical === this), this];
    for (const one of dependent) one.unbind();
    for (const one of dependent) one.tdi.happens('spdm-session-end');
    this.#session = false;
    return 0;
  }

  /** The IDE stream goes insecure: its keys are gone until the device is connected anew. */
  loseKeys(): void {
    this.#keys = false;
    this.tdi.happens('ide-insecure');
  }

  // ---- bound to a VM

  get binding(): TdiBinding | undefined {
    return this.#binding;
  }

  /**
   * Binds the TDI to a VM, and locks it where BIND does. 0, also if that VM has it; −EBUSY, another VM has it; −EINVAL, it is not connected; −EOPNOTSUPP, not by this
   * door; −EIO, the device or the firmware refuses to lock it. Everybody loses the BARs while the TSM is at work.
   */
  bind(binding: TdiBinding): number {
    const { vendor, switches } = this.tsm;
    if (this.#binding !== undefined) return this.#binding.kvm === binding.kvm ? 0 : -EBUSY;
    if (!this.connected) return -EINVAL;
    if (vendor.doors?.includes(binding.door) === false) return -EOPNOTSUPP;
    binding.revoke();
    const refused = switches.bindLocks && this.lock() !== 0;
    if (!refused) {
      this.#binding = binding;
      binding.kvm.tdis.add(binding);
    }
    binding.restore();
    return refused ? -EIO : 0;
  }

  /** Back to CONFIG_UNLOCKED and to the host, in the vendor's order. Not bound: nothing. */
  unbind(): void {
    const binding = this.#binding;
    if (binding === undefined || this.#unbinding) return;
    this.#unbinding = true;
    const steps: Readonly<Record<UnbindStep, () => void>> = {
      stop: () => this.stop(),
      unmap: () => {
        this.#accepted.clear();
        binding.revoke();
      },
      'disable-dma': () => {
        this.#dmaEnabled = false;
      },
      release: () => this.#release(binding),
    };
    for (const step of this.tsm.vendor.unbind) steps[step]();
    this.#unbinding = false;
    binding.restore();
    binding.ended();
  }

  #release(binding: TdiBinding): void {
    const { kvm } = binding;
    this.#binding = undefined;
    kvm.tdis.delete(binding);
    if (kvm.tdis.size === 0) this.tsm.setFenced(kvm, false);
    if (this.fn.place === undefined) this.tsm.forget(this);
  }

  // ---- the guest's requests

  /** The guest's request; −ENXIO unless bound. */
  request(request: TsmRequest): TsmResponse {
    return this.#binding === undefined ? { errno: -ENXIO, response: new Uint8Array(0), code: 0 } : answer(this, request);
  }

  /** LOCK_INTERFACE_REQUEST: 0, or the code of TDISP_ERROR; −EINVAL for flags the firmware does not send. */
  lock(): number {
    const { demandsFlags = 0, refusesFlags = 0 } = this.tsm.vendor;
    const { lockFlags: flags } = this;
    if ((flags & demandsFlags) !== demandsFlags || (flags & refusesFlags) !== 0) return -EINVAL;
    const response = this.#ask({
      type: 'LOCK_INTERFACE_REQUEST',
      interfaceId: this.tdi.interfaceId,
      flags,
      defaultStreamId: 0,
      mmioReportingOffset: 0n,
      p2pAddressMask: 0n,
    });
    if (response.type === 'LOCK_INTERFACE_RESPONSE') this.#nonce = response.nonce;
    return codeOf(response);
  }

  /** START_INTERFACE_REQUEST with the nonce of LOCK: 0, or the code of TDISP_ERROR. */
  start(): number {
    const nonce = this.#nonce.length === 0 ? new Uint8Array(32) : this.#nonce;
    const response = this.#ask({ type: 'START_INTERFACE_REQUEST', interfaceId: this.tdi.interfaceId, nonce });
    if (codeOf(response) === 0 && this.tsm.vendor.dma === 'with-run') this.#dmaEnabled = true;
    return codeOf(response);
  }

  /** STOP_INTERFACE_REQUEST. */
  stop(): void {
    this.#ask({ type: 'STOP_INTERFACE_REQUEST', interfaceId: this.tdi.interfaceId });
  }

  /** The memory of the interface as its report has it; none unless locked. */
  get reportedMmio(): readonly TdispMmioRange[] {
    const report = this.tdi.isLocked ? this.#report() : undefined;
    return report === undefined ? [] : decodeInterfaceReport(report).ranges;
  }

  /** Device memory the guest has accepted since LOCK, by guest address. */
  get accepted(): readonly AcceptedMmio[] {
    return this.#accepted.list();
  }

  accept(range: AcceptedMmio): void {
    this.#accepted.add(range);
  }

  /** Private DMA is enabled; it takes RUN besides. */
  get dmaEnabled(): boolean {
    return this.#dmaEnabled;
  }

  enableDma(on: boolean): void {
    this.#dmaEnabled = on;
  }

  /**
   * KVM has taken the mapping of its MMIO from the guest: a slot was deleted, frames were made shared, a dma-buf was revoked. Frames [`gpaBase`, `gpaTop`), by default all. Of a TDI that
   * is stopped nobody minds.
   */
  mmioUnmapped(gpaBase = 0n, gpaTop: bigint = 1n << 64n): void {
    if (this.#binding === undefined) return;
    if (this.tsm.vendor.unmapWhileBound === 'refuse' && this.tdi.state !== CONFIG_UNLOCKED) this.#binding.kvm.kill();
    else this.#accepted.remove(gpaBase, gpaTop);
  }

  // ---- what crosses the root complex

  /** The fence of SEV-TIO around the guest's I/O: 0 clear, 1 by an error, 3 by default, as long as no guest has it. Cleared by writing 0. Other vendors have none. */
  get fenced(): 0 | 1 | 3 {
    if (this.tsm.vendor.uncommitted !== 'fence') return 0;
    if (this.#binding === undefined) return 3;
    return this.tsm.isFenced(this.#binding.kvm) ? 1 : 0;
  }

  set fenced(state: 0 | 1) {
    if (this.#binding !== undefined && this.tsm.vendor.uncommitted === 'fence')
      this.tsm.setFenced(this.#binding.kvm, state === 1);
  }

  /** A memory request to the interface's BARs. Behind a fence a guest's request does not come so far. */
  admits(address: bigint, t: boolean): boolean {
    const behindFence = t && this.fenced !== 0 && this.#binding !== undefined;
    if (!behindFence && this.tdi.serves(address, { t })) return true;
    this.counters.rejectedAccesses++;
    if (behindFence) return false;
    reportRejected(this.fn);
    if (!t && this.tsm.switches.hostMmio === 'error') this.tdi.happens('host-access');
    return false;
  }

  /**
   * DMA. In RUN an address is the guest's: a shared frame is reached through the IOMMU as ever, a private one through the guest's own tables, if DMA is enabled and the vendor
   * calls the frame committed.
   */
  translate(iova: bigint, length: number, ordinary: (length: number) => DmaTarget | undefined): DmaTarget | undefined {
    const { dma } = this.tdi;
    if (dma === 'ordinary') return ordinary(length);
    const kvm = this.#binding?.kvm;
    if (dma === 'none' || kvm === undefined || this.fenced !== 0) return this.#drop();
    const within = Number(iova & BigInt(PAGE - 1));
    const inPage = Math.min(length, PAGE - within);
    const gfn = Number(iova >> 12n);
    if (!kvm.isPrivate(gfn)) return ordinary(inPage) ?? this.#fault();
    if (!this.#dmaEnabled) return this.#drop();
    const populate = this.tsm.vendor.uncommitted === 'populate';
    if (!populate && !kvm.isCommitted(gfn)) return this.#fault();
    const page = kvm.privatePage(gfn, populate);
    return page === null ? this.#fault() : { page, at: page.offset + within, length: inPage };
  }

  #drop(): undefined {
    this.counters.droppedDma++;
  }

  /** The host has nothing where the guest's device reaches. */
  #fault(): undefined {
    if (this.tsm.vendor.uncommitted === 'fence') this.fenced = 1;
    this.#drop();
  }

  // ---- what happens to the function

  reset(kind: ResetKind): void {
    this.tdi.happens(RESETS[kind]);
  }

  /** The link is down. */
  pulled(): void {
    this.loseKeys();
    if (this.#binding === undefined) this.tsm.forget(this);
  }

  #moved(to: number): void {
    const { config } = this.fn;
    config.observer = this.tdi.isLocked
      ? (write) => {
          for (const event of configWriteEvents(write)) this.tdi.happens(event);
        }
      : undefined;
    if (to === CONFIG_LOCKED) this.evidence.locked();
    else this.#nonce = new Uint8Array(0);
    if (!this.tdi.isLocked) this.#dmaEnabled = false;
    if (to !== CONFIG_UNLOCKED) return;
    this.#accepted.clear();
    this.evidence.unlocked();
  }

  /** All of the report, put together of its portions. */
  #report(): Uint8Array | undefined {
    const bytes: number[] = [];
    for (let left = 1; left > 0; ) {
      const { interfaceId } = this.tdi;
      const part = this.#ask({ type: 'GET_DEVICE_INTERFACE_REPORT', interfaceId, offset: bytes.length, length: 64 });
      if (part.type !== 'DEVICE_INTERFACE_REPORT') return undefined;
      bytes.push(...part.portion);
      left = part.remainder;
    }
    return Uint8Array.from(bytes);
  }

  #ask(request: TdispMessage): TdispMessage {
    return decodeTdisp(this.dsm.respond(encodeTdisp(request)));
  }
}

const codeOf = (response: TdispMessage): number => (response.type === 'TDISP_ERROR' ? response.errorCode : 0);
