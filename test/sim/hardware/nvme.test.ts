import { beforeEach, describe, expect, test } from 'vitest';
import { Nvme } from '../../../src/sim/hardware/models/nvme.ts';
import { Status } from '../../../src/sim/hardware/models/nvme-commands.ts';
import type { PciDev } from '../../../src/sim/pci/pci-dev.ts';
import type { System } from '../../../src/sim/system.ts';
import { alone, attach, Pages } from './kit.ts';

const ENTRIES = 8;
/** Pages: the four queues, then data. */
const [ADMIN, ADMIN_DONE, IO, IO_DONE, DATA] = [0x1000n, 0x2000n, 0x3000n, 0x4000n, 0x10000n];

interface Answer {
  readonly identifier: number;
  readonly status: number;
  readonly result: number;
  readonly head: number;
}

/** A driver in a few lines: one queue pair beside the admin's, commands one at a time unless `submit` is used. */
class Driver {
  readonly pages = new Pages();
  readonly dev: PciDev;
  readonly #tails: [number, number] = [0, 0];
  readonly #heads: [number, number] = [0, 0];
  readonly #phases: [number, number] = [1, 1];

  constructor(dev: PciDev) {
    this.dev = dev;
    for (let page = 1; page < 64; page++) this.pages.map(BigInt(page) << 12n, page);
    attach(dev, this.pages);
  }

  start(): void {
    this.dev.barWrite(0, 0x24, 4, (ENTRIES - 1) | ((ENTRIES - 1) << 16));
    this.dev.barWrite(0, 0x28, 8, ADMIN);
    this.dev.barWrite(0, 0x30, 8, ADMIN_DONE);
    this.dev.barWrite(0, 0x14, 4, 0x0046_0001);
    for (let left = 100; Number(this.dev.barRead(0, 0x1c, 4)) !== 1; left--) if (left === 0) throw new Error('not ready');
  }

