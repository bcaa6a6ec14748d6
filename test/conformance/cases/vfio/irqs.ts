/** VFIO_DEVICE_SET_IRQS: every combination of data and action, what each index allows, and what is left after a failure half-way. */
import type { Kernel } from 'kvio';
import {
  EFD_NONBLOCK,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_SET_IRQS,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
} from 'kvio/uapi';
import type { Case, Observer } from '../../case.ts';
import { UNSAFE } from '../../machine.ts';
import type { Part } from '../../parts.ts';
import {
  attempt,
  awaited,
  ConfigSpace,
  type IrqSet,
  join,
  mapRegion,
  NOWHERE,
  openDevice,
  s32,
  setIrqs,
  setTrigger,
  taken,
  u32s,
  withDevices,
} from '../../vfio.ts';

const NONE = VFIO_IRQ_SET_DATA_NONE;
const BOOL = VFIO_IRQ_SET_DATA_BOOL;
const EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD;
const MASK = VFIO_IRQ_SET_ACTION_MASK;
const UNMASK = VFIO_IRQ_SET_ACTION_UNMASK;
const TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER;
const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4];

const COMMAND = 4;
const DIS_INTX = 0x400;

const newEventfd = (kernel: Kernel, count = 0): number => kernel.eventfd(count, EFD_NONBLOCK);

/** Calls on one device, a line each. */
function asker(kernel: Kernel, see: Observer, device: number) {
  return (label: string, set: IrqSet): number | undefined => see.call(label, () => setIrqs(kernel, device, set));
}

function order(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  see.call('pointer 0', () => kernel.ioctl(device, VFIO_DEVICE_SET_IRQS, 0, UNSAFE));
  see.call('a pointer to nowhere', () => kernel.ioctl(device, VFIO_DEVICE_SET_IRQS, NOWHERE, UNSAFE));
  const flags = NONE | TRIGGER;
  for (const argsz of [0, 19]) ask(`argsz ${argsz}`, { argsz, flags, index: MSI });
  for (const index of [5, 6, 100, 0xffffffff]) ask(`index ${index}`, { flags, index });
  ask('count so large that it wraps', { flags, index: MSI, start: 1, count: 0xffffffff });
  ask('count to the very end', { flags, index: MSI, start: 0, count: 0xffffffff });
  ask('start 1', { flags, index: MSI, start: 1 });
  ask('start 0xffffffff', { flags, index: MSI, start: 0xffffffff });
  ask('count 2', { flags, index: MSI, count: 2 });
  for (const unknown of [0x40, 0x80, 0x80000000])
    ask(`unknown flag ${unknown.toString(16)}`, { flags: flags | unknown, index: MSI });
  ask('no data, no action', { flags: 0, index: MSI });
  ask('no data', { flags: TRIGGER, index: MSI });
  ask('two data', { flags: NONE | BOOL | TRIGGER, index: MSI });
  ask('three data', { flags: 7 | TRIGGER, index: MSI });
  ask('no action', { flags: NONE, index: MSI });
  ask('no action, with an eventfd', { flags: EVENTFD, index: MSI, count: 1, data: s32(-1) });
  ask('two actions', { flags: NONE | MASK | UNMASK, index: INTX });
  ask('three actions', { flags: NONE | MASK | UNMASK | TRIGGER, index: INTX });
  ask('BOOL, argsz too small', { flags: BOOL | TRIGGER, index: MSI, count: 1, argsz: 20 });
  ask('EVENTFD, argsz too small', { flags: EVENTFD | TRIGGER, index: MSI, count: 1, argsz: 23, data: s32(-1) });
  ask('EVENTFD, count 0, no data', { flags: EVENTFD | TRIGGER, index: INTX, count: 0 });
  ask('no action, index 9', { flags: NONE, index: 9 });
  for (const [name, index] of Object.entries({ MSI, MSIX, ERR, REQ }))
    for (const [act, action] of Object.entries({ MASK, UNMASK })) ask(`${act} of ${name}`, { flags: NONE | action, index });
}

