import { NotModelled } from '../../../kernel/errors.ts';
import type { SmmuRegisters } from './registers.ts';

/** Where the table of one half of the address space begins, and how it is walked. */
export interface Half {
  /** Nothing is translated here: EPD, or E0PD, which is for the unprivileged. */
  readonly disabled: boolean;
  /** Bits of an address. */
  readonly size: bigint;
  /** Base-2 logarithm of the granule. */
  readonly granule: bigint;
  readonly table: bigint;
  /** Bits [63:56] of an address are not looked at. */
  readonly topByteIgnored: boolean;
  /** What a table says for all below it does not count. */
  readonly flat: boolean;
}

/** A context descriptor (SMMUv3 architecture, 5.4), as far as it decides what becomes of an access. */
export interface Context {
  /** For addresses whose bit 55 is 0, and 1. */
  readonly halves: readonly [Half, Half];
  /** Bits of what it may lead to. */
  readonly outputBits: bigint;
  /** AFFD: the access flag counts as set. */
  readonly accessFlagIgnored: boolean;
  readonly updatesAccess: boolean;
  readonly updatesDirty: boolean;
  /** What becomes of an access that faults: A, R and S (5.5). */
  readonly aborts: boolean;
  readonly records: boolean;
  readonly stalls: boolean;
}

/** CD.TG0 and CD.TG1 are not encoded alike. */
const TG0: readonly (number | undefined)[] = [12, 16, 14, undefined];
const TG1: readonly (number | undefined)[] = [undefined, 14, 12, 16];

const IPS_BITS = [32, 36, 40, 42, 44, 48, 52, 52] as const;
const TABLE = 0x000f_ffff_ffff_fff0n;
const SMALL_ADDRESS = 48n;

const LEAST_TXSZ = 16;
const MOST_TXSZ = { plain: 39, smallTables: 48, smallTables64K: 47 } as const;

/** What a context says of one half, wherever its bits are. */
interface RawHalf {
  readonly epd: bigint;
  readonly tsz: number;
  readonly granule: number | undefined;
  readonly word: bigint;
  readonly tbi: boolean;
}

const bits = (word: bigint, shift: bigint, width: bigint): bigint => (word >> shift) & ((1n << width) - 1n);

/** The eight words of a descriptor; undefined: it is ILLEGAL (5.4.2), and using it records C_BAD_CD. */
export function decodeContext(
  registers: SmmuRegisters,
  [first, low, high]: readonly [bigint, bigint, bigint],
  stallsDisabled: boolean,
): Context | undefined {
  if (bits(first, 31n, 1n) === 0n) return undefined;
  const [stalls, records, aborts] = [44n, 45n, 46n].map((at) => bits(first, at, 1n) === 1n) as [boolean, boolean, boolean];
  if (stallsDisabled && stalls) return undefined;
  if (registers.abortsOnly && !aborts) return undefined;
  if ((registers.stallModel === 1 && stalls) || (registers.stallModel === 2 && !stalls)) return undefined;
  const raw: readonly [RawHalf, RawHalf] = [
    {
      epd: bits(first, 14n, 1n),
      tsz: Number(bits(first, 0n, 6n)),
      granule: TG0[Number(bits(first, 6n, 2n))],
      word: low,
      tbi: bits(first, 38n, 1n) === 1n,
    },
    {
      epd: bits(first, 30n, 1n),
      tsz: Number(bits(first, 16n, 6n)),
      granule: TG1[Number(bits(first, 22n, 2n))],
      word: high,
      tbi: bits(first, 39n, 1n) === 1n,
    },
  ];
  const used = raw.filter(({ epd }) => epd === 0n);
  const bigEndian = bits(first, 15n, 1n) === 1n;
  const { endianness } = registers;
  if (used.length > 0 && ((endianness === 2 && bigEndian) || (endianness === 3 && !bigEndian))) return undefined;
  if (bits(first, 41n, 1n) === 0n) {
    if (registers.aarch32) throw new NotModelled('an SMMUv3 that walks VMSAv8-32 tables (CD.AA64 0)');
    return undefined;
  }
  const [updatesDirty, updatesAccess] = [42n, 43n].map((at) => bits(first, at, 1n) === 1n) as [boolean, boolean];
  if ((updatesAccess || updatesDirty) && registers.httu === 0) return undefined;
  if (updatesDirty && registers.httu === 1) return undefined;
  if (registers.httu === 3 && bits(low, 3n, 1n) === 1n) {
    if (!updatesAccess) return undefined;
    throw new NotModelled('an SMMUv3 that sets the access flag of table descriptors (CD.HAFT)');
  }
  if (registers.asidBits === 8 && bits(first, 56n, 8n) !== 0n) return undefined;
  const outputBits = BigInt(Math.min(IPS_BITS[Number(bits(first, 32n, 3n))]!, registers.outputBits));
  if (used.some((half) => !legal(registers, half, outputBits))) return undefined;
  if (registers.laterFormats !== 0) throw new NotModelled('tables of an SMMUv3 with LPA2 or 128-bit descriptors (IDR5)');
  if (bigEndian) throw new NotModelled('an SMMUv3 that walks big-endian tables (CD.ENDI 1)');
  return {
    halves: [half(registers, raw[0]), half(registers, raw[1])],
    outputBits,
    accessFlagIgnored: bits(first, 35n, 1n) === 1n,
    updatesAccess,
    updatesDirty: updatesAccess && updatesDirty,
    aborts,
    records,
    stalls,
  };
}

function legal(registers: SmmuRegisters, { tsz, granule, word }: RawHalf, outputBits: bigint): boolean {
  if (granule === undefined || !registers.granule(granule)) return false;
  const large = granule === 16;
  if (large && tsz < LEAST_TXSZ && registers.largeVirtual) throw new NotModelled('an SMMUv3 that translates 52-bit addresses');
  const { plain, smallTables, smallTables64K } = MOST_TXSZ;
  const most = registers.smallTables ? (large ? smallTables64K : smallTables) : plain;
  if (tsz < LEAST_TXSZ || tsz > most) return false;
  if (large && outputBits > SMALL_ADDRESS) throw new NotModelled('an SMMUv3 whose tables of 64 KiB lead to 52-bit addresses');
  const reach = outputBits < SMALL_ADDRESS ? outputBits : SMALL_ADDRESS;
  return (word & TABLE) >> reach === 0n;
}

function half(registers: SmmuRegisters, { epd, tsz, granule = 12, word, tbi }: RawHalf): Half {
  return {
    disabled: epd === 1n || (registers.e0pd && bits(word, 2n, 1n) === 1n),
    size: BigInt(64 - tsz),
    granule: BigInt(granule),
    table: word & TABLE,
    topByteIgnored: tbi,
    flat: registers.had && bits(word, 1n, 1n) === 1n,
  };
}
