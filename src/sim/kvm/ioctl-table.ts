import { NotModelled } from '../../kernel/errors.ts';
import { ioctlByName } from '../../uapi/ioctls.ts';
import type * as uapi from '../../uapi/kvm.ts';
import { atLeast, type Machine } from '../machine.ts';
import type { Process } from '../process.ts';
import { absentCapabilities } from './absent.ts';

/** An ioctl of one kind of descriptor: ≥ 0 or −errno. A handler reads like the kernel's check list; the first check that fails decides. */
export type Handler<T> = (self: T, p: Process, arg: bigint) => number;

/** The kinds of KVM descriptor, as the table of `uapi/ioctls.ts` names them; 'kvm' is /dev/kvm. */
export type KvmFdKind = 'kvm' | 'vm' | 'vcpu' | 'kvm-device';

export interface Row<T> {
  readonly name: string;
  readonly request: number;
  /** Undefined: the kernel knows it, this simulator does not yet. */
  readonly handler: Handler<T> | undefined;
  /** The system descriptor's value of this capability must not be 0, or else this kernel has no such ioctl. */
  readonly needs: number | undefined;
  /** The release that brought it: older kernels have no such ioctl. */
  readonly since: string | undefined;
}

/** What a table row may say instead of a bare handler. */
export interface Gated<T> {
  readonly needs?: number;
  /** Where it is younger on this kind of descriptor than the ioctl itself. */
  readonly since?: string;
  readonly handler?: Handler<T>;
}

/** KVM knows the ioctl on this kind of descriptor; the simulator does not model it. */
export const NOT_MODELLED: unique symbol = Symbol('not modelled');

export type RequestName = { [K in keyof typeof uapi]: (typeof uapi)[K] extends number ? K : never }[keyof typeof uapi];

/** A row per request name: its handler, one that needs a capability, or NOT_MODELLED. */
export type Rows<T> = Readonly<Partial<Record<RequestName, Handler<T> | Gated<T> | typeof NOT_MODELLED>>>;

/** KVM_CHECK_EXTENSION on the system descriptor. */
export function capability(machine: Machine, cap: number): number {
  if (absentCapabilities.has(cap)) return 0;
  const value = machine.kvm.capabilities[cap] ?? 0;
  return typeof value === 'number' ? value : value[0];
}

/**
 * Everything one kind of descriptor answers: each request the kernel has for it on x86, modelled or not. What is not in the table is
 * unknown there, whatever it may mean on another descriptor.
 */
export class IoctlTable<T> {
  readonly kind: KvmFdKind;
  /** What an unknown request gives: EINVAL or ENOTTY. */
  readonly unknown: number;
  readonly #specs: Rows<T>;
  #rows: ReadonlyMap<number, Row<T>> | undefined;

  constructor(kind: KvmFdKind, unknown: number, rows: Rows<T>) {
    this.kind = kind;
    this.unknown = unknown;
    this.#specs = rows;
  }

  /** By request; made when first asked for, which spares a program that simulates nothing the ioctl table. */
  get rows(): ReadonlyMap<number, Row<T>> {
    return (this.#rows ??= new Map(
      Object.entries(this.#specs).map(([name, row]) => {
        const { request, since } = ioctlByName(name, this.kind)!;
        const gated: Gated<T> = typeof row === 'function' ? { handler: row } : typeof row === 'object' ? row : {};
        return [request, { name, request, handler: gated.handler, needs: gated.needs, since: gated.since ?? since }];
      }),
    ));
  }

  /** Finds and runs the handler. Requests are matched as all 32 bits: a right number with a wrong size is unknown. */
  dispatch(self: T, p: Process, request: number, arg: bigint): number {
    const row = this.rows.get(request);
    const { machine } = p.system;
    if (row === undefined || !present(row, machine)) return -this.unknown;
    if (row.handler !== undefined) return row.handler(self, p, arg);
    return p.system.notModelled(`${row.name} on a ${this.kind} descriptor`, -this.unknown);
  }
}

/** Whether this machine's kernel has the ioctl. */
function present({ needs, since }: Row<never>, machine: Machine): boolean {
  if (since !== undefined && !atLeast(machine, since)) return false;
  return needs === undefined || capability(machine, needs) !== 0;
}

/** Struct fields and flags that are not modelled have no errno an old kernel would give: always an exception. */
export function notModelled(what: string): never {
  throw new NotModelled(what);
}
