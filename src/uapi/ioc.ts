/**
 * asm-generic/ioctl.h: how a request word is made of direction, type, number and argument size. x86-64 and arm64 use
 * this form (8 bits number, 8 bits type, 14 bits size, 2 bits direction). Words stay unsigned, bit 31 included.
 */

export const _IOC_NRBITS = 8;
export const _IOC_TYPEBITS = 8;
export const _IOC_SIZEBITS = 14;
export const _IOC_DIRBITS = 2;
export const _IOC_NRSHIFT = 0;
export const _IOC_TYPESHIFT = 8;
export const _IOC_SIZESHIFT = 16;
export const _IOC_DIRSHIFT = 30;
export const _IOC_NONE = 0;
/** The caller writes: the kernel reads the argument. */
export const _IOC_WRITE = 1;
/** The caller reads: the kernel writes the argument. */
export const _IOC_READ = 2;

/** _IOC(dir, type, nr, size): throws a RangeError for a part that does not fit its bits. */
export function _IOC(dir: number, type: number | string, nr: number, size: number): number {
  const letter = typeof type === 'string' ? type.charCodeAt(0) : type;
  for (const [name, value, bits] of [
    ['dir', dir, _IOC_DIRBITS],
    ['type', letter, _IOC_TYPEBITS],
    ['nr', nr, _IOC_NRBITS],
    ['size', size, _IOC_SIZEBITS],
  ] as const) {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** bits)
      throw new RangeError(`_IOC: ${name} ${value} does not fit ${bits} bits`);
  }
  return ((dir << _IOC_DIRSHIFT) | (size << _IOC_SIZESHIFT) | (letter << _IOC_TYPESHIFT) | nr) >>> 0;
}

export const _IO = (type: number | string, nr: number): number => _IOC(_IOC_NONE, type, nr, 0);
export const _IOR = (type: number | string, nr: number, size: number): number => _IOC(_IOC_READ, type, nr, size);
export const _IOW = (type: number | string, nr: number, size: number): number => _IOC(_IOC_WRITE, type, nr, size);
export const _IOWR = (type: number | string, nr: number, size: number): number => _IOC(_IOC_READ | _IOC_WRITE, type, nr, size);

export const _IOC_DIR = (request: number): number => request >>> _IOC_DIRSHIFT;
export const _IOC_TYPE = (request: number): number => (request >>> _IOC_TYPESHIFT) & 0xff;
export const _IOC_NR = (request: number): number => request & 0xff;
export const _IOC_SIZE = (request: number): number => (request >>> _IOC_SIZESHIFT) & 0x3fff;

/** A request word taken apart, for messages: `_IOWR('d', 0xa3, 8)`. */
export function describeRequest(request: number): string {
  const type = _IOC_TYPE(request);
  const letter = type > 0x20 && type < 0x7f ? `'${String.fromCharCode(type)}'` : `0x${type.toString(16)}`;
  const nr = `0x${_IOC_NR(request).toString(16).padStart(2, '0')}`;
  const size = _IOC_SIZE(request);
  const macro = ['_IO', '_IOW', '_IOR', '_IOWR'][_IOC_DIR(request)]!;
  return macro === '_IO' && size === 0 ? `_IO(${letter}, ${nr})` : `${macro}(${letter}, ${nr}, ${size})`;
}
