import { errnoMessage, errnoName } from './errno.ts';

/** Set on every error kvio throws on purpose; survives several copies of the package in one process. */
const brand: symbol = Symbol.for('kvio.error');

/** What is known about a failed system call besides its errno. */
export interface KernelErrorDetails {
  /** The request's name for an ioctl (`'KVM_SET_SREGS'`), or `0x…` where the table has no such row. */
  request?: string | undefined;
  fd?: number | undefined;
  /** The path, for `open`. */
  path?: string | undefined;
  /** The capability that announces the call, where it may be missing. */
  capability?: string | undefined;
  /** RFC: the posted series a kernel would need (`teeIo.SERIES`), where this one answers as without it. */
  series?: string | undefined;
  /** One sentence: the rule that was broken, where we know it. */
  note?: string | undefined;
}

/**
 * A system call failed. Shaped like Node's own system errors: `errno` is negative, `code` is its name, `syscall` names the
 * call. Message: `EINVAL: invalid argument, ioctl KVM_SET_SREGS`, then ` — ` and the note where there is one.
 */
export class KernelError extends Error {
  /** Negative, as in Node: −22 for EINVAL. */
  readonly errno: number;
  readonly code: string;
  readonly syscall: string;
  declare readonly request?: string;
  declare readonly fd?: number;
  declare readonly path?: string;
  declare readonly capability?: string;
  declare readonly series?: string;
  declare readonly note?: string;

  constructor(errno: number, syscall: string, details: KernelErrorDetails = {}) {
    const code = errnoName(errno);
    const subject = details.request ?? (details.path === undefined ? undefined : `'${details.path}'`);
    const what = subject === undefined ? syscall : `${syscall} ${subject}`;
    super(`${code}: ${errnoMessage(errno)}, ${what}${details.note === undefined ? '' : ` — ${details.note}`}`);
    this.name = 'KernelError';
    this.errno = -Math.abs(errno);
    this.code = code;
    this.syscall = syscall;
    for (const key of ['request', 'fd', 'path', 'capability', 'series', 'note'] as const) {
      const value = details[key];
      if (value !== undefined) Object.defineProperty(this, key, { value, enumerable: true });
    }
  }

  static isKernelError(value: unknown): value is KernelError {
    return isKvioError(value) && typeof (value as KernelError).errno === 'number';
  }
}

/** Errors of our own: not an errno, a `code` that begins with `ERR_KVIO_`. */
export class KvioError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'KvioError';
    this.code = code;
  }
}

/** The simulator does not model this. It never guesses: it names what it met (ioctl, flag, instruction). */
export class NotModelled extends KvioError {
  readonly what: string;

  constructor(what: string, message?: string) {
    super('ERR_KVIO_NOT_MODELLED', message ?? `the simulator does not model ${what}`);
    this.name = 'NotModelled';
    this.what = what;
  }
}

/** A blocking call on the simulator that nothing in the simulated machine can ever wake. */
export class Deadlock extends KvioError {
  constructor(message: string) {
    super('ERR_KVIO_DEADLOCK', message);
    this.name = 'Deadlock';
  }
}

/** A synchronous call on a vCPU that is running asynchronously: the real kernel would block on the vCPU mutex. */
export class VcpuBusy extends KvioError {
  readonly fd: number;

  constructor(fd: number, what: string) {
    super(
      'ERR_KVIO_VCPU_BUSY',
      `${what}: vCPU descriptor ${fd} is inside KVM_RUN (runAsync); kick it, or use the async form, which queues`,
    );
    this.name = 'VcpuBusy';
    this.fd = fd;
  }
}

/** This kernel cannot do it at all (`kernel.features` says so beforehand): no kick through ffi, say. */
export class NotAvailable extends KvioError {
  constructor(message: string) {
    super('ERR_KVIO_NOT_AVAILABLE', message);
    this.name = 'NotAvailable';
  }
}

/** Something of the host that was not put back, and why. */
export interface NotRestored {
  /** A device's address, or a module's parameter. */
  readonly what: string;
  /** How it is, and how it was. */
  readonly state: string;
  readonly error: Error;
}

/**
 * Putting the host back as it was went wrong in part: `left` is what is not as it was, each with what failed; `restored` what is. `errors` are those of `left`. Nothing of
 * it is tried again.
 */
export class RestoreError extends AggregateError {
  readonly code = 'ERR_KVIO_RESTORE';
  readonly left: readonly NotRestored[];
  readonly restored: readonly string[];

  constructor(left: readonly NotRestored[], restored: readonly string[]) {
    const lines = left.map(({ what, state, error }) => `${what} ${state} (${error.message})`);
    const rest = restored.length === 0 ? 'nothing was' : restored.join(', ');
    super(
      left.map(({ error }) => error),
      `not put back: ${lines.join('; ')}; put back: ${rest}`,
    );
    this.name = 'RestoreError';
    this.left = left;
    this.restored = restored;
  }
}

/** True for every error kvio throws on purpose, from any copy of the package. Argument errors are TypeError / RangeError. */
export function isKvioError(value: unknown): value is KernelError | KvioError | RestoreError {
  return typeof value === 'object' && value !== null && (value as { [key: symbol]: unknown })[brand] === true;
}

for (const branded of [KernelError, KvioError, RestoreError]) Object.defineProperty(branded.prototype, brand, { value: true });

/** A RangeError with `code: 'ERR_OUT_OF_RANGE'`, as Node's own. */
export function rangeError(message: string): RangeError {
  return Object.assign(new RangeError(message), { code: 'ERR_OUT_OF_RANGE' });
}

/** A TypeError with `code: 'ERR_INVALID_ARG_TYPE'`, as Node's own. */
export function typeError(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_TYPE' });
}
