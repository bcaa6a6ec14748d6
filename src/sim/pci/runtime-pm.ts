import type { PciDev } from './pci-dev.ts';

/** What a driver that lets its device sleep does, and undoes: its runtime_suspend and runtime_resume, with the bus's around them. Each may be asked for what is so already. */
export interface RuntimePmOps {
  suspend(): void;
  resume(): void;
}

/** Runtime power management of a device as power/ shows it: it may sleep when userspace lets it (`auto`) and nobody uses it. */
export class RuntimePm {
  /** Of the driver that has it. */
  ops: RuntimePmOps | undefined;
  /** pci_pm_init forbids it. */
  #control: 'on' | 'auto' = 'on';
  /** A driver that knows nothing of it holds one. */
  #usage = 0;

  get status(): 'active' | 'suspended' {
    return this.#control === 'auto' && this.#usage === 0 ? 'suspended' : 'active';
  }

  get control(): 'on' | 'auto' {
    return this.#control;
  }

  /** power/control; pm_runtime_allow, pm_runtime_forbid. */
  set control(control: 'on' | 'auto') {
    this.#control = control;
    this.#follow();
  }

  /** pm_runtime_get_sync. */
  get(): void {
    this.#usage++;
    this.#follow();
  }

  /** pm_runtime_put. */
  put(): void {
    this.#usage--;
    this.#follow();
  }

  /** pm_runtime_put_noidle: it sleeps when another use ends. */
  putNoidle(): void {
    this.#usage--;
  }

  #follow(): void {
    if (this.status === 'suspended') this.ops?.suspend();
    else this.ops?.resume();
  }
}

const known: WeakMap<PciDev, RuntimePm> = new WeakMap();

export function runtimePm(dev: PciDev): RuntimePm {
  let found = known.get(dev);
  if (found === undefined) known.set(dev, (found = new RuntimePm()));
  return found;
}
