import * as r from '../../uapi/pci-regs.ts';
import { type Bar, setBarAddress, sizeBars, sizeRom } from '../hardware/bars.ts';
import type { PciBridge } from '../hardware/bridge.ts';
import { interruptPin } from '../hardware/firmware.ts';
import type { PciFunction } from '../hardware/pci-function.ts';
import type { PciSubsystem } from './pci-subsystem.ts';

type Range = readonly [first: bigint, last: bigint];

/** What a root bus gives out: I/O ports, memory below the IO-APIC, memory above 4 GiB. */
const ROOT_IO: Range = [0x1000n, 0xffffn];
const ROOT_MEMORY: Range = [0xc000_0000n, 0xfebf_ffffn];
const ROOT_HIGH: Range = [0x1_8000_0000n, 0x9_7fff_ffffn];

/** Addresses for a function that came while the machine runs: from the window of its bridge, else of the root bus. A BAR that does not fit stays without. */
export function assignNew(subsystem: PciSubsystem, fn: PciFunction): void {
  const { fabric } = subsystem;
  const [bridge] = fabric.bridgesAbove(fn);
  const bars = [...sizeBars(fn.config, r.PCI_BASE_ADDRESS_0, 6), sizeRom(fn.config, r.PCI_ROM_ADDRESS)];
  const mine: Range[] = [];
  for (const bar of bars.filter((one) => one !== undefined).sort((a, b) => Number(b.size - a.size))) {
    const taken = [...takenRanges(subsystem), ...mine];
    const first = candidates(bridge, bar).flatMap((range) => firstFit(range, bar.size, taken) ?? [])[0];
    if (first === undefined) continue;
    setBarAddress(fn.config, bar, first);
    mine.push([first, first + bar.size - 1n]);
  }
  if (fn.config.peek(r.PCI_INTERRUPT_PIN, 1) !== 0) {
    const { pin, slot } = interruptPin(fabric, fn);
    fn.config.write(r.PCI_INTERRUPT_LINE, 1, ((slot + pin - 1) & 2) === 0 ? 10 : 11);
  }
}

function candidates(bridge: PciBridge | undefined, bar: Bar): Range[] {
  if (bridge === undefined) return bar.io ? [ROOT_IO] : bar.wide ? [ROOT_MEMORY, ROOT_HIGH] : [ROOT_MEMORY];
  const [io, memory, prefetchable] = bridge.windows();
  const wanted = bar.io ? [io] : bar.prefetchable || bar.wide ? [prefetchable, memory] : [memory];
  return wanted.filter((range) => range !== undefined && (bar.wide || range[1] < 1n << 32n)) as Range[];
}

function takenRanges({ devices }: PciSubsystem): Range[] {
  return devices.flatMap(({ resources }) =>
    resources.filter(({ flags }) => flags !== 0n).map(({ start, end }): Range => [start, end]),
  );
}

/** The lowest free place of that size and alignment; the windows that the range itself lies in do not count. */
function firstFit([first, last]: Range, size: bigint, taken: readonly Range[]): bigint | undefined {
  let at = ((first + size - 1n) / size) * size;
  for (let hit: Range | undefined; at + size - 1n <= last; at = ((hit[1] + size) / size) * size) {
    hit = taken.find(([low, high]) => low < at + size && at <= high && !(low <= first && last <= high));
    if (hit === undefined) return at;
  }
  return undefined;
}
