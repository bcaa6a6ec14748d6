import { kvm_coalesced_mmio, kvm_coalesced_mmio_ring, kvm_coalesced_mmio_zone } from '../../uapi/kvm.ts';
import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import { has } from '../changes.ts';
import { PAGE_SIZE } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import type { IoBus, IoDevice } from './io-bus.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const HEADER = kvm_coalesced_mmio_ring.size;
const ENTRY = kvm_coalesced_mmio.size;
/** KVM_COALESCED_MMIO_MAX: entries of the ring page. One of them stays free. */
const ENTRIES: number = Math.floor((PAGE_SIZE - HEADER) / ENTRY);

const FIRST: number = kvm_coalesced_mmio_ring.offsetOf('first');
const LAST: number = kvm_coalesced_mmio_ring.offsetOf('last');
const at = (path: string): number => kvm_coalesced_mmio.offsetOf(path);
const FIELD = { phys_addr: at('phys_addr'), len: at('len'), pio: at('pio'), data: at('data') };

/** coalesced_mmio_has_room, the other way round: one entry stays free. */
function isFull({ machine }: Vm, first: number, last: number): boolean {
  return has(machine, 'coalescedRingWhole') ? (last + 1) % ENTRIES === first : ((first - last - 1) >>> 0) % ENTRIES === 0;
}

/** A zone as KVM_REGISTER_COALESCED_MMIO made it: writes wholly inside it go to the ring while there is room, and cost no exit. */
export class CoalescedZone implements IoDevice {
  readonly address: bigint;
  readonly size: number;
  readonly pio: number;

  constructor({ addr, size, pio }: kvm_coalesced_mmio_zone) {
    this.address = addr;
    this.size = size;
    this.pio = pio;
  }

  /** coalesced_mmio_in_range, in the kernel's arithmetic: lengths are signed, ends wrap. */
  holds(address: bigint, length: number): boolean {
    if (length < 0) return false;
    const end = BigInt.asUintN(64, address + BigInt(length));
    return end >= address && address >= this.address && end <= BigInt.asUintN(64, this.address + BigInt(this.size));
  }

  /** Into the ring, unless it is full or userspace has put `last` out of its range. */
  write({ vm }: Vcpu, address: number, data: Uint8Array): boolean {
    if (!this.holds(BigInt(address), data.length)) return false;
    const pages = vm.ring!;
    pages.syncRing();
    const { view, u8 } = pages;
    const page = pages.ringOffset;
    const last = view.getUint32(page + LAST, true);
    if (last >= ENTRIES || isFull(vm, view.getUint32(page + FIRST, true), last)) return false;
    const entry = page + HEADER + last * ENTRY;
    view.setBigUint64(entry + FIELD.phys_addr, BigInt(address), true);
    view.setUint32(entry + FIELD.len, data.length, true);
    u8.set(data, entry + FIELD.data);
    view.setUint32(entry + FIELD.pio, this.pio, true);
    view.setUint32(page + LAST, (last + 1) % ENTRIES, true);
    return true;
  }
}

const busOf = (vm: Vm, { pio }: kvm_coalesced_mmio_zone): IoBus => (pio === 1 ? vm.pioBus : vm.mmioBus);

function readZone(p: Process, arg: bigint): kvm_coalesced_mmio_zone | number {
  const bytes = p.mm.copyFrom(arg, kvm_coalesced_mmio_zone.size);
  if (bytes === null) return -EFAULT;
  const zone = kvm_coalesced_mmio_zone.decode(bytes);
  return zone.pio === 0 || zone.pio === 1 ? zone : -EINVAL;
}

/** KVM_REGISTER_COALESCED_MMIO. The same zone may be registered again, and be empty. */
export function registerCoalescedMmio(vm: Vm, p: Process, arg: bigint): number {
  const zone = readZone(p, arg);
  if (typeof zone === 'number') return zone;
  const device = new CoalescedZone(zone);
  const error = busOf(vm, zone).register(zone.addr, zone.size, device);
  if (error < 0) return error;
  vm.coalescedZones.add(device);
  return 0;
}

/** KVM_UNREGISTER_COALESCED_MMIO: every zone of the kind that holds the range goes, whole; 0 if there is none. */
export function unregisterCoalescedMmio(vm: Vm, p: Process, arg: bigint): number {
  const zone = readZone(p, arg);
  if (typeof zone === 'number') return zone;
  for (const device of vm.coalescedZones) {
    if (device.pio !== zone.pio || !device.holds(zone.addr, zone.size | 0)) continue;
    busOf(vm, zone).unregister(device);
    vm.coalescedZones.delete(device);
  }
  return 0;
}
