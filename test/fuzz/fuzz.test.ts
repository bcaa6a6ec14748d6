/** The fuzzer itself: it finds a fault that was planted, makes it small, and finds nothing between two equal kernels. */
import { openSim, profiles } from 'kvio/sim';
import { ioctlByName } from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { scenes } from '../conformance/teardown/index.ts';
import { orderAt, ordersOf, standsForAll } from '../conformance/teardown/scene.ts';
import { areas } from './areas.ts';
import { type Finding, fuzz, showFinding } from './fuzz.ts';
import { pairWith } from './machine.ts';
import { compareOrders, Orders, showDiffering } from './orders.ts';
import { playOn, type Remote } from './remote.ts';
import type { Area } from './step.ts';

const machine = Object.values(profiles)[0]!;
const area = areas['kvm'] as Area;

type Change = (request: number, result: number, arg: unknown) => number;

/** A simulated kernel whose backend gives another answer to some ioctls. */
function faulty(change: Change, like = machine) {
  const kernel = openSim({ machine: like });
  for (const name of ['tryIoctl', 'ioctl'] as const) {
    const original = kernel[name].bind(kernel);
    kernel[name] = (fd, request, arg, options) => change(request, original(fd, request, arg, options), arg);
  }
  return kernel;
}

function find(change: Change): Finding | undefined {
  return fuzz({ area, pair: pairWith(() => faulty(change), machine), seed: 1, time: 20_000 }).findings[0];
}

const request = (name: string): number => ioctlByName(name)!.request;
const EINVAL = 22;
const EEXIST = 17;

describe('the fuzzer', () => {
  it('finds nothing between the simulator and itself', () => {
    const { findings, tally } = fuzz({
      area,
      pair: pairWith(() => openSim({ machine }), machine),
      seed: 7,
      time: 20_000,
      sequences: 300,
    });
    expect(findings.map((finding) => showFinding(finding, 'kvm', ''))).toEqual([]);
    expect(tally.calls).toBeGreaterThan(5000);
  });

  it('draws the same sequences from the same seed', () => {
    const once = () => {
      const { tally } = fuzz({ area, pair: pairWith(() => openSim({ machine }), machine), seed: 3, time: 60_000, sequences: 50 });
      return { calls: tally.calls, notModelled: [...tally.notModelled], cut: [...tally.cut] };
    };
    expect(once()).toEqual(once());
  });

  it('finds another errno, and shows the shortest way to it', () => {
    const overlap = (called: number, result: number): number =>
      called === request('KVM_SET_USER_MEMORY_REGION') && result === -EEXIST ? -EINVAL : result;
    const found = find(overlap)!;
    expect(found.difference.label).toBe('returned');
    expect(found.program.length).toBeLessThanOrEqual(6);
    expect(showFinding(found, 'kvm', '')).toMatch(/define\('kvm\/fuzz\/1-\d+'/);
  });

  it('finds a limit that is off by one', () => {
    const limit = (called: number, result: number, arg: unknown): number =>
      called === request('KVM_CREATE_VCPU') && arg === 4095n ? -EINVAL : result;
    const found = find(limit)!;
    expect(found.difference.message).toContain('KVM_CREATE_VCPU');
    expect(found.program.length).toBeLessThanOrEqual(3);
  });

  it('finds the same in a kernel that is given a sequence whole', () => {
    const allocator = areas['allocator'] as Area;
    const test = profiles['lab-vtd-7.2']!;
    const remoteWith = (change: Change): Remote => ({
      play: (program, patience) => playOn(faulty(change, test), undefined, { program, patience }),
    });
    const look = (change: Change) =>
      fuzz({ area: allocator, pair: pairWith(remoteWith(change), test), seed: 2, time: 60_000, calls: 3000 });
    expect(look((_, result) => result).findings).toEqual([]);
    const overlap = look((called, result) => (called === request('IOMMU_IOAS_MAP') && result === -EEXIST ? -EINVAL : result));
    expect(overlap.findings[0]!.difference.message).toContain('EEXIST');
    expect(overlap.findings[0]!.program.length).toBeLessThanOrEqual(8);
  });

  it('finds a byte too many in a struct', () => {
    const written = (called: number, result: number, arg: unknown): number => {
      if (called === request('KVM_GET_DEBUGREGS') && arg instanceof Uint8Array) arg[100] = 1;
      return result;
    };
    const found = find(written)!;
    expect(found.difference.label).toBe('bytes');
    expect(found.program.length).toBeLessThanOrEqual(4);
  });
});

describe('orders of teardown', () => {
  it('are all there, each once', () => {
    const orders = Array.from({ length: 120 }, (_, at) => orderAt([...'abcde'], at).join(''));
    expect(ordersOf([...'abcde'])).toBe(120);
    expect(new Set(orders).size).toBe(120);
    // And each beginning is looked at once.
    const looked = [0, 1, 2, 3, 4, 5].map((steps) => {
      const standing = orders.filter((_, at) => standsForAll([...'abcde'], at, steps)).map((order) => order.slice(0, steps));
      return [standing.length, new Set(standing).size];
    });
    expect(looked).toEqual([1, 5, 20, 60, 120, 120].map((count) => [count, count]));
    expect(new Set(orders.slice(0, 20).map((order) => order[0])).size).toBe(5);
  });

  it('differ where a kernel lets go of something else', () => {
    const like = profiles['lab-vtd-7.2']!;
    const scene = scenes.find(({ name }) => name === 'vfio-by-group')!;
    const ordersOn = (open: () => ReturnType<typeof openSim>): Orders =>
      new Orders({ name: 'sim', arch: 'x64', nofile: 1024, machine: 'vtd', open }, scenes);
    /** A group that is in its container for ever. */
    const sticky = (called: number, result: number, arg: unknown): number => {
      if (called === request('VFIO_GROUP_GET_STATUS') && arg instanceof Uint8Array) arg[4] = 3;
      return result;
    };
    const compare = (change: Change) => {
      const [real, sim] = [ordersOn(() => faulty(change, like)), ordersOn(() => openSim({ machine: like }))];
      return compareOrders(
        scene,
        (question) => real.tell(question),
        (question) => sim.tell(question),
        { most: 60 },
      );
    };
    expect(compare((_, result) => result)).toMatchObject({ orders: 60, all: 5040, differing: [] });
    const { differing } = compare(sticky);
    const last = orderAt(scene.things, 0);
    expect(differing[0]!.order).toEqual(last);
    expect(showDiffering(scene, differing[0]!)).toContain(`inOrder('vfio/teardown/by-group/${last.join('-')}', vfioByGroup, [`);
  });
});
