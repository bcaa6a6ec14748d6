/** What interrupts put into the device: the entries of the MSI-X table, seen through the mapped BAR, and what MSI leaves behind. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  VFIO_DEVICE_RESET,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { hardware16 } from '../../parts.ts';
import { ConfigSpace, getDevice, mapRegion, openDevice, s32, setIrqs, setTrigger, taken, withDevices } from '../../vfio.ts';

const COMMAND = 4;
const DIS_INTX = 0x400;

/** BAR 3 of e1000e begins with its table: address, data and mask of a vector, 16 bytes. */
const TABLE_BAR = 3;

function table(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const entries = mapRegion(kernel, device, TABLE_BAR);
  const index = VFIO_PCI_MSIX_IRQ_INDEX;
  const set = (start: number, ...fds: number[]): number =>
    setIrqs(kernel, device, {
      flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
      ...{ index, start, count: fds.length, data: s32(...fds) },
    });
  const look = (label: string): void => {
    const entry = (vector: number): string => {
      const [low, high, data, control] = [0, 4, 8, 12].map((at) => entries.read32(16 * vector + at));
      return `${low === 0 && high === 0 && data === 0 ? 'no message' : 'a message'}${control === 1 ? ', masked' : ''}`;
    };
    see.note(label, [entry(0), entry(1), entry(2)]);
  };
  const eventfd = kernel.eventfd();
  // A device that slept when its interrupts went has kept its messages.
  set(0, eventfd, eventfd, eventfd);
  setTrigger(kernel, device, index);
  look('off');
  see.call('an eventfd for the first', () => set(0, eventfd));
  look('on');
  see.call('and for the third', () => set(2, eventfd));
  look('with a third');
  see.call('none for the first', () => set(0, -1));
  look('without the first');
  see.call('one again', () => set(0, eventfd));
  look('with it again');
  see.call('disabled', () => setTrigger(kernel, device, index));
  look('off again');
}

/** Nothing of it stays where the next one who opens the device could see it. */
function left(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { group, device } = openDevice(kernel, address!);
  const capability = new ConfigSpace(kernel, device).find(5);
  const look = (label: string, fd: number): void => see.note(label, new ConfigSpace(kernel, fd).bytes(capability, 14));
  look('before', device);
  see.call('MSI', () => setTrigger(kernel, device, VFIO_PCI_MSI_IRQ_INDEX, kernel.eventfd()));
  look('on', device);
  kernel.close(device);
  look('opened again', getDevice(kernel, group, address!));
}

/** INTX_DISABLE of COMMAND as the user sees it, and the device's own: with INTx on, the first only decides whether the line is masked. */
function disIntx(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const eventfd = kernel.eventfd(0, EFD_NONBLOCK);
  const look = (label: string): void =>
    see.note(label, {
      seen: (config.read16(COMMAND) & DIS_INTX) !== 0,
      'the device’s': (hardware16(kernel, address!, COMMAND) & DIS_INTX) !== 0,
    });
  const put = (label: string, on: boolean): void => {
    config.write16(COMMAND, (config.read16(COMMAND) & ~DIS_INTX) | (on ? DIS_INTX : 0));
    look(label);
  };
  const intx = (label: string, action: number): void => {
    const set = { flags: VFIO_IRQ_SET_DATA_NONE | action, index: VFIO_PCI_INTX_IRQ_INDEX, count: 1 };
    see.call(label, () => setIrqs(kernel, device, set));
    look(`${label}: then`);
  };
  look('opened');
  put('set', true);
  put('cleared', false);
  see.call('INTx', () => setTrigger(kernel, device, VFIO_PCI_INTX_IRQ_INDEX, eventfd));
  look('INTx: then');
  intx('MASK', VFIO_IRQ_SET_ACTION_MASK);
  put('masked, and set', true);
  intx('UNMASK', VFIO_IRQ_SET_ACTION_UNMASK);
  intx('TRIGGER', VFIO_IRQ_SET_ACTION_TRIGGER);
  see.note('none came', taken(kernel, eventfd));
  put('cleared, which unmasks', false);
  put('set with INTx', true);
  see.call('INTx off', () => setTrigger(kernel, device, VFIO_PCI_INTX_IRQ_INDEX));
  look('INTx off: then');
  see.call('INTx with it set', () => setTrigger(kernel, device, VFIO_PCI_INTX_IRQ_INDEX, eventfd));
  look('INTx with it set: then');
  see.call('INTx off again', () => setTrigger(kernel, device, VFIO_PCI_INTX_IRQ_INDEX));
  put('cleared, INTx off', false);
  for (const [name, index] of [
    ['MSI', VFIO_PCI_MSI_IRQ_INDEX],
    ['MSI-X', VFIO_PCI_MSIX_IRQ_INDEX],
  ] as const) {
    see.call(name, () => setTrigger(kernel, device, index, eventfd));
    look(`${name}: then`);
    put(`set with ${name}`, true);
    put(`cleared with ${name}`, false);
    see.call(`DEVICE_RESET with ${name}`, () => kernel.ioctl(device, VFIO_DEVICE_RESET));
    look(`DEVICE_RESET with ${name}: then`);
    see.call(`${name} off`, () => setTrigger(kernel, device, index));
    look(`${name} off: then`);
  }
  put('cleared, at last', false);
}

export const irqMessageCases: readonly Case[] = [
  withDevices('vfio/irqs/messages of e1000e', 'Interrupts', ['e1000e'], table),
  withDevices('vfio/irqs/message-left of edu', 'Interrupts', ['edu'], left),
  withDevices('vfio/irqs/message-left of e1000e', 'Interrupts', ['e1000e'], left),
  withDevices('vfio/irqs/message-left of xhci', 'Interrupts', ['xhci'], left),
  ...(['edu', 'e1000e', 'nvme', 'xhci'] as const).map((part) =>
    withDevices(`vfio/irqs/intx-disable of ${part}`, 'Interrupts', [part], disIntx),
  ),
];
