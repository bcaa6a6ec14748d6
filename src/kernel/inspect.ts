import { type InspectOptionsStylized, inspect } from 'node:util';

/** What `console.log` and `util.inspect` show for instances of a class. (A computed method name cannot stand in an isolated declaration.) */
export function showAs<T extends object>(
  type: { prototype: T },
  show: (self: T, depth: number, options: InspectOptionsStylized) => string,
): void {
  Object.defineProperty(type.prototype, inspect.custom, {
    value(this: T, depth: number, options: InspectOptionsStylized): string {
      return show(this, depth, options);
    },
    configurable: true,
    writable: true,
  });
}

/** `0x3f8` */
export const hex = (value: number | bigint): string => (value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);
