/** `--area teardown`: not drawn but gone through, all orders in which the things of a scene can be let go, on a real kernel and on the simulator. */
import type { Kernel } from 'kvio';
import type { Observation } from '../conformance/case.ts';
import { type Candidate, unmet } from '../conformance/run-cases.ts';
import { letGo, orderAt, ordersOf, type Scene, standsForAll } from '../conformance/teardown/scene.ts';

/** Some orders of a scene, by their numbers. */
export interface Question {
  readonly scene: string;
  readonly first: number;
  readonly count: number;
  /** All orders will be asked for: what follows the same steps is looked at once. */
  readonly all: boolean;
}

/** What an order showed; a text where it could not be gone through. */
export type Told = Observation | string;

/** Goes through orders on one kernel, which stays open from one to the next: what one of them leaves behind, the next one meets. */
export class Orders {
  readonly #candidate: Candidate;
  readonly #scenes: readonly Scene[];
  #kernel: Kernel | undefined;
  #prepared: Scene | undefined;

  constructor(candidate: Candidate, scenes: readonly Scene[]) {
    this.#candidate = candidate;
    this.#scenes = scenes;
  }

  /** Why a scene cannot be made here. */
  missing(scene: Scene): string | undefined {
    return unmet(this.#candidate, this.#opened, scene);
  }

  tell({ scene, first, count, all }: Question): Told[] {
    const found = this.#scenes.find(({ name }) => name === scene)!;
    return Array.from({ length: count }, (_, at) => this.#one(found, first + at, all));
  }

  #one(scene: Scene, at: number, all: boolean): Told {
    try {
      if (this.#prepared !== scene) {
        const missing = this.missing(scene);
        if (missing !== undefined) return missing;
        scene.prepare?.(this.#opened);
        this.#prepared = scene;
      }
      const looks = (steps: number): boolean => !all || standsForAll(scene.things, at, steps);
      return letGo(this.#opened, scene, orderAt(scene.things, at), looks);
    } catch (error) {
      this.close();
      return String(error);
    }
  }

  get #opened(): Kernel {
    return (this.#kernel ??= this.#candidate.open());
  }

  close(): void {
    this.#kernel?.close();
    this.#kernel = undefined;
    this.#prepared = undefined;
  }
}

/** The orders of one scene that were compared, and those in which the kernels differ. */
export interface Compared {
  readonly scene: Scene;
  readonly orders: number;
  /** How many there are. */
  readonly all: number;
  readonly differing: readonly Differing[];
}

export interface Differing {
  readonly order: readonly string[];
  /** The steps that differ, with what both showed. */
  readonly at: readonly (readonly [step: string, real: string, sim: string])[];
}

/** So many at a time: what a lab is asked at once. */
const CHUNK = 60;

export interface Limits {
  readonly most?: number;
  readonly differences?: number;
  readonly over?: () => boolean;
  readonly progress?: (orders: number, of: number) => void;
}

/** Asks both for the first `most` orders of a scene; no more once so many differ, or `over()`. */
export function compareOrders(
  scene: Scene,
  real: (question: Question) => readonly Told[],
  sim: (question: Question) => readonly Told[],
  { most = Infinity, differences = 1, over = () => false, progress }: Limits = {},
): Compared {
  const all = ordersOf(scene.things);
  const total = Math.min(most, all);
  const differing: Differing[] = [];
  let orders = 0;
  while (orders < total && differing.length < differences && !over()) {
    const question = { scene: scene.name, first: orders, count: Math.min(CHUNK, total - orders), all: total === all };
    const [theirs, ours] = [real(question), sim(question)];
    for (let n = 0; n < question.count; n++) {
      const at = stepsThatDiffer(theirs[n]!, ours[n]!);
      if (at.length > 0) differing.push({ order: orderAt(scene.things, orders + n), at });
    }
    orders += question.count;
    progress?.(orders, total);
  }
  return { scene, orders, all, differing };
}

function stepsThatDiffer(real: Told, sim: Told): Differing['at'] {
  if (typeof real === 'string' || typeof sim === 'string') {
    const text = (told: Told): string => (typeof told === 'string' ? told : 'comes to its end');
    return text(real) === text(sim) && typeof real === 'string' ? [] : [['the scene', text(real), text(sim)]];
  }
  return Object.keys({ ...real, ...sim }).flatMap((step) => {
    const [a, b] = [JSON.stringify(real[step]), JSON.stringify(sim[step])];
    return a === b ? [] : [[step, String(a), String(b)] as const];
  });
}

/** An order in which kernels differ as text: what differs, and the case. */
export function showDiffering({ name }: Scene, { order, at }: Differing): string {
  const exported = name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
  return [
    `difference: ${name}, in the order ${order.join(', ')}`,
    ...at.flatMap(([step, real, sim]) => [`  ${step}`, `    real: ${real}`, `    sim:  ${sim}`]),
    '',
    `inOrder('${name.replace('-', '/teardown/')}/${order.join('-')}', ${exported}, ${JSON.stringify(order).replaceAll('"', "'").replaceAll(',', ', ')}),`,
  ].join('\n');
}
