import type { FdKind } from '../uapi/ioctl-row.ts';
import { ioctlByName } from '../uapi/ioctls.ts';
import type { Coverage } from './coverage.ts';
import { atLeast, type Machine } from './machine.ts';
import type { Process } from './process.ts';

/** An ioctl of one kind of descriptor: ≥ 0 or −errno. A handler reads like the kernel's check list; the first check that fails decides. */
export type Handler<T> = (self: T, p: Process, arg: bigint) => number;

export interface Row<T> {
  readonly name: string;
  readonly request: number;
  /** Undefined: the kernel knows it, this simulator does not yet. */
  readonly handler: Handler<T> | undefined;
  /** KVM: the system descriptor's value of this capability must not be 0, or else this kernel has no such ioctl. */
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

/** The kernel knows the ioctl on this kind of descriptor; the simulator does not model it. */
export const NOT_MODELLED: unique symbol = Symbol('not modelled');

/** A row per request name: its handler, one that needs something of the machine, or NOT_MODELLED. */
export type Rows<T, N extends string = string> = Readonly<Partial<Record<N, Handler<T> | Gated<T> | typeof NOT_MODELLED>>>;

/**
 * Everything one kind of descriptor answers: each request the kernel has for it on x86, modelled or not. What is not in the table is
 * unknown there, whatever it may mean on another descriptor.
 */
export class RequestTable<T, N extends string = string> {
  readonly kind: FdKind;
  /** What an unknown request gives: EINVAL or ENOTTY. */
  readonly unknown: number;
  readonly #specs: Rows<T, N>;
  #rows: ReadonlyMap<number, Row<T>> | undefined;

  constructor(kind: FdKind, unknown: number, rows: Rows<T, N>) {
    this.kind = kind;
    this.unknown = unknown;
    this.#specs = rows;
  }

  /** By request; made when first asked for, which spares a program that simulates nothing the ioctl table. */
  get rows(): ReadonlyMap<number, Row<T>> {
    return (this.#rows ??= new Map(
      Object.entries<Handler<T> | Gated<T> | typeof NOT_MODELLED | undefined>(this.#specs).map(([name, row]) => {
        const { request, since } = ioctlByName(name, this.kind)!;
        const gated: Gated<T> = typeof row === 'function' ? { handler: row } : typeof row === 'object' ? row : {};
        return [request, { name, request, handler: gated.handler, needs: gated.needs, since: gated.since ?? since }];
      }),
    ));
  }

  /** Finds and runs the handler. Requests are matched as all 32 bits: a right number with a wrong size is unknown. */
  dispatch(self: T, p: Process, request: number, arg: bigint): number {
    const row = this.rows.get(request);
    if (row === undefined || !this.present(row, p.system.machine)) return -this.unknown;
    if (row.handler !== undefined) return row.handler(self, p, arg);
    return p.system.notModelled(`${row.name} on a ${this.kind} descriptor`, -this.unknown);
  }

  /** Tells which requests are modelled. */
  cover(coverage: Coverage): void {
    for (const { name, handler } of this.rows.values())
      if (handler !== undefined) coverage.add('ioctl', `${name} (${this.kind})`);
  }

  /** Whether this machine's kernel has the ioctl. */
  protected present({ since }: Row<never>, machine: Machine): boolean {
    return since === undefined || atLeast(machine, since);
  }
}
