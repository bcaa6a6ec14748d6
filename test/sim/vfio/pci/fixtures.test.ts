/** What a user of well-known devices finds right after the first open. */
import { describe, expect, test } from 'vitest';
import * as v from '../../../../src/uapi/vfio.ts';
import { assign, E1000E, EDU, lab, NVME, TESTDEV, XHCI, younger } from './kit.ts';

const EVENTFD = v.VFIO_IRQ_SET_DATA_EVENTFD | v.VFIO_IRQ_SET_ACTION_TRIGGER;
const NONE = v.VFIO_IRQ_SET_DATA_NONE | v.VFIO_IRQ_SET_ACTION_TRIGGER;

/** Rows as offset and bytes; what is not listed is 0. BARs and the interrupt line are the machine's. */
function fixture(size: number, rows: Record<number, string>): string {
  const bytes = Buffer.alloc(size);
  for (const [at, hex] of Object.entries(rows)) bytes.set(Buffer.from(hex.replaceAll(' ', ''), 'hex'), Number(at));
  for (let i = 0x10; i < 0x28; i++) bytes[i] = 0;
  bytes.fill(0, 0x30, 0x34);
  bytes[0x3c] = 0;
  return bytes.toString('hex').replaceAll(/(.{32})/g, '$1\n');
}

function found(hex: unknown): string {
  const bytes = Buffer.from(hex as string, 'hex');
  bytes.fill(0, 0x10, 0x28);
  bytes.fill(0, 0x30, 0x34);
  bytes[0x3c] = 0;
  return bytes.toString('hex').replaceAll(/(.{32})/g, '$1\n');
}

describe('82574L', () => {
  const device = assign(younger(), E1000E);

  test('configuration space', () => {
    expect(found(device.config(0, 0x1000))).toBe(
      fixture(0x1000, {
        0: '86 80 d3 10 03 01 10 00 00 00 00 02 00 00 00 00',
        44: '86 80 00 00 00 00 00 00 c8',
        61: '01',
        160: '11 00 04 00 03 00 00 00 03 20 00 00',
        200: '01 d0 22 00 00 00 00 00',
        208: '05 e0 80 00',
        224: '10 a0 01 00 20 80 00 00 00 00 00 00 11 04 00 00 00 00 11 00',
        256: '01 00 02 14 00 00 00 00 00 00 40 02 30 20 46 00 00 00 00 00 00 e0 00 00 a0',
        320: '03 00 01 00 56 34 12 ff ff 00 54 52',
      }),
    );
  });

  test('regions and interrupts', () => {
    expect(device.info()).toMatchObject({ flags: 3, num_regions: 9, num_irqs: 5 });
    expect([0, 1, 2, 3, 4, 5, 7, 8, 9].map((index) => device.region(index))).toEqual([
      ...['7:20000', '7:20000', '3:20', 'f:4000', '0:0', '0:0', '3:1000', 'EINVAL', 'EINVAL'],
    ]);
    expect([0, 1, 2, 3, 4, 5].map((index) => device.irq(index))).toEqual(['7:1', '9:1', '1:5', '9:1', '9:1', 'EINVAL']);
  });

  test('BARs sized', () => {
    for (const at of [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24]) device.setConfig(at, 'ffffffff');
    expect(device.config(0x10, 24)).toBe('0000feff0000feffe1ffffff00c0ffff0000000000000000');
  });
});

describe('edu', () => {
  const device = assign(lab(), EDU);

  test('configuration space', () => {
    expect(found(device.config(0, 0x100))).toBe(
      fixture(0x100, {
        0: '34 12 e8 11 03 01 10 00 10 00 ff 00 00 00 00 00',
        44: 'f4 1a 00 11',
        52: '40',
        61: '01',
        64: '05 00 80 00',
      }),
    );
  });

  test('regions and interrupts', () => {
    expect(device.info().flags).toBe(2);
    expect([0, 1, 6, 7].map((index) => device.region(index))).toEqual(['7:100000', '0:0', '0:0', '3:100']);
    expect([0, 1, 2, 3, 4].map((index) => device.irq(index))).toEqual(['7:1', '9:1', '9:0', 'EINVAL', '9:1']);
    expect(device.call(0x3b70, new Uint8Array(Uint32Array.of(12, 0, 0).buffer))).toBe('ENODEV');
  });
});

describe('nvme', () => {
  const device = assign(younger(), NVME);

  test('configuration space', () => {
    expect(found(device.config(0, 0x1000))).toBe(
      fixture(0x1000, {
        0: '36 1b 10 00 03 01 10 00 02 02 08 01 00 00 00 00',
        44: 'f4 1a 00 11',
        52: '40',
        61: '01',
        64: '11 80 40 00 00 20 00 00 00 30 00 00',
        96: '01 00 03 00 08 00 00 00',
        128: '10 60 02 00 20 80 00 10 00 00 00 00 11 04 00 00 00 00 11 00',
        164: '00 00 30 00',
      }),
    );
  });

  test('regions and interrupts', () => {
    expect(device.info().flags).toBe(3);
    expect([0, 1, 7].map((index) => device.region(index))).toEqual(['f:4000', '0:0', '3:1000']);
    expect([0, 1, 2, 3, 4].map((index) => device.irq(index))).toEqual(['7:1', '9:0', '1:65', '9:1', '9:1']);
    expect(device.read(0x1ff8, 24)).toBe(`${'00'.repeat(8)}${'ff'.repeat(16)}`);
  });
});

test('pci-testdev has no interrupt pin and no capabilities', () => {
  const device = assign(lab(), TESTDEV);
  expect([0, 1, 2, 3, 4].map((index) => device.irq(index))).toEqual(['7:0', '9:0', '9:0', 'EINVAL', '9:1']);
  expect([0, 1].map((index) => device.region(index))).toEqual(['7:1000', '3:100']);
  expect(device.info().flags).toBe(2);
});

test.each([
  ['with interrupt remapping', 'lab-vtd-7.2', 0, 0, 'EINVAL'],
  ['without, as many as can be had are said, and none is on', 'lab-virtio-7.2', 1, 'EINVAL', 1],
])('four of the 16 MSI vectors of nec-usb-xhci: %s', (_what, machine, returned, signal, beyond) => {
  const device = assign(lab({ machine }), XHCI);
  expect(device.irq(1)).toBe('9:16');
  const { fd } = device.eventfd();
  expect(device.setIrqs(EVENTFD, v.VFIO_PCI_MSI_IRQ_INDEX, 0, 4, [fd, fd, fd, fd])).toBe(returned);
  expect(device.setIrqs(NONE, v.VFIO_PCI_MSI_IRQ_INDEX, 0, 1)).toBe(signal);
  expect(device.setIrqs(EVENTFD, v.VFIO_PCI_MSI_IRQ_INDEX, 4, 1, [fd])).toBe(beyond);
});
