import {
  IOMMUFD_PAGE_RESP_INVALID,
  IOMMUFD_PAGE_RESP_SUCCESS,
  type iommu_fault_alloc,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
} from '../../uapi/iommufd.ts';
import { EFAULT, EINVAL, EMFILE, EOPNOTSUPP, ESPIPE, O_RDWR, POLLIN, POLLOUT, POLLRDNORM } from '../../uapi/sys.ts';
import { AnonFile } from '../file.ts';
import type { Process } from '../process.ts';
import { WaitQueue } from '../wait-queue.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import type { Idev } from './device.ts';
import { IommufdObject } from './objects.ts';
import type { Answer, Fault } from './pending-faults.ts';

/** `struct iopf_group`. */
interface FaultGroup {
  readonly idev: Idev;
  /** The attachment it came by. */
  readonly pasid: number;
  readonly faults: readonly Fault[];
  readonly answer: Answer;
}

/** `struct iommufd_fault`: page requests for userspace to answer. Its descriptor holds it, and each HWPT that reports to it. */
export class FaultQueue extends IommufdObject {
  override readonly kind = 'fault';
  readonly wait: WaitQueue = new WaitQueue();
  /** Not read yet. */
  #queued: FaultGroup[] = [];
  /** Read, and not answered: by cookie. */
  readonly #read: Map<number, FaultGroup> = new Map();

  get readable(): boolean {
    return this.#queued.length > 0;
  }

  deliver(group: FaultGroup): void {
    this.#queued.push(group);
    this.wait.wake(POLLIN | POLLRDNORM);
  }

  /** iommufd_auto_response_faults: the attachment ends, what it asked is answered for it. */
  drop(_p: Process, idev: Idev, pasid: number): void {
    const gone = (group: FaultGroup): boolean => group.idev === idev && group.pasid === pasid;
    for (const group of this.#queued.filter(gone)) group.answer(IOMMUFD_PAGE_RESP_INVALID);
    this.#queued = this.#queued.filter((group) => !gone(group));
    for (const [cookie, group] of this.#read) {
      if (!gone(group)) continue;
      this.#read.delete(cookie);
      group.answer(IOMMUFD_PAGE_RESP_INVALID);
    }
  }

  override destroy(_p: Process): void {
    for (const { answer } of [...this.#queued, ...this.#read.values()]) answer(IOMMUFD_PAGE_RESP_INVALID);
    this.#queued = [];
    this.#read.clear();
  }

  /** Whole groups, as many as fit. One gets its cookie when it is read: the lowest free. */
  read(into: Uint8Array): number {
    if (into.length % iommu_hwpt_pgfault.size !== 0) return -ESPIPE;
    let done = 0;
    for (let group = this.#queued[0]; group !== undefined; group = this.#queued[0]) {
      const length = group.faults.length * iommu_hwpt_pgfault.size;
      if (done + length > into.length) return done === 0 ? -EINVAL : done;
      let cookie = 1;
      while (this.#read.has(cookie)) cookie++;
      for (const { flags, pasid, grpid, perm, addr } of group.faults) {
        const record = { flags, dev_id: group.idev.id, pasid, grpid, perm, __reserved: 0, addr, length: 0, cookie };
        iommu_hwpt_pgfault.encode(record, into, done);
        done += iommu_hwpt_pgfault.size;
      }
      this.#read.set(cookie, group);
      this.#queued.shift();
    }
    return done;
  }

  write(from: Uint8Array): number {
    if (from.length % iommu_hwpt_page_response.size !== 0) return -ESPIPE;
    let done = 0;
    for (; done < from.length; done += iommu_hwpt_page_response.size) {
      const { cookie, code } = iommu_hwpt_page_response.decode(from, done);
      const group = this.#read.get(cookie);
      const known = code === IOMMUFD_PAGE_RESP_SUCCESS || code === IOMMUFD_PAGE_RESP_INVALID;
      if (!known || group === undefined) return done === 0 ? -EINVAL : done;
      this.#read.delete(cookie);
      group.answer(code);
    }
    return done;
  }
}

/** A descriptor of an event queue: it holds the queue, and the context. */
export abstract class EventFile<T extends IommufdObject & { readonly wait: WaitQueue }> extends AnonFile {
  override readonly wait: WaitQueue;
  protected readonly queue: T;
  readonly #ctx: IommufdContext;

  constructor(link: string, ctx: IommufdContext, queue: T) {
    super(link, O_RDWR);
    this.#ctx = ctx;
    this.queue = queue;
    this.wait = queue.wait;
    queue.users++;
    ctx.file.ref();
  }

  override release(p: Process): void {
    this.queue.users--;
    this.#ctx.file.unref(p);
  }
}

class FaultFile extends EventFile<FaultQueue> {
  override read(_p: Process, into: Uint8Array): number {
    return this.queue.read(into);
  }

  override write(_p: Process, from: Uint8Array): number {
    return this.queue.write(from);
  }

  override poll(): number {
    return POLLOUT | (this.queue.readable ? POLLIN | POLLRDNORM : 0);
  }
}

/** Opens a queue's descriptor, writes the struct back and publishes the queue: all of it, or nothing. */
export function installQueue(
  call: Call,
  queue: IommufdObject,
  open: () => AnonFile,
  fill: (id: number, fd: number) => void,
): number {
  const { ctx, p } = call;
  const id = ctx.objects.reserve();
  const fd = p.fds.reserve(true);
  let error = fd < 0 ? -EMFILE : 0;
  if (error === 0) {
    fill(id, fd);
    if (call.respond() < 0) {
      p.fds.unreserve(fd);
      error = -EFAULT;
    }
  }
  if (error < 0) {
    ctx.objects.free(id);
    queue.destroy(p);
    return error;
  }
  ctx.objects.publish(id, queue);
  p.fds.set(fd, open());
  return 0;
}

/** IOMMU_FAULT_QUEUE_ALLOC. */
export function faultQueueAlloc(call: Call, cmd: iommu_fault_alloc): number {
  if (cmd.flags !== 0) return -EOPNOTSUPP;
  const queue = new FaultQueue();
  return installQueue(
    call,
    queue,
    () => new FaultFile('anon_inode:[iommufd-pgfault]', call.ctx, queue),
    (id, fd) => {
      cmd.out_fault_id = id;
      cmd.out_fault_fd = fd;
    },
  );
}
