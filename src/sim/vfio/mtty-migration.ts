import { EFAULT, EINVAL } from '../../uapi/sys.ts';
import {
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY,
} from '../../uapi/vfio.ts';
import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import { type MigrationOps, type MigrationSteps, ResumingFile, SavingFile, walkStates } from './migration.ts';
import type { Mtty } from './mtty.ts';
import { PORT_SIZE } from './mtty-uart.ts';

const MAGIC = 0x7e9d_0989_8c3e_2c4en;
const MAJOR = 1;
const MINOR = 0;
const HEADER_SIZE = 24;
/** What anon_inode_getfile is given. */
const FILE_NAME = 'mtty_mig';

const saving: ReadonlySet<number> = new Set([
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
]);

/** The migration of an mtty: a header while it runs, its ports once it is stopped. */
export class MttyMigration implements MigrationOps, MigrationSteps {
  readonly flags: number = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;
  state: number = VFIO_DEVICE_STATE_RUNNING;
  readonly #device: Mtty;
  #saving: SavingFile | undefined;
  #resuming: ResumingFile | undefined;

  constructor(device: Mtty) {
    this.#device = device;
  }

  getState(): number {
    return this.state;
  }

  setState(p: Process, state: number): File | number {
    return walkStates(p, this, state);
  }

  dataSize(): bigint {
    return BigInt(this.#size);
  }

  reset(): void {
    this.endSessions();
    this.state = VFIO_DEVICE_STATE_RUNNING;
  }

  /** mtty_disable_files. */
  endSessions(): void {
    this.#saving?.end();
    this.#resuming?.end();
    this.#saving = undefined;
    this.#resuming = undefined;
  }

  /** mtty_step_state. */
  step(_p: Process, next: number): File | number {
    if (next === VFIO_DEVICE_STATE_RESUMING) return this.#resume();
    if (saving.has(next)) return this.#save(next);
    if (this.state === VFIO_DEVICE_STATE_RESUMING) {
      const error = this.#load();
      if (error < 0) return error;
    }
    // Out of the saving states, or of resuming; other arcs begin and end nothing.
    if (saving.has(this.state) || next === VFIO_DEVICE_STATE_STOP) this.endSessions();
    return 0;
  }

  get #size(): number {
    return HEADER_SIZE + this.#device.uarts.length * PORT_SIZE;
  }

  #save(next: number): File | number {
    const begins = this.#saving === undefined;
    this.#saving ??= new SavingFile(FILE_NAME, this, () => this.#device.precopyInfoV2);
    if (begins) this.#saving.append(this.#header());
    if (next === VFIO_DEVICE_STATE_STOP_COPY) for (const uart of this.#device.uarts) this.#saving.append(uart.save());
    return begins ? this.#saving : 0;
  }

  #resume(): File {
    this.#resuming = new ResumingFile(FILE_NAME, this.#size, (head) => this.#accept(head));
    return this.#resuming;
  }

  /** The header, once all of it is there: −EFAULT where it is another device's. The minor version does not matter. */
  #accept(head: Uint8Array): number {
    if (head.length < HEADER_SIZE) return 0;
    const wanted = this.#header();
    const same = (from: number, to: number): boolean => Buffer.compare(head.subarray(from, to), wanted.subarray(from, to)) === 0;
    return same(0, 12) && same(16, HEADER_SIZE) ? 0 : -EFAULT;
  }

  #load(): number {
    const received = this.#resuming!.received;
    if (received.length < this.#size) return -EINVAL;
    this.#device.uarts.forEach((uart, i) => {
      uart.load(received.subarray(HEADER_SIZE + i * PORT_SIZE));
    });
    return 0;
  }

  #header(): Uint8Array {
    const bytes = new Uint8Array(HEADER_SIZE);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, MAGIC, true);
    view.setUint32(8, MAJOR, true);
    view.setUint32(12, MINOR, true);
    view.setUint32(16, this.#device.uarts.length, true);
    return bytes;
  }
}
