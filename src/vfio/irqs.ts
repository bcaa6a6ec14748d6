import { type Descriptor, fdOrNone } from '../kernel/descriptor.ts';
import { KvioError, rangeError } from '../kernel/errors.ts';
import { showAs } from '../kernel/inspect.ts';
import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
} from '../uapi/vfio.ts';
import type { IrqInfo, VfioDevice } from './device.ts';
import { Eventfd } from './eventfd.ts';
import { flags } from './show.ts';

const names = ['INTx', 'MSI', 'MSI-X', 'ERR', 'REQ'];

/** VFIO_DEVICE_SET_IRQS returned a number: so many vectors could be had, and none is enabled. */
export class IrqsUnavailable extends KvioError {
  readonly asked: number;
  readonly available: number;

  constructor(index: number, asked: number, available: number) {
    super(
      'ERR_KVIO_IRQS_UNAVAILABLE',
      `VFIO_DEVICE_SET_IRQS: ${asked} vectors of ${names[index] ?? `index ${index}`} were asked for, ${available} can be had; none is enabled`,
    );
    this.name = 'IrqsUnavailable';
    this.asked = asked;
    this.available = available;
  }
}

/**
 * One index of a device's interrupts: INTx, MSI, MSI-X (of which one can be on at a time), errors, requests to give the device back. `enable(n)` makes
 * eventfds and hands them over; a device's messages need bus mastering.
 */
export class Irqs {
  readonly device: VfioDevice;
  /** VFIO_PCI_MSI_IRQ_INDEX … */
  readonly index: number;
  /** VFIO_IRQ_INFO_*. */
  readonly flags: number;
  /** How many vectors there are. */
  readonly count: number;
  #made: Eventfd[] = [];

  constructor(device: VfioDevice, info: IrqInfo) {
    this.device = device;
    this.index = info.index;
    this.flags = info.flags;
    this.count = info.count;
  }

  /**
   * VFIO_DEVICE_SET_IRQS: ACTION_TRIGGER with new eventfds for the first `count` vectors, which are returned, and closed by `disable()`. Throws
   * IrqsUnavailable where the kernel cannot have so many. RangeError: the index has fewer.
   */
  enable(count?: 1): [Eventfd];
  enable(count: number): Eventfd[];
  enable(count = 1): Eventfd[] {
    if (this.count === 0)
      throw rangeError(`this device has no vectors of ${names[this.index] ?? `interrupt index ${this.index}`}`);
    if (!Number.isInteger(count) || count < 1 || count > this.count)
      throw rangeError(
        `count must be an integer from 1 to ${this.count}, the vectors of interrupt index ${this.index}, not ${count}`,
      );
    const eventfds = Array.from({ length: count }, () => Eventfd.create(this.device.kernel));
    try {
      this.setTrigger(eventfds);
    } catch (error) {
      for (const eventfd of eventfds) eventfd.close();
      throw error;
    }
    for (const eventfd of this.#made) eventfd.close();
    this.#made = eventfds;
    return [...eventfds];
  }

  /**
   * VFIO_DEVICE_SET_IRQS: ACTION_TRIGGER, DATA_EVENTFD: what vectors from `start` on signal; null for nothing. The first one enables the index. On any error all of these
   * vectors have lost what they signalled. EINVAL: beyond the last vector, or another index is on.
   */
  setTrigger(eventfds: readonly (Descriptor | null)[], start = 0): void {
    const available = this.#setEventfds(VFIO_IRQ_SET_ACTION_TRIGGER, eventfds, start);
    if (available > 0) throw new IrqsUnavailable(this.index, start + eventfds.length, available);
  }

  /** VFIO_DEVICE_SET_IRQS: ACTION_TRIGGER, DATA_NONE of no vectors: the index is off. Closes the eventfds that `enable()` made. EINVAL: it is not on. */
  disable(): void {
    this.#set(VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE, 0, 0);
    for (const eventfd of this.#made.splice(0)) eventfd.close();
  }

  /** VFIO_DEVICE_SET_IRQS: ACTION_TRIGGER, DATA_NONE: signals the eventfds as if the device had; for tests of what waits for them. */
  trigger(start = 0, count = 1): void {
    this.#set(VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE, start, count);
  }

  /** VFIO_DEVICE_SET_IRQS: ACTION_TRIGGER, DATA_BOOL: the same for those that are true. */
  triggerSome(which: readonly boolean[], start = 0): void {
    const data = Uint8Array.from(which, Number);
    this.#set(VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_BOOL, start, which.length, data);
  }

  /** VFIO_DEVICE_SET_IRQS: ACTION_MASK. INTx alone can be masked (VFIO_IRQ_INFO_MASKABLE); ENOTTY for others. */
  mask(start = 0, count = 1): void {
    this.#set(VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_DATA_NONE, start, count);
  }

  /** VFIO_DEVICE_SET_IRQS: ACTION_UNMASK. INTx masks itself when it fires (AUTOMASKED): this lets the next one through, which comes at once while the line is up. */
  unmask(start = 0, count = 1): void {
    this.#set(VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_NONE, start, count);
  }

  /** VFIO_DEVICE_SET_IRQS: ACTION_UNMASK, DATA_EVENTFD: a signal of this eventfd unmasks INTx, inside the kernel; null takes it away. EBUSY: there is one. */
  setUnmask(eventfd: Descriptor | null): void {
    this.#setEventfds(VFIO_IRQ_SET_ACTION_UNMASK, [eventfd], 0);
  }

  #setEventfds(action: number, eventfds: readonly (Descriptor | null)[], start: number): number {
    const fds = Int32Array.from(eventfds, (eventfd, i) => fdOrNone(eventfd, `eventfds[${i}]`, this.device.kernel));
    return this.#set(action | VFIO_IRQ_SET_DATA_EVENTFD, start, fds.length, new Uint8Array(fds.buffer));
  }

  #set(how: number, start: number, count: number, data: Uint8Array = new Uint8Array(0)): number {
    return this.device.setIrqs({ flags: how, index: this.index, start, count, data });
  }
}

showAs(Irqs, ({ index, flags: bits, count }) => `Irqs { ${names[index] ?? index}, ${count}, ${flags('vfio_irq_info', bits)} }`);
