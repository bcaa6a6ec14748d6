import { describe, expect, test } from 'vitest';
import type { RootPort } from '../../../../src/sim/hardware/models/ports.ts';
import { TDISP_LOCK_FLAG } from '../../../../src/sim/hardware/tdisp/vocabulary.ts';
import type { TeeIo } from '../../../../src/sim/hardware/tsm/switches.ts';
import { PAGE_SIZE } from '../../../../src/sim/mm/pages.ts';
import { AT, ERROR, LOCKED, RUN, UNLOCKED, type World, world } from './kit.ts';

const MAGIC = 0x4341_564b;
const ONES = 0xffff_ffff;
const MEMORY_SIZE = 0x28;
const TABLE = 0x2000;
const ALL: readonly number[] = [UNLOCKED, LOCKED, RUN, ERROR];
const VENDORS: readonly TeeIo['vendor'][] = ['sim', 'tdx', 'sev', 'cca'];

const enter = (one: World, state: number): World => (state === UNLOCKED ? one : one.enter(state));

describe('memory requests', () => {
  test.each(ALL.map((state) => [state]))('state %i: who is served', (state) => {
    const one = enter(world({ hostMmio: 'reject' }), state);
    expect(one.dev.barRead(0, 0, 4)).toBe(state === UNLOCKED ? MAGIC : ONES);
    expect(one.dev.barRead(0, 0, 4, true)).toBe(state === RUN ? MAGIC : ONES);
    expect(one.tdi.counters.rejectedAccesses).toBe(state === UNLOCKED || state === RUN ? 1 : 2);
    // The host's pages: always, whoever asks.
    expect(one.dev.barRead(0, TABLE + 12, 4)).toBe(1);
    expect(one.dev.barRead(0, TABLE + 12, 4, true)).toBe(1);
    expect(one.tdi.tdi.state).toBe(state);
  });

  test('what is rejected is not written', () => {
    const one = world({ hostMmio: 'reject' }).enter(RUN);
    one.dev.barWrite(2, 0, 8, 0x1122_3344n);
    expect(one.dev.barRead(2, 0, 8, true)).toBe(0n);
    one.dev.barWrite(2, 0, 8, 0x1122_3344n, true);
    expect(one.dev.barRead(2, 0, 8, true)).toBe(0x1122_3344n);
    expect(one.dev.barRead(2, 0, 8)).toBe(0xffff_ffff_ffff_ffffn);
    expect(one.tdi.counters.rejectedAccesses).toBe(2);
  });

  test('it is an unsupported request: AER, and the driver is told', () => {
    const one = world({ hostMmio: 'reject' }).enter(RUN);
    const told: string[] = [];
    one.dev.onError = (severity) => told.push(severity);
    one.dev.barRead(0, 0, 4);
    expect(told).toEqual(['nonfatal']);
    expect(one.dev.aer.nonfatal).toBe(1);
    expect(one.dev.aerBits.nonfatal.get(20)).toBe(1);
    expect(one.dev.aer.fatal).toBe(0);
  });

  test('where nobody collects errors it stands in the registers', () => {
    const one = world({ hostMmio: 'reject' }).enter(RUN);
    const { express, aer } = one.fn.positions;
    one.dev.writeConfig(express + 8, 2, 0);
    one.dev.barRead(0, 0, 4);
    expect(one.dev.readConfig(express + 0xa, 2) & 0xf).toBe(0b1010);
    expect(one.dev.readConfig(aer + 4, 4)).toBe(1 << 20);
    expect(one.dev.aer.nonfatal).toBe(0);
  });

  test('hostMmio: to reach for the guest\u2019s memory ends the secure state, to be rejected with T does not', () => {
    const error = world().enter(RUN);
    error.dev.barRead(0, TABLE, 4);
    expect(error.tdi.tdi.state).toBe(RUN);
    error.dev.barRead(0, 0, 4);
    expect(error.tdi.tdi.state).toBe(ERROR);
    const locked = world().enter(LOCKED);
    locked.dev.barRead(0, 0, 4, true);
    expect(locked.tdi.tdi.state).toBe(LOCKED);
    locked.dev.barWrite(2, 0, 4, 1);
    expect(locked.tdi.tdi.state).toBe(ERROR);
    const reject = world({ hostMmio: 'reject' }).enter(RUN);
    reject.dev.barRead(0, 0, 4);
    expect(reject.tdi.tdi.state).toBe(RUN);
  });

  test('a BAR that was moved under a lock serves nobody', () => {
    const one = world({ hostMmio: 'reject' }).enter(LOCKED);
    one.dev.writeConfig(0x18, 4, Number((one.bar2 + 0x10_0000n) & 0xffff_ffffn));
    expect(one.tdi.tdi.state).toBe(ERROR);
    one.dev.sizeResources();
    expect(one.dev.resources[2]!.start).toBe(one.bar2 + 0x10_0000n);
    expect(one.dev.barRead(2, 0, 4)).toBe(ONES);
    one.tdi.unbind();
    expect(one.dev.barRead(2, 0, 4)).toBe(0);
  });

  test('a function without an interface rejects what has the T bit', () => {
    const one = world();
    const port = one.dev.parent!;
    const at = port.barRead(0, 0, 4);
    expect(port.barRead(0, 0, 4, true)).toBe(ONES);
    expect(port.barRead(0, 0, 4)).toBe(at);
  });
});

