import type { Message } from '../hardware/msix-table.ts';
import type { PciFunction } from '../hardware/pci-function.ts';
import type { PciDev } from './pci-dev.ts';

/** One interrupt of the interrupt controller, which a message names. */
export interface Vector extends Message {
  readonly dev: PciDev;
  /** Linux interrupt number. */
  readonly irq: number;
  handler: (() => void) | undefined;
}

/** Where x86 takes messages. */
const ADDRESS = 0xfee0_0000n;
/** The first number that is not the IO-APIC's. */
const FIRST = 24;

/** The MSI domain: which message is whose interrupt. Data is the interrupt's number. */
export class Vectors {
  readonly #taken = new Map<number, Vector>();
  readonly #remapping: boolean;

  /** With `remapping` a message counts only from the function it was made for. */
  constructor(remapping: boolean) {
    this.#remapping = remapping;
  }

  /** All interrupts, by number. */
  all(): Vector[] {
    return [...this.#taken.values()].sort((a, b) => a.irq - b.irq);
  }

  /** `count` in a row, the first at a multiple of `align`. */
  allocate(dev: PciDev, align: number, count: number): Vector[] {
    let first = Math.ceil(FIRST / align) * align;
    const free = (irq: number): boolean => {
      for (let i = 0; i < count; i++) if (this.#taken.has(irq + i)) return false;
      return true;
    };
    while (!free(first)) first += align;
    return Array.from({ length: count }, (_, index) => {
      const vector: Vector = { dev, irq: first + index, address: ADDRESS, data: first + index, handler: undefined };
      this.#taken.set(vector.irq, vector);
      return vector;
    });
  }

  free(vector: Vector): void {
    this.#taken.delete(vector.irq);
  }

  /** False: nobody's message, or not this function's. */
  deliver(fn: PciFunction, { address, data }: Message): boolean {
    const vector = this.#taken.get(data);
    if (vector === undefined || vector.address !== address || (this.#remapping && vector.dev.fn !== fn)) return false;
    vector.handler?.();
    return true;
  }
}
