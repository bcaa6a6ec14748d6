import { KernelError } from '../kernel/errors.ts';
import { Handle } from '../kernel/handle.ts';
import type { WaitOptions } from '../kernel/kernel.ts';
import type { FdKind } from '../uapi/ioctls.ts';
import {
  IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
  iommufd_vevent_header,
} from '../uapi/iommufd.ts';
import { EBADF, EINVAL, POLLIN } from '../uapi/sys.ts';
import { decodeVevent, type VeventStructs } from './data.ts';
import type { Iommufd } from './iommufd.ts';

/** What one read takes at first; where a single record needs more, it is read again with twice the room. */
const ROOM = 4096;

/** A queue of events as a descriptor of its own, beside its id. The queue cannot be destroyed before that is closed. */
export abstract class EventQueue<T> extends Handle {
  readonly iommufd: Iommufd;
  readonly id: number;

  constructor(iommufd: Iommufd, id: number, fd: number) {
    super(iommufd.kernel, fd);
    this.iommufd = iommufd;
    this.id = id;
  }

  protected abstract decode(bytes: Uint8Array): T[];
  protected abstract readonly unit: number;

  /** read(2): the events that are there now; none: an empty array. */
  read(): T[] {
    if (this.closed) throw new KernelError(EBADF, 'read', { note: `this ${this.constructor.name} is closed` });
    for (let room = Math.floor(ROOM / this.unit) * this.unit; ; room *= 2) {
      const bytes = new Uint8Array(room);
      try {
        return this.decode(bytes.subarray(0, this.kernel.read(this.fd, bytes)));
      } catch (error) {
        if (!(KernelError.isKernelError(error) && error.errno === -EINVAL && room < 1 << 20)) throw error;
      }
    }
  }

  /** Events as they come, until the loop is left, the signal aborts (which throws), or the queue is closed (which ends it). */
  async *events(options: WaitOptions = {}): AsyncGenerator<T, void, undefined> {
    options.signal?.throwIfAborted();
    while (!this.closed) {
      yield* this.read();
      try {
        await this.kernel.waitAsync(this.fd, POLLIN, options);
      } catch (error) {
        if (this.closed && KernelError.isKernelError(error)) return;
        throw error;
      }
    }
  }

  [Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    return this.events();
  }

  /** Closes the descriptor, then IOMMU_DESTROY. EBUSY: a page table still reports to it. */
  destroy(): void {
    this.close();
    this.iommufd.destroy(this);
  }
}

/** Page requests of one group: one answer is for all of them. */
export interface PageFaultGroup {
  readonly cookie: number;
  readonly faults: readonly iommu_hwpt_pgfault[];
}

/** IOMMU_FAULT_QUEUE_ALLOC: page requests of devices whose page table was made with this queue, for user space to answer. */
export class FaultQueue extends EventQueue<PageFaultGroup> {
  protected readonly unit: number = iommu_hwpt_pgfault.size;

  protected override get kind(): FdKind {
    return 'iommufd-fault';
  }

  /** write(2): IOMMUFD_PAGE_RESP_SUCCESS, and the device asks again; IOMMUFD_PAGE_RESP_INVALID, and its access fails. EINVAL: nobody waits for this cookie (any more). */
  respond(cookie: number, code: number): void {
    if (this.closed) throw new KernelError(EBADF, 'write', { note: 'this FaultQueue is closed' });
    const response = iommu_hwpt_page_response.encode({ cookie, code });
    try {
      this.kernel.write(this.fd, response);
    } catch (error) {
      if (!(KernelError.isKernelError(error) && error.errno === -EINVAL)) throw error;
      throw new KernelError(EINVAL, 'write', {
        fd: this.fd,
        note: `nobody waits for cookie ${cookie}, or ${code} is no response`,
      });
    }
  }

  protected override decode(bytes: Uint8Array): PageFaultGroup[] {
    const groups: { cookie: number; faults: iommu_hwpt_pgfault[] }[] = [];
    for (let at = 0; at < bytes.length; at += iommu_hwpt_pgfault.size) {
      const fault = iommu_hwpt_pgfault.decode(bytes, at);
      const last = groups.at(-1);
      if (last?.cookie === fault.cookie) last.faults.push(fault);
      else groups.push({ cookie: fault.cookie, faults: [fault] });
    }
    return groups;
  }
}

/** One event of a vIOMMU. `data` is that of its type; undefined: events were lost before this place, `sequence` is that of the last of them. */
export interface Vevent extends VeventStructs {
  readonly flags: number;
  readonly sequence: number;
  readonly data: Uint8Array | undefined;
}

/** IOMMU_VEVENTQ_ALLOC: what a vIOMMU reports of one type. */
export class VeventQueue extends EventQueue<Vevent> {
  protected readonly unit: number = 8;
  /** Bytes of an event behind its header. */
  readonly dataLength: number;
  /** IOMMU_VEVENTQ_TYPE_*. */
  readonly type: number;

  constructor(iommufd: Iommufd, id: number, fd: number, type: number, dataLength: number) {
    super(iommufd, id, fd);
    this.type = type;
    this.dataLength = dataLength;
  }

  protected override get kind(): FdKind {
    return 'iommufd-veventq';
  }

  protected override decode(bytes: Uint8Array): Vevent[] {
    const events: Vevent[] = [];
    for (let at = 0; at < bytes.length; ) {
      const { flags, sequence } = iommufd_vevent_header.decode(bytes, at);
      at += iommufd_vevent_header.size;
      const lost = (flags & IOMMU_VEVENTQ_FLAG_LOST_EVENTS) !== 0;
      const data = lost ? undefined : bytes.slice(at, at + this.dataLength);
      events.push({ flags, sequence, data, ...(data === undefined ? {} : decodeVevent(this.type, data)) });
      if (!lost) at += this.dataLength;
    }
    return events;
  }
}
