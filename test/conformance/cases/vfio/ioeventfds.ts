/** VFIO_DEVICE_IOEVENTFD: each check in order, and what a written eventfd does to the BAR. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  KVM_CREATE_IRQCHIP,
  KVM_IRQFD,
  KVM_IRQFD_FLAG_DEASSIGN,
  kvm_irqfd,
  VFIO_DEVICE_IOEVENTFD,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { newVm, UNSAFE } from '../../machine.ts';
import { ConfigSpace, join, NOWHERE, openDevice, region, s32, taken, u32s, u64s, view, withDevices } from '../../vfio.ts';

interface IoEventfd {
  argsz?: number;
  flags?: number;
  offset?: bigint | number;
  data?: bigint | number;
  fd?: number;
}

function set(
  kernel: Kernel,
  device: number,
  { argsz = 32, flags = 4, offset = 4, data = 0x12345678, fd = -1 }: IoEventfd,
): number {
  return kernel.ioctl(device, VFIO_DEVICE_IOEVENTFD, join(u32s(argsz, flags), u64s(offset, data), s32(fd, 0)), UNSAFE);
}

const newEventfd = (kernel: Kernel, initval = 0): number => kernel.eventfd(initval, EFD_NONBLOCK);
const pause = (milliseconds = 30): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

function order(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const fd = newEventfd(kernel);
  const ask = (label: string, one: IoEventfd): unknown => see.call(label, () => set(kernel, device, { fd, ...one }));
  see.call('pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_IOEVENTFD, 0, UNSAFE));
  see.call('a pointer to nowhere', () => kernel.ioctl(device, VFIO_DEVICE_IOEVENTFD, NOWHERE, UNSAFE));
  ask('argsz 0', { argsz: 0 });
  ask('argsz 27', { argsz: 27 });
  ask('argsz 28', { argsz: 28, offset: 0x100 });
  ask('flags 0', { flags: 0 });
  for (const flags of [0x10, 0x14, 0x80000004]) ask(`unknown flag, ${flags.toString(16)}`, { flags });
  for (const flags of [3, 5, 6, 12, 15]) ask(`widths ${flags}`, { flags });
  ask('fd -2', { fd: -2 });
  ask('fd -2, width 0', { fd: -2, flags: 0 });
  for (const index of [1, 5, 6, 7, 8, 9, 100]) ask(`region ${index}`, { offset: region(index) });
  ask('behind the end', { offset: 0x100000 });
  ask('over the end', { offset: 0xffffe });
  ask('its last word', { offset: 0xffffc });
  ask('width 8', { flags: 8, offset: 8 });
  ask('width 8, over the end', { flags: 8, offset: 0xffffc });
  ask('remove what is not there', { fd: -1 });
  ask('remove what is not there, unaligned', { fd: -1, offset: 5 });
  ask('a number nobody has', { fd: 999 });
  ask('a memfd', { fd: kernel.memfd('x') });
  ask('unaligned', { offset: 0x21 });
  ask('a byte', { flags: 1, offset: 0x23 });
  ask('a half', { flags: 2, offset: 0x30 });
  ask('a word', {});
  ask('the same', {});
  ask('the same, another eventfd', { fd: newEventfd(kernel) });
  ask('the same, a number nobody has', { fd: 999 });
  ask('other data', { data: 1 });
  ask('another width', { flags: 2 });
  ask('removed', { fd: -1 });
  ask('removed again', { fd: -1 });
  ask('removed, other data', { fd: -1, data: 1 });
}

/** What was written last to edu's register whose complement it reads as. */
function liveness(kernel: Kernel, device: number): string {
  const bytes = new Uint8Array(4);
  kernel.pread(device, bytes, region(0, 4));
  return (~view(bytes).getUint32(0, true) >>> 0).toString(16);
}

/** What an eventfd writes: one write an event, of the data; dropped while memory is off. */
async function writes(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const fd = newEventfd(kernel);
  const register = (): string => liveness(kernel, device);
  const signal = async (count: bigint): Promise<number> => {
    kernel.write(fd, new Uint8Array(BigUint64Array.of(count).buffer));
    await pause();
    return taken(kernel, fd);
  };
  kernel.pwrite(device, u32s(0), region(0, 4));
  see.note('register', register());
  see.call('set', () => set(kernel, device, { fd }));
  see.note('the count, consumed', await signal(3n));
  see.note('register, written', register());
  kernel.pwrite(device, u32s(0), region(0, 4));
  see.call('the same eventfd for another', () => set(kernel, device, { fd, data: 0xabcdef01, offset: 4 }));
  see.note('the count', await signal(1n));
  see.note('register, one of both', ['12345678', 'abcdef01'].includes(register()));
  see.call('the first removed', () => set(kernel, device, {}));
  await signal(1n);
  see.note('register, the second', register());
  config.write16(4, 0);
  see.note('decode off: the count', await signal(1n));
  config.write16(4, 2);
  see.note('and nothing written since', register());
  kernel.pwrite(device, u32s(0), region(0, 4));
  see.call('the second removed', () => set(kernel, device, { data: 0xabcdef01 }));
  see.note('no longer consumed', await signal(2n));
  see.note('register, untouched', register());
  const other = newEventfd(kernel);
  see.call('set with another', () => set(kernel, device, { fd: other }));
  kernel.close(other);
  await pause();
  see.call('its eventfd closed: the place is still taken', () => set(kernel, device, { fd }));
  see.call('until it is removed', () => set(kernel, device, {}));
  see.call('and set again', () => set(kernel, device, { fd }));
}

