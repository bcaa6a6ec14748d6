import {
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY,
  kvm_ioeventfd,
  kvm_ioeventfd_flag_nr_max,
} from '../../uapi/kvm.ts';
import { EEXIST, EFAULT, EINVAL, ENOENT } from '../../uapi/sys.ts';
import { type EventfdFile, eventfdOf } from '../eventfd.ts';
import type { Process } from '../process.ts';
import { IoBus, type IoDevice } from './io-bus.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const LENGTHS = [0, 1, 2, 4, 8];
/** Flags 3 and 4 are for s390 and KVM's own use; both are let through. */
const VALID_FLAGS = (1 << kvm_ioeventfd_flag_nr_max) - 1;

/** `struct _ioeventfd`: a write that becomes an eventfd's signal. It holds the eventfd beyond its last close, and goes on swallowing writes. */
class Ioeventfd implements IoDevice {
  readonly bus: IoBus;
  readonly eventfd: EventfdFile;
  readonly addr: bigint;
  /** 0: any width. */
  readonly len: number;
  /** Undefined: any value. */
  readonly datamatch: bigint | undefined;

  constructor(bus: IoBus, eventfd: EventfdFile, { addr, len, flags, datamatch }: kvm_ioeventfd) {
    this.bus = bus;
    this.eventfd = eventfd;
    this.addr = addr;
    this.len = len;
    this.datamatch = flags & KVM_IOEVENTFD_FLAG_DATAMATCH ? datamatch : undefined;
  }

  write(_vcpu: Vcpu, address: number, data: Uint8Array): boolean {
    if (BigInt(address) !== this.addr) return false;
    if (this.len !== 0) {
      if (data.length !== this.len) return false;
      if (this.datamatch !== undefined && littleEndian(data) !== this.datamatch) return false;
    }
    this.eventfd.signal();
    return true;
  }

  /** A write could hit both. */
  collides({ bus, addr, len, datamatch }: Ioeventfd): boolean {
    if (bus !== this.bus || addr !== this.addr) return false;
    if (len === 0 || this.len === 0) return true;
    return len === this.len && (datamatch === undefined || this.datamatch === undefined || datamatch === this.datamatch);
  }

  same(other: Ioeventfd): boolean {
    const { bus, eventfd, addr, len, datamatch } = other;
    return bus === this.bus && eventfd === this.eventfd && addr === this.addr && len === this.len && datamatch === this.datamatch;
  }
}

function littleEndian(data: Uint8Array): bigint {
  return data.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** The ioeventfds of a VM. */
export class Ioeventfds {
  readonly #vm: Vm;
  readonly #all: Set<Ioeventfd> = new Set();
  /** Of s390's channel I/O: no guest of x86 ever writes there. */
  readonly #ccw = new IoBus();

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  #bus(flags: number): IoBus {
    if (flags & KVM_IOEVENTFD_FLAG_PIO) return this.#vm.pioBus;
    return flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY ? this.#ccw : this.#vm.mmioBus;
  }

  /** KVM_IOEVENTFD. */
  ioctl(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, kvm_ioeventfd.size);
    if (bytes === null) return -EFAULT;
    const args = kvm_ioeventfd.decode(bytes);
    return args.flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? this.#deassign(p, args) : this.#assign(p, args);
  }

  #assign(p: Process, args: kvm_ioeventfd): number {
    const { addr, len, flags, fd } = args;
    if (!LENGTHS.includes(len)) return -EINVAL;
    if (len !== 0 && BigInt.asUintN(64, addr + BigInt(len)) < addr) return -EINVAL;
    if (flags & ~VALID_FLAGS) return -EINVAL;
    if (len === 0 && flags & KVM_IOEVENTFD_FLAG_DATAMATCH) return -EINVAL;
    const eventfd = eventfdOf(p, fd);
    if (typeof eventfd === 'number') return eventfd;
    const one = new Ioeventfd(this.#bus(flags), eventfd, args);
    for (const other of this.#all) if (other.collides(one)) return -EEXIST;
    const error = one.bus.register(addr, len, one, true);
    if (error < 0) return error;
    this.#all.add(one);
    return 0;
  }

  /** The length and unknown flags are not looked at: they just match nothing. */
  #deassign(p: Process, args: kvm_ioeventfd): number {
    const eventfd = eventfdOf(p, args.fd);
    if (typeof eventfd === 'number') return eventfd;
    const asked = new Ioeventfd(this.#bus(args.flags), eventfd, args);
    for (const one of this.#all) {
      if (!one.same(asked)) continue;
      one.bus.unregister(one);
      this.#all.delete(one);
      return 0;
    }
    return -ENOENT;
  }
}
