import { ENOSPC } from '../../uapi/sys.ts';
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
  /** A C int. 0: an access of any width that begins here. */
  readonly length: number;
  readonly device: IoDevice;
  readonly ioeventfd: boolean;
}

/** Ends wrap as a u64's: a negative length leads to the other end of it. */
function end({ address, length }: { address: number; length: number }): number {
  const sum = address + length;
  return sum < 0 ? sum + 2 ** 64 : sum >= 2 ** 64 ? sum - 2 ** 64 : sum;
}

/** kvm_io_bus_cmp: 0 where access or range `a` lies in `b`. */
function compare(a: { address: number; length: number }, b: Range): number {
  if (a.address < b.address) return -1;
  const [endA, endB] = b.length === 0 ? [a.address, b.address] : [end(a), end(b)];
  return endA > endB ? 1 : 0;
}

/** `struct kvm_io_bus`: ranges by address, at the same address the shorter first. */
export class IoBus {
  readonly #ranges: Range[] = [];
  #ioeventfds = 0;

  /** 0 or −ENOSPC. */
  register(address: bigint, length: number, device: IoDevice, ioeventfd = false): number {
    if (this.#ranges.length - this.#ioeventfds > NR_IOBUS_DEVS - 1) return -ENOSPC;
    const range = { address: Number(address), length: length | 0, device, ioeventfd };
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

  /**
   * Devices whose range has the whole access, in order. Ranges may overlap, so that they have no order of their own: the search is the kernel's,
   * step for step, and finds what that finds.
   */
  #matching(address: number, length: number): IoDevice[] {
    const ranges = this.#ranges;
    const access = { address, length };
    let base = 0;
    for (let count = ranges.length; count > 0; count >>= 1) {
      const middle = base + (count >> 1);
      const order = compare(access, ranges[middle]!);
      if (order === 0) {
        let first = middle;
        while (first > 0 && compare(access, ranges[first - 1]!) === 0) first--;
        const found: IoDevice[] = [];
        while (first < ranges.length && compare(access, ranges[first]!) === 0) found.push(ranges[first++]!.device);
        return found;
      }
      if (order > 0) {
        base = middle + 1;
        count--;
      }
    }
    return [];
  }
}
