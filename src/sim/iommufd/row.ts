import type { Struct } from '../../uapi/struct.ts';
import type { Handler } from './call.ts';

/** One request of the table: its struct, how much of it there must be at least, and what it does. */
export interface Row {
  readonly name: string;
  readonly request: number;
  readonly struct: Struct<unknown>;
  readonly least: number;
  /** The release that brought it. */
  readonly since: string;
  readonly handler: Handler<never>;
}

/** `last` is the last field that must be there. */
export function row<T>(
  name: string,
  request: number,
  struct: Struct<T>,
  last: keyof T & string,
  since: string,
  handler: Handler<T>,
): Row {
  const least = struct.offsetOf(last) + struct.sizeOf(last);
  return { name, request, struct: struct as Struct<unknown>, least, since, handler: handler as Handler<never> };
}
