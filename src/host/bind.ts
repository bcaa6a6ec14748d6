import { KernelError, type NotRestored, RestoreError, rangeError } from '../kernel/errors.ts';
import { showAs } from '../kernel/inspect.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { EBADF, EBUSY } from '../uapi/sys.ts';
import { heldBy } from './holders.ts';
import { setModuleParameter } from './module-parameter.ts';
import { driverOf, driverOverride, type PciDevice, pciDevice, pciPath } from './pci.ts';
import { findAttribute, linkName, writeAttribute } from './sysfs.ts';

export interface BindOptions {
  /**
   * Also a device without an IOMMU group: turns `vfio.enable_unsafe_noiommu_mode` on meanwhile. Such a device reaches all memory of the host, whatever its driver means to;
   * the kernel is tainted.
   */
  noIommu?: boolean;
}

/** How a device was before. */
interface Before {
  readonly bdf: string;
  readonly driver: string | undefined;
  readonly override: string | undefined;
}

/** How to put back a part of the host: a device in two steps, or a parameter. */
interface Step {
  readonly what: string;
  run(): void;
  /** How it is now, and how it was. */
  state(): string;
}

/**
 * Devices bound to a driver, until `restore()` (or the end of the `using` block) puts each back as it was: its driver, its driver_override, and
 * module parameters that were changed for it.
 */
export class BoundDevices {
  readonly kernel: Kernel;
  readonly driver: string;
  /** The addresses, in the order they were given. */
  readonly bdfs: readonly string[];
  /** Those that were not bound to it before. */
  #taken: readonly string[];
  readonly #undo: Step[];

  constructor(kernel: Kernel, driver: string, bdfs: readonly string[], taken: readonly string[], undo: Step[]) {
    this.kernel = kernel;
    this.driver = driver;
    this.bdfs = bdfs;
    this.#taken = taken;
    this.#undo = undo;
  }

  /** The devices as /sys has them now. */
  devices(): PciDevice[] {
    return this.bdfs.map((bdf) => pciDevice(this.kernel, bdf));
  }

