import { type FdKind, ioctlByRequest } from '../uapi/ioctls.ts';
import type { Input, Struct } from '../uapi/struct.ts';
import { EBADF } from '../uapi/sys.ts';
import { word } from './arguments.ts';
import { KernelError, NotAvailable } from './errors.ts';
import { hex, showAs } from './inspect.ts';
import type { IoctlArgument, IoctlOptions, Kernel } from './kernel.ts';
import type { Memory } from './memory.ts';

/** What must be given back when a handle goes, kept apart from the handle so that it can be collected. */
interface Held {
  readonly kernel: Kernel;
  readonly fd: number;
  readonly kind: string;
  /** Another's: its loss is not ours to repair. */
  readonly outside: boolean;
  memory: Memory | undefined;
}

const warned: Set<string> = new Set();

function release({ kernel, fd, memory }: Held): void {
  if (kernel.closed) return;
  try {
    kernel.close(fd);
  } finally {
    memory?.close();
  }
}

const collected: FinalizationRegistry<Held> = new FinalizationRegistry((held) => {
  const { kernel, fd, memory, outside } = held;
  if (kernel.closed) return;
  try {
    if (outside) kernel.disown(fd);
    else kernel.close(fd);
    memory?.close();
  } catch {
    return; // closed behind the handle's back, through the raw kernel: nothing leaked
  }
  if (outside) return;
  if (warned.has(held.kind)) return;
  warned.add(held.kind);
  process.emitWarning(
    `a ${held.kind} (descriptor ${held.fd}) was collected without close(): it is closed now, later ones silently`,
    {
      type: 'KvioWarning',
      code: 'KVIO_UNCLOSED',
    },
  );
});

/**
 * One file descriptor of a kernel, as an object. `close()` and `using` give it back, any number of times; every later call
 * throws KernelError EBADF. A handle that is collected unclosed is closed and warned about (`KVIO_UNCLOSED`); the descriptor of one from outside (`fromFd`) stays open then.
 * Closing a handle closes a descriptor and nothing else: a VM lives until the last descriptor that refers to it is closed.
 */
export abstract class Handle {
  readonly kernel: Kernel;
  /** The descriptor; −1 after `close()`. For the raw `kernel.ioctl(handle.fd, …)`. */
  get fd(): number {
    return this.#fd;
  }
  #fd: number;
  readonly #held: Held;

  constructor(kernel: Kernel, fd: number) {
    this.kernel = kernel;
    this.#fd = fd;
    this.#held = { kernel, fd, kind: new.target.name, outside: !kernel.owns(fd), memory: undefined };
    collected.register(this, this.#held, this.#held);
  }

  /** What the ioctl table calls this kind of descriptor. */
  protected get kind(): FdKind | undefined {
    return undefined;
  }

  get closed(): boolean {
    return this.#fd === -1 || this.kernel.closed;
  }

  /**
   * ioctl(2) on this descriptor with any request of `kvio/uapi`, for what has no method here. `arg` as in `kernel.ioctl`.
   * Returns the kernel's value (≥ 0); throws KernelError, and NotAvailable for a request that only another architecture has (all methods go through here).
   */
  ioctl(request: number, arg?: IoctlArgument, options?: IoctlOptions): number {
    if (this.#fd === -1) throw closedError(this, request);
    checkArch(this.kernel, request, this.kind);
    return this.kernel.ioctl(this.#fd, request, arg, options);
  }

  /** The same, but a failure is the value −errno; use after close is −EBADF. */
  tryIoctl(request: number, arg?: IoctlArgument, options?: IoctlOptions): number {
    if (this.#fd === -1) return -EBADF;
    checkArch(this.kernel, request, this.kind);
    return this.kernel.tryIoctl(this.#fd, request, arg, options);
  }

  /** close(2). Idempotent. */
  close(): void {
    if (this.#fd === -1) return;
    this.#fd = -1;
    collected.unregister(this.#held);
    release(this.#held);
  }

  /** The descriptor, open and no longer of this handle or its kernel: to be closed by whoever takes it. EBADF after `close()`. */
  detach(): number {
    const fd = this.#fd;
    if (fd === -1) throw new KernelError(EBADF, 'detach', { note: `this ${this.constructor.name} is closed` });
    this.kernel.disown(fd);
    this.#fd = -1;
    collected.unregister(this.#held);
    this.#held.memory?.close();
    return fd;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The descriptor for mmap(2), where −1 would ask for anonymous memory. Throws EBADF after `close()`. */
  protected descriptorToMap(): number {
    if (this.#fd === -1) throw new KernelError(EBADF, 'mmap', { note: `this ${this.constructor.name} is closed` });
    return this.#fd;
  }

  /** A mapping that lives as long as this handle. */
  protected attach(memory: Memory): void {
    this.#held.memory = memory;
  }

  protected describe(): string {
    return `fd ${this.#fd}`;
  }

  /** What `console.log` shows between the braces. */
  static describe(handle: Handle): string {
    return handle.closed ? 'closed' : handle.describe();
  }
}

/** The number may be another architecture's alone: this kernel would call it unknown, or take it for something else. */
function checkArch({ arch }: Kernel, request: number, kind: FdKind | undefined): void {
  const row = ioctlByRequest(request, kind, arch);
  if (row?.arch !== undefined && row.arch !== arch)
    throw new NotAvailable(`${row.name} is ${row.arch}'s only, and this kernel is ${arch}'s`);
}

function closedError(handle: Handle, request: number): KernelError {
  const name = ioctlByRequest(request)?.name ?? hex(request);
  return new KernelError(EBADF, 'ioctl', { request: name, note: `this ${handle.constructor.name} is closed` });
}

showAs(Handle, (handle) => `${handle.constructor.name} { ${Handle.describe(handle)}, ${handle.kernel.kind} }`);

/** An ioctl that fills a struct. */
export function getStruct<T>(handle: Handle, request: number, struct: Struct<T>): T {
  const bytes = struct.alloc();
  handle.ioctl(request, bytes);
  return struct.decode(bytes);
}

/** An ioctl that takes a full struct; the codec throws TypeError for a missing field. */
export function setStruct<T>(handle: Handle, request: number, struct: Struct<T>, value: Input<T>): number {
  return handle.ioctl(request, struct.encode(value));
}

/** An ioctl whose argument is a plain number, not a pointer: `name` is what an error calls it. */
export function withWord(handle: Handle, request: number, value: number | bigint, name: string): number {
  return handle.ioctl(request, word(value, name));
}
