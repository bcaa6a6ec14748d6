import type { PciDev } from './pci-dev.ts';

/** Runtime power management of a device as power/ shows it: it may sleep when userspace lets it (`auto`) and nobody uses it. */
export class RuntimePm {
  /** power/control: pci_pm_init forbids it. */
  control: 'on' | 'auto' = 'on';
  /** pm_runtime_get and _put: a driver that knows nothing of it holds one. */
  usage = 0;

  get status(): 'active' | 'suspended' {
    return this.control === 'auto' && this.usage === 0 ? 'suspended' : 'active';
  }
}

const known: WeakMap<PciDev, RuntimePm> = new WeakMap();

export function runtimePm(dev: PciDev): RuntimePm {
  let found = known.get(dev);
  if (found === undefined) known.set(dev, (found = new RuntimePm()));
  return found;
}
