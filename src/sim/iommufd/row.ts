import type { Struct } from '../../uapi/struct.ts';
import type { Handler } from './call.ts';

/** One request of mainline's table: its struct, how much of it there must be at least, and what it does. Its number and release are the ioctl table's. */
export interface Row {
  readonly name: string;
  readonly struct: Struct<unknown>;
  readonly least: number;
  readonly handler: Handler<never>;
}

/** One that the ioctl table has not: a posted series', or the test's. */
export interface NumberedRow extends Row {
  readonly request: number;
}

/** `last` is the last field that must be there. */
export function row<T>(name: string, struct: Struct<T>, last: keyof T & string, handler: Handler<T>): Row {
  const least = struct.offsetOf(last) + struct.sizeOf(last);
  return { name, struct: struct as Struct<unknown>, least, handler: handler as Handler<never> };
}

export function numbered<T>(
  request: number,
  name: string,
  struct: Struct<T>,
  last: keyof T & string,
  handler: Handler<T>,
): NumberedRow {
  return { request, ...row(name, struct, last, handler) };
}
