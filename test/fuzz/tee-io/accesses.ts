/** Who reaches what: guests and the host the devices, devices memory; and what must not come of it. */
import type { Choices } from '../choices.ts';
import type { GuestVm } from './guest-vm.ts';
import type { Bar, Mapped, TrustedDevice } from './trusted-device.ts';
import { demand, FRAMES, GUESTS, PAGE, result, type World } from './world.ts';

export const UNLOCKED = 0;
export const RUN = 2;

/** Memory of the device that is TEE memory: the registers' first page, all of BAR 2. */
export const place = (c: Choices): { bar: Bar; offset: number } =>
  c.chance(0.5) ? { bar: 2, offset: 8 * c.below(512) } : { bar: 0, offset: c.pick([0, 8, 0x28]) };

/**
 * No access to TEE memory is served but with the T bit in RUN, to the VM the device is bound to, or without it in CONFIG_UNLOCKED; and none by a device that was pulled out. `by`: the VM
 * whose guest has made it, with the T bit.
 */
function mayReach(w: World, kind: 'MMIO' | 'DMA', by: GuestVm | undefined, access: () => string): string {
  const before = w.devices.map((device) => {
    const { state, owner, reached, pulled } = device;
    return { device, state, owner, reached, pulled };
  });
  const t = by !== undefined;
  const bit = `T ${t ? 'set' : 'clear'}`;
  const outcome = access();
  for (const { device, state, owner, reached, pulled } of before) {
    if (device.reached === reached) {
      if (kind === 'MMIO' && state !== UNLOCKED) w.count(`MMIO refused in state ${state}, ${bit}`);
      if (state === RUN && t && owner !== by) w.count("MMIO refused to another VM's guest");
      continue;
    }
    demand(!pulled, `an access with ${bit} reached a device that was pulled out`);
    demand(t ? state === RUN : state === UNLOCKED, `an access with ${bit} reached the device in state ${state}`);
    demand(!t || owner === by, `an access with ${bit} of ${by?.name} reached a device of ${owner?.name}`);
    w.count(`${kind} to a device served with ${bit}`);
  }
  return outcome;
}

export function guestMmio(w: World, c: Choices): string {
  const device = w.device(c);
  return guestReaches(w, c, device, w.guestOf(device, c), { isPrivate: c.chance(0.6), ...place(c) });
}

export function guestReaches(
  w: World,
  c: Choices,
  device: TrustedDevice,
  guest: GuestVm,
  { isPrivate, bar, offset }: { isPrivate: boolean; bar: Bar; offset: number },
): string {
  const isWrite = c.chance(0.3);
  const gpa = device.gpa[bar] + BigInt(offset);
  const outcome = mayReach(w, 'MMIO', isPrivate ? guest : undefined, () =>
    guest.play(function* (script) {
      if (isWrite) yield* script.writeMmio(gpa, 4, 0, { private: isPrivate });
      else yield* script.readMmio(gpa, 4, { private: isPrivate });
    }),
  );
  return `${guest.name}, ${device.name}: ${outcome}`;
}

export function hostMmio(w: World, c: Choices): string {
  const { assigned, name } = w.device(c);
  if (assigned?.dev_id === undefined || assigned.device.closed) return 'no device';
  const { bar, offset } = place(c);
  const how = c.below(3);
  const outcome = mayReach(w, 'MMIO', undefined, () =>
    result(() => {
      const region = assigned.device.region(bar);
      if (how === 0) region.read32(offset);
      else if (how === 1) region.write32(offset, 0);
      else {
        using mapped = region.mmap({ length: 4096 * (1 + (offset >> 12)) });
        mapped.read32(offset);
      }
    }),
  );
  return `${name}: ${outcome}`;
}

/** Any, those that are committed, or those that are private and are not. */
function framesOfInterest({ committed, isPrivate }: GuestVm, c: Choices): readonly number[] {
  const all = Array.from({ length: FRAMES }, (_, gfn) => gfn);
  const some = c.pick([
    all,
    all.filter((gfn) => committed.has(gfn)),
    all.filter((gfn) => isPrivate.has(gfn) && !committed.has(gfn)),
  ]);
  return some.length === 0 ? all : some;
}

/** What is mapped to no shared memory, and what is not mapped. */
function mappedOddly(table: ReadonlyMap<number, Mapped>): readonly number[] {
  const odd = [...table].filter(([, { kind }]) => kind !== 'ram').map(([at]) => at);
  return [...odd, 2 * FRAMES];
}

const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i]);