describe('what happens to the function', () => {
  const command = (one: World, bit: number): void => one.dev.writeConfig(4, 2, one.dev.readConfig(4, 2) & ~bit);
  const events: Readonly<Record<string, readonly [happen: (one: World) => void, after: number]>> = {
    'Memory Space Enable cleared': [(one) => command(one, 2), ERROR],
    'Bus Master Enable cleared': [(one) => one.dev.setMaster(false), ERROR],
    'INTx disabled': [(one) => one.dev.writeConfig(4, 2, one.dev.readConfig(4, 2) | 0x400), RUN],
    'a BAR written': [(one) => one.dev.writeConfig(0x10, 4, one.dev.readConfig(0x10, 4)), ERROR],
    'status cleared': [(one) => one.dev.writeConfig(6, 2, 0xffff), RUN],
    'function level reset': [(one) => one.dev.resetFunction(), ERROR],
    'function level reset, restored': [(one) => one.dev.saveAndReset(), ERROR],
    'bus reset': [(one) => one.dev.resetSlotOrBus(), UNLOCKED],
    'D3hot, which forgets nothing': [(one) => one.dev.setPowerState(3), RUN],
    'MSI-X table written': [(one) => one.dev.barWrite(0, TABLE, 4, 0xfee0_0000), RUN],
    'the bus has another number': [(one) => one.dev.parent!.writeConfig(0x19, 1, 5), ERROR],
    'pulled out': [(one) => one.system.pci.unplug(one.fn), ERROR],
    'keys lost': [(one) => one.tdi.loseKeys(), ERROR],
  };
  test.each(
    Object.entries(events).map(([name, [happen, after]]) => [name, after, happen] as const),
  )('%s: RUN becomes %i', (_name, after, happen) => {
    const one = world().enter(RUN);
    happen(one);
    expect(one.tdi.tdi.state).toBe(after);
    expect(one.tdi.binding).toBeDefined();
    expect(one.tdi.dmaEnabled).toBe(after === RUN);
  });

  test('a bridge above that is reset', () => {
    const one = world().enter(LOCKED);
    (one.dev.parent!.fn as RootPort).resetSecondary();
    expect(one.tdi.tdi.state).toBe(UNLOCKED);
  });

  test('with LOCK_MSIX the table and the capability are locked too', () => {
    const table = world();
    table.tdi.lockFlags = TDISP_LOCK_FLAG.LOCK_MSIX;
    table.enter(RUN);
    table.dev.barWrite(0, 0x3000, 4, 1);
    expect(table.tdi.tdi.state).toBe(RUN);
    table.dev.barWrite(0, TABLE + 0x1c, 4, 0);
    expect(table.tdi.tdi.state).toBe(ERROR);
    const capability = world();
    capability.tdi.lockFlags = TDISP_LOCK_FLAG.LOCK_MSIX;
    capability.enter(RUN);
    const at = capability.fn.positions.msix + 2;
    capability.dev.writeConfig(at, 2, capability.dev.readConfig(at, 2) | 0x8000);
    expect(capability.tdi.tdi.state).toBe(ERROR);
  });

  test('unlocked nobody watches', () => {
    const one = world().enter(RUN);
    one.tdi.unbind();
    one.dev.setMaster(false);
    one.dev.setMaster(true);
    expect(one.tdi.tdi.state).toBe(UNLOCKED);
    expect(one.fn.config.observer).toBeUndefined();
  });
});

