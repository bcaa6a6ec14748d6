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
