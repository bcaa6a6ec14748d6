/**
 * A TEE device interface: its state, what its messages and what happens to it do to that, what it lets through. PCI Express Base Specification, chapter 11.
 * It stands alone: whoever builds a device around it tells it of events and asks it about accesses.
 */
import { rangeError } from '../../../kernel/errors.ts';
import { TDI_EVENTS, type TdiEvent } from './events.ts';
import { LOCK_FAULTS, type LockFault } from './lock.ts';
import type { InterfaceId, LockParameters, TdispMmioRange } from './messages.ts';
import { TdispRefusal } from './refusal.ts';
import { encodeInterfaceReport } from './report.ts';
import {
  TDISP_ERROR_CODE,
  TDISP_INTERFACE_INFO,
  TDISP_LOCK_FLAG,
  TDISP_MMIO,
  TDISP_NONCE_LENGTH,
  TDISP_STATE,
  type TdispState,
} from './vocabulary.ts';

const { CONFIG_UNLOCKED, CONFIG_LOCKED, RUN, ERROR } = TDISP_STATE;
const { INVALID_REQUEST, INVALID_INTERFACE_STATE, INVALID_NONCE, INSUFFICIENT_ENTROPY } = TDISP_ERROR_CODE;
const PAGE = 4096n;

/** Memory of the interface: whole pages of a BAR. */
export interface TdiMmio {
  /** Number of the BAR: the range's id in the report. */
  readonly bar: number;
  /** On the bus, a multiple of 4096. */
  readonly address: bigint;
  /** Of 4 KiB. */
  readonly pages: number;
  /** TDISP_MMIO. */
  readonly attributes?: number;
}

/** The device behind an interface. */
export interface TdiDevice {
  /** The memory of the interface as its BARs are now, in ascending order of BARs. LOCK freezes what it says. */
  mmio(): readonly TdiMmio[];
  /** Random bytes; undefined when there are none to be had. */
  entropy(length: number): Uint8Array | undefined;
  /** What stands in the way of LOCK; the first decides the error. */
  lockFaults?(request: LockParameters): readonly LockFault[];
  /** LOCK and STOP imply it: earlier work and DMA are finished or aborted, the device's address translation cache is flushed. */
  quiesce?(): void;
  /** The secrets of the guest that had it are overwritten: by STOP and conventional reset. */
  scrub?(): void;
}

export interface TdiOptions {
  readonly interfaceId: InterfaceId;
  readonly device: TdiDevice;
  /** TDISP_LOCK_FLAG: what LOCK may ask for. Default all. */
  readonly lockFlagsSupported?: number;
  /** TDISP_INTERFACE_INFO but for NO_FW_UPDATE, which is the lock's. Default DMA without PASID. */
  readonly interfaceInfo?: number;
  readonly msixMessageControl?: number;
  readonly lnrControl?: number;
  readonly tphControl?: number;
  readonly deviceSpecificInfo?: Uint8Array;
  /** The physical function of a virtual one: its resets happen to this interface too. */
  readonly physicalFunction?: Tdi;
  /** Told of every change of state, after it. */
  readonly onMove?: (move: TdiMove) => void;
}

export interface TdiMove {
  readonly from: TdispState;
  readonly to: TdispState;
  readonly cause: TdiEvent | 'LOCK_INTERFACE_REQUEST' | 'START_INTERFACE_REQUEST' | 'STOP_INTERFACE_REQUEST';
}

/** What a LOCK fixed, until the interface is unlocked. */
interface Locked {
  readonly request: LockParameters;
  readonly mmio: readonly TdiMmio[];
  readonly report: Uint8Array;
}

export class Tdi {
  readonly interfaceId: InterfaceId;
  /** TDISP_LOCK_FLAG. */
  readonly lockFlagsSupported: number;
  readonly #options: TdiOptions;
  readonly #virtualFunctions = new Set<Tdi>();
  #state: TdispState = CONFIG_UNLOCKED;
  #locked: Locked | undefined;
  /** Lives from LOCK to START: it proves that who starts the interface has seen it locked. */
  #nonce: Uint8Array | undefined;
  readonly #p2pStreams = new Set<number>();
  /** Pages whose IS_NON_TEE_MEM was set since LOCK, the latest last. */
  #overrides: { readonly first: bigint; readonly end: bigint; readonly nonTee: boolean }[] = [];

