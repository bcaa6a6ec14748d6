// A short run of the properties; `npm run fuzz -- --area tee-io` is the long one.
import type { TdiContext } from 'kvio/sim';
import { expect, it } from 'vitest';
import { Choices } from '../choices.ts';
import { draw, play, showViolation } from './property.ts';
import { World } from './world.ts';

const SEED = 7;
const SEQUENCES = 60;
/** What must have come to pass, and often. */
const NEAR: readonly string[] = [
  ...['private DMA', 'shared DMA in state 0', 'shared DMA in state 2', 'MMIO to a device served with T set', 'state 3'],
  ...["MMIO refused to another VM's guest", 'guest_memfd mapped', 'plugged in again', 'DMA to a device served with T clear'],
];

it('random interleavings of guest, host and device keep the properties, and come near them', () => {
  const seen = new Map<string, number>();
  for (let seed = SEED; seed < SEED + SEQUENCES; seed++) {
    const violation = play(draw(seed), seen);
    if (violation !== undefined) throw new Error(showViolation(violation));
  }
  for (const what of NEAR) expect(seen.get(what) ?? 0, what).toBeGreaterThan(5);
  for (const state of [1, 2, 3])
    expect(seen.get(`MMIO refused in state ${state}, T clear`) ?? 0, String(state)).toBeGreaterThan(3);
}, 120_000);

it('the same seed gives the same', () => {
  const once = (): [string, number][] => {
    const seen = new Map<string, number>();
    for (let seed = 1; seed < 6; seed++) play(draw(seed), seen);
    return [...seen];
  };
  expect(once()).toEqual(once());
});

/** What is changed of the simulator, by the prototypes of what it is made of. */
const faults: Readonly<Record<string, readonly [violated: RegExp, of: (machine: Machine) => object, change: object]>> = {
  'a device that serves whoever comes': [/reached the device in state \d/, ({ tdi }) => tdi, { admits: () => true }],
  'pages that are committed because they are there': [/which is not committed/, ({ vm }) => vm, { isCommitted: () => true }],
  'a TSM that does not stop what it unbinds': [/bound to nobody, and in state [123]/, ({ tdi }) => tdi, { stop: () => {} }],
  'a VM that is forgotten by nobody': [/bound|VM \d is still there/, ({ vm }) => vm, { put: () => {} }],
  'device memory that is whoever’s who has it in a slot': [
    /an access with T set of VM [01] reached a device of VM [01]/,
    ({ slot }) => slot,
    { fault: placeForAnybody },
  ],
  'a guest_memfd that anybody reaches who has it in his tables': [
    /has reached private page \d+ of VM [01], which is private/,
    ({ memfd }) => memfd,
    { guestPages: { get: withSharedPages } },
  ],
  'a device that is what it was when it is pulled out': [/pulled out, and in state [12]/, ({ tdi }) => tdi, { pulled: letGo }],
  'one fence for all guests': [
    /behind the fence of another guest's/,
    ({ tdi }) => tdi.tsm,
    { setFenced: (_kvm: object, on: boolean) => void (fence = on), isFenced: () => fence },
  ],
};

let fence = false;

/** As before a second VM was thought of. */
function placeForAnybody(this: Slot, gfn: number): object {
  const place = this.place(gfn);
  return place ?? faultOf.call(this, gfn, false);
}

interface Slot {
  place(gfn: number): object | undefined;
  fault(gfn: number, isPrivate: boolean): object;
}

const faultOf = (Object.getPrototypeOf(machine().slot) as Slot).fault;

function letGo(this: TdiContext): void {
  if (this.binding === undefined) this.tsm.forget(this);
}

function withSharedPages(this: { inode: object }): object {
  const { inode } = this;
  return new Proxy(inode, {
    get: (target, name) => {
      const value: unknown = name === 'isShared' ? () => true : Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

interface Machine {
  readonly tdi: TdiContext;
  readonly vm: object;
  readonly memfd: object;
  readonly slot: object;
}

function machine(): Machine {
  const { kernel, devices, guests } = new World(new Choices([]), new Map());
  const [device] = devices;
  const [guest] = guests;
  device!.makeSlot(guest!, 0, true);
  const { vm } = kernel.process.fds.get(guest!.vm.fd) as unknown as { vm: Memslots };
  const { dmaBuf: slot } = vm.memslots.find(Number(device!.gpa[0] >> 12n));
  const memfd = kernel.process.fds.get(guest!.memfd.fd)!;
  return { tdi: device!.tdi, vm, memfd, slot };
}

interface Memslots {
  readonly memslots: { find(gfn: number): { dmaBuf: object } };
}

it.each(Object.entries(faults))(
  'a fault is found: %s',
  (_name, [violated, of, change]) => {
    const prototype = Object.getPrototypeOf(of(machine())) as object;
    const before = Object.fromEntries(
      Object.keys(change).map((name) => [name, Object.getOwnPropertyDescriptor(prototype, name)!]),
    );
    for (const [name, value] of Object.entries(change)) {
      const descriptor = typeof value === 'function' ? { value } : (value as PropertyDescriptor);
      Object.defineProperty(prototype, name, { configurable: true, ...descriptor });
    }
    try {
      const found = Array.from({ length: 150 }, (_, seed) => seed).reduce<string | undefined>(
        (what, seed) => what ?? play(draw(seed))?.what,
        undefined,
      );
      expect(found).toMatch(violated);
    } finally {
      Object.defineProperties(prototype, before);
    }
  },
  120_000,
);
