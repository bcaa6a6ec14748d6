import { describe, expect, test } from 'vitest';
import { type MigrationSteps, nextState, walkStates } from '../../../src/sim/vfio/migration.ts';
import { EINVAL, EIO } from '../../../src/uapi/sys.ts';
import { boot } from '../machine.ts';

const ALL = 7;

describe('nextState', () => {
  test('the arcs of a device that can do everything', () => {
    const row = (from: number): number[] => [1, 2, 3, 4, 5, 6, 7].map((to) => nextState(ALL, from, to));
    expect(row(1)).toEqual([1, 5, 3, 4, 5, 5, 5]);
    expect(row(2)).toEqual([5, 2, 5, 5, 5, 6, 5]);
    expect(row(3)).toEqual([1, 1, 3, 1, 1, -EINVAL, -EINVAL]);
    expect(row(4)).toEqual([1, 1, 1, 4, 1, 1, 1]);
    expect(row(5)).toEqual([1, 2, 1, 1, 5, 2, 7]);
    expect(row(6)).toEqual([2, 2, 7, 2, 2, 6, 7]);
    expect(row(7)).toEqual([5, 5, 3, 5, 5, 6, 7]);
    expect(row(0)).toEqual(Array(7).fill(-EINVAL));
  });

  test('states a device has not are passed over, or refused as the goal', () => {
    expect(nextState(1, 2, 3)).toBe(1);
    expect(nextState(1, 2, 5)).toBe(-EINVAL);
    expect(nextState(1, 2, 6)).toBe(-EINVAL);
    expect(nextState(5, 6, 3)).toBe(3);
    expect(nextState(ALL, 2, 0)).toBe(-EINVAL);
    expect(nextState(ALL, 2, 8)).toBe(-EINVAL);
  });
});

test('a step that fails leaves the device at the state before it', () => {
  const { process } = boot();
  const visited: number[] = [];
  const driver: MigrationSteps = {
    flags: ALL,
    state: 2,
    step(_p, next) {
      visited.push(next);
      return next === 3 ? -EIO : 0;
    },
  };
  expect(walkStates(process, driver, 3)).toBe(-EIO);
  expect(visited).toEqual([5, 1, 3]);
  expect(driver.state).toBe(1);
});
