import type { Machine } from '../machine.ts';
import { amdSvm72 } from './amd-svm-7.2.ts';

/** A kernel built with CONFIG_IOMMUFD_TEST, as the lab's is: iommufd's own test interface on /dev/iommu. */
export const iommufdSelftest: Machine = { ...amdSvm72, name: 'iommufd-selftest', iommufdTest: true };
