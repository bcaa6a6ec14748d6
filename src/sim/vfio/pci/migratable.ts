import { EINVAL, ENODEV, O_WRONLY } from '../../../uapi/sys.ts';
import {
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY,
} from '../../../uapi/vfio.ts';
import type { File } from '../../file.ts';
import { isMigratable, type Migratable, type RunState, type WriteLog } from '../../hardware/migratable.ts';
import type { PciDev } from '../../pci/pci-dev.ts';
import type { Process } from '../../process.ts';
import { MigrationFile, type MigrationOps, type MigrationSteps, SavingFile, walkStates } from '../migration.ts';
import { VfioPciCoreDevice } from './core.ts';
import { VfioPciDriver } from './driver.ts';

/** What anon_inode_getfile is given. */
const FILE_NAME = 'migratable_mig';

/** How far the device may go on in each state. */
const runStates: ReadonlyMap<number, RunState> = new Map([
  [VFIO_DEVICE_STATE_STOP, 'stopped'],
  [VFIO_DEVICE_STATE_RUNNING, 'running'],
  [VFIO_DEVICE_STATE_STOP_COPY, 'stopped'],
  [VFIO_DEVICE_STATE_RESUMING, 'stopped'],
  [VFIO_DEVICE_STATE_RUNNING_P2P, 'quiet'],
  [VFIO_DEVICE_STATE_PRE_COPY, 'running'],
  [VFIO_DEVICE_STATE_PRE_COPY_P2P, 'quiet'],
]);

const saving: ReadonlySet<number> = new Set([
  VFIO_DEVICE_STATE_STOP_COPY,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
]);

/** RESUMING: the device takes the stream as it comes; −EINVAL where it is none of its own. */
class ResumingStream extends MigrationFile {
  readonly #fn: Migratable;

  constructor(fn: Migratable) {
    super(`anon_inode:${FILE_NAME}`, O_WRONLY);
    this.#fn = fn;
  }

  override write(_p: Process, from: Uint8Array): number {
    if (this.ended) return -ENODEV;
    return this.#fn.restore(from) ? from.length : -EINVAL;
  }
}

/** The migration of a device that can give its state away, by the states of VFIO. */
class DeviceMigration implements MigrationOps, MigrationSteps {
  readonly flags: number;
  state: number = VFIO_DEVICE_STATE_RUNNING;
  readonly #device: MigratableVfioDevice;
  readonly #fn: Migratable;
  #saving: SavingFile | undefined;
  #resuming: ResumingStream | undefined;

  constructor(device: MigratableVfioDevice, fn: Migratable) {
    const optional = (fn.peerToPeer ? VFIO_MIGRATION_P2P : 0) | (fn.preCopy ? VFIO_MIGRATION_PRE_COPY : 0);
    this.flags = VFIO_MIGRATION_STOP_COPY | optional;
    this.#device = device;
    this.#fn = fn;
  }

  getState(): number {
    return this.state;
  }

  setState(p: Process, state: number): File | number {
    return walkStates(p, this, state);
  }

  dataSize(): bigint {
    return BigInt(this.#fn.stateSize);
  }

  /** The device was reset: it runs, whatever it was doing. */
  reset(): void {
    this.#endSessions();
    this.state = VFIO_DEVICE_STATE_RUNNING;
    this.#fn.runState = 'running';
  }

  step(_p: Process, next: number): File | number {
    if (this.state === VFIO_DEVICE_STATE_RESUMING && !this.#fn.restored) return -EINVAL;
    this.#fn.runState = runStates.get(next)!;
    if (next === VFIO_DEVICE_STATE_RESUMING) return this.#resume();
    if (saving.has(next)) return this.#save(next);
    this.#endSessions();
    return 0;
  }

  #save(next: number): File | number {
    const begins = this.#saving === undefined;
    if (begins) this.#fn.beginSaving();
    this.#saving ??= new SavingFile(FILE_NAME, this, () => this.#device.precopyInfoV2, this.#fn);
    if (next === VFIO_DEVICE_STATE_STOP_COPY) this.#saving.append(this.#fn.saveRest());
    else if (begins) this.#saving.append(this.#fn.saveChanged());
    return begins ? this.#saving : 0;
  }

  #resume(): File {
    this.#fn.beginRestoring();
    this.#resuming = new ResumingStream(this.#fn);
    return this.#resuming;
  }

  #endSessions(): void {
    this.#saving?.end();
    this.#resuming?.end();
    this.#saving = undefined;
    this.#resuming = undefined;
  }
}

export class MigratableVfioDevice extends VfioPciCoreDevice {
  override readonly migration: DeviceMigration;
  override readonly logging: WriteLog;

  constructor(pdev: PciDev, fn: Migratable) {
    super(pdev);
    this.migration = new DeviceMigration(this, fn);
    this.logging = fn.writeLog;
  }

  protected override migrationOpened(): void {
    this.migration.reset();
  }

  override resetDone(): void {
    this.migration.reset();
  }
}

/** The vendor driver of devices that can be migrated: vfio-pci with what it knows of them besides. Taken by driver_override alone. */
export class MigratableVfioDriver extends VfioPciDriver {
  override readonly name: string = 'migratable-vfio-pci';

  override probe(p: Process, dev: PciDev): number {
    return isMigratable(dev.fn) ? super.probe(p, dev) : -ENODEV;
  }

  protected override make(dev: PciDev): VfioPciCoreDevice {
    return isMigratable(dev.fn) ? new MigratableVfioDevice(dev, dev.fn) : super.make(dev);
  }
}
