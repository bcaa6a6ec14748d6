/** The columns of the ioctl table. Rows are data: they are written out to uapi.json as they stand. */
import type { Struct } from './struct.ts';

/** What a file descriptor is. Requests belong to kinds: VFIO gives one number different meanings on different ones. */
export type FdKind =
  | 'kvm'
  | 'vm'
  | 'vcpu'
  | 'kvm-device'
  | 'kvm-stats'
  | 'guest-memfd'
  | 'vfio-container'
  | 'vfio-group'
  | 'vfio-device'
  | 'vfio-migration'
  | 'iommufd'
  | 'iommufd-fault'
  | 'iommufd-veventq'
  | 'dma-buf'
  | 'sync-file'
  | 'udmabuf';

export type Arch = 'x86' | 'arm64' | 's390' | 'powerpc';

/** As seen from the kernel: it reads (`in`), writes (`out`), or both. */
export type Direction = 'in' | 'out' | 'inout';

/**
 * A length or condition, as data. A number; a field of the struct (`memory_size`, `args[0]`, or `data<vfio_bitmap>.size`
 * for a payload struct behind a flexible array); or an operator with its operands, all on 64-bit integers:
 * `+ - * /` (`-` stops at 0, `/` rounds down), `ceil` (division rounding up), `min`, `& << >>`, `== < <=`, `and` (all non-zero),
 * `if` (condition, then, else), `bits` (every bit of the second operand is set in the first),
 * `string` (bytes up to the NUL, at most so many), `state` (something only the caller's bookkeeping knows: its name, what to
 * assume otherwise, arguments).
 */
export type Expression = number | string | readonly Expression[];

/** What follows the fixed bytes. */
export interface Tail {
  readonly length: Expression;
  readonly dir: Direction;
}

/** A pointer inside the struct. */
export interface PointerRule {
  /** The field that holds the address. */
  readonly field: string;
  /** With `each`: `field`, `length` and `when` speak of one element of this array, `count` elements long. */
  readonly each?: string;
  readonly dir: Direction;
  /** Bytes at the address. */
  readonly length: Expression;
  /** The kernel follows it only if this is not zero. */
  readonly when?: Expression;
  /** What lies there, where it contains pointers of its own. */
  readonly target?: { readonly struct: Struct<unknown>; readonly pointers: readonly PointerRule[] };
}

export interface IoctlRow {
  readonly name: string;
  /** The 32-bit request word. */
  readonly request: number;
  /** Kinds of fd that take it. */
  readonly fds: readonly FdKind[];
  /**
   * The third argument: `none` (nothing is meant; several requests want 0), `int` (a value), `pointer` (to the caller's bytes).
   * The `_IO` macro says nothing about it: VFIO's and iommufd's pointers, and two of KVM's, hide behind `_IO`.
   */
  readonly arg: 'none' | 'int' | 'pointer';
  /** For arg `none`: anything but 0 is EINVAL. */
  readonly zero?: true;
  /** For arg `pointer`: NULL has a meaning. */
  readonly nullable?: true;
  /** What the pointer points to; absent for a bare integer or string. */
  readonly struct?: Struct<unknown>;
  readonly dir?: Direction;
  /** Bytes of the argument the kernel touches whatever they say. */
  readonly size: number;
  /** How many more, as the fixed part says. */
  readonly tail?: Tail;
  readonly pointers?: readonly PointerRule[];
  /** KVM_CAP_… that announces it. */
  readonly capability?: string;
  /** First kernel version. */
  readonly since?: string;
  /** Errnos of its own, beyond EFAULT for the argument and ENOMEM. */
  readonly errnos?: readonly string[];
  /** A successful return value is a new descriptor of this kind. */
  readonly returns?: FdKind;
  /** Only if this is not zero; otherwise it is a plain number. */
  readonly returnsWhen?: Expression;
  /** Output fields that hold a new descriptor (below 0: none), and its kind. */
  readonly outFds?: readonly { readonly field: string; readonly kind: FdKind; readonly when?: Expression }[];
  /**
   * Input fields that name a descriptor (an s32; −1 and below name none). A number is an offset, for arguments without a struct;
   * with `count`, that many, `stride` bytes apart (4).
   */
  readonly inFds?: readonly {
    readonly field: string | number;
    readonly when?: Expression;
    readonly count?: Expression;
    readonly stride?: number;
  }[];
  /** May sleep for as long as the guest, a device or another thread pleases. */
  readonly blocks?: true;
  /** Only on this architecture; absent: on x86-64 and arm64 alike. */
  readonly arch?: Arch;
  /** A rule worth knowing that no column holds. */
  readonly note?: string;
}
