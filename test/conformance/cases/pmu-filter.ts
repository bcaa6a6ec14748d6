/** KVM_SET_PMU_EVENT_FILTER. */
import { KVM_CAP_PMU_EVENT_FILTER, KVM_CHECK_EXTENSION, KVM_SET_PMU_EVENT_FILTER, kvm_pmu_event_filter } from 'kvio/uapi';
import { type Case, define, hex } from '../case.ts';
import { newVm, UNSAFE } from '../machine.ts';

const HEADER: number = kvm_pmu_event_filter.size;

function filter(
  change: { action?: number; nevents?: number; fixed?: number; flags?: number; pad?: number },
  events: readonly bigint[] = [],
): Uint8Array {
  const bytes = new Uint8Array(HEADER + 8 * Math.max(events.length, 301));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, change.action ?? 0, true);
  view.setUint32(4, change.nevents ?? events.length, true);
  view.setUint32(8, change.fixed ?? 0, true);
  view.setUint32(12, change.flags ?? 0, true);
  view.setUint32(16, change.pad ?? 0, true);
  events.forEach((event, i) => {
    view.setBigUint64(HEADER + i * 8, event, true);
  });
  return bytes;
}

export const pmuFilterCases: Case[] = [
  define('kvm/pmu-filter', 'PMU event filter', (kernel, see) => {
    const vm = newVm(kernel);
    const set = (label: string, bytes: Uint8Array): void => {
      see.call(label, () => kernel.ioctl(vm, KVM_SET_PMU_EVENT_FILTER, bytes, UNSAFE));
    };
    see.note('capability', kernel.ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_PMU_EVENT_FILTER));
    see.call('pointer 0', () => kernel.ioctl(vm, KVM_SET_PMU_EVENT_FILTER, 0));
    set('allow nothing', filter({}));
    set('deny nothing', filter({ action: 1 }));
    set('action 2', filter({ action: 2 }));
    set('flags 1', filter({ flags: 1 }));
    set('flags 2', filter({ flags: 2 }));
    set('fixed counters', filter({ fixed: 0xffffffff }));
    set('padding', filter({ pad: 1 }));
    set('padding, masked', filter({ pad: 1, flags: 1 }));
    set('300 events', filter({ nevents: 300 }));
    set('301 events', filter({ nevents: 301 }));
    set('301 events and action 2', filter({ nevents: 301, action: 2 }));
    set('all ones', filter({}, [(1n << 64n) - 1n]));
    for (let bit = 0n; bit < 64n; bit += 4n) set(`masked: bits ${hex(0xfn << bit)}`, filter({ flags: 1 }, [0xfn << bit]));
    for (const bit of [52n, 53n, 54n, 55n]) set(`masked: bit ${bit}`, filter({ flags: 1 }, [1n << bit]));
  }),
];
