/** Who waits for a device sees what it does: by eventfd in every way there is to wait, and by looking at its registers. */
import { expect, test } from 'vitest';
import { KernelCore } from '../../../src/kernel/core.ts';
import { SimBackend } from '../../../src/sim/backend.ts';
import type { EventfdFile } from '../../../src/sim/eventfd.ts';
import { Edu } from '../../../src/sim/hardware/models/edu.ts';
import { newProcess } from '../../../src/sim/init.ts';
import { POLLIN } from '../../../src/uapi/sys.ts';
import { alone, Memory } from './kit.ts';

/** An edu whose message signals an eventfd of a program. */
function signalling() {
  const { dev, fn, system } = alone(new Edu({ factorialTime: 5_000_000 }));
  const process = newProcess(system);
  const kernel = new KernelCore(new SimBackend(process), 'test');
  const eventfd = kernel.eventfd();
  const file = process.fds.get(eventfd) as EventfdFile;
  dev.irq.allocVectors('msi', 1, 1);
  dev.irq.setHandler(0, () => file.signal());
  const start = (): void => {
    dev.barWrite(0, 0x20, 4, 0x80);
    dev.barWrite(0, 8, 4, 5);
  };
  return { dev, fn, system, kernel, eventfd, start };
}

test('poll lets time pass until it comes', () => {
  const { kernel, eventfd, start, system } = signalling();
  start();
  const before = system.runner.now;
  expect(kernel.poll([{ fd: eventfd, events: POLLIN }], -1)).toEqual([POLLIN]);
  expect(system.runner.now - before).toBeGreaterThan(4_000_000n);
});

test('a blocking read', () => {
  const { kernel, eventfd, start } = signalling();
  start();
  const bytes = new Uint8Array(8);
  expect(kernel.read(eventfd, bytes)).toBe(8);
  expect(bytes[0]).toBe(1);
});

test('waitAsync, begun before or after', async () => {
  const { kernel, eventfd, start } = signalling();
  start();
  expect(await kernel.waitAsync(eventfd, POLLIN)).toBe(POLLIN);
  kernel.read(eventfd, new Uint8Array(8));
  const later = kernel.waitAsync(eventfd, POLLIN);
  start();
  expect(await later).toBe(POLLIN);
});

test('waitAsync waits for nothing where no device is at work', async () => {
  const { kernel, eventfd, system } = signalling();
  const before = system.runner.now;
  const signal = AbortSignal.timeout(30);
  await expect(kernel.waitAsync(eventfd, POLLIN, { signal })).rejects.toThrow();
  expect(system.runner.now).toBe(before);
});

test('an access to a register costs a microsecond', () => {
  const { dev, system } = alone(new Memory());
  const before = system.runner.now;
  for (let i = 0; i < 10; i++) dev.barRead(0, 0, 4);
  dev.barWrite(0, 0, 4, 1);
  expect(system.runner.now - before).toBe(11_000n);
});

test('timers are those of the device: in order, cancelled, gone with it', () => {
  const { fn, system, dev } = alone(new Memory());
  const log: string[] = [];
  fn.after(3000, () => log.push('third'));
  fn.after(1000n, () => log.push('first'));
  fn.after(2000, () => log.push('second'))();
  system.runner.spend(2_000_000n);
  expect(log).toEqual(['first', 'third']);
  fn.after(1000, () => log.push('never'));
  system.pci.unplug(fn);
  system.runner.spend(2_000_000n);
  expect([log, dev.removed]).toEqual([['first', 'third'], true]);
});

test('random numbers are the machine’s', () => {
  const numbers = (): number[] => {
    const { fn } = alone(new Memory());
    return [fn.random(), fn.random()];
  };
  expect(numbers()).toEqual(numbers());
  expect(() => new Memory().random()).toThrow('not plugged in');
});
