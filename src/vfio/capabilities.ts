import type { Handle } from '../kernel/handle.ts';
import type { Input, Struct } from '../uapi/struct.ts';
import { vfio_info_cap_header } from '../uapi/vfio.ts';

/** One capability of an INFO struct's chain, where it is not one of those that have a name. */
export interface RawCapability {
  readonly id: number;
  readonly version: number;
  /** What follows its header. */
  readonly data: Uint8Array;
}

/** A capability and where it is: `at` and `end` are offsets from the start of the INFO struct. */
interface Link {
  readonly id: number;
  readonly version: number;
  readonly at: number;
  readonly end: number;
}

interface Info {
  readonly argsz: number;
  readonly cap_offset: number;
}

/** An answer with its chain. */
export interface Chained<T> {
  readonly info: T;
  readonly bytes: Uint8Array;
  readonly chain: readonly Link[];
}

/**
 * An INFO ioctl: asked again with the `argsz` that came back as long as the kernel wants more room for its capabilities. `cap_offset` is
 * given as 0, because a kernel without any leaves it as it was.
 */
export function getChained<T extends Info>(handle: Handle, request: number, struct: Struct<T>, value: Input<T>): Chained<T> {
  for (let room = struct.size; ; ) {
    const bytes = new Uint8Array(room);
    struct.encode(value, bytes);
    new DataView(bytes.buffer).setUint32(0, room, true);
    handle.ioctl(request, bytes);
    const info = struct.decode(bytes);
    if (info.argsz <= room) return { info, bytes, chain: chainOf(bytes, info.cap_offset) };
    room = info.argsz;
  }
}

/** The chain from `first`; 0 ends it. `next` only ever leads on: no chain goes in circles. */
function chainOf(bytes: Uint8Array, first: number): Link[] {
  const found: { id: number; version: number; at: number; next: number }[] = [];
  const { size } = vfio_info_cap_header;
  for (let at = first; at >= size && at + size <= bytes.byteLength; ) {
    const { id, version, next } = vfio_info_cap_header.decode(bytes, at);
    found.push({ id, version, at, next });
    if (next <= at) break;
    at = next;
  }
  return found.map(({ id, version, at, next }) => ({ id, version, at, end: next > at ? next : bytes.byteLength }));
}

type Decoder = (bytes: Uint8Array, link: { readonly at: number }) => unknown;

/** The chain as an object: those of the table by their name, the others in `other`. */
export function decodeChain<T>(
  { bytes, chain }: Chained<unknown>,
  table: Readonly<Record<number, readonly [name: keyof T & string, decode: Decoder]>>,
): Partial<T> & { readonly other: readonly RawCapability[] } {
  const caps: Record<string, unknown> = {};
  const other: RawCapability[] = [];
  for (const link of chain) {
    const { id, version, at, end } = link;
    const known = table[id];
    if (known === undefined) other.push({ id, version, data: bytes.slice(at + vfio_info_cap_header.size, end) });
    else caps[known[0]] = known[1](bytes.subarray(0, end), link);
  }
  return { ...(caps as Partial<T>), other };
}