describe('DMA', () => {
  const SHARED = 0x2000n;
  const PRIVATE = 0x40_0000n;
  const GFN = 0x400;
  const bytes = Uint8Array.of(1, 2, 3, 4);
  const start = (one: World): World => {
    one.enter(RUN);
    if (!one.tdi.dmaEnabled) one.ask({ op: 'enable-dma' });
    return one;
  };

  test('in every state but RUN there is no guest to reach', () => {
    for (const [state, reaches] of [
      [UNLOCKED, true],
      [LOCKED, false],
      [ERROR, false],
    ] as const) {
      const one = enter(world(), state);
      one.vm.commit(GFN);
      expect(one.fn.dma.write(SHARED, bytes)).toBe(reaches);
      expect(one.fn.dma.write(PRIVATE, bytes)).toBe(false);
      expect(one.tdi.counters.droppedDma).toBe(reaches ? 0 : 2);
    }
  });

  test('messages go out all the same', () => {
    const one = world().enter(LOCKED);
    const sent: unknown[] = [];
    one.fn.sendMessage = (message) => sent.push(message) > 0;
    expect(one.fn.dma.write(0xfee0_0000n, bytes)).toBe(true);
    expect(sent).toEqual([{ address: 0xfee0_0000n, data: 0x0403_0201 }]);
    expect(one.tdi.counters.droppedDma).toBe(0);
  });

  test.each(VENDORS)('%s in RUN: shared frames by the IOMMU, private ones by the guest\u2019s tables', (vendor) => {
    const one = start(world({ vendor }));
    one.vm.commit(GFN);
    expect(one.fn.dma.write(SHARED + 8n, bytes)).toBe(true);
    expect(one.fn.dma.read(SHARED + 8n, 4)).toEqual(bytes);
    expect(one.fn.dma.write(PRIVATE + 16n, bytes)).toBe(true);
    expect(one.fn.dma.read(PRIVATE + 16n, 4)).toEqual(bytes);
    const there = new Uint8Array(4);
    one.pages.store.read(2 * PAGE_SIZE + 8, there);
    expect(there).toEqual(bytes);
    one.vm.store.read(GFN * PAGE_SIZE + 16, there);
    expect(there).toEqual(bytes);
    expect(one.system.pci.iommu!.faults).toEqual([]);
    expect(one.tdi.counters.droppedDma).toBe(0);
  });

  test('one transfer over a private and a shared frame', () => {
    const one = start(world());
    one.vm.shared.add(0x200);
    one.vm.commit(0x1ff);
    const at = 0x20_0000n - 2n;
    expect(one.fn.dma.write(at, bytes)).toBe(true);
    expect(one.fn.dma.read(at, 4)).toEqual(bytes);
    const there = new Uint8Array(2);
    one.vm.store.read(0x200 * PAGE_SIZE - 2, there);
    expect(there).toEqual(bytes.slice(0, 2));
    one.pages.store.read(3 * PAGE_SIZE, there);
    expect(there).toEqual(bytes.slice(2));
  });

  test('a domain that has more in one piece leads no farther than the frame', () => {
    const one = start(world());
    one.vm.shared.add(0x200);
    one.vm.commit(0x201);
    const { store } = one.pages;
    one.pages.translate = (iova, length) => {
      const page = store.page(3, true)!;
      return { page, at: page.offset + Number(iova % 4096n), length };
    };
    expect(one.fn.dma.write(0x20_0ffen, bytes)).toBe(true);
    const there = new Uint8Array(2);
    one.vm.store.read(0x201 * PAGE_SIZE, there);
    expect(there).toEqual(bytes.slice(2));
  });

  test('a frame that is not committed: made, dropped, or the guest is fenced off', () => {
    for (const [vendor, reaches, fenced] of [
      ['sim', true, 0],
      ['tdx', false, 0],
      ['cca', false, 0],
      ['sev', false, 1],
    ] as const) {
      const one = start(world({ vendor }));
      expect(one.fn.dma.write(PRIVATE, bytes), vendor).toBe(reaches);
      expect(one.tdi.counters.droppedDma, vendor).toBe(reaches ? 0 : 1);
      expect(one.tdi.fenced, vendor).toBe(fenced);
      expect(one.system.pci.iommu!.faults).toEqual([]);
    }
    const bare = start(world());
    bare.vm.backed = false;
    expect(bare.fn.dma.write(PRIVATE, bytes)).toBe(false);
    expect(bare.tdi.counters.droppedDma).toBe(1);
  });

  test('private DMA that was not enabled is dropped; shared DMA goes on', () => {
    for (const vendor of ['tdx', 'sev'] as const) {
      const one = world({ vendor }).enter(RUN);
      one.vm.commit(GFN);
      expect(one.fn.dma.write(PRIVATE, bytes)).toBe(false);
      expect(one.fn.dma.write(SHARED, bytes)).toBe(true);
      expect([one.tdi.counters.droppedDma, one.tdi.fenced]).toEqual([1, 0]);
      expect(one.ask({ op: 'enable-dma' }).errno).toBe(0);
      expect(one.fn.dma.write(PRIVATE, bytes)).toBe(true);
      one.ask({ op: 'disable-dma' });
      expect(one.fn.dma.write(PRIVATE, bytes)).toBe(false);
    }
    const cca = world({ vendor: 'cca' }).enter(RUN);
    expect(cca.ask({ op: 'enable-dma' }).errno).toBe(-22);
    expect(cca.tdi.dmaEnabled).toBe(true);
  });

  test('enabling it before LOCK is refused; before RUN it waits for RUN', () => {
    const one = world({ vendor: 'sev', bindLocks: false });
    one.enter(UNLOCKED);
    expect(one.ask({ op: 'enable-dma' }).errno).toBe(-22);
    one.set(LOCKED);
    one.vm.commit(GFN);
    expect(one.ask({ op: 'enable-dma' }).errno).toBe(0);
    expect(one.fn.dma.write(PRIVATE, bytes)).toBe(false);
    one.set(RUN);
    expect(one.fn.dma.write(PRIVATE, bytes)).toBe(true);
  });

  test('a nonce from elsewhere: who starts the TDI without the TSM has no guest', () => {
    const one = world();
    const nonce = one.tdi.tdi.lock({ flags: 0, defaultStreamId: 0, mmioReportingOffset: 0n, p2pAddressMask: 0n });
    one.tdi.tdi.start(nonce);
    expect(one.fn.dma.write(SHARED, bytes)).toBe(false);
    expect(one.tdi.counters.droppedDma).toBe(1);
  });

  test('sev: a fault the host has caused fences off all I/O of the guest, until it is cleared', () => {
    const one = world({ vendor: 'sev' });
    expect(one.tdi.fenced).toBe(3);
    start(one);
    expect(one.tdi.fenced).toBe(0);
    one.vm.commit(GFN);
    expect(one.fn.dma.write(0x9000n, bytes)).toBe(false);
    expect(one.tdi.fenced).toBe(1);
    expect(one.fn.dma.write(SHARED, bytes)).toBe(false);
    expect(one.fn.dma.write(PRIVATE, bytes)).toBe(false);
    const { nonfatal } = one.dev.aer;
    expect(one.dev.barRead(0, MEMORY_SIZE, 4, true)).toBe(ONES);
    one.dev.barWrite(2, 0, 4, 7, true);
    expect(one.tdi.tdi.state).toBe(RUN);
    expect(one.dev.aer.nonfatal).toBe(nonfatal);
    one.tdi.fenced = 0;
    expect(one.dev.barRead(0, MEMORY_SIZE, 4, true)).toBe(0x1_0000);
    expect(one.dev.barRead(2, 0, 4, true)).toBe(0);
    expect(one.fn.dma.write(PRIVATE, bytes)).toBe(true);
    one.tdi.fenced = 1;
    one.tdi.unbind();
    expect(one.tdi.fenced).toBe(3);
    expect(one.fn.dma.write(SHARED, bytes)).toBe(true);
    one.enter(LOCKED);
    expect(one.tdi.fenced).toBe(0);
  });

  test('a function beside it is not concerned', () => {
    const one = world().enter(RUN);
    expect(one.system.tsm!.tdis.map(({ fn }) => fn.place!.bdf)).toEqual([AT]);
    expect(one.dev.parent!.fn.dma.read(0x9000n, 4)).toBeUndefined();
    expect(one.system.pci.iommu!.faults.length).toBe(1);
  });
});

