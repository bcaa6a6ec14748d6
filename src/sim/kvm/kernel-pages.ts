import { PAGE_SIZE, type PageRef } from '../mm/pages.ts';

/** Pages KVM itself reads and writes, in one piece, which userspace may map: with `bytes` while there are views of them. */
export class KernelPages {
  view: DataView;
  u8: Uint8Array;
  #buffer: SharedArrayBuffer;
  #views = 0;
  readonly #moved: () => void;

  /** `moved` is called when every PageRef handed out has become wrong. */
  constructor(pages: number, moved: () => void) {
    this.#buffer = new SharedArrayBuffer(pages * PAGE_SIZE);
    this.u8 = new Uint8Array(this.#buffer);
    this.view = new DataView(this.#buffer);
    this.#moved = moved;
  }

  get length(): number {
    return this.u8.length / PAGE_SIZE;
  }

  ref(index: number): PageRef {
    return { buffer: this.#buffer, u8: this.u8, view: this.view, offset: index * PAGE_SIZE };
  }

  open(index: number): PageRef {
    this.#views++;
    return this.ref(index);
  }

  /** With the last view the pages move: KVM goes on using them, and what is left behind reads zeros. True where that was the last. */
  close(): boolean {
    if (--this.#views > 0) return false;
    const old = this.u8;
    this.#buffer = new SharedArrayBuffer(old.length);
    this.u8 = new Uint8Array(this.#buffer);
    this.view = new DataView(this.#buffer);
    this.u8.set(old);
    old.fill(0);
    this.#moved();
    return true;
  }
}
