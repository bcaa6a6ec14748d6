/** Writes to configuration space, of simulated functions, and what they are for a TDI. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FunctionSpec } from '../../../../src/sim/hardware/function-spec.ts';
import { configWriteEvents, type TdiEvent } from '../../../../src/sim/hardware/index.ts';
import * as r from '../../../../src/uapi/pci-regs.ts';
import { Memory } from '../kit.ts';
import { ERROR, RUN, World } from './kit.ts';

type Width = 1 | 2 | 4;
const writable = (id: number, length = 12): { id: number; bytes: Uint8Array; writable: Uint8Array } => ({
  id,
  bytes: new Uint8Array(length),
  writable: new Uint8Array(length).fill(0xff),
});

const spec: Partial<FunctionSpec> = {
  bars: { 0: { size: 0x1000, space: 'mem32' }, 2: { size: 0x1000, space: 'mem64' } },
  express: { at: 0x60, deviceControl2: 0xffff },
  flr: true,
  aer: { at: 0x140 },
  pm: { at: 0x40 },
  msi: { vectors: 4, at: 0x48 },
  msix: { vectors: 4, tableBar: 2, table: 0, pbaBar: 2, pba: 0x800, at: 0xa0 },
  capabilities: [{ ...writable(r.PCI_CAP_ID_EA, 14), at: 0xb0 }],
  extended: [
    { ...writable(r.PCI_EXT_CAP_ID_ATS), at: 0x100 },
    { ...writable(r.PCI_EXT_CAP_ID_ACS), at: 0x110 },
    { ...writable(r.PCI_EXT_CAP_ID_ARI), at: 0x200 },
    { ...writable(r.PCI_EXT_CAP_ID_PASID), at: 0x210 },
    { ...writable(r.PCI_EXT_CAP_ID_PRI), at: 0x220 },
    { ...writable(r.PCI_EXT_CAP_ID_SRIOV, 0x3c), at: 0x240 },
    { ...writable(r.PCI_EXT_CAP_ID_MCAST), at: 0x280 },
    { ...writable(r.PCI_EXT_CAP_ID_REBAR), at: 0x290 },
    { ...writable(r.PCI_EXT_CAP_ID_VF_REBAR), at: 0x2a0 },
    { ...writable(r.PCI_EXT_CAP_ID_DEV3), at: 0x2b0 },
    { ...writable(r.PCI_EXT_CAP_ID_IDE), at: 0x2c0 },
    { ...writable(r.PCI_EXT_CAP_ID_DSN), at: 0x2d0 },
  ],
};

/** What a write is. */
function eventsOf(fn: Memory, offset: number, width: Width, value: number): TdiEvent[] {
  const before = fn.config.snapshot();
  fn.config.write(offset, width, value);
  const written = new Uint8Array(4);
  new DataView(written.buffer).setUint32(0, value >>> 0, true);
  return configWriteEvents({ before, after: fn.config.snapshot(), offset, written: written.subarray(0, width) });
}

function device(own: Partial<FunctionSpec> = {}): Memory {
  const fn = new Memory({ ...spec, ...own });
  fn.config.write(r.PCI_COMMAND, 2, 0x6);
  return fn;
}

const WRITES: readonly [what: string, offset: number, width: Width, value: number, events: readonly TdiEvent[]][] = [
  ['Memory Space Enable cleared', r.PCI_COMMAND, 2, 0x4, ['memory-space-clear']],
  ['Bus Master Enable cleared', r.PCI_COMMAND, 2, 0x2, ['bus-master-clear']],
  ['both cleared', r.PCI_COMMAND, 4, 0x0, ['memory-space-clear', 'bus-master-clear']],
  ['both still set, INTx disabled', r.PCI_COMMAND, 2, 0x406, []],
  ['status', r.PCI_STATUS, 2, 0xffff, []],
  ['cache line size', r.PCI_CACHE_LINE_SIZE, 1, 16, []],
  ['latency timer', r.PCI_LATENCY_TIMER, 1, 16, []],
  ['BIST', r.PCI_BIST, 1, 0, ['bar-write']],
  ['cache line to BIST in one', r.PCI_CACHE_LINE_SIZE, 4, 0, ['bar-write']],
  ['a BAR, with what it had', r.PCI_BASE_ADDRESS_0, 4, 0, ['bar-write']],
  ['the last byte of the last BAR', 0x27, 1, 0, ['bar-write']],
  ['after the BARs', 0x28, 4, 0xffffffff, []],
  ['the ROM BAR', r.PCI_ROM_ADDRESS, 4, 0, ['bar-write']],
  ['interrupt line', r.PCI_INTERRUPT_LINE, 1, 9, []],
  ['D3hot', 0x44, 2, 3, ['power-loss']],
  ['MSI', 0x48 + r.PCI_MSI_FLAGS, 2, 1, []],
  ['FLR', 0x60 + r.PCI_EXP_DEVCTL, 2, 0x8000, ['flr']],
  ['Extended Tag', 0x60 + r.PCI_EXP_DEVCTL, 2, 0x100, ['tag-change']],
  ['Phantom Functions', 0x60 + r.PCI_EXP_DEVCTL, 2, 0x200, ['tag-change']],
  ['No Snoop', 0x60 + r.PCI_EXP_DEVCTL, 2, 0x800, ['tag-change']],
  ['error reporting', 0x60 + r.PCI_EXP_DEVCTL, 2, 0xf, []],
  ['link control', 0x60 + r.PCI_EXP_LNKCTL, 2, 0x3, []],
  ['10-bit tags', 0x60 + r.PCI_EXP_DEVCTL2, 2, 0x1000, ['tag-change']],
  ['completion timeout', 0x60 + r.PCI_EXP_DEVCTL2, 2, 0xf, []],
  ['MSI-X enabled', 0xa0 + r.PCI_MSIX_FLAGS, 2, 0x8000, ['msix-change']],
  ['Enhanced Allocation', 0xb4, 4, 1, ['capability-change']],
  ['ATS', 0x104, 4, 0x80000000, []],
  ['ACS', 0x114, 4, 0xff, []],
  ['AER', 0x148, 4, 0xffffffff, []],
  ['ARI', 0x204, 4, 1, ['capability-change']],
  ['PASID', 0x214, 4, 1, ['capability-change']],
  ['PRI', 0x224, 4, 1, ['capability-change']],
  ['SR-IOV', 0x27c, 4, 1, ['capability-change']],
  ['multicast', 0x284, 4, 1, ['capability-change']],
  ['Resizable BAR', 0x298, 4, 0x100, ['capability-change']],
  ['VF Resizable BAR', 0x2a8, 4, 0x100, ['capability-change']],
  ['14-bit tags', 0x2b8, 4, 0x4, ['tag-change']],
  ['the rest of Device Control 3', 0x2b8, 4, 0x3, []],
  ['IDE', 0x2c8, 4, 1, ['ide-insecure']],
  ['the capability after IDE', 0x2d4, 4, 1, []],
];

