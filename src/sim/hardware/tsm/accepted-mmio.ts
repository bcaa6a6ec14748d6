import { type Interval, IntervalTree } from '../../interval-tree.ts';

/** Device memory the guest has accepted. */
export interface AcceptedMmio {
  readonly gpaBase: bigint;
  /** Exclusive. */
  readonly gpaTop: bigint;
  readonly paBase: bigint;
}

/** A piece as it lies in one of the two address spaces. */
interface Side extends Interval {
  readonly piece: AcceptedMmio;
}

/**
 * What a TSM knows of device memory a guest has accepted: of each page at which guest frame, and of each frame which page. What is accepted anew takes the place of what the page was accepted at, and of
 * what the frame held before: there are never more pieces than the interface has pages, however often a guest asks.
 */
export class AcceptedRanges {
  readonly #byGuest = new IntervalTree<Side>();
  readonly #byDevice = new IntervalTree<Side>();

  /** By guest address; what goes on in both address spaces is one piece. */
  list(): readonly AcceptedMmio[] {
    return [...this.#byGuest.within()].map(({ piece }) => piece);
  }

  add(range: AcceptedMmio): void {
    const { gpaBase, gpaTop, paBase } = range;
    const paTop = paBase + gpaTop - gpaBase;
    this.remove(gpaBase, gpaTop);
    for (const { piece } of [...this.#byDevice.within(paBase, paTop - 1n)]) {
      const toGuest = piece.gpaBase - piece.paBase;
      this.remove(paBase + toGuest, paTop + toGuest, piece);
    }
    const below = this.#byGuest.find(gpaBase - 1n)?.piece;
    const above = this.#byGuest.find(gpaTop)?.piece;
    let whole = range;
    if (below !== undefined && below.paBase - below.gpaBase === paBase - gpaBase) {
      this.#take(below);
      whole = { gpaBase: below.gpaBase, gpaTop, paBase: below.paBase };
    }
    if (above !== undefined && above.paBase - above.gpaBase === paBase - gpaBase) {
      this.#take(above);
      whole = { ...whole, gpaTop: above.gpaTop };
    }
    this.#put(whole);
  }

  /** Frames [`gpaBase`, `gpaTop`) hold nothing any more; of one piece, or of all. */
  remove(gpaBase: bigint, gpaTop: bigint, of?: AcceptedMmio): void {
    const pieces = of === undefined ? [...this.#byGuest.within(gpaBase, gpaTop - 1n)].map(({ piece }) => piece) : [of];
    for (const piece of pieces) {
      this.#take(piece);
      if (piece.gpaBase < gpaBase) this.#put({ ...piece, gpaTop: gpaBase });
      if (piece.gpaTop > gpaTop) this.#put({ ...piece, gpaBase: gpaTop, paBase: piece.paBase + gpaTop - piece.gpaBase });
    }
  }

  clear(): void {
    this.#byGuest.clear();
    this.#byDevice.clear();
  }

  #put(piece: AcceptedMmio): void {
    this.#byGuest.insert({ first: piece.gpaBase, last: piece.gpaTop - 1n, piece });
    this.#byDevice.insert({ first: piece.paBase, last: piece.paBase + piece.gpaTop - piece.gpaBase - 1n, piece });
  }

  #take(piece: AcceptedMmio): void {
    this.#byGuest.remove(this.#byGuest.find(piece.gpaBase)!);
    this.#byDevice.remove(this.#byDevice.find(piece.paBase)!);
  }
}
