import { EBUSY, ENOENT } from '../../uapi/sys.ts';
import type { Process } from '../process.ts';

/** `enum iommufd_object_type`. */
export type ObjectKind =
  | 'ioas'
  | 'hwpt-paging'
  | 'hwpt-nested'
  | 'device'
  | 'access'
  | 'fault'
  | 'viommu'
  | 'vdevice'
  | 'veventq'
  | 'hw-queue'
  | 'selftest';

/** `struct iommufd_object`. */
export abstract class IommufdObject {
  abstract readonly kind: ObjectKind;
  /** 0 until it is published. */
  id = 0;
  /** References beside the table's own: while there is one, IOMMU_DESTROY is EBUSY. */
  users = 0;

  /** Gives back what it holds. The id is free already. */
  abstract destroy(p: Process): void;

  /** What has to end first for the object to be destroyable (a selftest device detaches); without it the count alone decides. */
  preDestroy(_p: Process): void {}
}

/** An id that can be neither found nor given out: a vDEVICE whose device was unbound. */
const TOMBSTONE = Symbol('tombstone');
const RESERVED = Symbol('reserved');

/** `ictx->objects`: one namespace of ids for all types, lowest free first, from 1. */
export class ObjectTable {
  readonly #slots: (IommufdObject | typeof TOMBSTONE | typeof RESERVED | undefined)[] = [RESERVED];
  /** No id below this is free. */
  #next = 1;
  #used = 0;

  /** No id is in use: tombstones count. */
  get empty(): boolean {
    return this.#used === 0;
  }

  /** Takes the lowest free id. Until `publish` it is as if it were absent. */
  reserve(): number {
    let id = this.#next;
    while (this.#slots[id] !== undefined) id++;
    this.#slots[id] = RESERVED;
    this.#next = id + 1;
    this.#used++;
    return id;
  }

  publish(id: number, object: IommufdObject): void {
    this.#slots[id] = object;
    object.id = id;
  }

  /** Gives an id back, published or not. */
  free(id: number): void {
    this.#slots[id] = undefined;
    this.#next = Math.min(this.#next, id);
    this.#used--;
  }

  /** The object is gone, its id stays taken for as long as the context lives. */
  bury(id: number): void {
    this.#slots[id] = TOMBSTONE;
  }

  any(id: number): IommufdObject | undefined {
    const slot = this.#slots[id];
    return typeof slot === 'object' ? slot : undefined;
  }

  /** By id and type: undefined is ENOENT, whether there is none or one of another type. */
  get<T extends IommufdObject>(id: number, kind: ObjectKind): T | undefined {
    const object = this.any(id);
    return object?.kind === kind ? (object as T) : undefined;
  }

  /** Ascending. */
  *all(): Generator<IommufdObject> {
    for (const slot of [...this.#slots]) if (typeof slot === 'object') yield slot;
  }

  /** IOMMU_DESTROY. */
  destroy(p: Process, id: number): number {
    const object = this.any(id);
    if (object === undefined) return -ENOENT;
    object.preDestroy(p);
    if (object.users > 0) return -EBUSY;
    this.drop(p, object);
    return 0;
  }

  drop(p: Process, object: IommufdObject): void {
    if (this.any(object.id) === object) this.free(object.id);
    object.destroy(p);
  }

  /** The context ends: passes over ascending ids, leaves first. */
  destroyAll(p: Process): void {
    for (let progress = true; progress; ) {
      progress = false;
      for (const object of this.all()) {
        object.preDestroy(p);
        if (object.users > 0) continue;
        this.drop(p, object);
        progress = true;
      }
    }
  }
}