describe('an accelerator of a guest', () => {
  const [QUEUE, SOURCE] = [0x40_0000n, 0x40_1000n];
  const [CONTROL, QUEUE_BASE, QUEUE_SIZE, HEAD, TAIL] = [0x08, 0x10, 0x18, 0x1c, 0x20];
  /** COPY to the device's memory, of 4 bytes at SOURCE. */
  const command = (): Uint8Array => {
    const view = new DataView(new ArrayBuffer(64));
    view.setUint32(0, 1, true);
    view.setUint32(4, 4, true);
    view.setBigUint64(8, SOURCE, true);
    view.setBigUint64(16, 0x100n, true);
    view.setUint32(24, 4, true);
    return new Uint8Array(view.buffer);
  };
  const submit = (one: World, t: boolean): void => {
    one.dev.barWrite(0, QUEUE_BASE, 8, QUEUE, t);
    one.dev.barWrite(0, QUEUE_SIZE, 4, 16, t);
    one.dev.barWrite(0, CONTROL, 4, 1, t);
    one.dev.barWrite(0, TAIL, 4, 1, t);
  };

  test('works on private memory while it is in RUN', () => {
    const one = world({ hostMmio: 'reject' }).enter(RUN);
    one.vm.store.write(Number(QUEUE), command());
    one.vm.store.write(Number(SOURCE), Uint8Array.of(9, 8, 7, 6));
    submit(one, false);
    one.system.runner.spend(10_000n);
    expect(one.dev.barRead(0, HEAD, 4, true)).toBe(0);
    submit(one, true);
    one.system.runner.spend(10_000n);
    expect(one.dev.barRead(0, HEAD, 4, true)).toBe(1);
    expect(one.dev.barRead(2, 0x100, 4, true)).toBe(0x0607_0809);
    expect(one.tdi.counters.droppedDma).toBe(0);
  });

  test('is silent when it is locked: what the host had asked of it is not done', () => {
    const one = world({ hostMmio: 'reject' });
    submit(one, false);
    one.enter(RUN);
    one.system.runner.spend(10_000n);
    expect(one.dev.barRead(0, TAIL, 4, true)).toBe(0);
    expect(one.tdi.counters.droppedDma).toBe(0);
    expect(one.system.pci.iommu!.faults).toEqual([]);
  });
});
