import { EINVAL, ENOTTY } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import { type EventfdFile, eventfdOf } from '../eventfd.ts';
import type { Process } from '../process.ts';
import { copySetting, descriptor, type Setting } from './pci/intrs.ts';

const INTX = v.VFIO_PCI_INTX_IRQ_INDEX;
const MSI = v.VFIO_PCI_MSI_IRQ_INDEX;

/** The interrupts of an mtty: INTx, which masks itself with each one, or MSI. */
export class MttyIrqs {
  #index: number | undefined;
  #eventfd: EventfdFile | undefined;
  #masked = false;

  /** mtty_trigger_interrupt. An INTx that comes while it is masked is lost. */
  trigger(): void {
    if (this.#index === undefined || (this.#index === INTX && this.#masked)) return;
    this.#masked = this.#index === INTX;
    this.#eventfd?.signal();
  }

  /** VFIO_DEVICE_SET_IRQS. `available`: interrupts of any index, none before VFIO_DEVICE_GET_INFO. */
  set(p: Process, arg: bigint, available: number): number {
    const setting = copySetting(p, arg, v.VFIO_PCI_NUM_IRQS, () => available);
    if (typeof setting === 'number') return setting;
    const { index, action } = setting;
    if (index !== INTX && index !== MSI) return -ENOTTY;
    if (action === v.VFIO_IRQ_SET_ACTION_TRIGGER) return this.#set(p, setting);
    if (action !== v.VFIO_IRQ_SET_ACTION_MASK && action !== v.VFIO_IRQ_SET_ACTION_UNMASK) return 0;
    return index === MSI ? -ENOTTY : this.#mask(setting, action === v.VFIO_IRQ_SET_ACTION_MASK);
  }

  disable(): void {
    if (this.#eventfd === undefined) return;
    this.#eventfd = undefined;
    this.#index = undefined;
    this.#masked = false;
  }

  #mask({ start, count, data, bytes }: Setting, masked: boolean): number {
    if (this.#index !== INTX || start !== 0 || count !== 1) return -EINVAL;
    if (data === v.VFIO_IRQ_SET_DATA_EVENTFD) return -ENOTTY;
    if (data === v.VFIO_IRQ_SET_DATA_NONE || bytes[0] !== 0) this.#masked = masked;
    return 0;
  }

  /** The eventfd it had goes before the new one is looked at. */
  #set(p: Process, setting: Setting): number {
    const { index, start, count, data, bytes } = setting;
    const active = this.#index === index;
    if (active && count === 0 && data === v.VFIO_IRQ_SET_DATA_NONE) {
      this.disable();
      return 0;
    }
    if (!(active || this.#index === undefined) || start !== 0 || count !== 1) return -EINVAL;
    if (data === v.VFIO_IRQ_SET_DATA_EVENTFD) {
      this.disable();
      const fd = descriptor(setting, 0);
      if (fd < 0) return 0;
      const eventfd = eventfdOf(p, fd);
      if (typeof eventfd === 'number') return eventfd;
      this.#eventfd = eventfd;
      this.#index = index;
      return 0;
    }
    if (!active) return -EINVAL;
    if (data === v.VFIO_IRQ_SET_DATA_NONE || bytes[0] !== 0) this.trigger();
    return 0;
  }
}
