/** The code being executed: guest pages it is fetched from, blocks decoded from them, single instructions where no block will do. */
import { Block, CodePage, MAX_BLOCK } from './blocks.ts';
import { Core } from './core.ts';
import { Decoder } from './decode.ts';
import { ABANDON, Fault, GP, STOP_EXIT } from './fault.ts';
import type { Insn } from './insn.ts';
import type { PhysicalPage } from './mmu.ts';
import { FETCH } from './paging.ts';
import { CANONICAL_LOW, CANONICAL_TOP } from './state.ts';

export abstract class Code extends Core {
  /** Counts entries of `run`: see blocks.ts. */
  protected epoch = 0;
  private readonly decoder = new Decoder();
  protected readonly codePages: Map<number, CodePage> = new Map();
  /** The page last executed from: its linear number and its blocks. */
  protected codeLinear = -1;
  protected codeHigh = 0;
  private codePage: CodePage | null = null;
  protected codeBlocks: (Block | undefined)[] = [];

  private get codeMode(): number {
    return this.long ? 4 : (this.protectedMode ? 2 : 0) + (this.codeSize === 4 ? 1 : 0);
  }

  protected enterPage(linear: number): void {
    const whole = this.long ? this.linear0 : linear >>> 0;
    if (this.long && (whole < CANONICAL_LOW || whole > CANONICAL_TOP)) throw new Fault(GP, 0);
    const number = Math.floor(this.translate(whole, FETCH) / 4096);
    let code = this.codePages.get(number);
    if (code === undefined) {
      const page = this.physical(number);
      code = new CodePage(page, this.fetchable(page));
      this.codePages.set(number, code);
    }
    this.codePage = code;
    this.codeBlocks = code.view === null ? [] : code.table(this.codeMode);
    this.codeLinear = linear >>> 12;
    this.codeHigh = this.ip0High;
  }

  /** The block at this offset of the current page, decoded or checked now; undefined where only a single step will do. */
  protected findBlock(offset: number, known: Block | undefined): Block | undefined {
    const code = this.codePage!;
    if (code.view === null) return undefined;
    if (known?.epoch !== undefined && code.matches(known, offset)) {
      known.epoch = this.epoch;
      return known;
    }
    const bytes = new Uint8Array(code.view.buffer, code.view.byteOffset, 4096);
    const insns: Insn[] = [];
    let at = offset;
    while (insns.length < MAX_BLOCK && at < 4096) {
      const insn = this.decoder.decode(bytes, at, 4096, this.codeSize, !this.protectedMode);
      if (typeof insn === 'string' || 'notModelled' in insn) break;
      insns.push(insn);
      at += insn.length;
      if (insn.form.ends || insn.rep !== 0) break;
    }
    if (insns.length === 0) return undefined;
    const block = new Block(insns, bytes.slice(offset, at), this.epoch);
    this.codeBlocks[offset] = block;
    code.cover(offset, at - offset);
    // The page may be in the write TLB; from now on stores to it must be seen.
    this.flushWrites();
    return block;
  }

  /** Decodes one instruction byte by byte: across a page, near the code limit, or one that cannot be executed. */
  protected single(): Insn[] {
    const bytes: number[] = [];
    const start = this.long ? this.linear0 : this.ip0 >>> 0;
    for (;;) {
      const offset = start + bytes.length;
      if (bytes.length >= 15 || offset > this.codeTop) throw new Fault(GP, 0);
      const gpa = this.translate(this.after(this.linear0, bytes.length), FETCH);
      const view = this.fetchable(this.physical(Math.floor(gpa / 4096)));
      if (view === null) {
        this.outcome = { kind: 'internalError', suberror: 1, insnBytes: Uint8Array.from(bytes) };
        this.stop |= STOP_EXIT;
        throw ABANDON;
      }
      bytes.push(view.getUint8(gpa & 0xfff));
      const insn = this.decoder.decode(Uint8Array.from(bytes), 0, bytes.length, this.codeSize, !this.protectedMode);
      if (insn === 'more') continue;
      if (insn === 'too long') throw new Fault(GP, 0);
      if (insn instanceof Object && 'notModelled' in insn) throw this.notModelled(insn.notModelled);
      return [insn];
    }
  }

  override forgetPages(): void {
    super.forgetPages();
    this.codePages.clear();
  }

  override flushTlb(): void {
    super.flushTlb();
    this.codeLinear = -1;
  }

  override endBlock(): void {
    super.endBlock();
    this.codeLinear = -1;
  }

  override invalidateCode(page: PhysicalPage): void {
    page.code = null;
    this.codePages.delete(page.number);
    this.codeLinear = -1;
  }
}
