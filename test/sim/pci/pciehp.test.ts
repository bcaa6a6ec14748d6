// A slot whose hot-plug controller the kernel drives: what the port says of it, and what the kernel makes of that.
import { expect, it } from 'vitest';
import type { KernelError } from '../../../src/kernel/errors.ts';
import { Edu } from '../../../src/sim/hardware/models/edu.ts';
import { openSim, type SimKernel } from '../../../src/sim/index.ts';
import * as r from '../../../src/uapi/pci-regs.ts';
import { O_WRONLY } from '../../../src/uapi/sys.ts';

const PORT = '0000:00:07.0';
const EDU = '0000:05:00.0';
const CONTROL = 0x54 + r.PCI_EXP_SLTCTL;
const STATUS = 0x54 + r.PCI_EXP_SLTSTA;
const OFF = r.PCI_EXP_SLTCTL_PCC | r.PCI_EXP_SLTCTL_PWR_IND_OFF;

const machine = (): SimKernel => openSim({ machine: 'lab-hotplug-7.2' });
const devices = (kernel: SimKernel): string[] => kernel.readdir('/sys/bus/pci/devices').filter((name) => name === EDU);
const presence = (kernel: SimKernel): number => kernel.pci(PORT)!.config.peek(STATUS, 2) & r.PCI_EXP_SLTSTA_PDS;
const control = (kernel: SimKernel): number => kernel.pci(PORT)!.config.peek(CONTROL, 2);
const command = (kernel: SimKernel, value: number): void => kernel.pci(PORT)!.config.write(CONTROL, 2, value);

function show(kernel: SimKernel, name: string): string {
  const bytes = new Uint8Array(64);
  const fd = kernel.open(`/sys/bus/pci/slots/4/${name}`, 0);
  const count = kernel.read(fd, bytes);
  kernel.close(fd);
  return Buffer.from(bytes.subarray(0, count)).toString().trim();
}

it('a slot has files, and its controller tells of the button and of commands', () => {
  const kernel = machine();
  expect(kernel.readdir('/sys/bus/pci/slots').sort()).toEqual(['1', '2', '3', '4']);
  const names = kernel.readdir('/sys/bus/pci/slots/4').sort();
  expect(names).toEqual(['adapter', 'address', 'attention', 'cur_bus_speed', 'max_bus_speed', 'power']);
  expect(names.map((name) => show(kernel, name))).toEqual(['1', '0000:05:00', '0', '2.5 GT/s PCIe', '2.5 GT/s PCIe', '1']);
  expect([control(kernel), presence(kernel)]).toEqual([0x1f1, 0x40]);
});

const write = (kernel: SimKernel, name: string, text: string): number | string => {
  const fd = kernel.open(`/sys/bus/pci/slots/4/${name}`, O_WRONLY);
  try {
    return kernel.write(fd, Buffer.from(text));
  } catch (error) {
    return (error as KernelError).code;
  } finally {
    kernel.close(fd);
  }
};

it('a slot that is turned off has no card any more, and another one turns it on', () => {
  const kernel = machine();
  const edu = kernel.pci(EDU)!;
  expect([write(kernel, 'power', '1'), write(kernel, 'power', '2'), write(kernel, 'power', '0\n')]).toEqual([
    'ENODEV',
    'EINVAL',
    2,
  ]);
  expect([devices(kernel), presence(kernel), show(kernel, 'power'), show(kernel, 'adapter')]).toEqual([[], 0, '0', '0']);
  expect(edu.config.peek(r.PCI_COMMAND, 2) & (r.PCI_COMMAND_MASTER | r.PCI_COMMAND_SERR)).toBe(0);
  expect(edu.config.peek(r.PCI_COMMAND, 2) & r.PCI_COMMAND_INTX_DISABLE).toBe(r.PCI_COMMAND_INTX_DISABLE);
  expect([write(kernel, 'power', '0'), write(kernel, 'power', '1')]).toEqual(['ENODEV', 'ENODEV']);
  kernel.plug(new Edu(), EDU);
  expect([devices(kernel), show(kernel, 'power'), show(kernel, 'adapter')]).toEqual([[EDU], '1', '1']);
});

it('what is pulled out quietly stays in the list, until something is told', () => {
  const kernel = machine();
  const before = control(kernel);
  command(kernel, (before | OFF) & ~r.PCI_EXP_SLTCTL_HPIE);
  expect([presence(kernel), devices(kernel), kernel.pci(EDU)]).toEqual([0, [EDU], undefined]);
  command(kernel, before);
  expect([devices(kernel), show(kernel, 'adapter'), show(kernel, 'power')]).toEqual([[], '0', '0']);
});

it('a slot without power is taken for one whose devices were removed', () => {
  const kernel = machine();
  command(kernel, control(kernel) | OFF);
  expect([presence(kernel), devices(kernel)]).toEqual([0, [EDU]]);
});

it('pulled out by hand, and another one put in: found, with power', () => {
  const kernel = machine();
  const before = control(kernel);
  kernel.unplug(kernel.pci(EDU)!);
  expect([devices(kernel), presence(kernel)]).toEqual([[], 0]);
  kernel.plug(new Edu(), EDU);
  expect([devices(kernel), presence(kernel), control(kernel) & OFF]).toEqual([[EDU], 0x40, before & OFF]);
  kernel.unplug(kernel.pci(EDU)!);
  expect(devices(kernel)).toEqual([]);
});

it('a port that is reset still has its card', () => {
  const kernel = machine();
  kernel.pci(PORT)!.performReset('bus');
  expect(presence(kernel)).toBe(0x40);
});
