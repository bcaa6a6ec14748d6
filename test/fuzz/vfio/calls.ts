/** Calls of VFIO as data: structs of 32 and 64 bit words, with the members that are another number on each kernel. */
import type { Argument, Call, Patch, Ref } from '../call.ts';
import { type Choices, oddValue } from '../choices.ts';
import type { World } from '../world.ts';

/** A word of a struct: a number, a descriptor, or an address in memory. */
export type Word =
  | number
  | bigint
  | { readonly fd: Ref }
  | { readonly memory: Ref; readonly plus?: number; readonly aligned?: number };

/** Bytes of words: `l` is 32 bits, `q` 64, `b` 8. */
export function struct(layout: string, words: readonly Word[], room = 0): Argument {
  const sizes = { b: 1, l: 4, q: 8 } as const;
  const kinds = [...layout] as (keyof typeof sizes)[];
  const bytes = new Uint8Array(kinds.reduce((sum, kind) => sum + sizes[kind], 0) + room);
  const view = new DataView(bytes.buffer);
  const patches: Patch[] = [];
  let at = 0;
  for (const [n, kind] of kinds.entries()) {
    const word = words[n] ?? 0;
    if (typeof word === 'object' && 'fd' in word) patches.push({ at, ref: word.fd, what: 'fd', plus: 0 });
    else if (typeof word === 'object') {
      const { memory: ref, plus = 0, aligned } = word;
      patches.push({ at, ref, what: 'address', plus, ...(aligned !== undefined && { aligned }) });
    } else if (kind === 'q') view.setBigUint64(at, BigInt.asUintN(64, BigInt(word)), true);
    else if (kind === 'l') view.setUint32(at, Number(BigInt.asUintN(32, BigInt(word))), true);
    else view.setUint8(at, Number(word) & 0xff);
    at += sizes[kind];
  }
  return { is: 'bytes', bytes, patches };
}

/**
 * VFIO's numbers carry no size, and one number is another request on another kind of file (VFIO_DEVICE_PCI_HOT_RESET is VFIO_IOMMU_MAP_DMA):
 * each argument has room for the longest struct that could be read of it.
 */
const ROOM = 128;

function roomy(arg: Argument): Argument {
  if (arg.is !== 'bytes' || arg.bytes.length >= ROOM) return arg;
  const bytes = new Uint8Array(ROOM);
  bytes.set(arg.bytes);
  return { ...arg, bytes };
}

/** An ioctl whose argument this file answers for: pointers lead into memory of the sequence, or where no process has any. */
export const request = (fd: Ref, name: string, number: number, arg: Argument, as?: Ref): Call => ({
  ...{ do: 'ioctl', fd, request: number, name, arg: roomy(arg), unsafe: true },
  ...(as === undefined ? {} : { as }),
});

export const integer = (value: bigint | number): Argument =>
  BigInt(value) === 0n ? { is: 'none' } : { is: 'integer', value: BigInt(value) };

/** No process has memory there. */
export const NOWHERE: readonly bigint[] = [0n, 8n, 0x1000n, 0xffff_8000_0000_1000n, (1n << 64n) - 0x1000n];

/** argsz: right, too small by one, or odd. */
export const argsz = (c: Choices, right: number): number =>
  c.weighted([
    [9, right],
    [1, right - 1],
    [1, c.pick([0, 4, 8, right + 1, right + 8, 0xffff_ffff])],
  ]);

/** Flags: mostly of those there are. */
export const flags = (c: Choices, known: readonly number[]): number =>
  c.weighted([
    [8, c.pick(known)],
    [1, c.pick(known) | c.pick(known)],
    [1, Number(oddValue(c, 4))],
  ]);

/** A descriptor to be named: an eventfd mostly, another one, or none. */
export function eventfdWord(c: Choices, w: World): Word {
  const eventfds = w.live('eventfd');
  const any = w.live();
  if (eventfds.length > 0 && !c.chance(0.25)) return { fd: c.pick(eventfds).name };
  if (any.length > 0 && c.chance(0.3)) return { fd: c.pick(any).name };
  return c.pick([-1, -2, 999]);
}
