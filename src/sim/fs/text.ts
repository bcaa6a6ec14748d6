/** How the kernel reads what is written to an attribute: as a C string, with one newline at its end allowed. */

/** The string a store function sees: up to the first NUL. */
export function cString(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** sysfs_streq and what strips one newline. */
export function line(text: string): string {
  return cString(text).replace(/\n$/, '');
}

/** kstrtobool: it looks at the first character only, at two where it is an 'o'. */
export function kstrtobool(text: string): boolean | undefined {
  const [first = '', second = ''] = cString(text);
  if (/^[yYtT1]$/.test(first)) return true;
  if (/^[nNfF0]$/.test(first)) return false;
  if (!/^[oO]$/.test(first)) return undefined;
  return /^[nN]$/.test(second) ? true : /^[fF]$/.test(second) ? false : undefined;
}

/** kstrtoull with base 0: decimal, 0x…, 0…; a plus sign, one newline at the end. 'range' above 64 bits. */
export function kstrtoull(text: string): bigint | 'range' | undefined {
  const digits = line(text).replace(/^\+/, '');
  const value = /^0[xX][0-9a-fA-F]+$/.test(digits)
    ? BigInt(digits)
    : /^0[0-7]*$/.test(digits)
      ? BigInt(`0o0${digits}`)
      : /^[1-9]\d*$/.test(digits)
        ? BigInt(digits)
        : undefined;
  return value !== undefined && value >= 1n << 64n ? 'range' : value;
}

/** kstrtouint: the same in 32 bits. */
export function kstrtouint(text: string): number | 'range' | undefined {
  const value = kstrtoull(text);
  if (typeof value !== 'bigint') return value;
  return value > 0xffff_ffffn ? 'range' : Number(value);
}

/** simple_strtoul with base 10: the digits it begins with, 0 without any; all ones where 64 bits do not hold them. */
export function simpleStrtoul(text: string): bigint {
  const [digits = '0'] = /^\d+/.exec(text) ?? [];
  const value = BigInt(digits);
  return value >> 64n === 0n ? value : (1n << 64n) - 1n;
}
