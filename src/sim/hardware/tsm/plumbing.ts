import * as r from '../../../uapi/pci-regs.ts';
import type { PciBus } from '../bridge.ts';
import type { PciFunction } from '../pci-function.ts';
import type { LockFault } from '../tdisp/lock.ts';
import type { Tdi, TdiDevice } from '../tdisp/tdi.ts';
import { memoryBars, type Physical } from '../windows.ts';
import { interfaceMemory } from './interface-memory.ts';

/** Where a function is plugged in. */
export interface TdiSlot {
  readonly bus: PciBus;
  readonly devfn: number;
  readonly physical: Physical | undefined;
}

/** The device behind an interface: a function of the machine. `keyed`: its IDE stream has keys. */
export function tdiDevice(fn: PciFunction, { physical }: TdiSlot, keyed: () => boolean): TdiDevice {
  return {
    mmio: () => interfaceMemory(fn, physical),
    entropy: (length) => Uint8Array.from({ length }, () => fn.random() & 0xff),
    lockFaults: () => [
      ...(keyed() ? [] : (['ide-keys-missing'] as const)),
      ...(phantomFunctions(fn) ? (['phantom-functions'] as const) : []),
      ...overlapping(fn, physical),
      ...fn.lockFaults(),
    ],
    quiesce: () => fn.quiesce(),
    scrub: () => fn.scrub(),
  };
}

function phantomFunctions({ config, positions }: PciFunction): boolean {
  return (config.peek(positions.express + r.PCI_EXP_DEVCTL, 2) & r.PCI_EXP_DEVCTL_PHANTOM) !== 0;
}

function overlapping(fn: PciFunction, physical: Physical | undefined): LockFault[] {
  const bars = memoryBars(fn, physical).sort((a, b) => (a.base < b.base ? -1 : 1));
  return bars.some(({ base }, i) => i > 0 && base < bars[i - 1]!.base + BigInt(bars[i - 1]!.size)) ? ['overlapping-bars'] : [];
}

/** Another number for the bus the function is on is another requester id. */
export function watchRequesterId({ bus }: TdiSlot, tdi: Tdi): void {
  bus.bridge?.config.onWrite(r.PCI_SECONDARY_BUS, (before, after) => {
    if (((before ^ after) & 0xff00) !== 0) tdi.happens('requester-id-change');
  });
}