  submit(
    queue: 0 | 1,
    command: Partial<Record<'opcode' | 'nsid' | 'flags', number>> & { prp1?: bigint; prp2?: bigint; dwords?: number[] },
  ): void {
    const entry = new Uint8Array(64);
    const view = new DataView(entry.buffer);
    view.setUint8(0, command.opcode ?? 0);
    view.setUint8(1, command.flags ?? 0);
    view.setUint16(2, this.#tails[queue] + 0x100, true);
    view.setUint32(4, command.nsid ?? 1, true);
    view.setBigUint64(24, command.prp1 ?? DATA, true);
    view.setBigUint64(32, command.prp2 ?? 0n, true);
    for (const [i, dword] of (command.dwords ?? []).entries()) view.setUint32(40 + 4 * i, dword, true);
    this.pages.store.write(Number(queue === 0 ? ADMIN : IO) + 64 * this.#tails[queue], entry);
    this.#tails[queue] = (this.#tails[queue] + 1) % ENTRIES;
    this.dev.barWrite(0, 0x1000 + 8 * queue, 4, this.#tails[queue]);
  }

  /** The next completion, if it is there. */
  poll(queue: 0 | 1): Answer | undefined {
    const bytes = new Uint8Array(16);
    this.pages.store.read(Number(queue === 0 ? ADMIN_DONE : IO_DONE) + 16 * this.#heads[queue], bytes);
    const view = new DataView(bytes.buffer);
    const status = view.getUint16(14, true);
    if ((status & 1) !== this.#phases[queue]) return undefined;
    this.#heads[queue] = (this.#heads[queue] + 1) % ENTRIES;
    if (this.#heads[queue] === 0) this.#phases[queue] ^= 1;
    return {
      identifier: view.getUint16(12, true),
      status: status >> 1,
      result: view.getUint32(0, true),
      head: view.getUint16(8, true),
    };
  }

  /** Tells the device how far completions have been taken. */
  consume(queue: 0 | 1): void {
    this.dev.barWrite(0, 0x1004 + 8 * queue, 4, this.#heads[queue]);
  }

  run(queue: 0 | 1, command: Parameters<Driver['submit']>[1]): Answer {
    this.submit(queue, command);
    this.dev.system.runner.spend(1_000_000n);
    const answer = this.poll(queue);
    if (answer === undefined) throw new Error('no completion');
    this.consume(queue);
    return answer;
  }

  queues(vector = 1): void {
    expect(this.run(0, { opcode: 5, prp1: IO_DONE, dwords: [1 | ((ENTRIES - 1) << 16), 3 | (vector << 16)] }).status).toBe(0);
    expect(this.run(0, { opcode: 1, prp1: IO, dwords: [1 | ((ENTRIES - 1) << 16), 1 | (1 << 16)] }).status).toBe(0);
  }

  data(at: bigint, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.pages.store.read(Number(at), bytes);
    return bytes;
  }
}

let system: System;
let nvme: Nvme;
let driver: Driver;

beforeEach(() => {
  const made = alone(new Nvme({ serial: 'abc', size: 1 << 20 }));
  nvme = made.fn;
  system = made.system;
  driver = new Driver(made.dev);
});

const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 13 + seed + (i >> 9)) & 0xff);

describe('controller', () => {
  test('says what it can before it is enabled', () => {
    const { dev } = driver;
    expect(dev.barRead(0, 0, 8)).toBe(0x0040_1820_0f01_07ffn);
    expect([dev.barRead(0, 4, 4), dev.barRead(0, 8, 4), dev.barRead(0, 0x1c, 4)]).toEqual([0x0040_1820, 0x0001_0400, 0]);
  });

  test('identify: the controller and its namespace', () => {
    driver.start();
    expect(driver.run(0, { opcode: 6, nsid: 0, dwords: [1] })).toMatchObject({ status: 0, identifier: 0x100, head: 1 });
    const controller = driver.data(DATA, 4096);
    expect(Buffer.from(controller.subarray(4, 64)).toString()).toBe(`${'abc'.padEnd(20)}${'QEMU NVMe Ctrl'.padEnd(40)}`);
    expect([controller[512], controller[513], controller[516], controller[77]]).toEqual([0x66, 0x44, 1, 7]);
    driver.run(0, { opcode: 6, dwords: [0] });
    const namespace = new DataView(driver.data(DATA, 4096).buffer);
    expect([namespace.getBigUint64(0, true), namespace.getUint8(130)]).toEqual([2048n, 9]);
    driver.run(0, { opcode: 6, nsid: 0, dwords: [2] });
    expect(driver.data(DATA, 8)).toEqual(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    expect(driver.run(0, { opcode: 6, nsid: 2, dwords: [0] }).status).toBe(Status.INVALID_NAMESPACE);
    expect(driver.run(0, { opcode: 6, dwords: [0x77] }).status).toBe(Status.INVALID_FIELD);
  });

  test('admin queues that are not as they must be: a fatal status', () => {
    driver.dev.barWrite(0, 0x28, 8, ADMIN + 8n);
    driver.dev.barWrite(0, 0x14, 4, 0x0046_0001);
    expect(driver.dev.barRead(0, 0x1c, 4)).toBe(2);
  });

  test('disabling forgets the queues, not the disk; a shutdown is complete', () => {
    driver.start();
    driver.queues();
    driver.dev.barWrite(0, 0x14, 4, 0x0046_4001);
    expect(driver.dev.barRead(0, 0x1c, 4)).toBe(9);
    driver.dev.barWrite(0, 0x14, 4, 0);
    expect([driver.dev.barRead(0, 0x1c, 4), nvme.hasSubmissionQueue(1)]).toEqual([0, false]);
  });

  test('queues: what cannot be made or taken away', () => {
    driver.start();
    const size = (ENTRIES - 1) << 16;
    const status = (opcode: number, dwords: number[], prp1 = IO): number => driver.run(0, { opcode, prp1, dwords }).status;
    expect(status(1, [1 | size, 1 | (1 << 16)])).toBe(Status.COMPLETION_QUEUE_INVALID);
    expect(status(5, [0 | size, 3])).toBe(Status.QUEUE_IDENTIFIER_INVALID);
    expect(status(5, [1, 3])).toBe(Status.QUEUE_SIZE_INVALID);
    expect(status(5, [1 | size, 3], IO + 4n)).toBe(Status.INVALID_FIELD);
    expect(status(5, [1 | size, 3 | (65 << 16)])).toBe(Status.INVALID_VECTOR);
    driver.queues();
    expect(status(5, [1 | size, 3])).toBe(Status.QUEUE_IDENTIFIER_INVALID);
    expect(status(4, [1])).toBe(Status.INVALID_QUEUE_DELETION);
    expect([status(0, [1]), status(0, [1]), status(4, [1])]).toEqual([0, Status.QUEUE_IDENTIFIER_INVALID, 0]);
  });

  test('features, logs, what it does not know', () => {
    driver.start();
    expect(driver.run(0, { opcode: 9, dwords: [7, 0x0003_0003] }).result).toBe(0x003f_003f);
    expect([driver.run(0, { opcode: 9, dwords: [6, 1] }).status, driver.run(0, { opcode: 10, dwords: [6] }).result]).toEqual([
      0, 1,
    ]);
    expect(driver.run(0, { opcode: 10, dwords: [0x7f] }).status).toBe(Status.INVALID_FIELD);
    expect(driver.run(0, { opcode: 2, dwords: [2 | (127 << 16)] }).status).toBe(0);
    expect([...driver.data(DATA, 5)]).toEqual([0, 0x2c, 1, 100, 10]);
    expect(driver.run(0, { opcode: 2, dwords: [9] }).status).toBe(Status.INVALID_LOG_PAGE);
    expect(driver.run(0, { opcode: 0x55 }).status).toBe(Status.INVALID_OPCODE);
  });
});

describe('blocks', () => {
  beforeEach(() => {
    driver.start();
    driver.queues();
  });

  const io = (opcode: number, lba: number, blocks: number, more: Parameters<Driver['submit']>[1] = {}): Answer =>
    driver.run(1, { opcode, dwords: [lba, 0, blocks - 1], ...more });

  test('written, read back elsewhere; flushed; zeroed', () => {
    const sent = pattern(1024);
    driver.pages.store.write(Number(DATA) + 512, sent);
    expect(io(1, 5, 2, { prp1: DATA + 512n }).status).toBe(0);
    expect(nvme.disk.slice(5 * 512, 7 * 512)).toEqual(sent);
    expect(io(2, 5, 2, { prp1: DATA + 0x1000n }).status).toBe(0);
    expect(driver.data(DATA + 0x1000n, 1024)).toEqual(sent);
    expect(io(0, 0, 1).status).toBe(0);
    expect(io(8, 6, 1).status).toBe(0);
    expect(nvme.disk[6 * 512]).toBe(0);
  });

  test('two pages, and lists of pages', () => {
    nvme.disk.set(pattern(64 * 512, 9));
    expect(io(2, 0, 16, { prp1: DATA, prp2: DATA + 0x3000n }).status).toBe(0);
    expect([driver.data(DATA, 4096), driver.data(DATA + 0x3000n, 4096)]).toEqual([
      nvme.disk.slice(0, 4096),
      nvme.disk.slice(4096, 8192),
    ]);
    const list = new BigUint64Array([DATA + 0x5000n, DATA + 0x4000n, DATA + 0x6000n, DATA + 0x7000n]);
    driver.pages.store.write(Number(DATA) + 0x8ff0, new Uint8Array(list.buffer, 0, 8));
    // The last entry of a page leads to the next list.
    driver.pages.store.write(Number(DATA) + 0x8ff8, new Uint8Array(BigUint64Array.of(DATA + 0x9000n).buffer));
    driver.pages.store.write(Number(DATA) + 0x9000, new Uint8Array(list.buffer, 8));
    expect(io(2, 0, 36, { prp1: DATA + 0x800n, prp2: DATA + 0x8ff0n }).status).toBe(0);
    const got = [
      driver.data(DATA + 0x800n, 2048),
      driver.data(DATA + 0x5000n, 4096),
      driver.data(DATA + 0x4000n, 4096),
      driver.data(DATA + 0x6000n, 4096),
      driver.data(DATA + 0x7000n, 4096),
    ];
    expect(Buffer.concat(got)).toEqual(Buffer.from(nvme.disk.slice(0, 36 * 512)));
  });

  test('what cannot be', () => {
    expect(io(2, 2048, 1).status).toBe(Status.LBA_RANGE);
    expect(io(2, 0, 1, { nsid: 3 }).status).toBe(Status.INVALID_NAMESPACE);
    expect(io(2, 0, 0x10000).status).toBe(Status.INVALID_FIELD);
    expect(io(2, 0, 16, { prp2: DATA + 4n }).status).toBe(Status.INVALID_FIELD);
    expect(io(2, 0, 1, { flags: 0x40 }).status).toBe(Status.INVALID_FIELD);
    expect(io(2, 0, 1, { prp1: 1n << 30n }).status).toBe(Status.DATA_TRANSFER_ERROR);
    expect(system.pci.iommu!.faults).toHaveLength(1);
  });

  test('a failure that a test wants, once', () => {
    nvme.failNext();
    expect([io(1, 0, 1).status, io(1, 0, 1).status]).toEqual([Status.WRITE_FAULT, 0]);
  });

  test('many at once: in order, the phase turns over, and a full completion queue holds the rest back', () => {
    const seen: number[] = [];
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 5; i++) driver.submit(1, { opcode: 2, dwords: [i, 0, 0] });
      system.runner.spend(1_000_000n);
      for (let answer = driver.poll(1); answer !== undefined; answer = driver.poll(1)) seen.push(answer.identifier & 0xff);
      driver.consume(1);
    }
    expect(seen).toEqual(Array.from({ length: 25 }, (_, i) => i % ENTRIES));
    for (let i = 0; i < 7; i++) driver.submit(1, { opcode: 2, dwords: [0, 0, 0] });
    system.runner.spend(1_000_000n);
    for (let i = 0; i < 3; i++) driver.submit(1, { opcode: 2, dwords: [0, 0, 0] });
    system.runner.spend(1_000_000n);
    let count = 0;
    while (driver.poll(1) !== undefined) count++;
    expect(count).toBe(7);
    driver.consume(1);
    while (driver.poll(1) !== undefined) count++;
    expect(count).toBe(10);
  });

  test('INTx stands while something is there that nobody took, unless it is masked', () => {
    const { dev } = driver;
    expect(nvme.intx).toBe(false);
    driver.submit(1, { opcode: 2, dwords: [0, 0, 0] });
    system.runner.spend(1_000_000n);
    expect(nvme.intx).toBe(true);
    dev.barWrite(0, 0x0c, 4, 2);
    expect([nvme.intx, dev.barRead(0, 0x0c, 4)]).toEqual([false, 2]);
    dev.barWrite(0, 0x10, 4, 2);
    expect(nvme.intx).toBe(true);
    driver.poll(1);
    driver.consume(1);
    expect(nvme.intx).toBe(false);
  });

  test('MSI-X: the vector of the queue', () => {
    const { irq } = driver.dev;
    let calls = 0;
    irq.allocVectors('msix', 1, 2);
    irq.setHandler(1, () => calls++);
    expect([io(2, 0, 1).status, calls, nvme.intx]).toEqual([0, 1, false]);
  });
});