/** What was in the counter before stays in it, and goes with the IOEVENTFD. */
async function leftCounts(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const [first, second] = [newEventfd(kernel, 3), newEventfd(kernel, 3)];
  see.call('set with a count of 3', () => set(kernel, device, { fd: first }));
  see.call('removed', () => set(kernel, device, {}));
  see.note('what is left of it', taken(kernel, first));
  see.call('set with another', () => set(kernel, device, { fd: second }));
  await pause();
  kernel.close(device);
  see.note('the device closed: what is left', taken(kernel, second));
}

async function written(kernel: Kernel, fd: number): Promise<void> {
  kernel.write(fd, new Uint8Array(BigUint64Array.of(1n).buffer));
  await pause();
}

/** Several on one eventfd: the one that was made last writes first. */
async function several(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const fd = newEventfd(kernel);
  for (const data of [0x11111111, 0x22222222, 0x33333333])
    see.call(`set, ${data.toString(16)}`, () => set(kernel, device, { fd, data }));
  await written(kernel, fd);
  see.note('written last', liveness(kernel, device));
  see.call('the first removed', () => set(kernel, device, { data: 0x11111111 }));
  see.call('and set again', () => set(kernel, device, { fd, data: 0x11111111 }));
  await written(kernel, fd);
  see.note('written last, then', liveness(kernel, device));
  see.note('the count', taken(kernel, fd));
}

/** An irqfd on the same eventfd takes what is written, whichever was there first; nothing comes to the device. */
async function beneathAnIrqfd(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const vm = newVm(kernel);
  kernel.ioctl(vm, KVM_CREATE_IRQCHIP);
  const irqfd = (fd: number, flags = 0): number =>
    kernel.ioctl(vm, KVM_IRQFD, kvm_irqfd.encode({ fd, gsi: 4, flags, resamplefd: 0, pad: new Uint8Array(16) }));
  for (const first of ['the ioeventfd', 'the irqfd']) {
    const fd = newEventfd(kernel);
    const makes = [() => set(kernel, device, { fd }), () => irqfd(fd)];
    kernel.pwrite(device, u32s(0), region(0, 4));
    for (const [i, make] of (first === 'the irqfd' ? makes.reverse() : makes).entries()) see.call(`${first} first: ${i}`, make);
    await written(kernel, fd);
    see.note(`${first} first: written`, liveness(kernel, device));
    see.note(`${first} first: the count`, taken(kernel, fd));
    see.call(`${first} first: the irqfd removed`, () => irqfd(fd, KVM_IRQFD_FLAG_DEASSIGN));
    await written(kernel, fd);
    see.note(`${first} first: written then`, liveness(kernel, device));
    see.call(`${first} first: the ioeventfd removed`, () => set(kernel, device, {}));
  }
}

function many(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const fd = newEventfd(kernel);
  let made = 0;
  try {
    for (; made < 1100; made++) set(kernel, device, { fd, offset: 0x1000 + made * 4 });
  } catch (error) {
    see.note('the error', (error as { code: string }).code);
  }
  see.note('how many there can be', made);
  see.call('one more, bad fd', () => set(kernel, device, { fd: 999, offset: 0x8000 }));
  see.call('one that is there', () => set(kernel, device, { fd, offset: 0x1000 }));
  see.call('one removed', () => set(kernel, device, { offset: 0x1000 }));
  see.call('there is room for one', () => set(kernel, device, { fd, offset: 0x8000 }));
}

/** Not on the table of MSI-X. */
function table(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const at = new ConfigSpace(kernel, device).find(0x11);
  const place = new ConfigSpace(kernel, device).read32(at + 4);
  const start = Number(region(place & 7, place & ~7));
  const fd = newEventfd(kernel);
  const ask = (label: string, one: IoEventfd): unknown => see.call(label, () => set(kernel, device, { fd, ...one }));
  ask('the first entry', { offset: start });
  ask('a byte into it', { offset: start + 1, flags: 1 });
  if ((place & ~7) >= 4) {
    ask('the word before', { offset: start - 4 });
    ask('over its start', { offset: start - 2 });
  }
}

const of = (
  what: string,
  part: 'edu' | 'nvme' | 'e1000e',
  body: (kernel: Kernel, see: Observer, addresses: string[]) => void | Promise<void>,
  devices: readonly string[] = ['/dev/vfio/vfio'],
): Case => withDevices(`vfio/ioeventfds/${what}`, 'IOEVENTFD', [part], body, { needs: { devices } });

export const ioeventfdCases: readonly Case[] = [
  of('order', 'edu', order),
  of('writes', 'edu', writes),
  of('several on one eventfd', 'edu', several),
  of('beneath an irqfd', 'edu', beneathAnIrqfd, ['/dev/vfio/vfio', '/dev/kvm']),
  of('left-counts', 'edu', leftCounts),
  of('many', 'edu', many),
  of('msix-table of nvme', 'nvme', table),
  of('msix-table of e1000e', 'e1000e', table),
];
