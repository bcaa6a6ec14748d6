/** The fuzzer itself: it finds a fault that was planted, makes it small, and finds nothing between two equal kernels. */
import { openSim, profiles } from 'kvio/sim';
import { ioctlByName } from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { areas } from './areas.ts';
import { type Finding, fuzz, showFinding } from './fuzz.ts';
import { pairWith } from './machine.ts';
import { playOn, type Remote } from './remote.ts';
import type { Area } from './step.ts';

const machine = Object.values(profiles)[0]!;
const area = areas['kvm'] as Area;

/** A simulated kernel whose backend gives another answer to some ioctls. */
function faulty(change: (request: number, result: number, arg: unknown) => number, like = machine) {
  const kernel = openSim({ machine: like });
  const original = kernel.tryIoctl.bind(kernel);
  kernel.tryIoctl = (fd, request, arg, options) => change(request, original(fd, request, arg, options), arg);
  return kernel;
}

function find(change: Parameters<typeof faulty>[0]): Finding | undefined {
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
    const remoteWith = (change: Parameters<typeof faulty>[0]): Remote => ({
      play: (program, patience) => playOn(faulty(change, test), undefined, { program, patience }),
    });
    const look = (change: Parameters<typeof faulty>[0]) =>
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
