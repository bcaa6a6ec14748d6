/**
 * VFIO_DEVICE_SET_IRQS of a device with several MSI vectors. Only interrupt remapping gives a device more than one: without it the call returns how many there are to be had, which is no
 * error, and leaves the interrupt off.
 */
import { type IrqsUnavailable, isKvioError, type Kernel, VfioContainer, VfioGroup } from 'kvio';
import {
  EFD_NONBLOCK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_NOIOMMU_IOMMU,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_TYPE1v2_IOMMU,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { hardware16, pci } from '../../parts.ts';
import { attempt, ConfigSpace, groupPath, irqInfo, openDevice, s32, setIrqs, taken, withDevices } from '../../vfio.ts';

const NONE = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
const BOOL = VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_TRIGGER;
const EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
const [INTX, MSI, MSIX] = [VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX];

const CAP_MSI = 5;
const QUEUE_SIZE = 0x70;
/** All that the device has. */
const VECTORS = 16;

/** One device and an eventfd for each of its vectors. */
class Vectors {
  readonly config: ConfigSpace;
  /** The MSI capability. */
  readonly at: number;
  readonly fds: readonly number[];
  readonly #kernel: Kernel;
  readonly #see: Observer;
  readonly #device: number;
  readonly #address: string;

  constructor(kernel: Kernel, see: Observer, address: string) {
    this.#kernel = kernel;
    this.#see = see;
    this.#device = openDevice(kernel, address).device;
    this.#address = address;
    this.config = new ConfigSpace(kernel, this.#device);
    this.at = this.config.find(CAP_MSI);
    this.fds = Array.from({ length: VECTORS }, () => kernel.eventfd(0, EFD_NONBLOCK));
  }

  /** The device keeps how many vectors it was last told of: none, as it was found. */
  end(): void {
    this.config.put(this.at + 2, this.config.read8(this.at + 2) & ~QUEUE_SIZE);
  }

  /** DATA_EVENTFD of these descriptors: what the call returned. */
  set(label: string, data: readonly number[], { index = MSI, start = 0 } = {}): void {
    const set = { flags: EVENTFD, index, start, count: data.length, data: s32(...data) };
    this.#see.call(label, () => setIrqs(this.#kernel, this.#device, set));
  }

  /** The first so many eventfds. */
  first(count: number): readonly number[] {
    return this.fds.slice(0, count);
  }

  /** DATA_NONE: of no vectors, which is off, or of some, which signals them. */
  none(label: string, count: number, { index = MSI, start = 0 } = {}): void {
    this.#see.call(label, () => setIrqs(this.#kernel, this.#device, { flags: NONE, index, start, count }));
  }

  bool(label: string, ...data: number[]): void {
    const set = { flags: BOOL, index: MSI, count: data.length, data: Uint8Array.from(data) };
    this.#see.call(label, () => setIrqs(this.#kernel, this.#device, set));
  }

  /** The vectors whose eventfds have been signalled since. */
  signalled(label: string): void {
    const counts = this.fds.map((fd) => taken(this.#kernel, fd));
    this.#see.note(
      label,
      counts.flatMap((count, vector) => (count === 0 ? [] : [count === 1 ? vector : `${vector}: ${count} times`])),
    );
  }

  /** GET_IRQ_INFO, the capability as VFIO shows it, the device's own, and how many interrupts the host has for it. */
  look(label: string): void {
    const { flags, count } = irqInfo(this.#kernel, this.#device, MSI);
    this.#see.note(label, {
      info: { flags, count },
      control: this.config.read16(this.at + 2).toString(16),
      message: this.config.bytes(this.at + 4, 10),
      'the device’s control': hardware16(this.#kernel, this.#address, this.at + 2).toString(16),
      'of the host': attempt(() => this.#kernel.readdir(`${pci(this.#address)}/msi_irqs`).length),
    });
  }
}

type Body = (vectors: Vectors, kernel: Kernel, see: Observer) => void;

/** One, two, three, four, all, and more than all, each from the beginning. */
function counts(vectors: Vectors): void {
  vectors.look('opened');
  for (const count of [1, 2, 3, 4, VECTORS]) {
    vectors.set(`${count} of ${VECTORS}`, vectors.first(count));
    vectors.look(`${count}: then`);
    vectors.none(`${count}: NONE of these`, count);
    vectors.signalled(`${count}: signalled`);
    vectors.none(`${count}: off`, 0);
    vectors.look(`${count}: off again`);
  }
  vectors.set('more than all', [...vectors.fds, vectors.fds[0]!]);
  vectors.none('more than all: off', 0);
}

/** What is counted is where the range ends, whatever is in it: without enough of them its descriptors are not looked at. */
function ranges(vectors: Vectors, kernel: Kernel): void {
  const memfd = kernel.memfd('x');
  const [fd, second] = vectors.fds as [number, number];
  const last = vectors.fds[VECTORS - 1]!;
  const ask = (label: string, data: readonly number[], start = 0): void => {
    vectors.set(label, data, { start });
    vectors.none(`${label}: NONE of all`, VECTORS);
    vectors.signalled(`${label}: signalled`);
    vectors.none(`${label}: off`, 0);
  };
  ask('none of none', []);
  ask('none from the second', [], 1);
  ask('none from the third', [], 2);
  ask('none from the last', [], VECTORS - 1);
  ask('none from beyond the last', [], VECTORS);
  ask('the second', [second], 1);
  ask('the last', [last], VECTORS - 1);
  ask('from the last, two', [last, fd], VECTORS - 1);
  ask('four without a trigger', [-1, -1, -1, -1]);
  ask('two of four', [fd, -1, vectors.fds[2]!, -2]);
  ask('the last two of four', [-1, -1, vectors.fds[2]!, vectors.fds[3]!]);
  ask('one for four', [fd, fd, fd, fd]);
  ask('four, the first a number nobody has', [999, fd, fd, fd]);
  ask('four, the third no eventfd', [fd, fd, memfd, fd]);
  ask('one, a number nobody has', [999]);
}

/** What a call that cannot have its vectors leaves to others. */
function leaves(vectors: Vectors, kernel: Kernel, see: Observer): void {
  const four = (label: string): void => vectors.set(label, vectors.first(4));
  const off = (label: string, index: number): void => vectors.none(label, 0, { index });
  vectors.look('opened');
  four('four of MSI');
  vectors.look('then');
  vectors.none('NONE of the first', 1);
  vectors.bool('BOOL of the first', 1);
  vectors.signalled('signalled');
  const line = kernel.eventfd(0, EFD_NONBLOCK);
  vectors.set('INTx, as it is then', [line], { index: INTX });
  vectors.none('NONE of INTx', 1, { index: INTX });
  see.note('INTx came', taken(kernel, line));
  off('MSI off', MSI);
  vectors.set('INTx', [line], { index: INTX });
  vectors.none('NONE of INTx again', 1, { index: INTX });
  see.note('INTx came again', taken(kernel, line));
  four('four of MSI beside INTx');
  vectors.none('NONE of INTx, at last', 1, { index: INTX });
  see.note('INTx came all the same', taken(kernel, line));
  off('INTx off', INTX);
  four('four of MSI again');
  off('MSI off again', MSI);
  vectors.set('all of MSI-X', vectors.fds, { index: MSIX });
  vectors.none('NONE of MSI-X', VECTORS, { index: MSIX });
  vectors.signalled('MSI-X signalled');
  four('four of MSI beside MSI-X');
  off('MSI-X off', MSIX);
  vectors.set('one of MSI', vectors.first(1));
  vectors.none('NONE of the one', 1);
  vectors.signalled('the one signalled');
  off('MSI off, at last', MSI);
}

/** Calls on MSI that is on: what is allocated stays as it is, whatever is asked for. */
function active(vectors: Vectors): void {
  const [first, second, third, fourth] = vectors.first(4) as [number, number, number, number];
  const fire = (label: string): void => {
    vectors.none(`${label}: NONE of all`, VECTORS);
    vectors.signalled(`${label}: signalled`);
  };
  vectors.set('one', [first]);
  vectors.set('the second besides', [second], { start: 1 });
  fire('the second besides');
  vectors.set('the second, without a trigger', [-1], { start: 1 });
  vectors.set('all without a trigger but the first', [first, ...new Array<number>(VECTORS - 1).fill(-1)]);
  fire('all without a trigger but the first');
  vectors.set('the first two', [first, second]);
  fire('the first two');
  vectors.look('after a failure');
  vectors.set('the first again', [first]);
  fire('the first again');
  vectors.set('none from the last', [], { start: VECTORS - 1 });
  vectors.none('off', 0);
  vectors.set('four', vectors.first(4));
  fire('four');
  vectors.set('the fifth besides', [first], { start: 4 });
  fire('the fifth besides');
  vectors.set('the third to the fifth', [third, fourth, first], { start: 2 });
  fire('the third to the fifth');
  vectors.set('the second taken back', [-1], { start: 1 });
  fire('the second taken back');
  vectors.set('all four, the second a number nobody has', [first, 999, third, fourth]);
  fire('all four, the second a number nobody has');
  vectors.set('all four again', vectors.first(4));
  fire('all four again');
  vectors.bool('BOOL of the second and the fourth', 0, 1, 0, 1);
  vectors.signalled('BOOL of the second and the fourth: signalled');
  vectors.none('NONE of two from the third', 2, { start: 2 });
  vectors.signalled('NONE of two from the third: signalled');
  vectors.look('four, at last');
  vectors.none('off again', 0, { start: VECTORS - 1 });
  vectors.look('off, at last');
}

/** How many vectors the capability, which is a fiction, lets itself be told: as many as were enabled last, up to a power of two. */
function queueSize(vectors: Vectors, _kernel: Kernel, see: Observer): void {
  const { config, at } = vectors;
  const put = (label: string): void => {
    for (const value of [0x7f, 0x71, 0x11]) {
      config.put(at + 2, value);
      see.note(`${label}: after ${value.toString(16)}`, config.read16(at + 2).toString(16));
    }
    config.put(at + 2, 0);
  };
  put('opened');
  for (const count of [4, 3, VECTORS, 1]) {
    vectors.set(`${count} of ${VECTORS}`, vectors.first(count));
    put(`${count} asked for`);
    vectors.none(`${count}: off`, 0);
    put(`${count}, off`);
  }
}

/** The objects: too few are an error that says how many. */
function objects(kernel: Kernel, see: Observer, [address]: string[]): void {
  const path = groupPath(kernel, address!);
  using container = VfioContainer.open(kernel);
  using group = VfioGroup.open(kernel, path);
  group.setContainer(container);
  container.setIommu(path.includes('noiommu') ? VFIO_NOIOMMU_IOMMU : VFIO_TYPE1v2_IOMMU);
  using device = group.getDeviceFd(address!);
  const msi = device.irqs(MSI);
  see.note('vectors', msi.count);
  const enable = (label: string, count: number): void => {
    try {
      const eventfds = msi.enable(count);
      msi.trigger(0, count);
      see.note(
        label,
        eventfds.map((eventfd) => eventfd.take()),
      );
      msi.disable();
    } catch (error) {
      if (!isKvioError(error)) throw error;
      const { code, message, asked, available } = error as IrqsUnavailable;
      see.note(label, { code, message, asked, available });
      see.call(`${label}: disable()`, () => msi.disable());
    }
  };
  enable('four', 4);
  enable('all', msi.count);
  enable('one', 1);
  see.call('more than all', () => msi.enable(msi.count + 1).length);
  see.call('the second alone', () => msi.setTrigger([kernel.eventfd()], 1));
  see.call('the second alone: disable()', () => msi.disable());
  const msix = device.irqs(MSIX);
  see.call('all of MSI-X', () => msix.enable(msix.count).length);
  const control = device.config.findCapability(CAP_MSI)! + 2;
  device.config.write16(control, device.config.read16(control) & ~QUEUE_SIZE);
}

const of = (what: string, body: Body): Case =>
  withDevices(`vfio/irqs/vectors-${what}`, 'Interrupts', ['xhci'], (kernel, see, [address]) => {
    const vectors = new Vectors(kernel, see, address!);
    body(vectors, kernel, see);
    vectors.end();
  });

export const msiVectorCases: readonly Case[] = [
  of('counts', counts),
  of('ranges', ranges),
  of('leaves', leaves),
  of('active', active),
  of('queue-size', queueSize),
  withDevices('vfio/objects/vectors', 'Objects', ['xhci'], objects),
];