  constructor(options: TdiOptions) {
    this.interfaceId = options.interfaceId;
    this.lockFlagsSupported = options.lockFlagsSupported ?? Object.values(TDISP_LOCK_FLAG).reduce((all, flag) => all | flag, 0);
    this.#options = options;
    if (options.physicalFunction) options.physicalFunction.#virtualFunctions.add(this);
  }

  get state(): TdispState {
    return this.#state;
  }

  /** CONFIG_LOCKED or RUN: the configuration is what the guest attests. */
  get isLocked(): boolean {
    return this.#state === CONFIG_LOCKED || this.#state === RUN;
  }

  /** What LOCK_INTERFACE_REQUEST asked for; undefined unless locked. */
  get lockParameters(): LockParameters | undefined {
    return this.isLocked ? this.#locked?.request : undefined;
  }

  /** Whether a nonce waits for START_INTERFACE_REQUEST. */
  get hasNonce(): boolean {
    return this.#nonce !== undefined;
  }

  /** Streams of BIND_P2P_STREAM_REQUEST. */
  get p2pStreams(): ReadonlySet<number> {
    return this.#p2pStreams;
  }

  /** DMA of the interface: as any device's, with the T bit set, or none but its interrupt messages while CONFIG_LOCKED. */
  get dma(): 'ordinary' | 'tee' | 'none' {
    return this.#state === CONFIG_UNLOCKED ? 'ordinary' : this.#state === RUN ? 'tee' : 'none';
  }

  /**
   * LOCK_INTERFACE_REQUEST: CONFIG_UNLOCKED becomes CONFIG_LOCKED. The answer is the nonce, 32 bytes.
   *
   * Throws TdispRefusal: INVALID_INTERFACE_STATE; INVALID_REQUEST for a flag that is not supported and for IDE; INVALID_DEVICE_CONFIGURATION;
   * INSUFFICIENT_ENTROPY.
   */
  lock(request: LockParameters): Uint8Array {
    this.#demand(CONFIG_UNLOCKED);
    if ((request.flags & ~this.lockFlagsSupported) !== 0)
      throw new TdispRefusal(INVALID_REQUEST, `lock flags 0x${request.flags.toString(16)} are not all supported`);
    const { device } = this.#options;
    const [fault] = device.lockFaults?.(request) ?? [];
    if (fault !== undefined) throw new TdispRefusal(LOCK_FAULTS[fault], fault);
    const nonce = device.entropy(TDISP_NONCE_LENGTH)?.slice();
    if (nonce === undefined) throw new TdispRefusal(INSUFFICIENT_ENTROPY, 'there is no nonce');
    if (nonce.length !== TDISP_NONCE_LENGTH)
      throw rangeError(`entropy: ${TDISP_NONCE_LENGTH} bytes are needed, not ${nonce.length}`);
    const mmio = device.mmio();
    this.#locked = { request, mmio, report: this.#reportOf(request, mmio) };
    this.#nonce = nonce;
    device.quiesce?.();
    this.#move(CONFIG_LOCKED, 'LOCK_INTERFACE_REQUEST');
    return nonce.slice();
  }

  /**
   * GET_DEVICE_INTERFACE_REPORT: at most `length` bytes of the report from `offset`, and how many come after them. The report is that of LOCK.
   *
   * Throws TdispRefusal: INVALID_INTERFACE_STATE; INVALID_REQUEST for an offset past the report and for no bytes.
   */
  reportPortion(offset: number, length: number): { portion: Uint8Array; remainder: number } {
    this.#demand(CONFIG_LOCKED, RUN);
    const { report } = this.#locked!;
    if (offset >= report.length || length === 0)
      throw new TdispRefusal(INVALID_REQUEST, `${length} bytes at ${offset} of a report of ${report.length}`);
    const portion = report.slice(offset, offset + length);
    return { portion, remainder: report.length - offset - portion.length };
  }

