import type { Kernel } from '../kernel/kernel.ts';
import { readAttribute, writeAttribute } from './sysfs.ts';

/** A module's parameter that was changed, until `restore()`. */
export interface ChangedParameter extends Disposable {
  /** What it was. */
  readonly before: string;
  /** Writes what it was. Idempotent. */
  restore(): void;
}

const pathOf = (module: string, parameter: string): string => `/sys/module/${module}/parameters/${parameter}`;

/** `/sys/module/MODULE/parameters/PARAMETER` as it reads: `Y`, `65535`. */
export function moduleParameter(kernel: Kernel, module: string, parameter: string): string {
  return readAttribute(kernel, pathOf(module, parameter));
}

/**
 * Changes a module's parameter until it is restored: `vfio_iommu_type1` `allow_unsafe_interrupts` (without interrupt remapping), `dma_entry_limit`; `vfio`
 * `enable_unsafe_noiommu_mode`; `vfio_pci` `disable_idle_d3`, `enable_sriov` …
 */
export function setModuleParameter(kernel: Kernel, module: string, parameter: string, value: string | number): ChangedParameter {
  const path = pathOf(module, parameter);
  const before = readAttribute(kernel, path);
  let changed = before !== String(value);
  if (changed) writeAttribute(kernel, path, String(value));
  const restore = (): void => {
    if (!changed) return;
    changed = false;
    writeAttribute(kernel, path, before);
  };
  return { before, restore, [Symbol.dispose]: restore };
}
