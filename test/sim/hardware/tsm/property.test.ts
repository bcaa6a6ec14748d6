import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { TeeIo } from '../../../../src/sim/hardware/tsm/switches.ts';
import { FakeVm, LOCKED, PAGE, RUN, UNLOCKED, type World, world } from './kit.ts';

const [SHARED, PRIVATE] = [0x2000n, 0x40_0000n];
const GFN = Number(PRIVATE / PAGE);
const SECRET = 0x5ec2_e700;
const MEMORY = 2;

/** What guest, host and device do, by name. None of it throws. */
const acts: Readonly<Record<string, (one: World, other: FakeVm) => void>> = {
  bind: (one) => one.tdi.bind(one.binding()),
  'bind another': (one, other) => one.tdi.bind(one.binding('iommufd', other)),
  unbind: (one) => one.tdi.unbind(),
  lock: (one) => one.set(LOCKED),
  run: (one) => one.set(RUN),
  stop: (one) => one.set(UNLOCKED),
  'enable dma': (one) => one.ask({ op: 'enable-dma' }),
  'disable dma': (one) => one.ask({ op: 'disable-dma' }),
  validate: (one) => one.validate(0x50_0000n, one.bar2),
  disconnect: (one) => one.tdi.disconnect(),
  connect: (one) => one.tdi.connect(),
  'lose keys': (one) => one.tdi.loseKeys(),
  unmapped: (one) => one.tdi.mmioUnmapped(),
  'clear fence': (one) => {
    one.tdi.fenced = 0;
  },
  commit: (one) => one.vm.commit(GFN),
  uncommit: (one) => one.vm.committed.delete(GFN),
  share: (one) => one.vm.shared.add(GFN),
  unshare: (one) => one.vm.shared.delete(GFN),
  'host store': (one) => one.dev.barWrite(2, 0, 4, 1),
  'guest store': (one) => one.dev.barWrite(2, 0, 4, SECRET, true),
  'memory space off': (one) => one.dev.writeConfig(4, 2, one.dev.readConfig(4, 2) & ~MEMORY),
  'memory space on': (one) => one.dev.writeConfig(4, 2, one.dev.readConfig(4, 2) | MEMORY),
  'master off': (one) => one.dev.setMaster(false),
  'master on': (one) => one.dev.setMaster(true),
  'table store': (one) => one.dev.barWrite(0, 0x2000, 4, 0xfee0_0000),
  'to D3hot': (one) => one.dev.setPowerState(3),
  'to D0': (one) => one.dev.setPowerState(0),
  flr: (one) => one.dev.saveAndReset(),
  'bus reset': (one) => one.dev.resetSlotOrBus(),
  'move BAR': (one) => one.dev.writeConfig(0x18, 4, one.dev.readConfig(0x18, 4)),
  pull: (one) => {
    if (one.fn.place !== undefined) one.system.pci.unplug(one.fn);
  },
};

const NAMES = Object.keys(acts);
const VENDORS: readonly TeeIo['vendor'][] = ['sim', 'tdx', 'sev', 'cca'];

/** What must hold whatever has happened. */
function check(one: World, other: FakeVm, vendor: TeeIo['vendor']): void {
  const { tdi, vm, fn } = one;
  const { state } = tdi.tdi;
  const present = fn.place !== undefined;
  const { binding } = tdi;
  // One VM at most, which knows.
  expect([...vm.tdis, ...other.tdis]).toEqual(binding === undefined ? [] : [binding]);
  if (binding === undefined && present) expect(state).toBe(UNLOCKED);
  if (tdi.dmaEnabled || tdi.accepted.length > 0) expect(state).not.toBe(UNLOCKED);
  if (tdi.dmaEnabled) expect(tdi.tdi.isLocked).toBe(true);
  if (state === UNLOCKED) expect(fn.config.observer).toBeUndefined();
  if (!present) return;
  // Nobody reads the guest's memory without T; with T only its guest does, in RUN.
  if (state !== UNLOCKED) expect(one.dev.barRead(2, 0, 4)).toBe(0xffff_ffff);
  const after = tdi.tdi.state;
  if (after === UNLOCKED) {
    expect(new DataView(fn.memory.buffer).getUint32(0, true)).not.toBe(SECRET);
    if (binding === undefined) expect(fn.dma.write(PRIVATE, Uint8Array.of(1))).toBe(false);
  }
  if (after !== RUN) expect(one.dev.barRead(2, 0, 4, true)).toBe(0xffff_ffff);
  // Private DMA reaches what the vendor calls committed, and only of a TDI in RUN.
  const reached = fn.dma.write(PRIVATE, Uint8Array.of(7));
  if (reached) {
    expect(after).toBe(RUN);
    expect(tdi.dmaEnabled).toBe(true);
    // Of the VM it is bound to: the other one's pages do not matter.
    const guest = [...other.tdis].length > 0 ? other : vm;
    expect(guest.isPrivate(GFN)).toBe(true);
    expect(vendor === 'sim' || guest.isCommitted(GFN)).toBe(true);
  }
  // Ordinary DMA goes where the host has mapped it, unless the TDI is on its way to a guest.
  if (after === LOCKED || after === 3) expect(fn.dma.write(SHARED, Uint8Array.of(7))).toBe(false);
}

test.each(VENDORS)('%s: whatever guest, host and device do', (vendor) => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...NAMES), { maxLength: 40, size: 'max' }),
      fc.constantFrom('error' as const, 'reject' as const),
      (steps, hostMmio) => {
        const one = world({ vendor, hostMmio });
        const other = new FakeVm();
        one.vm.mapMmio(0x50_0000n, one.bar2, 1);
        for (const name of steps) {
          acts[name]!(one, other);
          check(one, other, vendor);
        }
        one.tdi.unbind();
        check(one, other, vendor);
        expect(one.tdi.tdi.state).toBe(UNLOCKED);
      },
    ),
    { numRuns: 100 },
  );
}, 120_000);