/** Data that cannot be read: before it is seen that there is nobody to give it to. */
function dataNowhere(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const page = kernel.mmap({ length: 0x2000, view: false });
  kernel.mprotect(page, 0, { offset: 0x1000, length: 0x1000 });
  const at = page.address + 0x1000n - 20n;
  const put = (argsz: number, flags: number, index: number, count: number): void =>
    page.write(0x1000 - 20, u32s(argsz, flags, index, 0, count));
  const ask = (label: string, argsz: number, flags: number, index: number, count: number): void => {
    put(argsz, flags, index, count);
    see.call(label, () => kernel.ioctl(device, VFIO_DEVICE_SET_IRQS, at, UNSAFE));
  };
  ask('NONE: the header is all', 20, NONE | TRIGGER, MSI, 0);
  ask('BOOL, no data there', 21, BOOL | TRIGGER, MSI, 1);
  ask('EVENTFD, no data there', 24, EVENTFD | TRIGGER, MSI, 1);
  ask('EVENTFD, no data there, no action', 24, EVENTFD, MSI, 1);
  ask('EVENTFD, no data there, MASK of MSI', 24, EVENTFD | MASK, MSI, 1);
  ask('EVENTFD, argsz too small', 23, EVENTFD | TRIGGER, MSI, 1);
  page.write(0x1000 - 16, u32s(0, 0, 0, 0));
  see.call('the header half there', () => kernel.ioctl(device, VFIO_DEVICE_SET_IRQS, at + 4n, UNSAFE));
}

