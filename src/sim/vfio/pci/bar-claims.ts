import { EBUSY } from '../../../uapi/sys.ts';

/** RFC. Who may reach the BARs of an assigned function from the host: each is claimed when it is first used, and stays so until the last close. */
export class BarClaims {
  readonly #used: Set<number> = new Set();
  #exclusive = false;

  /** Claimed as a whole: whoever else wants to use one is EBUSY. */
  get exclusive(): boolean {
    return this.#exclusive;
  }

  /** A mapping, a read, a write or an ioeventfd needs the BAR: 0 or −EBUSY. */
  use(bar: number): number {
    if (this.#exclusive) return -EBUSY;
    this.#used.add(bar);
    return 0;
  }

  /** All of them for the one who asks: −EBUSY where one was ever used, or somebody has them. */
  claimAll(): number {
    if (this.#exclusive || this.#used.size > 0) return -EBUSY;
    this.#exclusive = true;
    return 0;
  }

  releaseAll(): void {
    this.#exclusive = false;
  }

  /** The last close. */
  forget(): void {
    this.#exclusive = false;
    this.#used.clear();
  }
}
