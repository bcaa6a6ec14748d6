/**
 * What the registers of the lab's devices keep of what is written to them. Recorded of each double word from 0x0c on: what it held, and what it held after writes
 * of ones, of zeros, of 0x5a5a25a5, and of what it held before. What is not listed is a register nobody looks at.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { PciBridge } from '../../../src/sim/hardware/bridge.ts';
import { machineOf } from '../../../src/sim/profiles.ts';
import { System } from '../../../src/sim/system.ts';

const golden: Readonly<Record<string, Readonly<Record<string, string>>>> = JSON.parse(
  readFileSync(new URL('../../golden/pci/writes-7.2.json', import.meta.url), 'utf8'),
);
const PLAIN = '0 ffffffff 0 5a5a25a5 0';
/** Initiate Function Level Reset was never written, or all would have been lost. */
const NVME = '0000:01:00.0';
const NVME_DEVCTL = 0x88;

/** QEMU 7.2 keeps a D-state the function has not; the specification says that such a write is dropped. */
const deviations: ReadonlySet<string> = new Set(['0000:01:00.0 64', '0000:02:00.0 cc']);

test.each(Object.keys(golden))('%s', (bdf) => {
  const { pci } = new System(machineOf('lab-vtd-7.2'));
  const { fn } = pci.find(bdf)!;
  const { config } = fn;
  const found: Record<string, string> = {};
  const wanted: Record<string, string> = {};
  for (let at = 0x0c; at < config.size; at += 4) {
    const name = at.toString(16);
    if ((fn instanceof PciBridge && at >= 0x10 && at < 0x3c) || deviations.has(`${bdf} ${name}`)) continue;
    const before = config.read(at, 4);
    const seen = [before];
    for (const value of [0xffff_ffff, 0, 0x5a5a_25a5]) {
      config.write(at, 4, (bdf === NVME && at === NVME_DEVCTL ? value & ~0x8000 : value) >>> 0);
      seen.push(config.read(at, 4));
    }
    config.write(at, 4, before);
    seen.push(config.read(at, 4));
    found[name] = seen.map((value) => value.toString(16)).join(' ');
    wanted[name] = golden[bdf]![name] ?? PLAIN;
  }
  expect(found).toEqual(wanted);
});
