import { SERIES, type SeriesName } from '../uapi/tee-io/series.ts';
import { KernelError } from './errors.ts';
import type { Handle } from './handle.ts';

/** A request that exists as a posted series only. */
export interface RfcRequest {
  readonly series: SeriesName;
  readonly name: string;
  readonly request: number;
  /** Whether mainline has another request of this number: it looks at the bytes as at its own. */
  readonly displaces?: boolean;
}

/** The sentence for an errno that a kernel without the series gives. */
export function rfcNote(series: SeriesName): string {
  const { title, author, date } = SERIES[series];
  return `a kernel without “${title}” (${author}, ${date}) answers so, and no released one has it`;
}

/** What a kernel answers to a number it does not know, and to one that is another request's. */
const UNKNOWN: readonly string[] = ['ENOTTY'];
const ANOTHERS: readonly string[] = [...UNKNOWN, 'EINVAL', 'EOPNOTSUPP', 'E2BIG'];

/**
 * ioctl(2) with a request of a series. The word says nothing of the struct, and no table has it, so the guard cannot: `bytes` is whole, and its pointers are of live `Memory`. Fails with the
 * request's name, and where this kernel has no such request with the series that would.
 */
export function rfcIoctl(handle: Handle, { series, name, request, displaces }: RfcRequest, bytes: Uint8Array): number {
  return rfcCall(series, displaces === true ? ANOTHERS : UNKNOWN, () => {
    try {
      return handle.ioctl(request, bytes, { unsafe: true });
    } catch (error) {
      if (!KernelError.isKernelError(error)) throw error;
      const { errno, syscall, fd, note } = error;
      throw new KernelError(errno, syscall, { request: name, fd, note });
    }
  });
}

/** A call of mainline's with a flag, a type or a payload of a series: with these errnos the error says which series would take it. */
export function rfcCall<T>(series: SeriesName, unknown: readonly string[], call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw KernelError.isKernelError(error) ? rfcError(error, series, unknown) : error;
  }
}

function rfcError(error: KernelError, series: SeriesName, unknown: readonly string[]): KernelError {
  if (!unknown.includes(error.code)) return error;
  const { errno, syscall, request, fd } = error;
  return new KernelError(errno, syscall, { request, fd, series, note: rfcNote(series) });
}
