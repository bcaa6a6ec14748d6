import { describe, expect, it } from 'vitest';
import { openSim, profiles } from '../../../src/sim/index.ts';
import type { Machine } from '../../../src/sim/machine.ts';
import { filesOf } from './files.ts';

const PF = '0000:01:00.0';
const VF = ['0000:01:10.0', '0000:01:10.2'] as const;
const D = `/sys/bus/pci/devices/${PF}`;

function machine(more: Partial<Machine> = {}) {
  const lab = profiles['lab-vtd-7.2']!;
  const pci = [
    { at: '0000:00:00.0', model: 'host-bridge' },
    { at: '0000:00:04.0', model: 'pcie-root-port', options: { slot: 1 } },
    { at: PF, model: 'igb' },
  ];
  return openSim({ machine: { ...lab, pci, ...more } });
}

describe('sriov_numvfs', () => {
  it('is refused without a driver, and by one that has no use for it', () => {
    const kernel = machine();
    const { read, write, driver } = filesOf(kernel);
    expect([driver(PF), read(`${D}/sriov_totalvfs`), read(`${D}/sriov_numvfs`)]).toEqual(['ENOENT', '8\n', '0\n']);
    for (const [text, answer] of [
      ['x', 'EINVAL'],
      ['70000', 'EINVAL'],
      ['9', 'ERANGE'],
      ['1', 'ENOENT'],
      ['0', 1],
    ] as const) {
      expect([text, write(`${D}/sriov_numvfs`, text)]).toEqual([text, answer]);
    }
    write(`${D}/driver_override`, 'vfio-pci');
    write('/sys/bus/pci/drivers_probe', PF);
    expect(driver(PF)).toBe('vfio-pci');
    expect(write(`${D}/sriov_numvfs`, '1'), 'enable_sriov is N').toBe('ENOENT');
  });

  it('makes functions appear, with links both ways, and disappear', () => {
    const kernel = machine({ pciDrivers: ['pcieport', 'igb', 'igbvf'] });
    const { code, read, write, driver } = filesOf(kernel);
    expect(driver(PF)).toBe('igb');
    expect(write(`${D}/sriov_numvfs`, '2\n')).toBe(2);
    expect([read(`${D}/sriov_numvfs`), write(`${D}/sriov_numvfs`, '3'), write(`${D}/sriov_numvfs`, '2')]).toEqual([
      '2\n',
      'EBUSY',
      1,
    ]);
    for (const [at, bdf] of VF.entries()) {
      expect(kernel.readlink(`${D}/virtfn${at}`)).toBe(`../${bdf}`);
      expect(kernel.readlink(`/sys/bus/pci/devices/${bdf}/physfn`)).toBe(`../${PF}`);
      expect(driver(bdf)).toBe('igbvf');
      expect(read(`/sys/bus/pci/devices/${bdf}/vendor`), 'that of the physical function').toBe('0x8086\n');
      expect(read(`/sys/bus/pci/devices/${bdf}/device`)).toBe('0x10ca\n');
    }
    expect(write(`${D}/sriov_numvfs`, '0')).toBe(1);
    expect([code(() => kernel.readlink(`${D}/virtfn0`)), read(`/sys/bus/pci/devices/${VF[0]}/vendor`)]).toEqual([
      'ENOENT',
      'ENOENT',
    ]);
    expect(kernel.readdir(D).filter((name) => name.startsWith('virtfn'))).toEqual([]);
  });

  it('leaves them without a driver where sriov_drivers_autoprobe is off', () => {
    const kernel = machine({ pciDrivers: ['pcieport', 'igb', 'igbvf'] });
    const { read, write, driver } = filesOf(kernel);
    expect([write(`${D}/sriov_drivers_autoprobe`, 'x'), write(`${D}/sriov_drivers_autoprobe`, '0')]).toEqual(['EINVAL', 1]);
    expect(read(`${D}/sriov_drivers_autoprobe`)).toBe('0\n');
    write(`${D}/sriov_numvfs`, '1');
    expect(driver(VF[0])).toBe('ENOENT');
    expect(write('/sys/bus/pci/drivers/igbvf/bind', VF[0])).toBe('ENODEV');
    write(`/sys/bus/pci/devices/${VF[0]}/driver_override`, 'igbvf');
    expect(write('/sys/bus/pci/drivers/igbvf/bind', VF[0])).toBe(12);
  });

  it('removing the physical function removes them too', () => {
    const kernel = machine({ pciDrivers: ['pcieport', 'igb', 'igbvf'] });
    const { write } = filesOf(kernel);
    write(`${D}/sriov_numvfs`, '2');
    expect(write(`${D}/remove`, '1')).toBe(1);
    expect(kernel.readdir('/sys/bus/pci/devices').sort()).toEqual(['0000:00:00.0', '0000:00:04.0']);
    expect(kernel.readdir('/sys/kernel/iommu_groups').length).toBe(2);
  });
});
