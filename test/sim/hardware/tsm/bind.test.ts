import { describe, expect, test } from 'vitest';
import { TDISP_LOCK_FLAG } from '../../../../src/sim/hardware/tdisp/vocabulary.ts';
import { System } from '../../../../src/sim/system.ts';
import { plainMachine } from '../../machine.ts';
import { alone, Memory } from '../kit.ts';
import { ERROR, FakeVm, LOCKED, RUN, UNLOCKED, world } from './kit.ts';

const EIO = -5;
const ENXIO = -6;
const EBUSY = -16;
const EINVAL = -22;
const EOPNOTSUPP = -95;

describe('which functions have an interface', () => {
  test('those whose Device Capabilities say so, on a machine with a TSM', () => {
    const { system, dev, tdi } = world();
    expect(system.tsm!.tdiOf(dev.fn)).toBe(tdi);
    expect(system.tsm!.tdiOf(dev.parent!.fn)).toBeUndefined();
    expect(tdi.tdi.interfaceId).toEqual({ requesterId: 0x0100, segment: 0 });
    expect(new System(plainMachine).tsm).toBeUndefined();
    expect(alone(new Memory()).system.tsm).toBeUndefined();
  });

  test('at another address it is another interface', () => {
    const { system, fn, tdi, enter, set } = world();
    enter(RUN);
    system.pci.unplug(fn);
    expect(tdi.tdi.state).toBe(ERROR);
    expect(system.tsm!.tdiOf(fn)).toBe(tdi);
    tdi.unbind();
    expect(tdi.tdi.state).toBe(UNLOCKED);
    expect([system.tsm!.tdiOf(fn), system.tsm!.tdis]).toEqual([undefined, []]);
    system.pci.plug(fn, '0000:01:01.0');
    const moved = system.tsm!.tdiOf(fn)!;
    expect(moved).not.toBe(tdi);
    expect(moved.tdi.interfaceId.requesterId).toBe(0x0108);
    expect(set(LOCKED)).toBe(ENXIO);
  });
});

describe('BIND', () => {
  test('everybody loses the BARs, the TDI is locked, they come back', () => {
    const { tdi, vm, log, binding } = world();
    const one = binding();
    expect(tdi.bind(one)).toBe(0);
    expect(log).toEqual([`revoke ${UNLOCKED}`, `restore ${LOCKED}`]);
    expect(tdi.binding).toBe(one);
    expect([...vm.tdis]).toEqual([one]);
  });

  test('again for the same VM nothing happens; another one is refused', () => {
    const { tdi, vm, log, binding } = world();
    const one = binding();
    tdi.bind(one);
    log.length = 0;
    expect(tdi.bind(binding('iommufd'))).toBe(0);
    expect(tdi.bind(binding('iommufd', new FakeVm()))).toBe(EBUSY);
    expect(tdi.binding).toBe(one);
    expect([...vm.tdis]).toEqual([one]);
    expect(log).toEqual([]);
  });

  test('without a session it cannot be bound, and ending the session unbinds', () => {
    const { tdi, log, enter, binding } = world();
    enter(RUN);
    tdi.connected = false;
    expect(tdi.binding).toBeUndefined();
    expect(tdi.tdi.state).toBe(UNLOCKED);
    expect(log).toEqual([`revoke ${UNLOCKED}`, `restore ${UNLOCKED}`, `ended ${UNLOCKED}`]);
    expect(tdi.bind(binding())).toBe(EINVAL);
    tdi.connected = true;
    expect(tdi.bind(binding())).toBe(0);
  });

  test('a device that does not lock: nothing has changed', () => {
    const { tdi, vm, log, binding } = world();
    tdi.loseKeys();
    expect(tdi.bind(binding())).toBe(EIO);
    expect(log).toEqual([`revoke ${UNLOCKED}`, `restore ${UNLOCKED}`]);
    expect([tdi.binding, tdi.tdi.state, vm.tdis.size]).toEqual([undefined, UNLOCKED, 0]);
    tdi.disconnect();
    tdi.connect();
    expect(tdi.bind(binding())).toBe(0);
  });

  test('phantom functions and overlapping BARs are refused', () => {
    for (const spoil of ['phantom', 'overlap'] as const) {
      const { tdi, fn, dev, binding, bar0 } = world();
      const express = fn.positions.express;
      if (spoil === 'phantom') dev.writeConfig(express + 8, 2, dev.readConfig(express + 8, 2) | 0x200);
      else dev.writeConfig(0x18, 4, Number(bar0 & 0xffff_ffffn));
      if (spoil === 'overlap') dev.writeConfig(0x1c, 4, Number(bar0 >> 32n));
      expect(tdi.bind(binding()), spoil).toBe(EIO);
    }
  });

  test('bindLocks false: bound, and as it was', () => {
    const { tdi, log, binding, set } = world({ bindLocks: false });
    expect(tdi.bind(binding())).toBe(0);
    expect(tdi.tdi.state).toBe(UNLOCKED);
    expect(log).toEqual([`revoke ${UNLOCKED}`, `restore ${UNLOCKED}`]);
    expect(set(LOCKED)).toBe(0);
  });

  test('tdx: only by VFIO', () => {
    for (const door of ['iommufd', 'kvm-vfio'] as const) {
      const { tdi, log, binding } = world({ vendor: 'tdx' });
      expect(tdi.bind(binding(door))).toBe(EOPNOTSUPP);
      expect(log).toEqual([]);
    }
  });

  test('sev: the firmware insists on its lock flags', () => {
    const { BIND_P2P, ALL_REQUEST_REDIRECT } = TDISP_LOCK_FLAG;
    for (const [flags, answer] of [
      [ALL_REQUEST_REDIRECT, 0],
      [0, EIO],
      [ALL_REQUEST_REDIRECT | BIND_P2P, EIO],
    ] as const) {
      const { tdi, binding } = world({ vendor: 'sev' });
      tdi.lockFlags = flags;
      expect(tdi.bind(binding())).toBe(answer);
      expect(tdi.tdi.state).toBe(answer === 0 ? LOCKED : UNLOCKED);
    }
  });
});