describe('writes', () => {
  test.each(WRITES)('%s', (_what, offset, width, value, events) => {
    expect(eventsOf(device(), offset, width, value)).toEqual(events);
  });

  test('that change nothing are nothing, but for BARs', () => {
    const fn = device();
    for (const [what, offset, width, value] of WRITES) {
      if (what === 'FLR') continue;
      eventsOf(fn, offset, width, value);
      expect(
        eventsOf(fn, offset, width, value).filter((event) => event !== 'bar-write'),
        what,
      ).toEqual([]);
    }
  });

  test('D3hot loses nothing with No_Soft_Reset; D0 and a second D3hot neither', () => {
    expect(eventsOf(device({ pm: { at: 0x40, noSoftReset: true } }), 0x44, 2, 3)).toEqual([]);
    const fn = device();
    expect([eventsOf(fn, 0x44, 2, 3), eventsOf(fn, 0x44, 2, 3)]).toEqual([['power-loss'], []]);
  });

  test('what FLR does elsewhere is not told again', () => {
    const fn = device();
    fn.config.write(0xa0 + r.PCI_MSIX_FLAGS, 2, 0x8000);
    fn.config.write(0x204, 4, 1);
    expect(eventsOf(fn, 0x60 + r.PCI_EXP_DEVCTL, 2, 0x8000)).toEqual(['flr']);
    expect([fn.config.peek(0xa0 + r.PCI_MSIX_FLAGS, 2) & 0x8000, fn.config.peek(0x204, 4)]).toEqual([0, 0]);
  });

  test('FLR of a function that has none', () => {
    expect(eventsOf(device({ flr: false }), 0x60 + r.PCI_EXP_DEVCTL, 2, 0x8000)).toEqual([]);
  });

  test('FLR by Advanced Features', () => {
    const fn = new Memory({ flr: true });
    const at = fn.config.peek(r.PCI_CAPABILITY_LIST, 1);
    expect(fn.config.peek(at, 1)).toBe(r.PCI_CAP_ID_AF);
    expect(eventsOf(fn, at + r.PCI_AF_CTRL, 1, 1)).toEqual(['flr']);
  });

  test('lead a running TDI to ERROR, or leave it', () => {
    for (const [what, offset, width, value, events] of WRITES) {
      const { tdi } = new World().enter(RUN);
      for (const event of eventsOf(device(), offset, width, value)) tdi.happens(event);
      const matters = events.some((event) => event !== 'msix-change');
      expect(tdi.state, what).toBe(matters ? ERROR : RUN);
    }
  });
});

test('any bytes are a configuration space: lists that loop or lead nowhere end', () => {
  const space = fc.constantFrom(256, 4096).chain((length) =>
    fc.uint8Array({ minLength: 64, maxLength: 64 }).map((seed) => {
      return Uint8Array.from({ length }, (_, i) => seed[(i * 7) % 64]!);
    }),
  );
  fc.assert(
    fc.property(space, fc.nat(252), fc.uint8Array({ minLength: 1, maxLength: 4 }), (before, offset, written) => {
      const after = before.slice();
      after.set(written, offset);
      configWriteEvents({ before, after, offset, written });
    }),
    { numRuns: 500 },
  );
});
