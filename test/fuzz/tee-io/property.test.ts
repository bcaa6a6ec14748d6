// A short run of the properties; `npm run fuzz -- --area tee-io` is the long one.
import { Kvm } from 'kvio';
import { openSim } from 'kvio/sim';
import { expect, it } from 'vitest';
import { draw, play, showViolation } from './property.ts';

const SEED = 7;
const SEQUENCES = 60;

it('random interleavings of guest, host and device keep the properties, and come near them', () => {
  const seen = new Map<string, number>();
  for (let seed = SEED; seed < SEED + SEQUENCES; seed++) {
    const violation = play(draw(seed), seen);
    if (violation !== undefined) throw new Error(showViolation(violation));
  }
  for (const what of ['private DMA', 'shared DMA in state 0', 'shared DMA in state 2', 'MMIO served with T set', 'state 3'])
    expect(seen.get(what) ?? 0, what).toBeGreaterThan(5);
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
  'a device that serves whoever comes': [/reached the device in state [123]/, ({ tdi }) => tdi, { admits: () => true }],
  'pages that are committed because they are there': [/which is not committed/, ({ vm }) => vm, { isCommitted: () => true }],
  'a TSM that does not stop what it unbinds': [/bound to nobody, and in state [123]/, ({ tdi }) => tdi, { stop: () => {} }],
  'a VM that is forgotten by nobody': [/bound|the VM is still there/, ({ vm }) => vm, { put: () => {} }],
};

interface Machine {
  readonly tdi: object;
  readonly vm: object;
}

it.each(Object.entries(faults))(
  'a fault is found: %s',
  (_name, [violated, of, change]) => {
    const kernel = openSim({ machine: 'tee-io-7.2' });
    const { vm } = kernel.process.fds.get(Kvm.open(kernel).createVm().fd) as unknown as { vm: object };
    const prototype = Object.getPrototypeOf(of({ tdi: kernel.tdi('0000:01:00.0')!, vm })) as Record<string, unknown>;
    const before = Object.fromEntries(Object.keys(change).map((name) => [name, prototype[name]]));
    Object.assign(prototype, change);
    try {
      const found = Array.from({ length: 60 }, (_, seed) => seed).reduce<string | undefined>(
        (what, seed) => what ?? play(draw(seed))?.what,
        undefined,
      );
      expect(found).toMatch(violated);
    } finally {
      Object.assign(prototype, before);
    }
  },
  120_000,
);
