import { IOMMU_VEVENTQ_FLAG_LOST_EVENTS, iommufd_vevent_header } from '../../uapi/iommufd.ts';
import { EINVAL, POLLIN, POLLRDNORM } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';
import { WaitQueue } from '../wait-queue.ts';
import type { IommufdContext } from './context.ts';
import { EventFile } from './fault-queue.ts';
import { IommufdObject } from './objects.ts';
import type { Viommu } from './viommu.ts';

const HEADER = iommufd_vevent_header.size;
/** Sequence numbers are 31 bits. */
const SEQUENCES = 0x8000_0000;

interface Event {
  sequence: number;
  /** Undefined: the marker of lost events. */
  readonly payload: Uint8Array | undefined;
}

/** `struct iommufd_veventq`: what a vIOMMU reports of one type to its VM. */
export class Veventq extends IommufdObject {
  override readonly kind = 'veventq';
  readonly wait: WaitQueue = new WaitQueue();
  readonly #viommu: Viommu;
  readonly #type: number;
  readonly #depth: number;
  readonly #events: Event[] = [];
  #sequence = 0;

  constructor(viommu: Viommu, type: number, depth: number) {
    super();
    this.#viommu = viommu;
    this.#type = type;
    this.#depth = depth;
    viommu.users++;
    viommu.veventqs.set(type, this);
  }

  get readable(): boolean {
    return this.#events.length > 0;
  }

  override destroy(_p: Process): void {
    this.#viommu.veventqs.delete(this.#type);
    this.#viommu.users--;
  }

  /**
   * iommufd_viommu_report_event. Where the queue is full the event is lost, and a marker at the tail says so; a later event takes the marker's place: the gap in
   * the sequence tells the rest.
   */
  report(payload: Uint8Array): void {
    const sequence = this.#sequence;
    this.#sequence = (sequence + 1) % SEQUENCES;
    const tail = this.#events.at(-1);
    const lost = tail !== undefined && tail.payload === undefined ? tail : undefined;
    const queued = this.#events.length - (lost === undefined ? 0 : 1);
    if (queued < this.#depth) {
      if (lost !== undefined) this.#events.pop();
      this.#events.push({ sequence, payload });
    } else if (lost !== undefined) lost.sequence = sequence;
    else this.#events.push({ sequence, payload: undefined });
    this.wait.wake(POLLIN | POLLRDNORM);
  }

  /** Whole records, as many as fit. */
  read(into: Uint8Array): number {
    if (into.length < HEADER) return -EINVAL;
    let done = 0;
    for (let event = this.#events[0]; event !== undefined; event = this.#events[0]) {
      const { sequence, payload } = event;
      const length = HEADER + (payload?.length ?? 0);
      if (done + length > into.length) return done === 0 ? -EINVAL : done;
      iommufd_vevent_header.encode({ flags: payload === undefined ? IOMMU_VEVENTQ_FLAG_LOST_EVENTS : 0, sequence }, into, done);
      if (payload !== undefined) into.set(payload, done + HEADER);
      done += length;
      this.#events.shift();
    }
    return done;
  }
}

class VeventqFile extends EventFile<Veventq> {
  override read(_p: Process, into: Uint8Array): number {
    return this.queue.read(into);
  }

  override poll(): number {
    return this.queue.readable ? POLLIN | POLLRDNORM : 0;
  }
}

export function openVeventq(ctx: IommufdContext, queue: Veventq): VeventqFile {
  return new VeventqFile('anon_inode:[iommufd-viommu-event]', ctx, queue);
}
