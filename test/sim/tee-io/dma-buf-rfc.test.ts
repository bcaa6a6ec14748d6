import { describe, expect, test } from 'vitest';
import { DmaBufFile } from '../../../src/sim/dma-buf.ts';
import type { TeeIo } from '../../../src/sim/hardware/tsm/switches.ts';
import { EINVAL, ENODEV, EPERM, O_CLOEXEC, O_RDWR } from '../../../src/uapi/sys.ts';
import * as v from '../../../src/uapi/vfio.ts';
import { join } from '../vfio/kit.ts';
import { E1000E } from '../vfio/pci/kit.ts';
import { Cdev, rfc, words } from './vfio-kit.ts';

const GET = v.VFIO_DEVICE_FEATURE_GET | v.VFIO_DEVICE_FEATURE_DMA_BUF;
const moveNotify = (): void => {};

function opened(switches: Partial<TeeIo> = {}): Cdev {
  const device = new Cdev(rfc({ dmaBufLayout: 'rfc', ...switches }), E1000E);
  device.bind();
  return device;
}

type Range = readonly [bar: number, offset: number, length: number];

function exported(device: Cdev, ...ranges: readonly Range[]): unknown {
  const entries = ranges.map(([bar, offset, length]) => join(words(4, bar, 0), words(8, offset, length)));
  return device.feature(GET, join(words(4, O_RDWR | O_CLOEXEC, ranges.length), ...entries));
}

function file(device: Cdev, ...ranges: readonly Range[]): DmaBufFile {
  const found = device.kernel.process.fds.get(exported(device, ...ranges) as number);
  if (!(found instanceof DmaBufFile)) throw new Error('no dma-buf');
  return found;
}

describe('VFIO_DEVICE_FEATURE_DMA_BUF as posted', () => {
  test('takes ranges of several BARs', () => {
    const device = opened();
    expect(file(device, [0, 0, 0x1000], [1, 0x1000, 0x2000]).size).toBe(0x3000n);
  });

  test('checks each range: the BAR, alignment, its end', () => {
    const device = opened();
    const refused: Range[] = [
      [6, 0, 0x1000],
      [5, 0, 0x1000],
      [0, 1, 0x1000],
      [0, 0, 0x1001],
      [0, 0x1f000, 0x2000],
      [2, 0, 0x1000],
    ];
    expect(refused.map((range) => exported(device, range))).toEqual(refused.map(() => 'EINVAL'));
    expect([device.feature(GET, new Uint8Array(8), 15), device.feature(GET | v.VFIO_DEVICE_FEATURE_PROBE)]).toEqual([
      'EINVAL',
      0,
    ]);
    expect(device.feature(GET, words(4, O_RDWR, 0xffff_ffff))).toBe('ENOMEM');
  });

  test('January: nothing is all of the BAR; may be attached at any time, has nothing to map', () => {
    const device = opened();
    const whole = file(device, [0, 0, 0]);
    expect(whole.size).toBe(0x20000n);
    device.setConfig(4, '0000');
    const attached = whole.attach({ allowPeer2Peer: false, moveNotify });
    expect(typeof attached === 'object' && attached.map()).toBe(-EINVAL);
  });

  test('May: nothing is nothing; maps for who is on the bus, while it is not revoked', () => {
    const device = opened({ dmabufOwner: 'xm' });
    expect(file(device, [0, 0, 0]).size).toBe(0n);
    const bar = file(device, [0, 0, 0x1000]);
    const far = bar.attach({ allowPeer2Peer: false, moveNotify });
    const near = bar.attach({ allowPeer2Peer: true, moveNotify });
    if (typeof far === 'number' || typeof near === 'number') throw new Error('not attached');
    expect([far.map(), typeof near.map()]).toEqual([-EPERM, 'object']);
    device.setConfig(4, '0000');
    expect([far.map(), near.map()]).toEqual([-EPERM, -ENODEV]);
    expect(typeof bar.attach({ allowPeer2Peer: true, moveNotify })).toBe('object');
  });
});
