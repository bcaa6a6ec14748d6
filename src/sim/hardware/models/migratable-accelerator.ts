import { type Migratable, PageLog, type RunState } from '../migratable.ts';
import { Accelerator, type AcceleratorOptions, type AcceleratorRegisters } from './accelerator.ts';

/** A stream: this word, then records of kind, length and data; the registers are the last. */
const MAGIC = 0x4749_4d4b;
const HEADER = 8;
const RECORD = 8;
const PAGE = 4096;
const KIND_MEMORY = 1;
const KIND_REGISTERS = 2;
const REGISTERS_SIZE = 32;

/** An accelerator whose state can be given away while it runs, and taken up by another one: 1234:acc2. */
export class MigratableAccelerator extends Accelerator implements Migratable {
  readonly peerToPeer = true;
  readonly preCopy = true;
  readonly writeLog: PageLog = new PageLog();
  #runState: RunState = 'running';
  /** Pages of its memory that the stream has not, or not as they are now. */
  readonly #changed = new Set<number>();
  #headerSent = false;
  #input: Uint8Array = new Uint8Array();
  #headerSeen = false;
  #restored = false;

  constructor(options: AcceleratorOptions = {}) {
    super({ ...options, spec: { device: 0xacc2, ...options.spec } });
  }

  override reset(): void {
    super.reset();
    this.#runState = 'running';
    this.#changed.clear();
    this.beginRestoring();
    this.writeLog.stop();
  }

  get runState(): RunState {
    return this.#runState;
  }

  set runState(state: RunState) {
    this.#runState = state;
    if (state === 'running') this.work();
  }

  protected override get mayWork(): boolean {
    return this.#runState === 'running';
  }

  protected override memoryWritten(offset: number, length: number): void {
    for (let page = Math.floor(offset / PAGE); page * PAGE < offset + length; page++) this.#changed.add(page);
  }

  protected override hostWritten(iova: bigint, length: number): void {
    this.writeLog.wrote(iova, length);
  }

  // ---- saving

  beginSaving(): void {
    this.#headerSent = false;
    for (let page = 0; page < this.memory.length / PAGE; page++) this.#changed.add(page);
  }

  get changed(): number {
    return this.#changed.size * (RECORD + 8 + PAGE) + (this.#headerSent ? 0 : HEADER);
  }

  get stateSize(): number {
    return HEADER + (this.memory.length / PAGE) * (RECORD + 8 + PAGE) + RECORD + REGISTERS_SIZE;
  }

  saveChanged(): Uint8Array {
    const pieces: Uint8Array[] = [];
    if (!this.#headerSent) pieces.push(words(MAGIC, this.memory.length));
    this.#headerSent = true;
    for (const page of [...this.#changed].sort((a, b) => a - b)) {
      pieces.push(words(KIND_MEMORY, 8 + PAGE, page * PAGE, 0), this.memory.slice(page * PAGE, (page + 1) * PAGE));
    }
    this.#changed.clear();
    return Buffer.concat(pieces);
  }

  saveRest(): Uint8Array {
    const { control, error, base, size, head, tail } = this.registers;
    const values = words(control, error, Number(base & 0xffff_ffffn), Number(base >> 32n), size, head, tail, 0);
    return Buffer.concat([this.saveChanged(), words(KIND_REGISTERS, REGISTERS_SIZE), values]);
  }

  // ---- restoring

  beginRestoring(): void {
    this.#input = new Uint8Array();
    this.#headerSeen = this.#restored = false;
  }

  get restored(): boolean {
    return this.#restored;
  }

  /** Pieces may end anywhere. */
  restore(bytes: Uint8Array): boolean {
    this.#input = Buffer.concat([this.#input, bytes]);
    if (!this.#headerSeen) {
      if (this.#input.length < HEADER) return true;
      const [magic, size] = this.#take(HEADER);
      if (magic !== MAGIC || size !== this.memory.length) return false;
      this.#headerSeen = true;
    }
    for (;;) {
      if (this.#input.length < RECORD) return true;
      const view = new DataView(this.#input.buffer, this.#input.byteOffset);
      const [kind, length] = [view.getUint32(0, true), view.getUint32(4, true)];
      if (
        this.#restored ||
        !((kind === KIND_MEMORY && length === 8 + PAGE) || (kind === KIND_REGISTERS && length === REGISTERS_SIZE))
      )
        return false;
      if (this.#input.length < RECORD + length) return true;
      this.#take(RECORD);
      if (!(kind === KIND_MEMORY ? this.#restorePage(length) : this.#restoreRegisters(length))) return false;
    }
  }

  #restorePage(length: number): boolean {
    const [offset] = this.#take(8);
    const page = this.#input.subarray(0, length - 8);
    if (offset! % PAGE !== 0 || offset! + PAGE > this.memory.length) return false;
    this.memory.set(page, offset);
    this.#input = this.#input.subarray(length - 8);
    return true;
  }

  #restoreRegisters(length: number): boolean {
    const [control, error, low, high, size, head, tail] = this.#take(length) as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const registers: AcceleratorRegisters = { control, error, base: BigInt(low) | (BigInt(high) << 32n), size, head, tail };
    this.registers = registers;
    this.#restored = true;
    return true;
  }

  /** The next bytes, as words. */
  #take(length: number): number[] {
    const view = new DataView(this.#input.buffer, this.#input.byteOffset, length);
    this.#input = this.#input.subarray(length);
    return Array.from({ length: length / 4 }, (_, index) => view.getUint32(4 * index, true));
  }
}

function words(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}
