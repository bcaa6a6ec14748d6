import { expect, test } from 'vitest';
import type { FunctionSpec } from '../../../src/sim/hardware/function-spec.ts';
import { RootPort } from '../../../src/sim/hardware/models/ports.ts';
import * as r from '../../../src/uapi/pci-regs.ts';
import { alone, attach, Memory, machine, Pages } from './kit.ts';

const ENOTTY = -25;

/** Two functions behind one port, one behind another. */
function behind(spec: Partial<FunctionSpec> = {}, port: RootPort = new RootPort()) {
  const [first, second] = [new Memory({ express: true, ...spec }), new Memory({ express: true })];
  const system = machine([
    { at: '0000:00:04.0', device: port },
    { at: '0000:01:00.0', device: first },
    { at: '0000:01:00.1', device: second },
  ]);
  const [one, two] = ['0000:01:00.0', '0000:01:00.1'].map((at) => system.pci.find(at)!);
  one!.enableDevice();
  return { system, port, first, second, one: one!, two: two! };
}

test('methods are those the function has, in the kernel’s order', () => {
  const methods = (spec: Partial<FunctionSpec>, port = true): readonly string[] => {
    const plugs = port ? [{ at: '0000:00:04.0', device: new RootPort() }] : [];
    const at = port ? '0000:01:00.0' : '0000:00:05.0';
    return machine([...plugs, { at, device: new Memory(spec) }]).pci.find(at)!.resetMethods;
  };
  expect(methods({}, false)).toEqual([]);
  expect(methods({})).toEqual(['bus']);
  expect(methods({ pm: {}, express: true, flr: true })).toEqual(['flr', 'pm', 'bus']);
  expect(methods({ pm: { noSoftReset: true }, flr: true }, false)).toEqual(['af_flr']);
});

test('a function level reset: registers, interrupts, the model; nothing is restored by itself', () => {
  const { dev, fn } = alone(new Memory({ express: true, flr: true, pm: {} }));
  const start = dev.resources[0]!.start;
  dev.barWrite(0, 0x10, 4, 7);
  fn.setIntx(true);
  const saved = dev.saveState();
  expect(dev.resetFunction()).toBe(0);
  expect(fn.resets).toEqual(['power', 'flr']);
  expect([fn.intx, dev.readConfig(r.PCI_COMMAND, 2), dev.readConfig(r.PCI_BASE_ADDRESS_0, 4)]).toEqual([false, 0, 0]);
  expect(dev.barRead(0, 0x10, 4)).toBe(0xffff_ffff);
  dev.restoreState(saved);
  expect([dev.barRead(0, 0x10, 4), dev.resources[0]!.start]).toEqual([7, start]);
  expect(dev.readConfig(fn.positions.express + r.PCI_EXP_DEVCTL, 2) & r.PCI_EXP_DEVCTL_BCR_FLR).toBe(0);
});

test('pci_try_reset_function puts everything back, MSI-X too', () => {
  const msix = { vectors: 2, tableBar: 0, table: 0x800, pbaBar: 0, pba: 0xc00 };
  const { dev, fn } = alone(new Memory({ express: true, flr: true, msix }));
  let calls = 0;
  dev.irq.allocVectors('msix', 1, 2);
  dev.irq.setHandler(1, () => calls++);
  const before = fn.config.snapshot();
  expect(dev.saveAndReset()).toBe(0);
  expect(fn.config.snapshot()).toEqual(before);
  expect([fn.raise(1), calls, dev.barRead(0, 0x80c, 4)]).toEqual([true, 1, 1]);
});

test('a reset takes the time it takes, and cancels what the device was about to do', () => {
  const { dev, fn, system } = alone(new Memory({ express: true, flr: true }));
  let fired = false;
  fn.after(1_000_000, () => (fired = true));
  const before = system.runner.now;
  dev.resetFunction();
  expect(system.runner.now - before).toBe(100_000_000n);
  expect(fired).toBe(false);
});

test('D3hot: no decoding, no bus mastering, no interrupts; back in D0 it has forgotten all but its addresses', () => {
  const { dev, fn } = alone(new Memory({ pm: {} }));
  attach(dev, new Pages().map(0n, 1));
  dev.writeConfig(r.PCI_INTERRUPT_LINE, 1, 9);
  expect([dev.barRead(0, 0, 4), fn.dma.write(0n, Uint8Array.of(1))]).toEqual([0, true]);
  dev.setPowerState(3);
  fn.setIntx(true);
  expect([dev.powerState, dev.barRead(0, 0, 4), fn.dma.write(0n, Uint8Array.of(1)), fn.resets]).toEqual([
    3,
    0xffff_ffff,
    false,
    ['power'],
  ]);
  dev.setPowerState(0);
  expect([dev.powerState, fn.resets, dev.readConfig(r.PCI_INTERRUPT_LINE, 1)]).toEqual([0, ['power', 'pm'], 0]);
  expect(dev.readConfig(r.PCI_BASE_ADDRESS_0, 4)).toBe(Number(dev.resources[0]!.start));
});

test('No_Soft_Reset keeps everything; states a function does not have are not entered', () => {
  const { dev, fn } = alone(new Memory({ pm: { noSoftReset: true, capabilities: 0x0203 } }));
  dev.setPowerState(3);
  dev.setPowerState(0);
  expect([fn.resets, dev.readConfig(r.PCI_COMMAND, 2) & 7]).toEqual([['power'], 7]);
  const control = fn.positions.pm + r.PCI_PM_CTRL;
  dev.writeConfig(control, 2, 1);
  expect(dev.powerState).toBe(1);
  dev.writeConfig(control, 2, 2);
  expect(dev.powerState).toBe(1);
  dev.setPowerState(2);
  expect(dev.powerState).toBe(1);
});

