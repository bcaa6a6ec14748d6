/** A device whose vendor driver migrates it: the states, the streams, and the log of what it wrote, as a VMM uses them. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Edu } from '../../../../src/sim/hardware/models/edu.ts';
import { MigratableAccelerator } from '../../../../src/sim/hardware/models/migratable-accelerator.ts';
import type { SimKernel } from '../../../../src/sim/index.ts';
import { O_RDWR } from '../../../../src/uapi/sys.ts';
import * as v from '../../../../src/uapi/vfio.ts';
import { answer, groupOf, join, lab, Opened, openDevice, store, words } from './kit.ts';

const MEMORY = 0x4000;
const SOURCE = '0000:00:10.0';
const TARGET = '0000:00:11.0';
const OTHER = '0000:00:12.0';
const BAR2 = 2n << 40n;

const { VFIO_DEVICE_FEATURE_GET: GET, VFIO_DEVICE_FEATURE_SET: SET } = v;
const [STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P, PRE_COPY, PRE_COPY_P2P] = [1, 2, 3, 4, 5, 6, 7];

class Device extends Opened {
  container = -1;
  group = -1;

  /** Goes to a state: the data descriptor, −1 where none comes, or the errno by name. */
  go(state: number): number | string {
    const data = words(4, state, 0xffff_ffff);
    const result = this.feature(SET | v.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, data);
    return result === 0 ? new DataView(data.buffer).getInt32(4, true) : String(result);
  }

  state(): number {
    const data = words(4, 0, 0);
    this.feature(GET | v.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, data);
    return new DataView(data.buffer).getInt32(0, true);
  }

  preCopyInfo(fd: number): unknown {
    const bytes = join(words(4, 24, 0), words(8, 0, 0));
    const result = answer(() => this.kernel.ioctl(fd, v.VFIO_MIG_GET_PRECOPY_INFO, bytes));
    const { initial_bytes, dirty_bytes } = v.vfio_precopy_info.decode(bytes);
    return result === 0 ? [Number(initial_bytes), Number(dirty_bytes)] : result;
  }
}

function open(kernel: SimKernel, bdf: string): Device {
  store(kernel, `/sys/bus/pci/devices/${bdf}/driver_override`, 'migratable-vfio-pci');
  store(kernel, '/sys/bus/pci/drivers_probe', bdf);
  const container = kernel.open('/dev/vfio/vfio', O_RDWR);
  const group = kernel.open(`/dev/vfio/${groupOf(kernel, bdf)}`, O_RDWR);
  kernel.ioctl(group, v.VFIO_GROUP_SET_CONTAINER, words(4, container));
  kernel.ioctl(container, v.VFIO_SET_IOMMU, v.VFIO_TYPE1v2_IOMMU);
  const device = new Device(kernel, openDevice(kernel, group, bdf));
  Object.assign(device, { container, group });
  return device;
}

/** Reads until there is nothing more: what came, and what the last read said. */
function drain(kernel: SimKernel, fd: number): { bytes: Uint8Array; last: unknown } {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const bytes = new Uint8Array(1000);
    const result = answer(() => kernel.read(fd, bytes));
    if (typeof result !== 'number' || result === 0) return { bytes: Buffer.concat(pieces), last: result };
    pieces.push(bytes.subarray(0, result));
  }
}

const RECORD = 8 + 8 + 4096;
const ALL = 8 + (MEMORY / 4096) * RECORD + 8 + 32;

let kernel: SimKernel;
let from: Device;
let to: Device;

beforeEach(() => {
  const plug = (at: string) => ({ at, device: new MigratableAccelerator({ memory: MEMORY }) });
  kernel = lab({ pci: [plug(SOURCE), plug(TARGET), { at: OTHER, device: new Edu() }] });
  from = open(kernel, SOURCE);
  to = open(kernel, TARGET);
});

test('says what it can', () => {
  const flags = words(8, 0);
  expect(from.feature(GET | v.VFIO_DEVICE_FEATURE_MIGRATION, flags)).toBe(0);
  expect(new DataView(flags.buffer).getUint32(0, true)).toBe(7);
  const size = words(8, 0);
  expect(from.feature(GET | v.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, size)).toBe(0);
  expect(new DataView(size.buffer).getUint32(0, true)).toBe(ALL);
  expect(from.state()).toBe(RUNNING);
});

test('the driver takes no other devices', () => {
  store(kernel, `/sys/bus/pci/devices/${OTHER}/driver_override`, 'migratable-vfio-pci');
  expect(store(kernel, '/sys/bus/pci/drivers/migratable-vfio-pci/bind', OTHER)).toBe('ENODEV');
});

test('stopped and copied: the other one has its memory', () => {
  from.write(BAR2 + 0x1234n, '11223344');
  const out = from.go(STOP_COPY) as number;
  expect([out >= 0, from.state()]).toEqual([true, STOP_COPY]);
  const { bytes, last } = drain(kernel, out);
  expect([bytes.length, last, from.go(STOP)]).toEqual([ALL, 0, -1]);
  expect(drain(kernel, out).last).toBe('ENODEV');
  const into = to.go(RESUMING) as number;
  for (let at = 0; at < bytes.length; at += 777) kernel.write(into, bytes.subarray(at, at + 777));
  expect([to.go(RUNNING), to.state(), to.read(BAR2 + 0x1234n, 4)]).toEqual([-1, RUNNING, '11223344']);
  expect(answer(() => kernel.write(into, bytes))).toBe('ENODEV');
});

