/**
 * Decoded code. Blocks are kept per guest-physical page and dropped when one of their bytes is stored to by this CPU. Stores of others (user
 * space through its own view of guest RAM, devices, other vCPUs) cannot be seen: every entry of `run` begins an epoch, and the first use of
 * a block in an epoch compares its bytes with memory.
 */
import type { Insn } from './insn.ts';
import type { PhysicalPage } from './mmu.ts';

export const MAX_BLOCK = 64;

export class Block {
  readonly insns: readonly Insn[];
  /** The bytes it was decoded from. */
  readonly source: Uint8Array;
  /** Epoch in which it was last known to match memory. */
  epoch: number;

  constructor(insns: readonly Insn[], source: Uint8Array, epoch: number) {
    this.insns = insns;
    this.source = source;
    this.epoch = epoch;
  }
}

export class CodePage {
  readonly page: PhysicalPage;
  /** Its bytes; null where no code can be fetched from it. */
  readonly view: DataView | null;
  /** By offset in the page; one table for 16-bit and one for 32-bit code, real and protected mode apart. */
  private readonly tables: (Block | undefined)[][] = [];

  constructor(page: PhysicalPage, view: DataView | null) {
    this.page = page;
    this.view = view;
  }

  table(mode: number): (Block | undefined)[] {
    let table = this.tables[mode];
    if (table === undefined) {
      table = new Array<Block | undefined>(4096).fill(undefined);
      this.tables[mode] = table;
    }
    return table;
  }

  /** Whether `block`, decoded at `offset`, still is what memory says. */
  matches(block: Block, offset: number): boolean {
    const view = this.view!;
    const source = block.source;
    for (let i = 0; i < source.length; i++) if (view.getUint8(offset + i) !== source[i]) return false;
    return true;
  }

  /** Notes which bytes the block covers, so that stores to them are noticed. */
  cover(offset: number, length: number): void {
    this.page.code ??= new Uint8Array(4096);
    this.page.code.fill(1, offset, offset + length);
  }
}
