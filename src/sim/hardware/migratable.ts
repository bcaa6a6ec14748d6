import type { PciFunction } from './pci-function.ts';

/** How far a device may go on: everything; nothing that reaches others (RUNNING_P2P); nothing at all. */
export type RunState = 'running' | 'quiet' | 'stopped';

/** IOVAs, the last one inclusive. */
export interface LoggedRange {
  readonly start: bigint;
  readonly last: bigint;
}

/** A device's own log of the pages it wrote (what `struct vfio_log_ops` asks of a driver). */
export interface WriteLog {
  /** Logging of these ranges begins; the page size it is done in, or −errno as a number. */
  start(ranges: readonly LoggedRange[], pageSize: bigint): bigint | number;
  stop(): number;
  /** Calls `dirty` for what of the range was written since it was last asked, by page, and forgets it: 0 or −errno. */
  readAndClear(iova: bigint, length: bigint, dirty: (iova: bigint, length: bigint) => void): number;
}

/** What a device offers the driver that migrates it (the registers of a real one are its vendor's own). */
export interface Migratable {
  /** It can be quiet towards others while it runs. */
  readonly peerToPeer: boolean;
  /** It can give its state while it runs, and what changed of it later. */
  readonly preCopy: boolean;
  readonly writeLog: WriteLog;
  runState: RunState;
  /** A stream begins: everything counts as changed. */
  beginSaving(): void;
  /** Bytes of the stream that are ready now, while it runs; what changes later comes again. */
  saveChanged(): Uint8Array;
  /** How much `saveChanged` would give. */
  readonly changed: number;
  /** The rest of the stream, of a stopped device. */
  saveRest(): Uint8Array;
  /** How much all of it is. */
  readonly stateSize: number;
  /** A stream comes in: nothing of an earlier one counts. */
  beginRestoring(): void;
  /** Takes a piece of a stream, in order; false: it is none of this device's. */
  restore(bytes: Uint8Array): boolean;
  /** Whether what was restored is whole. */
  readonly restored: boolean;
}

export function isMigratable(fn: PciFunction): fn is PciFunction & Migratable {
  return 'runState' in fn && 'writeLog' in fn;
}

/** The log most devices have: a set of pages. */
export class PageLog implements WriteLog {
  #ranges: readonly LoggedRange[] = [];
  #pageSize = 0n;
  readonly #dirty = new Set<bigint>();

  start(ranges: readonly LoggedRange[], pageSize: bigint): bigint {
    this.#ranges = ranges;
    this.#pageSize = pageSize < 4096n ? 4096n : pageSize;
    this.#dirty.clear();
    return this.#pageSize;
  }

  stop(): number {
    this.#pageSize = 0n;
    this.#dirty.clear();
    return 0;
  }

  /** The device has written there. */
  wrote(iova: bigint, length: number): void {
    if (this.#pageSize === 0n || length === 0) return;
    const last = iova + BigInt(length) - 1n;
    for (let page = iova / this.#pageSize; page <= last / this.#pageSize; page++) {
      const at = page * this.#pageSize;
      if (this.#ranges.some((range) => range.start <= at + this.#pageSize - 1n && at <= range.last)) this.#dirty.add(page);
    }
  }

  /** A page that is only partly in the range stays for whoever asks of its rest. */
  readAndClear(iova: bigint, length: bigint, dirty: (iova: bigint, length: bigint) => void): number {
    const end = iova + length;
    for (const page of [...this.#dirty].sort((a, b) => (a < b ? -1 : 1))) {
      const at = page * this.#pageSize;
      const next = at + this.#pageSize;
      const [from, to] = [at > iova ? at : iova, next < end ? next : end];
      if (from >= to) continue;
      dirty(from, to - from);
      if (from === at && to === next) this.#dirty.delete(page);
    }
    return 0;
  }
}