/** INTx without a device that raises it: modes, swaps, masks, loopback. */
function intx(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  const config = new ConfigSpace(kernel, device);
  const [first, second] = [newEventfd(kernel), newEventfd(kernel)];
  const index = INTX;
  const counts = (label: string): void => see.note(`${label}: eventfds`, [taken(kernel, first), taken(kernel, second)]);
  const eventfd = (label: string, fd: number, more: Partial<IrqSet> = {}): unknown =>
    ask(label, { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(fd), ...more });
  ask('off: NONE count 0', { flags: NONE | TRIGGER, index });
  ask('off: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  ask('off: BOOL 1', { flags: BOOL | TRIGGER, index, count: 1, data: Uint8Array.of(1) });
  ask('off: MASK', { flags: NONE | MASK, index, count: 1 });
  ask('off: UNMASK', { flags: NONE | UNMASK, index, count: 1 });
  ask('off: UNMASK by an eventfd', { flags: EVENTFD | UNMASK, index, count: 1, data: s32(first) });
  eventfd('off: a number nobody has', 999);
  eventfd('off: a memfd', kernel.memfd('x'));
  eventfd('off: count 0', first, { count: 0 });
  eventfd('off: an eventfd', first);
  eventfd('on: the other eventfd', second);
  ask('on: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  counts('on: after loopback');
  ask('on: BOOL 1', { flags: BOOL | TRIGGER, index, count: 1, data: Uint8Array.of(1) });
  ask('on: BOOL 0', { flags: BOOL | TRIGGER, index, count: 1, data: Uint8Array.of(0) });
  ask('on: BOOL 0x80', { flags: BOOL | TRIGGER, index, count: 1, data: Uint8Array.of(0x80) });
  counts('on: after BOOL 1, 0, 0x80');
  ask('on: MASK', { flags: NONE | MASK, index, count: 1 });
  ask('on: MASK again', { flags: NONE | MASK, index, count: 1 });
  ask('on: MASK, count 0', { flags: NONE | MASK, index });
  ask('on: MASK, BOOL 0', { flags: BOOL | MASK, index, count: 1, data: Uint8Array.of(0) });
  ask('on: MASK, an eventfd', { flags: EVENTFD | MASK, index, count: 1, data: s32(first) });
  ask('masked: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  counts('masked: loopback all the same');
  ask('masked: UNMASK, BOOL 0', { flags: BOOL | UNMASK, index, count: 1, data: Uint8Array.of(0) });
  ask('masked: UNMASK, BOOL 1', { flags: BOOL | UNMASK, index, count: 1, data: Uint8Array.of(1) });
  ask('UNMASK again', { flags: NONE | UNMASK, index, count: 1 });
  counts('unmasked, nothing asserted');
  eventfd('on: fd -1', -1);
  ask('on, no trigger: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  counts('on, no trigger');
  eventfd('on: a number nobody has', 999);
  eventfd('on: fd -2', -2);
  eventfd('on: an eventfd again', first);
  ask('on: NONE count 1, again', { flags: NONE | TRIGGER, index, count: 1 });
  counts('on: the trigger is back');
  config.write16(COMMAND, config.read16(COMMAND) | DIS_INTX);
  ask('DisINTx: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  counts('DisINTx: no loopback');
  config.write16(COMMAND, config.read16(COMMAND) & ~DIS_INTX);
  ask('without it: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  counts('without it');
  ask('other indices meanwhile: MSI off', { flags: NONE | TRIGGER, index: MSI });
  ask('other indices meanwhile: MSI on', { flags: EVENTFD | TRIGGER, index: MSI, count: 1, data: s32(second) });
  ask('off', { flags: NONE | TRIGGER, index });
  ask('off again', { flags: NONE | TRIGGER, index });
  eventfd('enabled by fd -1', -1);
  ask('and masked', { flags: NONE | MASK, index, count: 1 });
  ask('which excludes MSI', { flags: EVENTFD | TRIGGER, index: MSI, count: 1, data: s32(second) });
  ask('off, at last', { flags: NONE | TRIGGER, index });
}

/** The unmask eventfd: consumed by the kernel, replaced by nobody, gone with its last descriptor. */
async function unmaskEventfd(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  const index = INTX;
  const trigger = newEventfd(kernel);
  ask('enable', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(trigger) });
  const unmask = (label: string, fd: number): unknown => ask(label, { flags: EVENTFD | UNMASK, index, count: 1, data: s32(fd) });
  unmask('fd -1, none there', -1);
  unmask('fd -5', -5);
  unmask('a number nobody has', 999);
  unmask('a memfd', kernel.memfd('x'));
  const one = newEventfd(kernel);
  unmask('an eventfd', one);
  unmask('the same again', one);
  unmask('another', newEventfd(kernel));
  kernel.write(one, new Uint8Array(BigUint64Array.of(5n).buffer));
  await new Promise((resolve) => setTimeout(resolve, 20));
  see.note('its count is consumed', taken(kernel, one));
  unmask('fd -1', -1);
  kernel.write(one, new Uint8Array(BigUint64Array.of(3n).buffer));
  see.note('no longer consumed', taken(kernel, one));
  const pending = newEventfd(kernel, 7);
  unmask('one with a count', pending);
  await new Promise((resolve) => setTimeout(resolve, 20));
  see.note('a count from before is left', taken(kernel, pending));
  kernel.close(pending);
  await new Promise((resolve) => setTimeout(resolve, 20));
  unmask('closed, its place is free', one);
  ask('INTx off', { flags: NONE | TRIGGER, index });
  ask('on again', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(trigger) });
  unmask('off takes it along', one);
}

/** edu raises INTx: once until unmasked, again while it is still asserted. */
async function level(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  const config = new ConfigSpace(kernel, device);
  const bar = mapRegion(kernel, device, 0);
  const index = INTX;
  const eventfd = newEventfd(kernel);
  const settle = async (): Promise<number> => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    return taken(kernel, eventfd);
  };
  const pin = (): boolean => (config.read16(6) & 8) !== 0;
  ask('enable', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(eventfd) });
  bar.write32(0x60, 1);
  see.note('raised', await awaited(kernel, eventfd));
  see.note('STATUS says asserted', pin());
  bar.write32(0x60, 2);
  see.note('raised again, masked', await settle());
  ask('UNMASK while asserted', { flags: NONE | UNMASK, index, count: 1 });
  see.note('one more', await settle());
  ask('UNMASK while asserted, again', { flags: NONE | UNMASK, index, count: 1 });
  see.note('and one more', await settle());
  bar.write32(0x64, 3);
  see.note('acknowledged: STATUS', pin());
  ask('UNMASK', { flags: NONE | UNMASK, index, count: 1 });
  see.note('no more', await settle());
  ask('MASK', { flags: NONE | MASK, index, count: 1 });
  bar.write32(0x60, 1);
  see.note('raised while masked', await settle());
  const unmask = newEventfd(kernel);
  ask('UNMASK by an eventfd', { flags: EVENTFD | UNMASK, index, count: 1, data: s32(unmask) });
  kernel.write(unmask, new Uint8Array(BigUint64Array.of(1n).buffer));
  see.note('one, after it was written', await awaited(kernel, eventfd));
  bar.write32(0x64, 1);
  kernel.write(unmask, new Uint8Array(BigUint64Array.of(1n).buffer));
  see.note('acknowledged, unmasked', await settle());
  config.write16(COMMAND, config.read16(COMMAND) | DIS_INTX);
  bar.write32(0x60, 1);
  see.note('raised with DisINTx', await settle());
  ask('UNMASK with DisINTx', { flags: NONE | UNMASK, index, count: 1 });
  see.note('nothing', await settle());
  config.write16(COMMAND, config.read16(COMMAND) & ~DIS_INTX);
  see.note('DisINTx cleared: it fires', await settle());
  bar.write32(0x64, 1);
  ask('UNMASK, for the rest', { flags: NONE | UNMASK, index, count: 1 });
  ask('MASK once more', { flags: NONE | MASK, index, count: 1 });
  bar.write32(0x60, 1);
  config.write16(COMMAND, config.read16(COMMAND) | DIS_INTX);
  config.write16(COMMAND, config.read16(COMMAND) & ~DIS_INTX);
  see.note('setting and clearing DisINTx undoes a MASK', await settle());
  bar.write32(0x64, 1);
  const other = newEventfd(kernel);
  ask('another trigger', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(other) });
  kernel.close(other);
  bar.write32(0x60, 1);
  see.note('its descriptor closed: the first one hears nothing', await settle());
  bar.write32(0x64, 1);
  ask('off', { flags: NONE | TRIGGER, index });
}

function msi(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  const [first, second] = [newEventfd(kernel), newEventfd(kernel)];
  const index = MSI;
  ask('off: NONE count 0', { flags: NONE | TRIGGER, index });
  ask('off: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  ask('off: BOOL', { flags: BOOL | TRIGGER, index, count: 1, data: Uint8Array.of(1) });
  ask('off: EVENTFD count 0', { flags: EVENTFD | TRIGGER, index, count: 0 });
  ask('off: a number nobody has', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(999) });
  ask('still off: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  ask('off: fd -1', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(-1) });
  ask('on with none: NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  ask('on with none: INTx', { flags: EVENTFD | TRIGGER, index: INTX, count: 1, data: s32(first) });
  ask('on with none: an eventfd', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(first) });
  ask('NONE count 1', { flags: NONE | TRIGGER, index, count: 1 });
  see.note('one', taken(kernel, first));
  ask('BOOL 1', { flags: BOOL | TRIGGER, index, count: 1, data: Uint8Array.of(1) });
  ask('BOOL 0', { flags: BOOL | TRIGGER, index, count: 1, data: Uint8Array.of(0) });
  see.note('one again', taken(kernel, first));
  ask('EVENTFD count 0, on', { flags: EVENTFD | TRIGGER, index, count: 0 });
  ask('another eventfd', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(second) });
  ask('NONE count 1, of the other', { flags: NONE | TRIGGER, index, count: 1 });
  see.note('both', [taken(kernel, first), taken(kernel, second)]);
  ask('a number nobody has', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(999) });
  ask('NONE count 1, after the failure', { flags: NONE | TRIGGER, index, count: 1 });
  see.note('the trigger is gone', [taken(kernel, first), taken(kernel, second)]);
  ask('an eventfd again', { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(first) });
  ask('off', { flags: NONE | TRIGGER, index });
  ask('off again', { flags: NONE | TRIGGER, index });
}