  /**
   * START_INTERFACE_REQUEST: CONFIG_LOCKED becomes RUN, and the nonce is no more.
   *
   * Throws TdispRefusal: INVALID_INTERFACE_STATE; INVALID_NONCE, after which the right one still starts it.
   */
  start(nonce: Uint8Array): void {
    this.#demand(CONFIG_LOCKED);
    if (nonce.length !== TDISP_NONCE_LENGTH || !this.#nonce!.every((byte, i) => byte === nonce[i]))
      throw new TdispRefusal(INVALID_NONCE, 'this is not the nonce of LOCK_INTERFACE_RESPONSE');
    this.#move(RUN, 'START_INTERFACE_REQUEST');
  }

  /** STOP_INTERFACE_REQUEST: CONFIG_UNLOCKED, from any state. Work is aborted, secrets are scrubbed. */
  stop(): void {
    this.#options.device.quiesce?.();
    this.#unlock('STOP_INTERFACE_REQUEST');
  }

  /**
   * BIND_P2P_STREAM_REQUEST.
   *
   * Throws TdispRefusal: INVALID_INTERFACE_STATE unless RUN; INVALID_REQUEST when LOCK did not allow it, for the default stream and for one that is bound.
   */
  bindP2pStream(streamId: number): void {
    const { flags, defaultStreamId } = this.#p2p();
    if ((flags & TDISP_LOCK_FLAG.BIND_P2P) === 0 || streamId === defaultStreamId || this.#p2pStreams.has(streamId))
      throw new TdispRefusal(INVALID_REQUEST, `stream ${streamId} cannot be bound`);
    this.#p2pStreams.add(streamId);
  }

  /** UNBIND_P2P_STREAM_REQUEST. Throws TdispRefusal: INVALID_INTERFACE_STATE unless RUN; INVALID_REQUEST for a stream that is not bound. */
  unbindP2pStream(streamId: number): void {
    this.#p2p();
    if (!this.#p2pStreams.delete(streamId)) throw new TdispRefusal(INVALID_REQUEST, `stream ${streamId} is not bound`);
  }

  #p2p(): LockParameters {
    this.#demand(RUN);
    return this.#locked!.request;
  }

  /**
   * SET_MMIO_ATTRIBUTE_REQUEST: IS_NON_TEE_MEM of pages of the report, as the report counts them. What the report says stays.
   *
   * Throws TdispRefusal: INVALID_INTERFACE_STATE unless RUN; INVALID_REQUEST for pages that do not lie in one updatable range of that id.
   */
  setMmioAttribute(range: TdispMmioRange): void {
    this.#demand(RUN);
    const { mmio, request } = this.#locked!;
    const home = mmio.find(({ bar, address, pages, attributes = 0 }) => {
      const first = reported(address, request);
      const inside = range.firstPage >= first && range.firstPage + BigInt(range.pages) <= first + BigInt(pages);
      return bar === range.rangeId && inside && (attributes & TDISP_MMIO.IS_MEM_ATTR_UPDATABLE) !== 0;
    });
    if (home === undefined || range.pages === 0)
      throw new TdispRefusal(INVALID_REQUEST, `${range.pages} pages at page 0x${range.firstPage.toString(16)} are not updatable`);
    const first = home.address / PAGE + range.firstPage - reported(home.address, request);
    const nonTee = (range.attributes & TDISP_MMIO.IS_NON_TEE_MEM) !== 0;
    this.#overrides.push({ first, end: first + BigInt(range.pages), nonTee });
  }

  /** The function is gone: what happens to its physical one does not happen to it any more. */
  gone(): void {
    const { physicalFunction } = this.#options;
    if (physicalFunction) physicalFunction.#virtualFunctions.delete(this);
  }

  /**
   * Something happens to the function. False: the device refuses it (a firmware update under NO_FW_UPDATE), nothing has happened. A write to
   * configuration space that leads to ERROR completes nonetheless.
   */
  happens(event: TdiEvent): boolean {
    const rule = TDI_EVENTS[event];
    const flags = this.lockParameters?.flags ?? 0;
    if (rule.refusedWith !== undefined && (flags & rule.refusedWith) !== 0) return false;
    const to = rule.moves[this.#state];
    if (to !== undefined && (rule.onlyWith === undefined || (flags & rule.onlyWith) !== 0)) {
      if (to === ERROR) this.#move(ERROR, event);
      else this.#unlock(event);
    }
    if (rule.virtualFunctions) for (const virtual of this.#virtualFunctions) virtual.happens(event);
    return true;
  }

  /**
   * Whether a memory request to an address of the interface is served. What is not served is an unsupported request, or dropped: a read has all ones, a write vanishes.
   * `t`: its T bit; `rightStream`: it came over the IDE stream the interface is bound to (default).
   *
   * TEE memory: T set in RUN; T clear in CONFIG_UNLOCKED, when it has no owner yet. Memory marked IS_NON_TEE_MEM: always.
   */
  serves(address: bigint, { t, rightStream = true }: { t: boolean; rightStream?: boolean }): boolean {
    const nonTee = this.#isNonTee(address);
    if (nonTee === undefined) return false;
    if (nonTee) return true;
    return t ? this.#state === RUN && rightStream : this.#state === CONFIG_UNLOCKED;
  }

  /** Undefined: the address is not the interface's. */
  #isNonTee(address: bigint): boolean | undefined {
    const mmio = this.#locked?.mmio ?? this.#options.device.mmio();
    const page = address / PAGE;
    const home = mmio.find(({ address: start, pages }) => page >= start / PAGE && page < start / PAGE + BigInt(pages));
    if (home === undefined) return undefined;
    const override = this.#overrides.findLast(({ first, end }) => page >= first && page < end);
    return override?.nonTee ?? ((home.attributes ?? 0) & TDISP_MMIO.IS_NON_TEE_MEM) !== 0;
  }

  #demand(...states: readonly TdispState[]): void {
    if (!states.includes(this.#state)) throw new TdispRefusal(INVALID_INTERFACE_STATE, `not in ${nameOf(this.#state)}`);
  }

  #unlock(cause: TdiMove['cause']): void {
    const wasUnlocked = this.#state === CONFIG_UNLOCKED;
    if (cause !== 'data-scrubbed' && !wasUnlocked) this.#options.device.scrub?.();
    this.#locked = undefined;
    this.#overrides = [];
    if (!wasUnlocked) this.#move(CONFIG_UNLOCKED, cause);
  }

  /** Leaving CONFIG_LOCKED ends the nonce, leaving RUN the streams. */
  #move(to: TdispState, cause: TdiMove['cause']): void {
    const from = this.#state;
    this.#state = to;
    if (from === CONFIG_LOCKED) this.#nonce = undefined;
    if (from === RUN) this.#p2pStreams.clear();
    this.#options.onMove?.({ from, to, cause });
  }

  #reportOf(request: LockParameters, mmio: readonly TdiMmio[]): Uint8Array {
    const { interfaceInfo = TDISP_INTERFACE_INFO.DMA_WITHOUT_PASID, msixMessageControl = 0, lnrControl = 0 } = this.#options;
    const { tphControl = 0, deviceSpecificInfo = new Uint8Array(0) } = this.#options;
    const noUpdate = (request.flags & TDISP_LOCK_FLAG.NO_FW_UPDATE) !== 0 ? TDISP_INTERFACE_INFO.NO_FW_UPDATE : 0;
    return encodeInterfaceReport({
      interfaceInfo: (interfaceInfo & ~TDISP_INTERFACE_INFO.NO_FW_UPDATE) | noUpdate,
      msixMessageControl,
      lnrControl,
      tphControl,
      ranges: mmio.map(({ bar, address, pages, attributes = 0 }) => ({
        firstPage: reported(address, request),
        pages,
        attributes,
        rangeId: bar,
      })),
      deviceSpecificInfo,
    });
  }
}

/** The page number a report has for an address: the guest learns positions inside BARs, not the host's addresses. */
const reported = (address: bigint, { mmioReportingOffset }: LockParameters): bigint =>
  BigInt.asUintN(64, address + mmioReportingOffset) / PAGE;

const nameOf = (state: TdispState): string => Object.entries(TDISP_STATE).find(([, value]) => value === state)![0];
