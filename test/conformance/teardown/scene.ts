/**
 * Things that hold one another, let go in an order: after each step whatever is left is used, and at the end nothing may be. A scene says what
 * there is; its orders are what the cases of teardown choose from, what `npm run fuzz -- --area teardown` goes through, and what the
 * simulator is looked through for leaks with.
 */
import type { Kernel } from 'kvio';
import { O_RDONLY } from 'kvio/uapi';
import { type Case, define, type Fact, failure, type Needs, type Observation, toFact } from '../case.ts';
import { show } from '../parts.ts';
import { attempt, groupPath, status } from '../vfio.ts';

export interface Thing {
  /** Lets it go. */
  readonly close: () => unknown;
  /** A use of it that changes nothing: what is answered as long as it is there. */
  readonly use?: () => unknown;
}

export interface Made<Name extends string = string> {
  /** Used in this order. */
  readonly things: Readonly<Record<Name, Thing>>;
  /** What anybody else sees, after each step. */
  readonly around?: () => unknown;
  /** What is no thing of the scene, and goes after all of them. */
  readonly end?: () => unknown;
}

export interface Scene<Name extends string = string> {
  readonly name: string;
  readonly section: string;
  readonly needs: Needs;
  readonly things: readonly Name[];
  /** What a kernel needs once, before the scene is made for the first time. */
  readonly prepare?: (kernel: Kernel) => void;
  readonly make: (kernel: Kernel) => Made<Name>;
}

/** A descriptor as a thing: gone once closed, whoever has its number then. */
export class Descriptor implements Thing {
  readonly #kernel: Kernel;
  readonly #fd: number;
  #open = true;
  readonly use: () => unknown;

  constructor(kernel: Kernel, fd: number, use: (fd: number) => unknown = () => 'open') {
    this.#kernel = kernel;
    this.#fd = fd;
    this.use = () => use(fd);
  }

  /** −1 once it is closed. */
  get fd(): number {
    return this.#open ? this.#fd : -1;
  }

  readonly close = (): void => {
    this.#open = false;
    this.#kernel.close(this.#fd);
  };
}

/** What others see, and what each thing that is left does. */
const look = ({ things, around }: Made, left: ReadonlySet<string>): { readonly [name: string]: Fact } => ({
  ...(around && { around: answered(around) }),
  ...Object.fromEntries(
    Object.entries(things).flatMap(([name, { use }]) => (left.has(name) && use ? [[name, answered(use)]] : [])),
  ),
});

/** Makes the scene and lets its things go in this order. `looks`: whether whatever is left is used after so many steps. */
export function letGo(
  kernel: Kernel,
  scene: Scene,
  order: readonly string[],
  looks: (steps: number) => boolean = () => true,
): Observation {
  const before = held(kernel);
  const made = scene.make(kernel);
  const left = new Set(Object.keys(made.things));
  const facts: Record<string, Fact> = { made: looks(0) ? look(made, left) : {} };
  for (const [at, name] of order.entries()) {
    left.delete(name);
    const closed = answered(made.things[name]!.close);
    facts[name] = { closed, ...(looks(at + 1) ? look(made, left) : {}) };
  }
  made.end?.();
  facts['nothing is left'] = since(before, held(kernel));
  return facts;
}

/** A case of some orders: of one, what the fuzzer prints where kernels differ. */
export function inOrder<Name extends string>(name: string, scene: Scene<Name>, ...orders: readonly NoInfer<Name>[][]): Case {
  return define(
    name,
    scene.section,
    (kernel, see) => {
      scene.prepare?.(kernel);
      for (const order of orders) see.note(order.join(', '), letGo(kernel, scene, order));
    },
    { needs: scene.needs },
  );
}

/** Orders in which each thing is the first to go, and the last, and goes before and after each neighbour. */
export const turns = <Name extends string>({ things }: Scene<Name>): Name[][] =>
  things.flatMap((_, at) => {
    const turned = [...things.slice(at), ...things.slice(0, at)];
    return [turned, turned.toReversed()];
  });

/** The result as a fact, or the errno's name. */
export function answered(make: () => unknown): Fact {
  try {
    return toFact(make() ?? 'done');
  } catch (error) {
    return failure(error);
  }
}

/** What a process can hold: kilobytes locked and pinned, descriptors; and whether the kernel has complained. */
interface Held {
  readonly locked: number;
  readonly pinned: number;
  readonly descriptors: number;
  readonly tainted: string;
}

function held(kernel: Kernel): Held {
  const status = show(kernel, '/proc/self/status');
  return {
    locked: kilobytes(status, 'VmLck'),
    pinned: kilobytes(status, 'VmPin'),
    descriptors: kernel.readdir('/proc/self/fd').length,
    tainted: show(kernel, '/proc/sys/kernel/tainted'),
  };
}

function kilobytes(status: string, name: string): number {
  const at = status.indexOf(`${name}:`) + name.length + 1;
  return Number.parseInt(status.slice(at, status.indexOf(' kB', at)), 10);
}

const since = (before: Held, now: Held): Fact => ({
  locked: now.locked - before.locked,
  pinned: now.pinned - before.pinned,
  descriptors: now.descriptors - before.descriptors,
  'tainted as before': now.tainted === before.tainted,
});

/** kB locked and pinned by now, beyond what was, and how to end it. A file that stays open: it is asked after each step. */
export function charges(kernel: Kernel): { readonly use: () => string; readonly close: () => void } {
  const fd = kernel.open('/proc/self/status', O_RDONLY);
  const bytes = Buffer.alloc(4096);
  const read = (): number[] => {
    const status = bytes.toString('latin1', 0, kernel.pread(fd, bytes, 0));
    return ['VmLck', 'VmPin'].map((name) => kilobytes(status, name));
  };
  const before = read();
  return {
    use() {
      const [locked, pinned] = read().map((now, at) => now - before[at]!);
      return `${locked} kB locked, ${pinned} kB pinned`;
    },
    close: () => kernel.close(fd),
  };
}

/** Whether the group could be had, and whether it is viable then; what this process is charged for. */
export function around(kernel: Kernel, address: string, charged: Pick<Thing, 'use'>): () => unknown {
  const path = groupPath(kernel, address);
  return () => {
    const group = attempt(() => kernel.open(path));
    if (typeof group === 'string') return [group, charged.use!()];
    const flags = status(kernel, group);
    kernel.close(group);
    return [flags, charged.use!()];
  };
}

/** n! */
export const ordersOf = (things: readonly unknown[]): number => things.reduce<number>((product, _, at) => product * (at + 1), 1);

/** A prime larger than any number of things: it has no divisor in common with the number of their orders. */
const STRIDE = 7919;

/**
 * Order number `at` of all there are: each comes once, in turns that lie far apart, so that the first few are a fair choice already.
 */
export function orderAt<T>(things: readonly T[], at: number): T[] {
  let code = codeOf(things, at);
  const rest = [...things];
  return things.map(() => {
    const chosen = rest.splice(code % rest.length, 1);
    code = Math.floor(code / (rest.length + 1));
    return chosen[0]!;
  });
}

const codeOf = (things: readonly unknown[], at: number): number => (at * STRIDE) % ordersOf(things);

/** Of all orders that begin with the same steps this one stands for the others: what is left after them is the same in each. */
export function standsForAll(things: readonly unknown[], at: number, steps: number): boolean {
  const beginnings = things.slice(0, steps).reduce<number>((product, _, step) => product * (things.length - step), 1);
  return codeOf(things, at) < beginnings;
}