/** MSI-X: vectors come as they are asked for; a failure takes those before it in its range. */
function msix(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  const fds = [0, 1, 2, 3, 4].map(() => newEventfd(kernel));
  const index = MSIX;
  const fire = (label: string): void => {
    ask(`${label}: NONE of all`, { flags: NONE | TRIGGER, index, count: 5 });
    see.note(
      `${label}: signalled`,
      fds.map((fd) => taken(kernel, fd)),
    );
  };
  const set = (label: string, start: number, ...data: number[]): unknown =>
    ask(label, { flags: EVENTFD | TRIGGER, index, start, count: data.length, data: s32(...data) });
  ask('off: start 4, NONE count 0', { flags: NONE | TRIGGER, index, start: 4 });
  ask('off: start 4, EVENTFD count 0', { flags: EVENTFD | TRIGGER, index, start: 4, count: 0 });
  ask('on, without any trigger: NONE', { flags: NONE | TRIGGER, index, count: 1 });
  ask('off', { flags: NONE | TRIGGER, index });
  set('two vectors', 0, fds[0]!, fds[1]!);
  fire('two');
  set('the fourth: grows', 3, fds[3]!);
  fire('with a fourth');
  set('the third is -1', 2, -1);
  set('three, the second of them bad', 0, fds[4]!, 999, fds[4]!);
  fire('after a failure in the second');
  set('all five', 0, ...(fds as [number]));
  fire('all five');
  set('1 to 3, the last of them no eventfd', 1, fds[1]!, fds[2]!, kernel.memfd('x'));
  fire('after a failure in the fourth');
  set('over the end', 4, fds[0]!, fds[1]!);
  set('one for all', 0, fds[0]!, fds[0]!, fds[0]!, fds[0]!, fds[0]!);
  fire('one for all');
  ask('BOOL of some', { flags: BOOL | TRIGGER, index, count: 5, data: Uint8Array.of(1, 0, 1, 0, 1) });
  see.note(
    'BOOL of some: signalled',
    fds.map((fd) => taken(kernel, fd)),
  );
  ask('BOOL of two from 3', { flags: BOOL | TRIGGER, index, start: 3, count: 2, data: Uint8Array.of(1, 1) });
  see.note(
    'BOOL of two: signalled',
    fds.map((fd) => taken(kernel, fd)),
  );
  set('some taken back', 1, -1, -7);
  fire('some taken back');
  ask('MSI meanwhile', { flags: EVENTFD | TRIGGER, index: MSI, count: 1, data: s32(fds[0]!) });
  ask('INTx meanwhile', { flags: EVENTFD | TRIGGER, index: INTX, count: 1, data: s32(fds[0]!) });
  see.note(
    'DEVICE_RESET',
    attempt(() => kernel.ioctl(device, VFIO_DEVICE_RESET)),
  );
  fire('after a reset');
  ask('start 4, NONE count 0: all off', { flags: NONE | TRIGGER, index, start: 4 });
  ask('NONE, off', { flags: NONE | TRIGGER, index, count: 1 });
  set('from the third', 2, fds[2]!);
  fire('from the third');
}

