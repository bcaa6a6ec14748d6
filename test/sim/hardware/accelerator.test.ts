import { beforeEach, describe, expect, test } from 'vitest';
import { isMigratable, PageLog } from '../../../src/sim/hardware/migratable.ts';
import { Accelerator, AcceleratorError, COMMAND_SIZE, Flag, Opcode } from '../../../src/sim/hardware/models/accelerator.ts';
import { Edu } from '../../../src/sim/hardware/models/edu.ts';
import { MigratableAccelerator } from '../../../src/sim/hardware/models/migratable-accelerator.ts';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import { alone, attach, Pages } from './kit.ts';

const QUEUE = 0x1000n;
const DONE = 0x2000n;
const DATA = 0x3000n;
const ENTRIES = 8;

interface Order {
  readonly opcode: number;
  readonly flags?: number;
  readonly source?: bigint;
  readonly destination?: bigint;
  readonly length?: number;
  readonly argument?: bigint;
  readonly completion?: bigint;
}

class Driver {
  readonly pages = new Pages();
  readonly dev: PciDev;
  tail = 0;

  constructor(dev: PciDev) {
    this.dev = dev;
    for (let page = 1; page < 16; page++) this.pages.map(BigInt(page) << 12n, page);
    attach(dev, this.pages);
    dev.barWrite(0, 0x10, 8, QUEUE);
    dev.barWrite(0, 0x18, 4, ENTRIES);
    dev.barWrite(0, 0x08, 4, 1);
  }

  submit(order: Order): void {
    const entry = new Uint8Array(COMMAND_SIZE);
    const view = new DataView(entry.buffer);
    view.setUint32(0, order.opcode, true);
    view.setUint32(4, order.flags ?? 0, true);
    view.setBigUint64(8, order.source ?? DATA, true);
    view.setBigUint64(16, order.destination ?? DATA, true);
    view.setUint32(24, order.length ?? 0, true);
    view.setBigUint64(32, order.argument ?? 0n, true);
    view.setBigUint64(40, order.completion ?? DONE, true);
    this.pages.store.write(Number(QUEUE) + COMMAND_SIZE * this.tail, entry);
    this.tail = (this.tail + 1) % ENTRIES;
    this.dev.barWrite(0, 0x20, 4, this.tail);
  }

  /** Error and result of a command. */
  run(order: Order): [error: number, result: bigint] {
    this.pages.store.write(Number(DONE), new Uint8Array(16));
    this.submit(order);
    for (let left = 100; (Number(this.dev.barRead(0, 0x0c, 4)) & 1) !== 0; left--)
      if (left === 0) throw new Error('busy for ever');
    const bytes = new Uint8Array(16);
    this.pages.store.read(Number(DONE), bytes);
    const view = new DataView(bytes.buffer);
    return [view.getUint32(4, true) - 0x8000_0000, view.getBigUint64(8, true)];
  }

  data(length: number, at = DATA): Uint8Array {
    const bytes = new Uint8Array(length);
    this.pages.store.read(Number(at), bytes);
    return bytes;
  }
}