  /**
   * Puts the host back as it was. Idempotent. KernelError EBUSY where this process still has a device open: unbinding it would wait for itself, for ever; close it
   * and call again. While another process has one open, this waits for it, as the kernel does. What fails does not keep the rest from being restored:
   * a RestoreError says in the end what is not as it was, and what is.
   */
  restore(): void {
    if (this.kernel.closed && this.#undo.length > 0) {
      const note = `the kernel is closed: ${this.#taken.join(', ')} cannot be taken from ${this.driver}; restore before kernel.close()`;
      throw new KernelError(EBADF, 'write', { note });
    }
    for (const bdf of this.#taken) refuseWhileOpen(this.kernel, bdf);
    this.#taken = [];
    unwind(this.#undo);
  }

  [Symbol.dispose](): void {
    this.restore();
  }
}

showAs(BoundDevices, ({ driver, bdfs }) => `BoundDevices { ${bdfs.join(', ')} to ${driver} }`);

/**
 * Binds one device or several to a driver, `vfio-pci` say, by driver_override: away from the driver that has it. All or none: on an error what was done is undone. To give
 * a group away, bind all of its devices that have a driver of the host (`listIommuGroups` tells which are in the way).
 *
 *     using bound = bindDriver(kernel, '0000:01:00.0', 'vfio-pci');
 *
 * KernelError: which file, which value, and the kernel's rule: EBUSY where a device is open (its driver would wait for that), ENODEV where the driver is not for it, EINVAL where
 * vfio-pci refuses it. Bound to this driver already: nothing is done, and nothing will be undone.
 */
export function bindDriver(
  kernel: Kernel,
  bdfs: string | readonly string[],
  driver: string,
  options: BindOptions = {},
): BoundDevices {
  const all = typeof bdfs === 'string' ? [bdfs] : [...bdfs];
  if (new Set(all).size !== all.length) throw rangeError(`a device is named twice: ${all.join(', ')}`);
  const undo: Step[] = [];
  let before: readonly Before[] = [];
  try {
    before = all.map((bdf) => stateOf(kernel, bdf)).filter((state) => state.driver !== driver);
    if (options.noIommu === true && all.some((bdf) => linkName(kernel, `${pciPath(bdf)}/iommu_group`) === undefined)) {
      const parameter = setModuleParameter(kernel, 'vfio', 'enable_unsafe_noiommu_mode', 'Y');
      const state = (): string => `is Y, was ${parameter.before}`;
      undo.push({ what: 'vfio.enable_unsafe_noiommu_mode', run: () => parameter.restore(), state });
    }
    // To be undone last first: a driver of the host comes back only when VFIO owns nothing of its group any more.
    for (const state of before) {
      if (state.driver !== undefined) undo.push(stepOf(kernel, state, () => rebind(kernel, state.bdf, state.driver!)));
    }
    for (const state of before) {
      undo.push(stepOf(kernel, state, () => leave(kernel, state, driver)));
      take(kernel, state, driver);
    }
  } catch (error) {
    try {
      unwind(undo);
    } catch (worse) {
      throw new AggregateError(
        [error, worse],
        `${(error as Error).message}; and undoing what was done: ${(worse as Error).message}`,
      );
    }
    throw error;
  }
  const taken = before.map(({ bdf }) => bdf);
  return new BoundDevices(kernel, driver, all, taken, undo);
}

function stateOf(kernel: Kernel, bdf: string): Before {
  return { bdf: pciDevice(kernel, bdf).bdf, driver: driverOf(kernel, bdf), override: driverOverride(kernel, bdf) };
}

const driverPath = (driver: string): string => `/sys/bus/pci/drivers/${driver}`;

/** The override comes first: between drivers no other may take the device. */
function take(kernel: Kernel, { bdf, driver: old }: Before, driver: string): void {
  writeAttribute(kernel, `${pciPath(bdf)}/driver_override`, driver);
  if (old !== undefined) unbind(kernel, bdf, old);
  // Probing may have come first: a driver that loads takes what is overridden for it.
  if (driverOf(kernel, bdf) !== driver) writeAttribute(kernel, `${driverPath(driver)}/bind`, bdf);
}

function unbind(kernel: Kernel, bdf: string, driver: string): void {
  refuseWhileOpen(kernel, bdf);
  writeAttribute(kernel, `${driverPath(driver)}/unbind`, bdf);
}

/** Out of the driver it was given to, and the override as it was. */
function leave(kernel: Kernel, { bdf, driver: old, override }: Before, driver: string): void {
  if (isGone(kernel, bdf)) return;
  const now = driverOf(kernel, bdf);
  if (now === driver && now !== old) unbind(kernel, bdf, driver);
  writeAttribute(kernel, `${pciPath(bdf)}/driver_override`, `${override ?? ''}\n`);
}

function rebind(kernel: Kernel, bdf: string, driver: string): void {
  if (!isGone(kernel, bdf) && driverOf(kernel, bdf) === undefined) writeAttribute(kernel, `${driverPath(driver)}/bind`, bdf);
}

/** A device that was pulled out meanwhile cannot be put back. */
function isGone(kernel: Kernel, bdf: string): boolean {
  return findAttribute(kernel, `${pciPath(bdf)}/vendor`) === undefined;
}

function refuseWhileOpen(kernel: Kernel, bdf: string): void {
  const holders = heldBy(kernel, bdf);
  if (holders.length === 0) return;
  const note = `this process has ${bdf} open (${holders.join(', ')}): unbinding it waits until that is closed`;
  throw new KernelError(EBUSY, 'write', { path: `${pciPath(bdf)}/driver/unbind`, note });
}

function stepOf(kernel: Kernel, { bdf, driver, override }: Before, run: () => void): Step {
  const show = (bound: string | undefined, wanted: string | undefined): string =>
    `${bound ?? 'no driver'}${wanted === undefined ? '' : `, driver_override ${wanted}`}`;
  const state = (): string => `has ${show(driverOf(kernel, bdf), driverOverride(kernel, bdf))}; had ${show(driver, override)}`;
  return { what: bdf, run, state };
}

/** Last first. Each step is taken once; what fails is reported when all were taken. */
function unwind(undo: Step[]): void {
  const failed = new Map<string, { readonly step: Step; readonly error: Error }>();
  const parts: string[] = [];
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    parts.push(step.what);
    try {
      step.run();
    } catch (error) {
      // What fails first is the reason for what fails after it.
      if (!failed.has(step.what)) failed.set(step.what, { step, error: error as Error });
    }
  }
  if (failed.size === 0) return;
  const left = [...failed.values()].map(({ step, error }): NotRestored => ({ what: step.what, state: step.state(), error }));
  throw new RestoreError(
    left,
    [...new Set(parts)].filter((what) => !failed.has(what)),
  );
}