/** The device reaches what its state, the frame's attribute and the vendor's rule let it, and never other memory. */
export function dma(w: World, c: Choices): string {
  const device = w.device(c);
  const guest = device.owner ?? device.assigned?.guest;
  if (guest === undefined) return 'never opened';
  return dmaAt(w, c, device, c.pick(c.chance(0.3) ? mappedOddly(device.table) : framesOfInterest(guest, c)));
}

export function dmaAt(w: World, c: Choices, device: TrustedDevice, at: number): string {
  const { state, fn, owner, table, pulled } = device;
  const mapped = table.get(at);
  const guests = state === RUN && owner?.isPrivate.has(at) === true;
  const what = `DMA of ${device.name} to ${guests ? 'private' : 'shared'} frame ${at} in state ${state}`;
  const before = w.pages();
  const pattern = new Uint8Array(16).fill(0x44 + c.below(8));
  const isWrite = c.chance(0.4);
  let read: Uint8Array | undefined;
  let done = false;
  mayReach(w, 'DMA', undefined, () => {
    const iova = BigInt(at) * PAGE;
    read = isWrite ? undefined : fn.dma.read(iova, 16);
    done = read !== undefined || (isWrite && fn.dma.write(iova, pattern));
    return '';
  });
  const target = guests ? owner!.page('memfd', at) : nameOf(mapped);
  for (const [name, bytes] of w.pages()) {
    const was = before.get(name);
    const isNew = was === undefined && bytes.every((byte) => byte === 0);
    const allowed = (done && isWrite && name === target) || (was === undefined ? isNew : same(bytes, was));
    demand(allowed, `${what}${done ? '' : ', which failed,'} has changed ${name}`);
  }
  if (!done) {
    if (state === RUN && owner !== undefined) w.faulted.add(owner);
    return `${what}, ${isWrite ? 'write' : 'read'}: nothing`;
  }
  demand(!pulled, `${what} of a device that was pulled out`);
  demand(
    state === UNLOCKED || (state === RUN && owner !== undefined),
    `${what}${owner === undefined ? ', bound to nobody' : ''}`,
  );
  if (guests) privateDma(w, owner!, { at, what, bytes: read ?? pattern });
  else ordinaryDma(w, mapped, { what, state, bytes: read ?? pattern });
  return `${what}: done`;
}

const nameOf = (mapped: Mapped | undefined): string =>
  mapped !== undefined && 'guest' in mapped ? mapped.guest.page(mapped.kind, mapped.index) : '';

/** By the page table alone. */
function ordinaryDma(w: World, mapped: Mapped | undefined, dma: { what: string; state: number; bytes: Uint8Array }): void {
  const { what, state, bytes } = dma;
  demand(mapped !== undefined && mapped.kind !== 'hole', `${what}, where nothing is mapped`);
  const kind = { ram: 'shared DMA', memfd: 'DMA by page table to a guest_memfd', bar: 'DMA to a BAR', hole: '' }[mapped!.kind];
  w.count(`${kind} in state ${state}`);
  if (mapped === undefined || !('guest' in mapped)) return;
  const target = nameOf(mapped);
  const isTheirs = mapped.kind === 'memfd' && mapped.guest.isPrivate.has(mapped.index);
  demand(!isTheirs, `${what} has reached ${target}, which is private`);
  demand(same(w.pages().get(target)!, bytes), `${what} is not ${target}`);
}

function privateDma(w: World, guest: GuestVm, { at, what, bytes }: { at: number; what: string; bytes: Uint8Array }): void {
  demand(w.teeIo.vendor === 'sim' || guest.committed.has(at), `${what}, which is not committed`);
  const found = guestRead(guest, at);
  if (found !== undefined) demand(same(found, bytes), `${what}: the guest has ${found}, the device ${bytes}`);
  w.count('private DMA');
}

/** What the guest has there; undefined where it cannot be asked. */
function guestRead(guest: GuestVm, gfn: number): Uint8Array | undefined {
  let found: Uint8Array | undefined;
  guest.play(function* (script) {
    found = (yield* script.read(BigInt(gfn) * PAGE, 16, { private: true })).slice();
  });
  return found;
}

export function guestMemory(w: World, c: Choices): string {
  const guest = w.guest(c);
  const gfn = c.pick(framesOfInterest(guest, c));
  const isPrivate = c.chance(0.7);
  const before = guest.ram.read(gfn * 4096, 16).slice();
  const end = guest.play(function* (script) {
    yield* script.write(BigInt(gfn) * PAGE, new Uint8Array(16).fill(GUESTS), { private: isPrivate });
  });
  if (isPrivate) demand(same(guest.ram.read(gfn * 4096, 16), before), "the guest's private write is in the host's page");
  return `${isPrivate ? 'private' : 'shared'} write of ${gfn} by ${guest.name}: ${end}`;
}
