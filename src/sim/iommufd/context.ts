import type { File } from '../file.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import type { IommufdGroup } from './device.ts';
import type { Ioas } from './ioas.ts';
import { MmapRegions } from './mmap-regions.ts';
import { ObjectTable } from './objects.ts';
import type { Accounting } from './pages.ts';

/** `struct iommufd_ctx`: what one open of /dev/iommu made. */
export class IommufdContext {
  readonly system: System;
  readonly objects: ObjectTable = new ObjectTable();
  readonly regions: MmapRegions = new MmapRegions();
  /** Its file: descriptors, bound devices, event and access descriptors and driver mappings hold it. */
  readonly file: File;
  /** IOMMU_OPTION_RLIMIT_MODE 1: pinned pages are the process's, not the user's. */
  processAccounting: boolean;
  /** The IOAS of the VFIO compatible ioctls. It holds nothing. */
  vfioIoas: Ioas | undefined;
  /** Which IOMMU group a group of bound devices stands for. */
  readonly groupKeys: WeakMap<IommufdGroup, object> = new WeakMap();
  /** CONFIG_IOMMUFD_TEST. */
  readonly testing: boolean;
  /** vfio_iommufd_compat_set_no_iommu. */
  noIommu = false;

  constructor(system: System, file: File, processAccounting: boolean, testing: boolean) {
    this.testing = testing;
    this.system = system;
    this.file = file;
    this.processAccounting = processAccounting;
  }

  /** Who pays for what this process maps now. */
  accounting(p: Process): Accounting {
    if (p.capable('CAP_IPC_LOCK')) return 'none';
    return this.processAccounting ? 'mm' : 'user';
  }

  /** iommufd_fops_release. */
  release(p: Process): void {
    this.objects.destroyAll(p);
  }
}
