/** What the tests of a TDI share: a device of two BARs, and ways into each state. */
import type { LockFault, LockParameters, TdiMmio, TdiMove, TdiOptions, TdispState } from '../../../../src/sim/hardware/index.ts';
import { TDISP_LOCK_FLAG, TDISP_MMIO, TDISP_STATE, Tdi } from '../../../../src/sim/hardware/index.ts';

export const { CONFIG_UNLOCKED, CONFIG_LOCKED, RUN, ERROR } = TDISP_STATE;
export const STATES: readonly TdispState[] = [CONFIG_UNLOCKED, CONFIG_LOCKED, RUN, ERROR];
export const STATE_NAMES = ['CONFIG_UNLOCKED', 'CONFIG_LOCKED', 'RUN', 'ERROR'] as const;

export const ALL_FLAGS = Object.values(TDISP_LOCK_FLAG).reduce((all, flag) => all | flag, 0);
export const PLAIN: LockParameters = {
  flags: TDISP_LOCK_FLAG.BIND_P2P,
  defaultStreamId: 1,
  mmioReportingOffset: 0n,
  p2pAddressMask: 0n,
};

export const TEE = 0xe000_0000n;
export const NON_TEE = 0xe000_4000n;
export const UPDATABLE = 0xe100_0000n;
export const MMIO: readonly TdiMmio[] = [
  { bar: 0, address: TEE, pages: 4 },
  { bar: 0, address: NON_TEE, pages: 1, attributes: TDISP_MMIO.IS_NON_TEE_MEM },
  { bar: 2, address: UPDATABLE, pages: 8, attributes: TDISP_MMIO.IS_MEM_ATTR_UPDATABLE },
];

export class World {
  readonly tdi: Tdi;
  readonly done: string[] = [];
  readonly moves: TdiMove[] = [];
  mmio = MMIO;
  faults: readonly LockFault[] = [];
  entropy = 40;
  nonce: Uint8Array = new Uint8Array(32);
  #drawn = 0;

  constructor(options: Partial<TdiOptions> = {}) {
    this.tdi = new Tdi({
      interfaceId: { requesterId: 0x0100 },
      onMove: (move) => this.moves.push(move),
      ...options,
      device: {
        mmio: () => this.mmio,
        entropy: (length) => (this.#drawn++ < this.entropy ? new Uint8Array(length).fill(this.#drawn) : undefined),
        lockFaults: () => this.faults,
        quiesce: () => this.done.push('quiesce'),
        scrub: () => this.done.push('scrub'),
      },
    });
  }

  /** From CONFIG_UNLOCKED. */
  enter(state: TdispState, request: LockParameters = PLAIN): this {
    if (state === CONFIG_UNLOCKED) return this;
    this.nonce = this.tdi.lock(request);
    if (state === RUN) this.tdi.start(this.nonce);
    if (state === ERROR) this.tdi.happens('flr');
    this.done.length = 0;
    this.moves.length = 0;
    return this;
  }
}
