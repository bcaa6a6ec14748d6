import { ENOSPC } from '../../uapi/sys.ts';
import type { Outcome } from '../cpu/bus.ts';
import type { Vcpu } from './vcpu.ts';

/** Devices of a bus, ioeventfds not counted. */
const NR_IOBUS_DEVS = 1000;

/**
 * Something KVM answers for by itself, without an exit. `address` is where the access begins, not an offset; true: the access was taken, and
 * no device behind is asked.
 */
export interface IoDevice {
  read?(vcpu: Vcpu, address: number, data: Uint8Array): boolean;
  write?(vcpu: Vcpu, address: number, data: Uint8Array): boolean;
}

interface Range {
  readonly address: number;
  /** 0: an access of any width that begins here. */
  readonly length: number;
  readonly device: IoDevice;
  readonly ioeventfd: boolean;
}

/** kvm_io_bus_cmp: 0 where access or range `a` lies in `b`. */
function compare(a: { address: number; length: number }, b: Range): number {
  if (a.address < b.address) return -1;
  const [endA, endB] = b.length === 0 ? [a.address, b.address] : [a.address + a.length, b.address + b.length];
  return endA > endB ? 1 : 0;
}

/** `struct kvm_io_bus`: ranges by address, at the same address the shorter first. */
export class IoBus {
  readonly #ranges: Range[] = [];
  #ioeventfds = 0;

  /** 0 or −ENOSPC. */
  register(address: bigint, length: number, device: IoDevice, ioeventfd = false): number {
    if (this.#ranges.length - this.#ioeventfds > NR_IOBUS_DEVS - 1) return -ENOSPC;
    const range = { address: Number(address), length, device, ioeventfd };
    const at = this.#ranges.findIndex((other) => compare(other, range) > 0);
    this.#ranges.splice(at < 0 ? this.#ranges.length : at, 0, range);
    if (ioeventfd) this.#ioeventfds++;
    return 0;
  }

  unregister(device: IoDevice): void {
    const at = this.#ranges.findIndex((range) => range.device === device);
    if (at < 0) return;
    if (this.#ranges[at]!.ioeventfd) this.#ioeventfds--;
    this.#ranges.splice(at, 1);
  }

  read(vcpu: Vcpu, address: number, data: Uint8Array): boolean {
    return this.#matching(address, data.length).some((device) => device.read?.(vcpu, address, data));
  }

  write(vcpu: Vcpu, address: number, data: Uint8Array): boolean {
    return this.#matching(address, data.length).some((device) => device.write?.(vcpu, address, data));
  }

  /** Devices whose range has the whole access, in order. */
  #matching(address: number, length: number): IoDevice[] {
    const ranges = this.#ranges;
    const access = { address, length };
    let low = 0;
    let high = ranges.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const order = compare(access, ranges[middle]!);
      if (order === 0) {
        let first = middle;
        while (first > 0 && compare(access, ranges[first - 1]!) === 0) first--;
        const found: IoDevice[] = [];
        while (first < ranges.length && compare(access, ranges[first]!) === 0) found.push(ranges[first++]!.device);
        return found;
      }
      if (order < 0) high = middle - 1;
      else low = middle + 1;
    }
    return [];
  }
}

/** Serves an access in the kernel; false: it leaves for userspace. What an IN or a read asked for has then been handed to the CPU. */
export function servedInKernel(vcpu: Vcpu, outcome: Outcome): boolean {
  if (outcome.kind === 'io') return servedPort(vcpu, outcome);
  if (outcome.kind !== 'mmio') return false;
  const { gpa, isWrite, data } = outcome;
  const { mmioBus } = vcpu.vm;
  if (isWrite) return mmioBus.write(vcpu, gpa, data);
  if (!mmioBus.read(vcpu, gpa, data)) return false;
  vcpu.cpu.completeMmio(data);
  return true;
}

/** The first element decides; where a later one finds no device, INs read 0 from there on and OUTs are dropped. */
function servedPort(vcpu: Vcpu, { direction, size, port, count, data }: Extract<Outcome, { kind: 'io' }>): boolean {
  const { pioBus } = vcpu.vm;
  for (let i = 0; i < count; i++) {
    const element = data.subarray(i * size, (i + 1) * size);
    if (direction === 'in' ? pioBus.read(vcpu, port, element) : pioBus.write(vcpu, port, element)) continue;
    if (i === 0) return false;
    if (direction === 'in') data.fill(0, i * size);
    break;
  }
  if (direction === 'in') vcpu.cpu.completeIo(data);
  return true;
}