test('while it runs: first all, then what changed, at last the rest', () => {
  const out = from.go(PRE_COPY) as number;
  expect(from.preCopyInfo(out)).toEqual([ALL - 40, 0]);
  const first = drain(kernel, out);
  expect([first.bytes.length, first.last, from.preCopyInfo(out)]).toEqual([ALL - 40, 'ENOMSG', [0, 0]]);
  from.write(BAR2 + 0x2ffcn, 'aabbccddeeff0011');
  expect(from.preCopyInfo(out)).toEqual([0, 2 * RECORD]);
  const second = drain(kernel, out);
  expect([second.bytes.length, second.last]).toEqual([2 * RECORD, 'ENOMSG']);
  from.write(BAR2, '99');
  expect([from.go(PRE_COPY_P2P), from.go(STOP_COPY)]).toEqual([-1, -1]);
  expect(from.preCopyInfo(out)).toBe('EINVAL');
  const third = drain(kernel, out);
  expect([third.bytes.length, third.last]).toEqual([RECORD + 40, 0]);
  const into = to.go(RESUMING) as number;
  for (const { bytes } of [first, second, third]) kernel.write(into, bytes);
  expect([to.go(RUNNING), to.read(BAR2 + 0x2ffcn, 8), to.read(BAR2, 1)]).toEqual([-1, 'aabbccddeeff0011', '99']);
});

test('a stream that is not whole, or not its own: the device stays where it is until it is reset', () => {
  const into = to.go(RESUMING) as number;
  expect(answer(() => kernel.write(into, words(4, 1, 2)))).toBe('EINVAL');
  expect([to.go(STOP), to.state()]).toEqual(['EINVAL', RESUMING]);
  expect([to.call(v.VFIO_DEVICE_RESET), to.state(), (to.go(STOP_COPY) as number) >= 0]).toEqual([0, RUNNING, true]);
});

test('closing it, and opening it again, runs it', () => {
  expect([from.go(STOP), from.state()]).toEqual([-1, STOP]);
  from.close();
  const again = new Device(kernel, openDevice(kernel, from.group, SOURCE));
  expect(again.state()).toBe(RUNNING);
});

describe('the log of what it writes', () => {
  const IOVA = 0x10_0000n;

  /** A fill of `length` bytes at an IOVA, by a queue in the same memory. */
  function fill(ram: ReturnType<SimKernel['guestRam']>, at: bigint, length: number): void {
    const view = new DataView(ram.bytes.buffer, ram.bytes.byteOffset);
    view.setUint32(0, 2, true);
    view.setBigUint64(16, at, true);
    view.setUint32(24, length, true);
    view.setBigUint64(32, 0x5555_5555_5555_5555n, true);
    from.write(0x08n, '00000000');
    from.write(0x10n, Buffer.from(words(8, IOVA)).toString('hex'));
    from.write(0x18n, '08000000');
    from.write(0x08n, '01000000');
    from.write(0x20n, '01000000');
    for (let i = 0; i < 20 && from.read(0x0cn, 4) !== '00000000'; i++);
  }

  test('pages of the ranges asked for, once', () => {
    const ram = kernel.guestRam(0x10000);
    const map = v.vfio_iommu_type1_dma_map.encode({ argsz: 32, flags: 3, vaddr: ram.address, iova: IOVA, size: 0x10000n });
    kernel.ioctl(from.container, v.VFIO_IOMMU_MAP_DMA, map);
    from.setConfig(4, '0600');
    const ranges = kernel.guestRam(4096);
    ranges.bytes.set(words(8, IOVA, 0x10000n));
    const control = join(words(8, 4096n), words(4, 1, 0), words(8, ranges.address));
    expect(from.feature(SET | v.VFIO_DEVICE_FEATURE_DMA_LOGGING_START, control)).toBe(0);
    fill(ram, IOVA + 0x3ff0n, 0x20);
    expect(ram.bytes.subarray(0x3fef, 0x3ff1)).toEqual(Uint8Array.of(0, 0x55));
    const report = (iova = IOVA, length = 0x10000n): string => {
      ranges.bytes.fill(0);
      const arg = words(8, iova, length, 4096n, ranges.address + 8n);
      expect(from.feature(GET | v.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, arg)).toBe(0);
      expect(ranges.read64(0)).toBe(0n);
      return Buffer.from(ranges.bytes.subarray(8, 10)).toString('hex');
    };
    expect([report(), report()]).toEqual(['1800', '0000']);
    fill(ram, IOVA + 0x3ff0n, 0x20);
    expect([report(IOVA + 0x3800n, 0x800n), report(IOVA + 0x4800n, 0x800n), report(), report()]).toEqual([
      '0100',
      '0100',
      '1800',
      '0000',
    ]);
    expect(from.feature(SET | v.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP)).toBe(0);
    fill(ram, IOVA + 0x5000n, 4);
    expect(report()).toBe('0000');
  });
});

test('quiet it does nothing for others, stopped nothing at all', () => {
  expect([from.go(RUNNING_P2P), from.state(), from.go(STOP), from.go(RUNNING)]).toEqual([-1, RUNNING_P2P, -1, -1]);
});

test('a reset by /sys runs it too: its driver is told', () => {
  expect([from.go(STOP), from.state()]).toEqual([-1, STOP]);
  store(kernel, `/sys/bus/pci/devices/${SOURCE}/reset`, '1');
  expect(from.state()).toBe(RUNNING);
});
