import { EFAULT, EINVAL, ENODEV, ENOMEM, ENOMSG, ENOTTY, O_RDONLY, O_WRONLY } from '../../uapi/sys.ts';
import {
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_NR,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
  VFIO_MIG_GET_PRECOPY_INFO,
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY,
  vfio_precopy_info,
} from '../../uapi/vfio.ts';
import { AnonFile, type File } from '../file.ts';
import type { Process } from '../process.ts';

/** What a vendor driver gives VFIO to make a device migratable (`struct vfio_migration_ops`). */
export interface MigrationOps {
  /** VFIO_MIGRATION_*: STOP_COPY always, P2P and PRE_COPY by choice. */
  readonly flags: number;
  /** Goes to the state, through those between: 0, −errno, or the data file of the session that begins. */
  setState(p: Process, state: number): File | number;
  /** A VFIO_DEVICE_STATE_*, or −errno. */
  getState(): number;
  /** Bytes that STOP_COPY may give. */
  dataSize(): bigint;
}

/** What the device must be able to do for a state. */
const needs: readonly number[] = [
  -1,
  VFIO_MIGRATION_STOP_COPY,
  VFIO_MIGRATION_STOP_COPY,
  VFIO_MIGRATION_STOP_COPY,
  VFIO_MIGRATION_STOP_COPY,
  VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY,
];

/** The next state on the way, by where it is (row) and where it shall be; 0: there is no way. */
const steps: readonly (readonly number[])[] = [
  [0, 0, 0, 0, 0, 0, 0, 0],
  [0, 1, 5, 3, 4, 5, 5, 5],
  [0, 5, 2, 5, 5, 5, 6, 5],
  [0, 1, 1, 3, 1, 1, 0, 0],
  [0, 1, 1, 1, 4, 1, 1, 1],
  [0, 1, 2, 1, 1, 5, 2, 7],
  [0, 2, 2, 7, 2, 2, 6, 7],
  [0, 5, 5, 3, 5, 5, 6, 7],
];

/** vfio_mig_get_next_state: the next state, or −EINVAL. States the device has not are passed over. */
export function nextState(flags: number, from: number, to: number): number {
  const has = (state: number): boolean => (needs[state]! & flags) === needs[state];
  if (!has(from) || to < 0 || to >= VFIO_DEVICE_STATE_NR || !has(to)) return -EINVAL;
  let next = steps[from]![to]!;
  while (next !== VFIO_DEVICE_STATE_ERROR && !has(next)) next = steps[next]![to]!;
  return next === VFIO_DEVICE_STATE_ERROR ? -EINVAL : next;
}

/** One driver's migration: where it is, and the step it makes from one state to the next. */
export interface MigrationSteps {
  readonly flags: number;
  state: number;
  /** From `state` to a neighbour: 0, −errno, or the data file that begins with it. */
  step(p: Process, next: number): File | number;
}

/** What every driver's migration_set_state does. A step that fails leaves the device where it was before it. */
export function walkStates(p: Process, driver: MigrationSteps, to: number): File | number {
  let result: File | number = 0;
  while (driver.state !== to) {
    const next = nextState(driver.flags, driver.state, to);
    if (next < 0) return next;
    result = driver.step(p, next);
    if (typeof result === 'number' && result < 0) return result;
    driver.state = next;
  }
  return result;
}

/** The data file of a session. It outlives the session; then it answers −ENODEV. */
export abstract class MigrationFile extends AnonFile {
  protected at = 0;
  protected ended = false;

  /** The session is over. */
  end(): void {
    this.ended = true;
  }
}

/** A running device whose state goes on changing. */
export interface PreCopySource {
  /** Bytes that reading on would give. */
  readonly changed: number;
  saveChanged(): Uint8Array;
}

/** PRE_COPY, STOP_COPY: a stream out of the device. */
export class SavingFile extends MigrationFile {
  readonly #driver: MigrationSteps;
  /** VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 was set. */
  readonly #precopyInfoV2: () => boolean;
  readonly #source: PreCopySource | undefined;
  #bytes: Uint8Array = new Uint8Array(0);

  /** `name` as anon_inode_getfile gets it. With a `source` a read in PRE_COPY goes on with what has changed, −ENOMSG where nothing has. */
  constructor(name: string, driver: MigrationSteps, precopyInfoV2: () => boolean, source?: PreCopySource) {
    super(`anon_inode:${name}`, O_RDONLY);
    this.#driver = driver;
    this.#precopyInfoV2 = precopyInfoV2;
    this.#source = source;
  }

  get #preCopying(): boolean {
    const { state } = this.#driver;
    return state === VFIO_DEVICE_STATE_PRE_COPY || state === VFIO_DEVICE_STATE_PRE_COPY_P2P;
  }

  /** More that can be read. */
  append(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#bytes.length + bytes.length);
    all.set(this.#bytes);
    all.set(bytes, this.#bytes.length);
    this.#bytes = all;
  }

  override read(_p: Process, into: Uint8Array): number {
    if (this.ended) return -ENODEV;
    if (this.#source !== undefined && this.at === this.#bytes.length && this.#preCopying) {
      this.append(this.#source.saveChanged());
      if (this.at === this.#bytes.length && into.length > 0) return -ENOMSG;
    }
    const piece = this.#bytes.subarray(this.at, this.at + into.length);
    into.set(piece);
    this.at += piece.length;
    return piece.length;
  }

  /** VFIO_MIG_GET_PRECOPY_INFO. */
  override ioctl(p: Process, request: number, arg: bigint): number {
    if (request !== VFIO_MIG_GET_PRECOPY_INFO) return -ENOTTY;
    const bytes = p.mm.copyFrom(arg, vfio_precopy_info.size);
    if (bytes === null) return -EFAULT;
    const info = vfio_precopy_info.decode(bytes);
    if (info.argsz < vfio_precopy_info.size) return -EINVAL;
    if (!this.#preCopying) return -EINVAL;
    if (this.ended) return -ENODEV;
    const answer = vfio_precopy_info.encode({
      argsz: info.argsz,
      flags: this.#precopyInfoV2() ? 0 : info.flags,
      initial_bytes: BigInt(this.#bytes.length - this.at),
      dirty_bytes: BigInt(this.#source?.changed ?? 0),
    });
    return p.mm.copyTo(arg, answer) ? 0 : -EFAULT;
  }
}

/** RESUMING: a stream into the device. */
export class ResumingFile extends MigrationFile {
  readonly #bytes: Uint8Array;
  readonly #accept: (head: Uint8Array) => number;

  /** At most `size` bytes. `accept` is asked of what is there after each write: 0 or −errno. */
  constructor(name: string, size: number, accept: (head: Uint8Array) => number) {
    super(`anon_inode:${name}`, O_WRONLY);
    this.#bytes = new Uint8Array(size);
    this.#accept = accept;
  }

  get received(): Uint8Array {
    return this.#bytes.subarray(0, this.at);
  }

  override write(_p: Process, from: Uint8Array): number {
    if (this.at + from.length > this.#bytes.length) return -ENOMEM;
    if (this.ended) return -ENODEV;
    this.#bytes.set(from, this.at);
    const error = this.#accept(this.#bytes.subarray(0, this.at + from.length));
    if (error < 0) return error;
    this.at += from.length;
    return from.length;
  }
}
