import { describe, expect, it } from 'vitest';
import { openSim, PciFunction, profiles } from '../../../src/sim/index.ts';
import { fakePci } from './fake.ts';

const ONE = '0000:00:02.0';
const D = `/sys/bus/pci/devices/${ONE}`;

class Endpoint extends PciFunction {}

function machine() {
  return fakePci(
    [
      {
        bdf: ONE,
        group: 2,
        spec: { revision: 0x10, subsystemVendor: 0x1af4, subsystemDevice: 0x1100 },
        resets: ['flr', 'bus'],
        resources: [
          [0xfe00_0000n, 0x10_0000n, 0x40200n],
          [0xc000n, 0x20n, 0x40101n],
        ],
      },
    ],
    { devices: { '/dev/vfio/vfio': true } },
  );
}

describe('a device in /sys', () => {
  it('tells what it is', () => {
    const { read, kernel } = machine();
    const expected: Record<string, string> = {
      vendor: '0x1234\n',
      device: '0x11e8\n',
      subsystem_vendor: '0x1af4\n',
      class: '0x00ff00\n',
      revision: '0x10\n',
      irq: '11\n',
      enable: '0\n',
      power_state: 'D0\n',
      reset_method: 'flr bus\n',
      local_cpus: '3\n',
      local_cpulist: '0-1\n',
      modalias: 'pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00\n',
      uevent:
        'PCI_CLASS=FF00\nPCI_ID=1234:11E8\nPCI_SUBSYS_ID=1AF4:1100\nPCI_SLOT_NAME=0000:00:02.0\nMODALIAS=pci:v00001234d000011E8sv00001AF4sd00001100bc00scFFi00\n',
      'power/control': 'on\n',
      'power/runtime_status': 'active\n',
      'power/autosuspend_delay_ms': 'EIO',
      driver_override: '(null)\n',
      max_link_speed: 'ENOENT',
    };
    for (const [file, text] of Object.entries(expected)) expect([file, read(`${D}/${file}`)]).toEqual([file, text]);
    const lines = (read(`${D}/resource`) as string).split('\n');
    expect(lines.slice(0, 3)).toEqual([
      '0x00000000fe000000 0x00000000fe0fffff 0x0000000000040200',
      '0x000000000000c000 0x000000000000c01f 0x0000000000040101',
      '0x0000000000000000 0x0000000000000000 0x0000000000000000',
    ]);
    expect(kernel.readlink(`${D}/iommu_group`)).toBe('../../../kernel/iommu_groups/2');
    expect(kernel.readlink(`/sys/kernel/iommu_groups/2/devices/${ONE}`)).toBe('../../../../devices/pci0000:00/0000:00:02.0');
    expect(read('/sys/kernel/iommu_groups/2/reserved_regions')).toBe('0x00000000fee00000 0x00000000feefffff msi\n');
    expect(kernel.readlink(`${D}/subsystem`)).toBe('../../../bus/pci');
  });

  it('enable, reset and reset_method', () => {
    const { read, write } = machine();
    const steps: [file: string, text: string, answer: unknown, then?: unknown][] = [
      ['enable', 'x', 'EINVAL'],
      ['enable', '0', 'EIO'],
      ['enable', '1', 1, '1\n'],
      ['enable', '1\n', 2, '2\n'],
      ['enable', '0', 1, '1\n'],
      ['reset_method', 'pm', 'EINVAL', 'flr bus\n'],
      ['reset_method', '  bus ', 6, 'bus\n'],
      ['reset_method', '\n', 1, ''],
      ['reset', '1', 'ENOTTY'],
      ['reset_method', 'default', 7, 'flr bus\n'],
      ['reset', '1\n', 2],
      ['reset', '2', 'EINVAL'],
      ['reset', 'x', 'EINVAL'],
      ['msi_bus', '0', 1, '0\n'],
      ['msi_bus', 'z', 'EINVAL'],
      ['broken_parity_status', '5', 1, '1\n'],
      ['power/control', 'maybe', 'EINVAL', 'on\n'],
      ['power/control', 'auto', 4, 'auto\n'],
      ['uevent', 'junk', 'EINVAL'],
      ['uevent', 'change\n', 7],
    ];
    for (const [file, text, answer, then] of steps) {
      expect([file, text, write(`${D}/${file}`, text)]).toEqual([file, text, answer]);
      if (then !== undefined) expect([file, read(`${D}/${file}`)]).toEqual([file, then]);
    }
    expect(read(`${D}/power/runtime_status`)).toBe('suspended\n');
  });

  it('errors it has reported are counted by their names', () => {
    const device = new Endpoint({ vendor: 0x1234, device: 1, class: 0xff0000, express: true, aer: true });
    const soldered = [
      { at: '0000:00:00.0', model: 'host-bridge' },
      { at: '0000:00:04.0', model: 'pcie-root-port', options: { slot: 1 } },
    ];
    const kernel = openSim({
      machine: { ...profiles['lab-vtd-7.2']!, pci: soldered },
      pci: [{ at: '0000:01:00.0', device }],
    });
    const read = (file: string): string[] => {
      const into = new Uint8Array(4096);
      const fd = kernel.open(`/sys/bus/pci/devices/0000:01:00.0/${file}`, 0);
      return Buffer.from(into.subarray(0, kernel.read(fd, into)))
        .toString()
        .split('\n');
    };
    expect(read('aer_dev_correctable')).toContain('BadTLP 0');
    device.reportError('correctable', 6);
    device.reportError('correctable', 6);
    device.reportError('nonfatal', 14);
    expect(read('aer_dev_correctable')).toEqual(expect.arrayContaining(['RxErr 0', 'BadTLP 2', 'TOTAL_ERR_COR 2']));
    expect(read('aer_dev_nonfatal')).toEqual(expect.arrayContaining(['CmpltTO 1', 'TOTAL_ERR_NONFATAL 1']));
    expect(read('aer_dev_fatal')).toEqual(expect.arrayContaining(['CmpltTO 0', 'TOTAL_ERR_FATAL 0']));
  });

  it('module parameters feed the machine', () => {
    const { read, write, system } = machine();
    const file = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit';
    for (const [text, answer] of [
      ['10', 2],
      ['0x20', 4],
      ['-1', 'EINVAL'],
      ['4294967295', 10],
      ['4294967296', 'ERANGE'],
      ['12x', 'EINVAL'],
      ['  5', 'EINVAL'],
      ['5\n', 2],
    ] as const) {
      expect([text, write(file, text)]).toEqual([text, answer]);
    }
    expect([read(file), system.parameters.vfio_iommu_type1.dma_entry_limit]).toEqual(['5\n', 5]);
    const flag = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode';
    for (const [text, shown] of [
      ['y', 'Y\n'],
      ['off', 'N\n'],
      ['on', 'Y\n'],
      ['nonsense', 'N\n'],
      ['t', 'Y\n'],
    ] as const) {
      write(flag, text);
      expect([text, read(flag)]).toEqual([text, shown]);
    }
    expect(write(flag, 'x')).toBe('EINVAL');
    expect(write('/sys/module/vfio_pci/parameters/disable_denylist', 'Y')).toBe('EACCES');
  });
});
