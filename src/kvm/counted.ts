import { rangeError, typeError } from '../kernel/errors.ts';

/**
 * A struct that ends in `entries[count]`: the count may be left out, since the array says it, but a count that contradicts the
 * array is a mistake, never silently corrected.
 */
export function counted<T extends { readonly entries: readonly unknown[] }, C extends string>(
  value: T,
  count: C,
  struct: string,
): T & Record<C, number> {
  const entries: unknown = value?.entries;
  if (!Array.isArray(entries)) throw typeError(`${struct}.entries must be an array`);
  const given = (value as Readonly<Record<string, unknown>>)[count];
  if (given !== undefined && given !== entries.length) {
    throw rangeError(
      `${struct}.${count} is ${String(given)}, but entries has ${entries.length}: leave ${count} out, or make them agree`,
    );
  }
  return { ...value, [count]: entries.length } as T & Record<C, number>;
}
