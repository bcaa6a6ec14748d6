import { describe } from '../kernel/arguments.ts';
import type { Descriptor } from '../kernel/descriptor.ts';
import { rangeError, typeError } from '../kernel/errors.ts';
import { showAs } from '../kernel/inspect.ts';
import type { Iommufd } from './iommufd.ts';

/**
 * An object of an iommufd, by its id: no descriptor of its own. The id is good for the raw ioctls, and for what names it in another object's place.
 * Closing the iommufd's last holder takes all objects away.
 */
export abstract class IommufdObject {
  readonly iommufd: Iommufd;
  readonly id: number;
  #destroyed = false;

  constructor(iommufd: Iommufd, id: number) {
    this.iommufd = iommufd;
    this.id = id;
  }

  get destroyed(): boolean {
    return this.#destroyed || this.iommufd.closed;
  }

  /** IOMMU_DESTROY. EBUSY while anything refers to it: a device attached, an object made on it, a descriptor open. */
  destroy(): void {
    this.iommufd.destroy(this.id);
    this.#destroyed = true;
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
export function idOf(
  object: number | { readonly iommufd: Iommufd; readonly id: number },
  name: string,
  iommufd: Descriptor | undefined,
): number {
  if (typeof object === 'number') return object;
  if (typeof object?.id !== 'number')
    throw typeError(`${name} must be an object of an iommufd, or its id, not ${describe(object)}`);
  if (typeof iommufd === 'object' && object.iommufd !== iommufd)
    throw rangeError(
      `${name}: this ${object.constructor.name} belongs to another Iommufd, whose ids mean something else here; where both hold one file, pass the id`,
    );
  return object.id;
}
