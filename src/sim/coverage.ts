/** One thing the simulator models: a system call, an ioctl, an exit, a CPUID leaf … */
export interface CoverageRow {
  /** 'syscall', 'ioctl', 'capability', 'instruction' … */
  readonly area: string;
  readonly name: string;
  /** What of it is left out, in a sentence; absent: nothing known. */
  readonly except?: string;
}

/** Fed by the handler tables themselves, so that it cannot say more than the code does. */
export class Coverage {
  readonly #rows = new Map<string, CoverageRow>();

  add(area: string, name: string, except?: string): void {
    this.#rows.set(`${area} ${name}`, except === undefined ? { area, name } : { area, name, except });
  }

  /** Sorted by area and name. */
  rows(): CoverageRow[] {
    return [...this.#rows.keys()].sort().map((key) => this.#rows.get(key)!);
  }
}