function errAndReq(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  const eventfd = newEventfd(kernel);
  for (const [name, index] of Object.entries({ ERR, REQ })) {
    const one = (label: string, set: Partial<IrqSet>): unknown =>
      ask(`${name}: ${label}`, { flags: NONE | TRIGGER, index, ...set });
    one('none set, NONE count 0', {});
    one('none set, NONE count 1', { count: 1 });
    one('none set, BOOL 1', { flags: BOOL | TRIGGER, count: 1, data: Uint8Array.of(1) });
    one('none set, BOOL 0', { flags: BOOL | TRIGGER, count: 1, data: Uint8Array.of(0) });
    one('BOOL count 0', { flags: BOOL | TRIGGER });
    one('EVENTFD count 0', { flags: EVENTFD | TRIGGER });
    for (const fd of [-1, -2, 999]) one(`fd ${fd}`, { flags: EVENTFD | TRIGGER, count: 1, data: s32(fd) });
    one('a memfd', { flags: EVENTFD | TRIGGER, count: 1, data: s32(kernel.memfd('x')) });
    one('start 1', { start: 1 });
    one('count 2', { count: 2 });
    one('an eventfd', { flags: EVENTFD | TRIGGER, count: 1, data: s32(eventfd) });
    one('NONE count 1', { count: 1 });
    one('BOOL 1', { flags: BOOL | TRIGGER, count: 1, data: Uint8Array.of(1) });
    see.note(`${name}: signalled`, taken(kernel, eventfd));
    one('a number nobody has', { flags: EVENTFD | TRIGGER, count: 1, data: s32(999) });
    one('NONE count 1, after it', { count: 1 });
    see.note(`${name}: signalled after the failure`, taken(kernel, eventfd));
    one('NONE count 0', {});
    one('NONE count 0 again', {});
    one('MASK', { flags: NONE | MASK });
  }
}