test('a bus reset hits every function below, and only while one is alone it is a method of one', () => {
  const { first, second, one, two, system } = behind();
  // When the first was found nothing else was on the bus yet: it keeps the method, which does not work.
  expect([one.resetMethods, two.resetMethods]).toEqual([['bus'], []]);
  expect([one.resetFunction(), two.resetFunction()]).toEqual([ENOTTY, ENOTTY]);
  expect([one.slotOrBusResettable(), one.busDevices()]).toEqual(['bus', [one, two]]);
  const before = [first, second].map((fn) => fn.config.snapshot());
  expect(two.resetSlotOrBus()).toBe(0);
  expect([first.resets, second.resets]).toEqual([
    ['power', 'bus'],
    ['power', 'bus'],
  ]);
  expect([first, second].map((fn) => fn.config.snapshot())).toEqual(before);
  expect(system.pci.find('0000:00:04.0')!.resetSlotOrBus()).toBe(ENOTTY);
});

test('a link that does not return: −ENOTTY, and the functions are as they were', () => {
  const { one, first } = behind({ pm: {} }, new RootPort({ speed: 4 }));
  const before = first.config.snapshot();
  expect(one.resetSlotOrBus()).toBe(ENOTTY);
  expect([first.resets, first.config.snapshot()]).toEqual([['power', 'bus'], before]);
});

test('functions without power management are not waited for', () => {
  const { one } = behind({}, new RootPort({ speed: 4 }));
  expect(one.resetSlotOrBus()).toBe(0);
});

test('a port whose decoding is off lets nothing down, one without bus mastering nothing up', () => {
  const { one, first, port } = behind();
  one.setMaster(true);
  attach(one, new Pages().map(0n, 1));
  expect([one.barRead(0, 0, 4), first.dma.write(0n, Uint8Array.of(1))]).toEqual([0, true]);
  port.config.write(r.PCI_COMMAND, 2, r.PCI_COMMAND_MASTER);
  expect([one.barRead(0, 0, 4), first.dma.write(0n, Uint8Array.of(1))]).toEqual([0xffff_ffff, true]);
  port.config.write(r.PCI_COMMAND, 2, r.PCI_COMMAND_MEMORY);
  expect([one.barRead(0, 0, 4), first.dma.write(0n, Uint8Array.of(1))]).toEqual([0, false]);
});

test('AER: status, counters, who is told; a fatal error resets the bus', () => {
  const { one, two, first, second } = behind({ aer: true });
  const told: string[] = [];
  one.onError = (severity) => told.push(`one ${severity}`);
  two.onError = (severity) => told.push(`two ${severity}`);
  first.reportError('correctable', 0);
  expect([told, one.aer]).toEqual([[], { correctable: 1, nonfatal: 0, fatal: 0 }]);
  first.reportError('nonfatal', 14);
  expect([told.splice(0), first.resets]).toEqual([['one nonfatal', 'two nonfatal'], ['power']]);
  // The kernel has cleared what it was told of; what is masked it was not.
  expect(first.config.read(0x104, 4)).toBe(0);
  first.config.write(0x108, 4, 1 << 14);
  first.reportError('nonfatal', 14);
  expect([told, first.config.read(0x104, 4)]).toEqual([[], 1 << 14]);
  first.reportError('fatal', 4);
  expect([told, first.resets, second.resets]).toEqual([
    ['one fatal', 'two fatal'],
    ['power', 'bus'],
    ['power', 'bus'],
  ]);
  // A device whose reporting is off, as one without the capability's is, tells nobody.
  second.reportError('fatal', 4);
  expect(two.aer.fatal).toBe(0);
});

test('enabling counts, needs addresses, and takes the bridges along', () => {
  const { one, port } = behind();
  expect([one.enableCount, port.config.peek(r.PCI_COMMAND, 2) & 7]).toEqual([1, 7]);
  one.enableDevice();
  one.setMaster(true);
  one.disableDevice();
  expect(one.readConfig(r.PCI_COMMAND, 2) & 4).toBe(4);
  one.disableDevice();
  expect([one.enableCount, one.readConfig(r.PCI_COMMAND, 2) & 7]).toEqual([0, 3]);
});

test('a BAR has one owner', () => {
  const { dev } = alone(new Memory());
  expect([dev.claim(0, 'vfio'), dev.claim(0, 'other'), dev.claim(1, 'vfio'), dev.claimant(0)]).toEqual([0, -16, -22, 'vfio']);
  dev.unclaim(0);
  expect(dev.claim(0, 'other')).toBe(0);
});

test('the ROM is decoded for the access alone', () => {
  const rom = Uint8Array.of(0x55, 0xaa, 1, 2);
  const { dev, fn } = alone(new Memory({ rom }));
  expect([dev.barRead(6, 0, 4), dev.barRead(6, 4, 4), dev.resourceLength(6)]).toEqual([0x0201_aa55, 0xffff_ffff, 2048n]);
  expect(fn.config.read(r.PCI_ROM_ADDRESS, 4) & 1).toBe(0);
  dev.writeConfig(r.PCI_COMMAND, 2, 0);
  expect(dev.barRead(6, 0, 4)).toBe(0xffff_ffff);
});
