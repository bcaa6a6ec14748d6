// Everything there is to ask of an iommufd, with what may stand in any of its words: nothing is left unmodelled.
import type { Kernel } from 'kvio';
import { NotModelled } from 'kvio';
import { type Machine, openSim, profiles } from 'kvio/sim';
import * as u from 'kvio/uapi';
import { describe, expect, it } from 'vitest';
import { IOMMU_TEST_CMD, Iommufd, op } from '../../conformance/iommufd.ts';

const requests = u.ioctls().filter(({ fds }) => fds.includes('iommufd'));
const selftest = profiles['iommufd-selftest']!;
const EOPNOTSUPP = -95;

/** An iommufd with objects of all kinds, where there are mock devices; and what a word of an argument may be, their ids among it. */
function populated(kernel: Kernel, mocks = true): { iommufd: Iommufd; words: readonly (number | bigint)[] } {
  const iommufd = new Iommufd(kernel);
  const ioas = iommufd.ioas();
  const ram = kernel.guestRam(0x10000);
  const words = [0, 1, 2, 4, 8, 0x1000, 0xdead, 0xdead_beef, ram.address];
  if (!mocks) return { iommufd, words };
  const mock = iommufd.mock(ioas, 4);
  const parent = Number(iommufd.hwpt({ dev_id: mock.idev, pt_id: ioas, flags: u.IOMMU_HWPT_ALLOC_NEST_PARENT }));
  const fault = iommufd.faultQueue();
  const viommu = Number(iommufd.viommu({ type: 0xdead_beef, dev_id: mock.idev, hwpt_id: parent }));
  iommufd.vdevice(viommu, mock.idev, 1n);
  iommufd.mapAt(ioas, ram.address, 0x100_0000n, 0x10000n);
  const access = iommufd.test(op.CREATE_ACCESS, ioas, [[20, 1]]).view.getInt32(16, true);
  return { iommufd, words: [...words, ioas, mock.stdev, mock.idev, parent, fault.id, viommu, access, 0x100_0000n] };
}

/** Zeros; then each of these values in each word of 32 or 64 bits, with the right size in front. */
function* arguments_(size: number, words: readonly (number | bigint)[], from: number): Generator<DataView> {
  for (let at = from; at < size; at += 4) {
    for (const value of words) {
      const view = new DataView(new ArrayBuffer(4096));
      view.setUint32(0, size, true);
      if (typeof value === 'bigint') view.setBigUint64(at, value, true);
      else view.setUint32(at, value, true);
      yield view;
    }
  }
}

/** What throws NotModelled. */
function walk(machine: Machine): { open: string[]; made: number } {
  const found = new Set<string>();
  let made = 0;
  const attempt = (iommufd: Iommufd, request: number, view: DataView, name: string): number => {
    made++;
    try {
      return iommufd.kernel.tryIoctl(iommufd.fd, request, new Uint8Array(view.buffer), { unsafe: true }) as number;
    } catch (error) {
      if (!(error instanceof NotModelled)) throw error;
      found.add(`${name}: ${error.message}`);
      return 0;
    }
  };
  for (const { name, request, struct } of requests) {
    const kernel = openSim({ machine });
    const { iommufd, words } = populated(kernel, machine.iommufdTest);
    for (const view of arguments_(struct?.size ?? 72, words, 4)) attempt(iommufd, request, view, name);
    kernel.close();
  }
  return { open: [...found], made };
}

describe('a walk through /dev/iommu', () => {
  it.each([
    'iommufd-selftest',
    'lab-vtd-7.2',
    'lab-amd-7.2',
  ])('every request is covered, and none throws NotModelled: %s', (name) => {
    const machine = profiles[name]!;
    const rows = new Set(
      openSim({ machine })
        .coverage()
        .flatMap((row) => (row.area === 'ioctl' ? [row.name] : [])),
    );
    expect(requests.map((row) => `${row.name} (iommufd)`).filter((row) => !rows.has(row))).toEqual([]);
    const { open, made } = walk(machine);
    expect(open).toEqual([]);
    expect(made).toBeGreaterThan(1000);
  });

  it.each(Object.entries(op))('IOMMU_TEST_OP_%s is known, whatever its arguments', (_name, number) => {
    const kernel = openSim({ machine: selftest });
    const { iommufd, words } = populated(kernel);
    const answers = new Set<number>();
    for (const view of arguments_(72, words, 8)) {
      view.setUint32(4, number, true);
      answers.add(kernel.tryIoctl(iommufd.fd, IOMMU_TEST_CMD, new Uint8Array(view.buffer), { unsafe: true }) as number);
    }
    expect([...answers].some((answer) => answer !== EOPNOTSUPP)).toBe(true);
  });

  it('the test interface has no other operation', () => {
    const iommufd = new Iommufd(openSim({ machine: selftest }));
    expect(Object.values(op)).toEqual(Array.from({ length: 23 }, (_, at) => at + 1));
    for (const other of [0, 24, 25, 1000]) expect(iommufd.test(other, 0).returned).toBe('EOPNOTSUPP');
  });
});