/** MSI of edu: nothing arrives without bus mastering. */
async function busMaster(kernel: Kernel, see: Observer, [address]: string[]): Promise<void> {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const bar = mapRegion(kernel, device, 0);
  const eventfd = newEventfd(kernel);
  see.note('bus mastering, opened', (config.read16(COMMAND) & 4) !== 0);
  see.call('SET_IRQS, MSI', () => setTrigger(kernel, device, MSI, eventfd));
  bar.write32(0x60, 1);
  await new Promise((resolve) => setTimeout(resolve, 50));
  see.note('raised without it', taken(kernel, eventfd));
  bar.write32(0x64, 1);
  config.enable();
  await new Promise((resolve) => setTimeout(resolve, 50));
  see.note('switched on, not made up for', taken(kernel, eventfd));
  bar.write32(0x60, 1);
  see.note('raised with it', await awaited(kernel, eventfd));
  bar.write32(0x64, 1);
  see.call('SET_IRQS, MSI off', () => setTrigger(kernel, device, MSI));
  bar.write32(0x60, 1);
  await new Promise((resolve) => setTimeout(resolve, 50));
  see.note('raised with MSI off', taken(kernel, eventfd));
  bar.write32(0x64, 1);
}

/** Vectors the device has not. */
function without(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const ask = asker(kernel, see, device);
  const eventfd = newEventfd(kernel);
  for (const index of [INTX, MSI, MSIX, ERR, REQ]) {
    ask(`index ${index}: NONE count 0`, { flags: NONE | TRIGGER, index });
    ask(`index ${index}: an eventfd`, { flags: EVENTFD | TRIGGER, index, count: 1, data: s32(eventfd) });
    ask(`index ${index}: MASK`, { flags: NONE | MASK, index, count: 1 });
    ask(`index ${index}: no action`, { flags: NONE, index, count: 0 });
  }
  see.call('data longer than needed', () =>
    kernel.ioctl(device, VFIO_DEVICE_SET_IRQS, join(u32s(100, NONE | TRIGGER, REQ, 0, 0), new Uint8Array(80)), UNSAFE),
  );
}

/** A vector in D3: there is none to be had. */
function asleep(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { device } = openDevice(kernel, address!);
  const config = new ConfigSpace(kernel, device);
  const at = config.find(1);
  const eventfd = newEventfd(kernel);
  config.write16(at + 4, 3);
  see.call('D3: MSI-X', () => setTrigger(kernel, device, MSIX, eventfd));
  config.write16(at + 4, 0);
  see.call('D0: MSI-X', () => setTrigger(kernel, device, MSIX, eventfd));
}

/** A second descriptor of the device has the same interrupts; the last one takes them along. */
function shared(kernel: Kernel, see: Observer, [address]: string[]): void {
  const { container, group, device } = openDevice(kernel, address!);
  const eventfd = newEventfd(kernel);
  see.call('SET_IRQS, MSI', () => setTrigger(kernel, device, MSI, eventfd));
  const copy = kernel.dup(device);
  kernel.close(device);
  see.call('a dup: NONE count 1', () => setIrqs(kernel, copy, { flags: NONE | TRIGGER, index: MSI, count: 1 }));
  see.note('signalled', taken(kernel, eventfd));
  kernel.close(copy);
  kernel.close(group);
  kernel.close(container);
  const again = openDevice(kernel, address!);
  see.call('opened again: NONE count 1', () => setIrqs(kernel, again.device, { flags: NONE | TRIGGER, index: MSI, count: 1 }));
  see.note('signalled no more', taken(kernel, eventfd));
}

const section = 'Interrupts';
const of = (what: string, part: Part, body: (kernel: Kernel, see: Observer, addresses: string[]) => void | Promise<void>): Case =>
  withDevices(`vfio/irqs/${what}`, section, [part], body);

export const irqCases: readonly Case[] = [
  of('order', 'edu', order),
  of('order of e1000e', 'e1000e', order),
  of('data-nowhere', 'edu', dataNowhere),
  of('intx', 'edu', intx),
  of('intx of e1000e', 'e1000e', intx),
  of('intx of xhci', 'xhci', intx),
  of('unmask-eventfd', 'edu', unmaskEventfd),
  of('intx-level', 'edu', level),
  of('msi', 'edu', msi),
  of('msi of e1000e', 'e1000e', msi),
  of('msix', 'e1000e', msix),
  of('msix of nvme', 'nvme', msix),
  of('msix of xhci', 'xhci', msix),
  of('err-and-req', 'edu', errAndReq),
  of('err-and-req of e1000e', 'e1000e', errAndReq),
  of('bus-master', 'edu', busMaster),
  of('without-any', 'testdev', without),
  of('asleep', 'e1000e', asleep),
  of('shared', 'edu', shared),
];
