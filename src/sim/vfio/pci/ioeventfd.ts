import type { Width } from '../../../kernel/memory.ts';
import { EEXIST, EFAULT, EINVAL, ENODEV, ENOSPC } from '../../../uapi/sys.ts';
import { VFIO_DEVICE_IOEVENTFD_SIZE_MASK, vfio_device_ioeventfd } from '../../../uapi/vfio.ts';
import { has } from '../../changes.ts';
import { eventfdOf } from '../../eventfd.ts';
import type { Process } from '../../process.ts';
import { barLength, type RegionOwner, storeBar } from './rdwr.ts';
import { VirqfdSlot } from './virqfd.ts';

/** All of the struct but its padding. */
const MINSZ = 28;
const MAX = 1000;
const IORESOURCE_MEM = 0x200n;
const MSB = 1n << 63n;

interface Ioeventfd {
  readonly bar: number;
  readonly offset: number;
  readonly data: bigint;
  readonly width: Width;
  readonly slot: VirqfdSlot;
}

/** Eventfds whose signal is a store to a BAR (vfio_pci_ioeventfd). One whose eventfd is closed keeps its place until it is removed. */
export class VfioPciIoeventfds {
  readonly #owner: RegionOwner;
  readonly #all: Ioeventfd[] = [];

  constructor(owner: RegionOwner) {
    this.#owner = owner;
  }

  /** VFIO_DEVICE_IOEVENTFD. */
  ioctl(p: Process, arg: bigint): number {
    const bytes = p.mm.copyFrom(arg, MINSZ);
    if (bytes === null) return -EFAULT;
    const padded = new Uint8Array(vfio_device_ioeventfd.size);
    padded.set(bytes);
    const { argsz, flags, offset, data, fd } = vfio_device_ioeventfd.decode(padded);
    if (argsz < MINSZ) return -EINVAL;
    if (flags & ~VFIO_DEVICE_IOEVENTFD_SIZE_MASK) return -EINVAL;
    const width = flags & VFIO_DEVICE_IOEVENTFD_SIZE_MASK;
    if (width === 0 || (width & (width - 1)) !== 0 || fd < -1) return -EINVAL;
    if ((offset & MSB) !== 0n) return p.system.notModelled('VFIO_DEVICE_IOEVENTFD at an offset of 2^63 and more', -EINVAL);
    return this.#change(p, Number(offset >> 40n), Number(offset & 0xff_ffff_ffffn), data, width, fd);
  }

  #change(p: Process, bar: number, offset: number, data: bigint, width: number, fd: number): number {
    const { pdev, msixTable } = this.#owner;
    if (bar > 5) return -EINVAL;
    if (offset + width > barLength(pdev, bar)) return -EINVAL;
    if (msixTable?.bar === bar && offset + width > msixTable.start && offset < msixTable.end) return -EINVAL;
    if (width === 8 && has(p.system.machine, 'ioeventfdsOf32Bits')) return -EINVAL;
    const error = this.#owner.useBar(bar);
    if (error < 0) return error;
    const at = this.#all.findIndex((one) => one.bar === bar && one.offset === offset && one.data === data && one.width === width);
    if (at >= 0) {
      if (fd !== -1) return -EEXIST;
      this.#all.splice(at, 1)[0]!.slot.disable();
      return 0;
    }
    if (fd < 0) return -ENODEV;
    if (this.#all.length >= MAX) return -ENOSPC;
    const eventfd = eventfdOf(p, fd);
    if (typeof eventfd === 'number') return eventfd;
    const one: Ioeventfd = { bar, offset, data, width: width as Width, slot: new VirqfdSlot() };
    this.#all.push(one);
    return one.slot.enable(eventfd, () => this.#store(one));
  }

  /** Dropped while memory decode is off. */
  #store({ bar, offset, data, width }: Ioeventfd): void {
    const { pdev } = this.#owner;
    if ((pdev.resources[bar]!.flags & IORESOURCE_MEM) !== 0n && !this.#owner.memoryEnabled) return;
    storeBar(pdev, bar, offset, width, width === 8 ? data : Number(BigInt.asUintN(8 * width, data)));
  }

  /** The last close. */
  removeAll(): void {
    for (const { slot } of this.#all.splice(0)) slot.disable();
  }
}
