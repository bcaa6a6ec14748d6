import { NotModelled } from '../../../kernel/errors.ts';
import type { DmaTarget, IommuDomain } from '../dma-target.ts';
import { type Context, decodeContext } from './context.ts';
import {
  C_BAD_CD,
  C_BAD_STE,
  C_BAD_SUBSTREAMID,
  CLASS_CD,
  CLASS_IN,
  F_ADDR_SIZE,
  F_STREAM_DISABLED,
  type Fault,
} from './event.ts';
import type { SmmuRegisters } from './registers.ts';
import { walk } from './stage1.ts';
import { Stage2 } from './stage2.ts';

/** STE.Config: bit 2, traffic passes; bit 1, the second stage translates; bit 0, the first one does. */
export const CONFIG_ABORT = 0;
export const CONFIG_BYPASS = 4;
export const CONFIG_S1 = 5;

/** STE.S1DSS, for an access without a substream where there are substreams. */
const DSS_BYPASS = 1;
const DSS_SUBSTREAM_0 = 2;

const CONTEXT_POINTER = 0x000f_ffff_ffff_ffc0n;
const CONTEXT = 64n;
const L1_VALID = 1n;
const L1_ENTRY = 8n;
const L1_POINTER = 0x000f_ffff_ffff_f000n;
/** Contexts of a second-level table by STE.S1Fmt, as a base-2 logarithm; absent: one table (the reserved format too). */
const L2_BITS: ReadonlyMap<bigint, bigint> = new Map([
  [1n, 6n],
  [2n, 10n],
]);

/** An access that does not get through. */
export interface Stopped {
  readonly fault: Fault | undefined;
  /** It is answered all the same: reads by zeros, writes by nothing (CD.A is 0). */
  readonly answered?: boolean;
}

const field = (word: bigint, shift: bigint, width: bigint): bigint => (word >> shift) & ((1n << width) - 1n);
const stopped = (id: number): Stopped => ({ fault: { id } });

/** What a context does with a fault of a translation: the four it has a say in. A fault of the second stage is the host's, and always recorded. */
function terminate({ aborts, records, stalls }: Context, fault: Fault): Stopped {
  if (fault.ipa !== undefined) return { fault };
  if (stalls) throw new NotModelled('an SMMUv3 whose faults stall the access (CD.S 1)');
  return { fault: records ? fault : undefined, answered: !aborts };
}

/**
 * A stream whose first stage is a guest's: the two words of its stream table entry (SMMUv3 architecture, 5.2), over a second stage. Nothing is cached: what the guest changes holds at once,
 * invalidated or not, which an SMMU may do.
 */
export class Stream {
  readonly #registers: SmmuRegisters;
  readonly #words: readonly [bigint, bigint];
  readonly #stage2: Stage2;

  constructor(registers: SmmuRegisters, words: readonly [bigint, bigint], stage2: IommuDomain) {
    this.#registers = registers;
    this.#words = words;
    this.#stage2 = new Stage2(stage2, registers.outputBits);
  }

  translate(address: bigint, length: number, write: boolean, substream: number | undefined): DmaTarget | Stopped {
    const [first] = this.#words;
    const config = Number(field(first, 1n, 3n));
    if ((config & CONFIG_BYPASS) === 0) return { fault: undefined };
    if (config !== CONFIG_S1) return this.#bypass(address, length, write, substream);
    if (this.#illegal()) return stopped(C_BAD_STE);
    const index = this.#contextOf(substream);
    if (index === 'bypass') return this.#bypass(address, length, write, undefined);
    if (typeof index !== 'bigint') return index;
    const context = this.#fetch(index);
    if ('fault' in context) return context;
    const translated = walk(context, this.#stage2, address, write);
    if ('id' in translated) return terminate(context, translated);
    const { ipa, left } = translated;
    const target = this.#stage2.translate(ipa, left < BigInt(length) ? Number(left) : length, write);
    return 'id' in target ? { fault: target } : target;
  }

  /** Stage 1 bypassed: the address is the second stage's. */
  #bypass(address: bigint, length: number, write: boolean, substream: number | undefined): DmaTarget | Stopped {
    if (substream !== undefined) return stopped(C_BAD_SUBSTREAMID);
    if (address >> BigInt(this.#registers.outputBits) !== 0n) return { fault: { id: F_ADDR_SIZE, class: CLASS_IN } };
    const target = this.#stage2.translate(address, length, write);
    return 'id' in target ? { fault: target } : target;
  }

  get #contextBits(): bigint {
    return this.#registers.substreamBits === 0 ? 0n : field(this.#words[0], 59n, 5n);
  }

  get #stallsDisabled(): boolean {
    return field(this.#words[1], 27n, 1n) === 1n;
  }

  /** Of what a guest may say: more substreams than there are, a format or a way of stalling the hardware has not. */
  #illegal(): boolean {
    const { substreamBits, twoLevelContexts, stallModel } = this.#registers;
    const format = field(this.#words[0], 4n, 2n);
    if (this.#contextBits > BigInt(substreamBits)) return true;
    if (this.#contextBits > 0n && L2_BITS.has(format) && !twoLevelContexts) return true;
    return stallModel !== 0 && this.#stallsDisabled;
  }

  /** The number of the context an access uses. */
  #contextOf(substream: number | undefined): bigint | 'bypass' | Stopped {
    const bits = this.#contextBits;
    const unmarked = Number(field(this.#words[1], 0n, 2n));
    if (substream === undefined) {
      if (bits === 0n || unmarked === DSS_SUBSTREAM_0) return 0n;
      return unmarked === DSS_BYPASS ? 'bypass' : stopped(F_STREAM_DISABLED);
    }
    if (bits === 0n || BigInt(substream) >> bits !== 0n) return stopped(C_BAD_SUBSTREAMID);
    return substream === 0 && unmarked === DSS_SUBSTREAM_0 ? stopped(F_STREAM_DISABLED) : BigInt(substream);
  }

  #fetch(index: bigint): Context | Stopped {
    const at = this.#address(index);
    if (typeof at !== 'bigint') return at;
    const words: bigint[] = [];
    for (let word = 0n; word < 3n; word++) {
      const value = this.#stage2.load(at + word * L1_ENTRY, CLASS_CD);
      if (typeof value !== 'bigint') return { fault: value };
      words.push(value);
    }
    const context = decodeContext(this.#registers, words as [bigint, bigint, bigint], this.#stallsDisabled);
    return context ?? stopped(C_BAD_CD);
  }

  /** Tables are aligned to their size: bits of the pointer below that are taken for 0. */
  #address(index: bigint): bigint | Stopped {
    const [first] = this.#words;
    const bits = this.#contextBits;
    const pointer = first & CONTEXT_POINTER;
    const leaf = bits === 0n ? undefined : L2_BITS.get(field(first, 4n, 2n));
    if (leaf === undefined) return (pointer & -(CONTEXT << bits)) + index * CONTEXT;
    const above = bits > leaf ? bits - leaf : 0n;
    const table = pointer & -(L1_ENTRY << above) & CONTEXT_POINTER;
    const entry = this.#stage2.load(table + (index >> leaf) * L1_ENTRY, CLASS_CD);
    if (typeof entry !== 'bigint') return { fault: entry };
    if ((entry & L1_VALID) === 0n || (entry & L1_POINTER) >> BigInt(this.#registers.outputBits) !== 0n)
      return stopped(C_BAD_SUBSTREAMID);
    return (entry & L1_POINTER & -(CONTEXT << leaf)) + (index & ((1n << leaf) - 1n)) * CONTEXT;
  }
}
