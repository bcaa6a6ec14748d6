/** Numbers of events (SMMUv3 architecture, 7.3). */
export const C_BAD_STE = 0x04;
export const F_STREAM_DISABLED = 0x06;
export const C_BAD_SUBSTREAMID = 0x08;
export const C_BAD_CD = 0x0a;
export const F_TRANSLATION = 0x10;
export const F_ADDR_SIZE = 0x11;
export const F_ACCESS = 0x12;
export const F_PERMISSION = 0x13;

/** What the SMMU was doing: it fetched a context descriptor, a descriptor of the first stage, or translated the address itself. */
export const CLASS_CD = 0;
export const CLASS_TT = 1;
export const CLASS_IN = 2;

/** A fault, before it is the record of a stream. */
export interface Fault {
  readonly id: number;
  /** Of the four that come of a translation. */
  readonly class?: number;
  /** It happened in the second stage, at this address. */
  readonly ipa?: bigint;
}

/** An access, as its record tells it. */
export interface Access {
  readonly stream: number;
  readonly substream: number | undefined;
  readonly address: bigint;
  readonly write: boolean;
}

const SSV = 1n << 11n;
const RNW = 1n << 35n;
const S2 = 1n << 39n;
const IPA = 0x000f_ffff_ffff_f000n;

/** Which records say by which substream it came: with a flag, without one, or not at all. */
const WITHOUT_SUBSTREAM = F_STREAM_DISABLED;
const WITHOUT_FLAG = C_BAD_SUBSTREAMID;

/** The record of a fault: four words, little-endian in memory. What is neither an address nor the access's own is 0. */
export function eventRecord({ id, class: kind, ipa }: Fault, { stream, substream, address, write }: Access): BigUint64Array {
  const record = new BigUint64Array(4);
  const by = id === WITHOUT_SUBSTREAM ? undefined : substream;
  record[0] =
    BigInt(id) | (by === undefined ? 0n : (BigInt(by) << 12n) | (id === WITHOUT_FLAG ? 0n : SSV)) | (BigInt(stream) << 32n);
  if (kind === undefined) return record;
  record[1] = (write ? 0n : RNW) | (ipa === undefined ? 0n : S2) | (BigInt(kind) << 40n);
  record[2] = address;
  record[3] = (ipa ?? 0n) & IPA;
  return record;
}
