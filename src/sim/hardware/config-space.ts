import { loadWidth, storeWidth } from '../../kernel/by-width.ts';

export type ConfigWidth = 1 | 2 | 4;

/** What the bits of some registers do. Masks may be shorter than `bytes`: the rest is read-only. */
export interface RegisterBits {
  /** Reset values. */
  readonly bytes: Uint8Array;
  readonly writable?: Uint8Array | undefined;
  /** A written one clears. */
  readonly clearable?: Uint8Array | undefined;
  /** Keeps its value over every reset but power-on. */
  readonly sticky?: boolean;
}

/** Told after a write that touched the double word: what it held, what it holds, and what was written over which bytes. */
export type WriteHook = (before: number, after: number, written: number) => void;

/** A write from the bus, with all registers before and after it. */
export interface ObservedWrite {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly offset: number;
  readonly written: Uint8Array;
}

/**
 * Configuration registers as hardware has them: read-only bits, bits that a one clears, BARs that answer a write of all ones with their size. `read` and
 * `write` are what comes over the bus, `peek` and `poke` what the device does itself.
 */
export class ConfigSpace {
  readonly size: 256 | 4096;
  /** Moves with every change of a register. */
  generation = 0;
  /** Told of each write from the bus, after it. */
  observer: ((write: ObservedWrite) => void) | undefined;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #initial: Uint8Array;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;
  readonly #sticky: Uint8Array;
  readonly #hooks = new Map<number, WriteHook[]>();

  constructor(size: 256 | 4096) {
    this.size = size;
    this.#bytes = new Uint8Array(size);
    this.#view = new DataView(this.#bytes.buffer);
    this.#initial = new Uint8Array(size);
    this.#writable = new Uint8Array(size);
    this.#clearable = new Uint8Array(size);
    this.#sticky = new Uint8Array(size);
  }

  /** Puts registers at `at`. */
  define(at: number, { bytes, writable, clearable, sticky = false }: RegisterBits): void {
    this.#initial.set(bytes, at);
    this.#bytes.set(bytes, at);
    this.#writable.fill(0, at, at + bytes.length).set(writable ?? [], at);
    this.#clearable.fill(0, at, at + bytes.length).set(clearable ?? [], at);
    this.#sticky.fill(sticky ? 1 : 0, at, at + bytes.length);
  }

  /** Makes bits of `width` bytes at `at` writable besides those that are. */
  allow(at: number, width: ConfigWidth, mask: number): void {
    for (let i = 0; i < width; i++) this.#writable[at + i]! |= mask >>> (8 * i);
  }

  /** Makes bits clearable by a written one. */
  clearing(at: number, width: ConfigWidth, mask: number): void {
    for (let i = 0; i < width; i++) this.#clearable[at + i]! |= mask >>> (8 * i);
  }

  /** Calls `hook` after each write from the bus into the double word that holds `at`. */
  onWrite(at: number, hook: WriteHook): void {
    const key = at & ~3;
    this.#hooks.set(key, [...(this.#hooks.get(key) ?? []), hook]);
  }

  /** One access over the bus. What is not there reads as all ones. */
  read(offset: number, width: ConfigWidth): number {
    return offset < 0 || offset + width > this.size ? 2 ** (8 * width) - 1 : this.peek(offset, width);
  }

  write(offset: number, width: ConfigWidth, value: number): void {
    if (offset < 0 || offset + width > this.size) return;
    const { observer } = this;
    const before = observer === undefined ? undefined : this.snapshot();
    this.#write(offset, width, value);
    if (before === undefined) return;
    const written = Uint8Array.from({ length: width }, (_, i) => (value >>> (8 * i)) & 0xff);
    observer?.({ before, after: this.snapshot(), offset, written });
  }

  #write(offset: number, width: ConfigWidth, value: number): void {
    this.generation++;
    const key = offset & ~3;
    const before = this.peek(key, 4);
    for (let i = 0; i < width; i++) {
      const byte = (value >>> (8 * i)) & 0xff;
      const at = offset + i;
      const kept = this.#bytes[at]! & ~this.#writable[at]!;
      this.#bytes[at] = (kept | (byte & this.#writable[at]!)) & ~(byte & this.#clearable[at]!);
    }
    const written = (value << (8 * (offset & 3))) >>> 0;
    for (const hook of this.#hooks.get(key) ?? []) hook(before, this.peek(key, 4), written);
  }

  /** What the register holds. */
  peek(offset: number, width: ConfigWidth): number {
    return loadWidth(this.#view, offset, width);
  }

  /** Hardware changes a register. */
  poke(offset: number, width: ConfigWidth, value: number): void {
    this.generation++;
    storeWidth(this.#view, offset, width, value);
  }

  /** Sets or clears bits. */
  flag(offset: number, width: ConfigWidth, bits: number, on: boolean): void {
    const value = this.peek(offset, width);
    this.poke(offset, width, on ? value | bits : value & ~bits);
  }

  /** Back to reset values; at power-on the sticky registers too. */
  reset(power: boolean): void {
    this.generation++;
    for (let i = 0; i < this.size; i++) if (power || this.#sticky[i] === 0) this.#bytes[i] = this.#initial[i]!;
  }

  /** A copy of all registers. */
  snapshot(): Uint8Array {
    return this.#bytes.slice();
  }
}
