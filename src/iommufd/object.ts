import { describe } from '../kernel/arguments.ts';
import type { Descriptor } from '../kernel/descriptor.ts';
import { KernelError, rangeError, typeError } from '../kernel/errors.ts';
import { showAs } from '../kernel/inspect.ts';
import { ENOENT } from '../uapi/sys.ts';
import type { Iommufd } from './iommufd.ts';

/** What a call made here has destroyed: ids are given out again, so that its own may be another object's by now. */
const gone: WeakSet<object> = new WeakSet();

export function noteDestroyed(object: object): void {
  gone.add(object);
}

const isDestroyed = (object: object, name: string): KernelError =>
  new KernelError(ENOENT, 'ioctl', { note: `${name === '' ? '' : `${name}: `}this ${object.constructor.name} is destroyed` });

/**
 * An object of an iommufd, by its id: no descriptor of its own. The id is good for the raw ioctls, and for what names it in another object's place.
 * Closing the iommufd's last holder takes all objects away.
 */
export abstract class IommufdObject {
  readonly iommufd: Iommufd;
  readonly id: number;

  constructor(iommufd: Iommufd, id: number) {
    this.iommufd = iommufd;
    this.id = id;
  }

  get destroyed(): boolean {
    return gone.has(this) || this.iommufd.closed;
  }

  /** The id, for a struct. Once it is destroyed KernelError ENOENT, as the kernel has it as long as no other object has got the id. */
  get liveId(): number {
    if (gone.has(this)) throw isDestroyed(this, '');
    return this.id;
  }

  /** IOMMU_DESTROY. EBUSY while anything refers to it: a device attached, an object made on it, a descriptor open. */
  destroy(): void {
    this.iommufd.destroy(this);
  }

  /** IOMMU_DESTROY, unless that has been done, or the iommufd is closed. */
  [Symbol.dispose](): void {
    if (!this.destroyed) this.destroy();
  }
}

showAs(IommufdObject, (object) => `${object.constructor.name} { id ${object.id}${object.destroyed ? ', destroyed' : ''} }`);

/** An object by its id, or the object that has it. */
export type ObjectId = number | IommufdObject;

/**
 * The id, for a struct that goes to `iommufd`. Another one's object is refused: its id may be that of something else here. Where that is known by its number only, or not at all, nobody
 * can tell.
 */
export function idOf(object: HasId, name: string, iommufd: Descriptor | undefined): number {
  if (typeof object === 'number') return object;
  if (typeof object?.id !== 'number')
    throw typeError(`${name} must be an object of an iommufd, or its id, not ${describe(object)}`);
  if (typeof iommufd === 'object' && object.iommufd !== iommufd)
    throw rangeError(
      `${name}: this ${object.constructor.name} belongs to another Iommufd, whose ids mean something else here; where both hold one file, pass the id`,
    );
  if (gone.has(object)) throw isDestroyed(object, name);
  return object.id;
}

/** An object of an iommufd, or a queue that has an id there besides its descriptor. */
export type HasId = number | { readonly iommufd: Iommufd; readonly id: number };