describe('UNBIND', () => {
  const orders = {
    sim: [`revoke ${UNLOCKED}`, `restore ${UNLOCKED}`, `ended ${UNLOCKED}`],
    tdx: [`revoke ${UNLOCKED}`, `restore ${UNLOCKED}`, `ended ${UNLOCKED}`],
    sev: [`revoke ${UNLOCKED}`, `restore ${UNLOCKED}`, `ended ${UNLOCKED}`],
    cca: [`revoke ${RUN}`, `restore ${UNLOCKED}`, `ended ${UNLOCKED}`],
  } as const;

  test.each(Object.entries(orders))('%s: in its order, from RUN', (vendor, order) => {
    const { tdi, vm, log, enter } = world({ vendor: vendor as keyof typeof orders });
    enter(RUN);
    tdi.unbind();
    expect(log).toEqual(order);
    expect([tdi.binding, tdi.tdi.state, tdi.dmaEnabled, vm.tdis.size]).toEqual([undefined, UNLOCKED, false, 0]);
  });

  test('sev has forgotten it when the MMIO goes, cca and tdx have not', () => {
    for (const [vendor, bound] of [
      ['sev', false],
      ['cca', true],
      ['tdx', true],
    ] as const) {
      const { tdi, vm, binding } = world({ vendor });
      const one = binding();
      const seen: boolean[] = [];
      one.revoke = () => seen.push(tdi.binding !== undefined && vm.tdis.has(one));
      tdi.bind(one);
      tdi.unbind();
      expect(seen, vendor).toEqual([false, bound]);
    }
  });

  test('the secrets of the guest are gone, from every state', () => {
    for (const state of [LOCKED, RUN, ERROR]) {
      const { tdi, fn, enter } = world();
      enter(state);
      fn.memory.set([1, 2, 3]);
      tdi.unbind();
      expect(tdi.tdi.state).toBe(UNLOCKED);
      expect(fn.memory.every((byte) => byte === 0)).toBe(true);
    }
  });

  test('twice, and inside of itself: once', () => {
    const { tdi, log, binding } = world();
    tdi.unbind();
    const one = binding();
    one.revoke = () => {
      log.push('revoke');
      tdi.unbind();
      tdi.mmioUnmapped();
    };
    tdi.bind(one);
    tdi.unbind();
    tdi.unbind();
    expect(log).toEqual(['revoke', `restore ${LOCKED}`, 'revoke', `restore ${UNLOCKED}`, `ended ${UNLOCKED}`]);
  });
});