describe('accelerator', () => {
  let accelerator: Accelerator;
  let driver: Driver;
  let dev: PciDev;

  beforeEach(() => {
    const made = alone(new Accelerator());
    [accelerator, dev] = [made.fn, made.dev];
    driver = new Driver(dev);
  });

  test('says what it is, and that it can be trusted', () => {
    expect([dev.barRead(0, 0, 8), dev.barRead(0, 0x28, 4)]).toEqual([0x0000_0001_4341_564bn, 0x10000]);
    expect(dev.readConfig(accelerator.positions.express + 4, 4) & 0x4000_0000).toBe(0x4000_0000);
    expect(dev.resetMethods).toEqual(['flr']);
  });

  test('its memory is behind BAR 2, at every width', () => {
    dev.barWrite(2, 0x100, 8, 0x1122_3344_5566_7788n);
    expect([dev.barRead(2, 0x100, 4), dev.barRead(2, 0x106, 2), dev.barRead(2, 0x107, 1)]).toEqual([0x5566_7788, 0x1122, 0x11]);
    dev.barWrite(2, 0x100, 1, 0xff);
    dev.barWrite(2, 0x104, 2, 0xeeee);
    dev.barWrite(2, 0x108, 4, 0xdddd);
    expect(dev.barRead(2, 0x100, 8)).toBe(0x1122_eeee_5566_77ffn);
  });

  test('fills, copies, combines and sums up, in both memories', () => {
    expect(
      driver.run({ opcode: Opcode.FILL, flags: Flag.TO_DEVICE, destination: 16n, length: 12, argument: 0x0807_0605_0403_0201n }),
    ).toEqual([0, 0n]);
    expect([...accelerator.memory.subarray(15, 29)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 0]);
    expect(driver.run({ opcode: Opcode.COPY, flags: Flag.FROM_DEVICE, source: 16n, length: 12 })[0]).toBe(0);
    expect([...driver.data(12)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4]);
    expect(driver.run({ opcode: Opcode.SUM, length: 12 })).toEqual([0, 46n]);
    expect(driver.run({ opcode: Opcode.XOR, destination: DATA + 0x800n, length: 3, argument: 0xffn })[0]).toBe(0);
    expect([...driver.data(3, DATA + 0x800n)]).toEqual([0xfe, 2, 3]);
  });

  test('what goes wrong is said in the completion', () => {
    expect(driver.run({ opcode: 99 })[0]).toBe(AcceleratorError.OPCODE);
    expect(driver.run({ opcode: Opcode.COPY, source: 1n << 40n, length: 4 })[0]).toBe(AcceleratorError.DMA);
    expect(driver.run({ opcode: Opcode.COPY, destination: 1n << 40n, length: 4 })[0]).toBe(AcceleratorError.DMA);
    expect(driver.run({ opcode: Opcode.COPY, flags: Flag.TO_DEVICE, destination: 0xfffen, length: 4 })[0]).toBe(
      AcceleratorError.RANGE,
    );
    expect(driver.run({ opcode: Opcode.COPY, flags: Flag.FROM_DEVICE, source: 0xfffen, length: 4 })[0]).toBe(
      AcceleratorError.RANGE,
    );
    expect(driver.run({ opcode: Opcode.COPY, length: 0x20000 })[0]).toBe(AcceleratorError.RANGE);
    accelerator.failNext();
    expect([driver.run({ opcode: Opcode.COPY, length: 4 })[0], driver.run({ opcode: Opcode.COPY, length: 4 })[0]]).toEqual([
      AcceleratorError.DMA,
      0,
    ]);
  });

  test('a queue that cannot be read stops it until it is disabled', () => {
    dev.barWrite(0, 0x10, 8, 1n << 50n);
    dev.barWrite(0, 0x20, 4, 1);
    for (let i = 0; i < 5; i++) dev.barRead(0, 0x0c, 4);
    expect([dev.barRead(0, 0x24, 4), Number(dev.barRead(0, 0x0c, 4)) & 2]).toEqual([AcceleratorError.QUEUE, 2]);
    dev.barWrite(0, 0x08, 4, 0);
    dev.barWrite(0, 0x10, 8, QUEUE);
    dev.barWrite(0, 0x08, 4, 1);
    driver.tail = 0;
    expect(driver.run({ opcode: Opcode.NOP })).toEqual([0, 0n]);
  });

  test('interrupts where a command asks for one', () => {
    let calls = 0;
    dev.irq.allocVectors('msix', 1, 2);
    dev.irq.setHandler(0, () => calls++);
    driver.run({ opcode: Opcode.NOP });
    driver.run({ opcode: Opcode.NOP, flags: Flag.INTERRUPT });
    expect(calls).toBe(1);
  });

  test('a reset forgets everything, also what it was about to do', () => {
    accelerator.memory[5] = 1;
    driver.submit({ opcode: Opcode.FILL, length: 4, argument: 7n });
    const saved = dev.saveState();
    dev.resetFunction();
    dev.restoreState(saved);
    expect([accelerator.memory[5], dev.barRead(0, 0x08, 4), driver.data(1)[0]]).toEqual([0, 0, 0]);
  });
});

