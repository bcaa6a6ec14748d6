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

/** A flag, a type, an attribute or a payload that exists as a posted series only, in a request of mainline's. */
export interface RfcUse {
  readonly series: SeriesName;
  /** Its name. */
  readonly what: string;
  /** What kernels without it answer, those included that are older than the request. */
  readonly unknown: readonly string[];
}

/** The sentence for an errno that a kernel without the series gives. */
function rfcNote(series: SeriesName): string {
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
  return explained({ series, unknown: displaces === true ? ANOTHERS : UNKNOWN }, () => {
    try {
      return handle.ioctl(request, bytes, { unsafe: true });
    } catch (error) {
      if (!KernelError.isKernelError(error)) throw error;
      const { errno, syscall, fd, note } = error;
      throw new KernelError(errno, syscall, { request: name, fd, note });
    }
  });
}

/** ioctl(2) of mainline's with something of a series in it: where the kernel has not, the error says what, and which series would take it. */
export function rfcCall<T>(use: RfcUse, call: () => T): T {
  return explained(use, call);
}

function explained<T>(use: Omit<RfcUse, 'what'> & { readonly what?: string }, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw KernelError.isKernelError(error) && use.unknown.includes(error.code) ? rfcError(error, use.series, use.what) : error;
  }
}

function rfcError({ errno, syscall, request, fd }: KernelError, series: SeriesName, what: string | undefined): KernelError {
  const note = `${what === undefined ? '' : `${what}: `}${rfcNote(series)}`;
  return new KernelError(errno, syscall, { request, fd, series, note });
}
