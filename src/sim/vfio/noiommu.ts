import { EINVAL, ENOTTY, EPERM } from '../../uapi/sys.ts';
import { VFIO_NOIOMMU_IOMMU } from '../../uapi/vfio.ts';
import type { Process } from '../process.ts';
import type { System } from '../system.ts';
import type { IommuBackend, IommuDriver } from './container.ts';

const NOIOMMU = BigInt(VFIO_NOIOMMU_IOMMU);

/** VFIO_NOIOMMU_IOMMU, as the module's parameter has it now. */
function extension(system: System, arg: bigint): number {
  return arg === NOIOMMU && system.parameters.vfio.enable_unsafe_noiommu_mode ? 1 : 0;
}

/** A container of groups without IOMMU: it maps nothing and knows nothing but its own extension. */
class NoIommu implements IommuBackend {
  readonly #system: System;

  constructor(system: System) {
    this.#system = system;
  }

  ioctl(): number {
    return -ENOTTY;
  }

  checkExtension(arg: bigint): number {
    return extension(this.#system, arg);
  }

  attachGroup(): number {
    return 0;
  }

  detachGroup(): void {}
}

export const noiommuDriver: IommuDriver = {
  noiommu: true,
  checkExtension: extension,
  open(p: Process, arg: bigint): IommuBackend | number {
    if (arg !== NOIOMMU) return -EINVAL;
    return p.capable('CAP_SYS_RAWIO') ? new NoIommu(p.system) : -EPERM;
  },
};