describe('migration', () => {
  const make = () => {
    const { dev, fn } = alone(new MigratableAccelerator({ memory: 0x4000 }));
    return { dev, fn, driver: new Driver(dev) };
  };

  test('who can be migrated', () => {
    expect([isMigratable(new MigratableAccelerator()), isMigratable(new Accelerator()), isMigratable(new Edu())]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test('stopped it takes no commands; it goes on where it was', () => {
    const { dev, fn, driver } = make();
    for (const state of ['quiet', 'stopped'] as const) {
      fn.runState = state;
      driver.submit({ opcode: Opcode.FILL, length: 1, argument: 5n });
      for (let i = 0; i < 10; i++) dev.barRead(0, 0, 4);
      expect(driver.data(1)[0]).toBe(0);
    }
    fn.runState = 'running';
    for (let i = 0; i < 10; i++) dev.barRead(0, 0, 4);
    expect(driver.data(1)[0]).toBe(5);
  });

  test('all of it in one piece, taken up by another', () => {
    const [from, to] = [make(), make()];
    from.dev.barWrite(2, 0x1234, 4, 0xdead_beef);
    from.driver.run({ opcode: Opcode.NOP });
    from.fn.runState = 'stopped';
    from.fn.beginSaving();
    const stream = from.fn.saveRest();
    expect(stream.length).toBe(from.fn.stateSize);
    to.fn.runState = 'stopped';
    to.fn.beginRestoring();
    // It may come in pieces of any size.
    for (let at = 0; at < stream.length; at += 999) expect(to.fn.restore(stream.subarray(at, at + 999))).toBe(true);
    expect(to.fn.restored).toBe(true);
    expect([to.dev.barRead(2, 0x1234, 4), to.dev.barRead(0, 0x1c, 4), to.dev.barRead(0, 0x10, 8)]).toEqual([
      0xdead_beef,
      1,
      QUEUE,
    ]);
    to.driver.tail = 1;
    to.fn.runState = 'running';
    expect(to.driver.run({ opcode: Opcode.SUM, flags: Flag.FROM_DEVICE, source: 0x1234n, length: 4 })).toEqual([
      0,
      0xden + 0xadn + 0xben + 0xefn,
    ]);
  });

  test('while it runs: what has changed comes again', () => {
    const { dev, fn, driver } = make();
    const record = 8 + 8 + 4096;
    fn.beginSaving();
    expect([fn.changed, fn.saveChanged().length, fn.changed, fn.saveChanged().length]).toEqual([
      8 + 4 * record,
      8 + 4 * record,
      0,
      0,
    ]);
    dev.barWrite(2, 0xffe, 2, 1);
    driver.run({ opcode: Opcode.FILL, flags: Flag.TO_DEVICE, destination: 0x2ffen, length: 4, argument: 1n });
    expect(fn.changed).toBe(3 * record);
    expect(fn.saveRest().length).toBe(3 * record + 8 + 32);
  });

  test('a stream of something else is refused', () => {
    const { fn } = make();
    const of = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
    const refused = (...pieces: Uint8Array[]): boolean => {
      fn.beginRestoring();
      return pieces.every((piece) => fn.restore(piece)) === false;
    };
    expect(refused(of(1, 0x4000))).toBe(true);
    expect(refused(of(0x4749_4d4b, 0x8000))).toBe(true);
    expect(refused(of(0x4749_4d4b, 0x4000), of(3, 4))).toBe(true);
    expect(refused(of(0x4749_4d4b, 0x4000), of(1, 100))).toBe(true);
    expect(refused(of(0x4749_4d4b, 0x4000), of(1, 4104, 0x4000, 0), new Uint8Array(4096))).toBe(true);
    expect(refused(of(0x4749_4d4b, 0x4000), of(2, 32), new Uint8Array(32))).toBe(false);
    expect([fn.restored, fn.restore(of(2, 32))]).toEqual([true, false]);
  });

  test('the log of what it wrote: in ranges, forgotten when it is told', () => {
    const { fn, driver } = make();
    const told: string[] = [];
    const read = (iova: bigint, length: bigint): string[] => {
      fn.writeLog.readAndClear(iova, length, (at, size) => told.push(`${at.toString(16)}+${size}`));
      return told.splice(0);
    };
    driver.run({ opcode: Opcode.NOP });
    expect(fn.writeLog.start([{ start: 0x3000n, last: 0x5fffn }], 4096n)).toBe(4096n);
    driver.run({ opcode: Opcode.FILL, destination: 0x4ffen, length: 4, argument: 1n });
    expect(read(0x5000n, 0x1000n)).toEqual(['5000+4096']);
    expect(read(0n, 1n << 40n)).toEqual(['4000+4096']);
    expect(read(0n, 1n << 40n)).toEqual([]);
    fn.writeLog.stop();
    driver.run({ opcode: Opcode.FILL, destination: 0x4000n, length: 4, argument: 1n });
    expect(read(0n, 1n << 40n)).toEqual([]);
    expect(new PageLog().start([], 512n)).toBe(4096n);
  });
});
