import { describe, expect, it } from 'vitest';
import { NotModelled } from '../../../src/kernel/errors.ts';
import { openSim } from '../../../src/sim/index.ts';
import * as u from '../../../src/uapi/index.ts';
import { assign, E1000E, EDU, lab, NVME, TESTDEV } from './pci/kit.ts';

/** What still throws NotModelled. To be empty. */
const OPEN: readonly string[] = [];

const KINDS = ['vfio-container', 'vfio-group', 'vfio-device', 'vfio-migration'] as const;

const requests = u.ioctls().filter(({ arch = 'x86', fds }) => arch === 'x86' && KINDS.some((kind) => fds.includes(kind)));

/** Zeros, and 64 in `argsz` with a bit or a small number in each of the words behind. */
function* arguments_(): Generator<0 | Uint8Array> {
  yield 0;
  yield new Uint8Array(4096);
  for (let word = 1; word < 12; word++) {
    for (const value of [1, 2, 4, 8, 0x1000, 0x2_0000, 0x4_0000]) {
      const bytes = new Uint8Array(4096);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, 64, true);
      view.setUint32(4 * word, value, true);
      yield bytes;
    }
  }
}

describe('VFIO', () => {
  it('every request of every kind of descriptor is covered', () => {
    const rows = new Set(
      lab()
        .coverage()
        .map(({ area, name }) => `${area} ${name}`),
    );
    const missing = requests.flatMap(({ name, fds }) =>
      fds
        .filter((kind) => (KINDS as readonly string[]).includes(kind))
        .map((kind) => `${name} (${kind})`)
        .filter((row) => !rows.has(`ioctl ${row}`) && !rows.has(`absent ioctl ${row}`)),
    );
    expect(missing).toEqual([]);
  });

  it.each([EDU, NVME, E1000E, TESTDEV])('no request of any descriptor throws NotModelled: %s', (bdf) => {
    const kernel = lab();
    const { container, group, fd } = assign(kernel, bdf);
    const empty = kernel.open('/dev/vfio/vfio');
    const found = new Set<string>();
    for (const { name, request } of requests) {
      for (const [kind, one] of Object.entries({ empty, container, device: fd, group })) {
        for (const arg of arguments_()) {
          try {
            kernel.tryIoctl(one, request, arg, { unsafe: true });
          } catch (error) {
            if (!(error instanceof NotModelled)) throw error;
            found.add(`${name} on ${kind}: ${error.message}`);
          }
        }
      }
    }
    expect([...found].filter((one) => !OPEN.includes(one))).toEqual([]);
  });

  it('a machine without devices has the container', () => {
    const kernel = openSim({ machine: 'amd-svm-7.2' });
    const fd = kernel.open('/dev/vfio/vfio');
    expect(kernel.ioctl(fd, u.VFIO_CHECK_EXTENSION, u.VFIO_TYPE1v2_IOMMU)).toBe(1);
  });
});
