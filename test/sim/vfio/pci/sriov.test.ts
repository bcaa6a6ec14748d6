/** A physical function that vfio-pci drives, its virtual functions, and the secret their users share. */
import { describe, expect, test } from 'vitest';
import type { SimKernel } from '../../../../src/sim/index.ts';
import { machineOf } from '../../../../src/sim/profiles.ts';
import { O_RDWR } from '../../../../src/uapi/sys.ts';
import * as v from '../../../../src/uapi/vfio.ts';
import { answer, assign, bind, groupOf, lab, Opened, openDevice, show, store, words } from './kit.ts';

const PF = '0000:01:00.0';
const VF = '0000:01:10.0';
const TOKEN = '00112233-4455-6677-8899-aabbccddeeff';
const OTHER = 'ffffffff-4455-6677-8899-aabbccddeeff';
const numvfs = `/sys/bus/pci/devices/${PF}/sriov_numvfs`;

/** An 82576 where the lab has its NVMe controller. */
function igb(enableSriov = true): SimKernel {
  const machine = machineOf('lab-vtd-7.2');
  const pci = machine.pci!.map((one) => (one.at === PF ? { at: PF, model: 'igb' } : one));
  return lab({ machine: { ...machine, pci, parameters: { vfio_pci: { enable_sriov: enableSriov } } } });
}

/** GET_DEVICE_FD of a device whose group gets a container of its own. */
function user(kernel: SimKernel, bdf: string): (options: string) => unknown {
  const container = kernel.open('/dev/vfio/vfio', O_RDWR);
  const group = kernel.open(`/dev/vfio/${groupOf(kernel, bdf)}`, O_RDWR);
  kernel.ioctl(group, v.VFIO_GROUP_SET_CONTAINER, words(4, container));
  kernel.ioctl(container, v.VFIO_SET_IOMMU, v.VFIO_TYPE1v2_IOMMU);
  return (options) => answer(() => openDevice(kernel, group, `${bdf}${options}`));
}

describe('sriov_numvfs', () => {
  test('is for drivers that are told to', () => {
    const kernel = igb(false);
    expect(store(kernel, numvfs, '2')).toBe('ENOENT');
    bind(kernel, PF);
    expect(store(kernel, numvfs, '2')).toBe('ENOENT');
  });

  test('the virtual functions are for vfio-pci, and a physical one that has some is not', () => {
    const kernel = igb();
    bind(kernel, PF);
    expect(store(kernel, numvfs, '9')).toBe('ERANGE');
    expect(store(kernel, numvfs, '2')).toBe(1);
    expect(store(kernel, numvfs, '3')).toBe('EBUSY');
    expect(show(kernel, `/sys/bus/pci/devices/${VF}/driver_override`)).toBe('vfio-pci\n');
    expect(kernel.readlink(`/sys/bus/pci/devices/${VF}/driver`)).toBe('../../../../bus/pci/drivers/vfio-pci');
    expect(store(kernel, numvfs, '0')).toBe(1);
    expect(() => kernel.readlink(`/sys/bus/pci/devices/${VF}`)).toThrow(/ENOENT/);
    expect(store(kernel, numvfs, '1')).toBe(1);
    expect(store(kernel, '/sys/bus/pci/drivers/vfio-pci/unbind', PF)).toBe(PF.length);
    expect(() => kernel.readlink(`/sys/bus/pci/devices/${VF}`)).toThrow(/ENOENT/);
  });
});

describe('a virtual function', () => {
  test('has ids, memory and no INTx', () => {
    const kernel = igb();
    bind(kernel, PF);
    const physical = assign(kernel, PF);
    const token = Uint8Array.from(Buffer.from(TOKEN.replaceAll('-', ''), 'hex'));
    expect(physical.feature(v.VFIO_DEVICE_FEATURE_SET | v.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, token)).toBe(0);
    store(kernel, numvfs, '1');
    const fd = user(kernel, VF)(` vf_token=${TOKEN}`);
    const device = new Opened(kernel, fd as number);
    expect(device.config(0, 4)).toBe('8680ca10');
    expect(device.config(0x3d, 1)).toBe('00');
    expect(device.config(4, 2)).toMatch(/^0[2-7]/);
    expect([0, 1, 2].map((index) => device.irq(index))).toEqual(['7:0', '9:0', '1:3']);
    expect(device.region(0)).toBe('7:4000');
    expect(device.region(3)).toBe('f:4000');
    device.setConfig(4, '0000');
    expect(device.read(0, 4)).toMatch(/^[0-9a-f]{8}$/);
    expect(device.call(v.VFIO_DEVICE_RESET)).toBe(0);
  });

  test('the token: whoever opens it shows it, and so does who opens the physical one meanwhile', () => {
    const kernel = igb();
    bind(kernel, PF);
    const physical = user(kernel, PF);
    expect(physical(' vf_token=')).toBe('EINVAL');
    expect(physical(` vf_token=${TOKEN} vf_token=${TOKEN}`)).toBe('EINVAL');
    expect(physical(' something')).toBe('EINVAL');
    expect(physical('x')).toBe('ENODEV');
    const first = physical(` vf_token=${TOKEN}`) as number;
    expect(first).toBeGreaterThan(0);
    store(kernel, numvfs, '1');
    const virtual = user(kernel, VF);
    expect(virtual('')).toBe('EACCES');
    expect(virtual(` vf_token=${OTHER}`)).toBe('EACCES');
    const open = virtual(`  vf_token=${TOKEN} `) as number;
    expect(open).toBeGreaterThan(0);
    expect(physical('')).toBe('EACCES');
    expect(physical(` vf_token=${OTHER}`)).toBe('EACCES');
    kernel.close(physical(` vf_token=${TOKEN}`) as number);
    kernel.close(open);
    kernel.close(physical(` vf_token=${OTHER}`) as number);
    expect(virtual(` vf_token=${TOKEN}`)).toBe('EACCES');
    expect(virtual(` vf_token=${OTHER}`)).toBeGreaterThan(0);
  });
});

test('a device without SR-IOV takes no token', () => {
  const kernel = lab();
  bind(kernel, '0000:00:02.0');
  const open = user(kernel, '0000:00:02.0');
  expect(open(` vf_token=${TOKEN}`)).toBe('EINVAL');
  expect(open('  ')).toBeGreaterThan(0);
});
