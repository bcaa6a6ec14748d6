import type { Width } from '../../../kernel/memory.ts';
import type { DeviceMemory } from '../../mm/device-memory.ts';
import type { PciDev } from '../../pci/pci-dev.ts';

/** A memory BAR as it lies on the bus: what a mapping, a dma-buf or another master reaches. */
export class BarMemory implements DeviceMemory {
  readonly #pdev: PciDev;
  readonly #bar: number;

  constructor(pdev: PciDev, bar: number) {
    this.#pdev = pdev;
    this.#bar = bar;
  }

  get address(): bigint {
    return this.#pdev.resources[this.#bar]?.start ?? 0n;
  }

  load(offset: number, width: Width, t = false): number | bigint {
    return this.#pdev.barRead(this.#bar, offset, width, t);
  }

  store(offset: number, width: Width, value: number | bigint, t = false): number {
    this.#pdev.barWrite(this.#bar, offset, width, value, t);
    return 0;
  }
}
