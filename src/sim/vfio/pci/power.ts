import { EBUSY } from '../../../uapi/sys.ts';
import type { EventfdFile } from '../../eventfd.ts';
import type { PowerState } from '../../hardware/pci-function.ts';
import type { PciDev, SavedState } from '../../pci/pci-dev.ts';
import { type RuntimePm, runtimePm } from '../../pci/runtime-pm.ts';
import type { VfioPciIrqs } from './intrs.ts';

const CAP_PM = 1;
const PMCSR = 4;
const NO_SOFT_RESET = 8;

/**
 * Power states of an assigned device: those its user writes, and those of runtime power management, which puts a device nobody uses into D3hot.
 * Whoever uses it has a count; with the last one it sleeps, with the first it wakes.
 */
export class VfioPciPower {
  readonly #pdev: PciDev;
  readonly #irqs: VfioPciIrqs;
  /** The device forgets its registers in D3hot: its user must not notice. */
  readonly #needsRestore: boolean;
  #saved: SavedState | undefined;
  /** Registers as they were before the kernel put it to sleep. */
  #asleep: SavedState | undefined;
  readonly #pm: RuntimePm;
  #intxMasked = false;
  #wakeup: EventfdFile | undefined;
  /** The user has entered low power: mappings fault until he leaves it. */
  engaged = false;

  constructor(pdev: PciDev, irqs: VfioPciIrqs) {
    this.#pdev = pdev;
    this.#pm = runtimePm(pdev);
    this.#irqs = irqs;
    const at = pdev.findCapability(CAP_PM);
    this.#needsRestore = at !== 0 && (pdev.readConfig(at + PMCSR, 2) & NO_SOFT_RESET) === 0;
  }

  /** pm_runtime_allow, pm_runtime_forbid. */
  allowSleep(allowed: boolean): void {
    if (allowed) this.#pm.ops = { suspend: () => this.#suspend(), resume: () => this.#resume() };
    this.#pm.control = allowed ? 'auto' : 'on';
    if (!allowed) this.#pm.ops = undefined;
  }

  /** vfio_pci_set_power_state: −EBUSY where virtual functions depend on it. `functions`: how many there are. */
  set(state: PowerState, functions: number): number {
    const pdev = this.#pdev;
    if (functions > 0 && state > 0) return -EBUSY;
    const before = pdev.powerState;
    const saved = this.#needsRestore && before < 3 && state === 3 ? pdev.saveState() : undefined;
    pdev.setPowerState(state);
    if (saved !== undefined && pdev.powerState === 3) this.#saved = saved;
    else if (this.#needsRestore && before === 3 && state === 0 && this.#saved !== undefined) {
      pdev.restoreState(this.#saved);
      this.#saved = undefined;
    }
    return 0;
  }

  /** pm_runtime_resume_and_get. */
  get(): void {
    this.#pm.get();
  }

  /** pm_runtime_put. */
  put(): void {
    this.#pm.put();
  }

  /** LOW_POWER_ENTRY: the user's count goes. False: it is in low power already. */
  enter(wakeup: EventfdFile | undefined): boolean {
    if (this.engaged) return false;
    this.engaged = true;
    this.#wakeup = wakeup;
    this.#pm.putNoidle();
    return true;
  }

  /** LOW_POWER_EXIT, also where it was never entered. */
  exit(): void {
    if (!this.engaged) return;
    this.engaged = false;
    this.#wakeup = undefined;
    this.get();
  }

  #suspend(): void {
    const pdev = this.#pdev;
    if (this.#asleep !== undefined) return;
    this.set(0, 0);
    // A line that the user has masked stays so when the device wakes.
    this.#intxMasked = this.#irqs.maskForSleep();
    this.#asleep = pdev.saveState();
    pdev.setPowerState(3);
  }

  /** An eventfd for the wake-up is signalled once, and ends low power. */
  #resume(): void {
    const asleep = this.#asleep;
    if (asleep === undefined) return;
    this.#asleep = undefined;
    this.#pdev.setPowerState(0);
    this.#pdev.restoreState(asleep);
    if (this.#wakeup !== undefined) {
      this.#wakeup.signal();
      this.exit();
    }
    if (this.#intxMasked) this.#irqs.unmaskAfterSleep();
  }
}
