import { EINVAL, ENODEV, EPERM } from '../../uapi/sys.ts';
import * as v from '../../uapi/vfio.ts';
import { CharFile } from '../char-device.ts';
import { type Handler, RequestTable } from '../ioctl-table.ts';
import type { Process } from '../process.ts';
import type { CharDevice, System } from '../system.ts';
import type { VfioDevice } from './device.ts';
import type { VfioGroup } from './group.ts';
import { noiommuDriver } from './noiommu.ts';
import { type1Driver } from './type1.ts';

/** What SET_IOMMU makes of a container: `iommu_data`, with the driver's operations. */
export interface IommuBackend {
  /** Everything the container does not answer itself. */
  ioctl(p: Process, request: number, arg: bigint): number;
  checkExtension(arg: bigint): number;
  attachGroup(p: Process, group: VfioGroup): number;
  detachGroup(p: Process, group: VfioGroup): void;
  registerDevice?(device: VfioDevice): void;
  unregisterDevice?(device: VfioDevice): void;
}

/** `struct vfio_iommu_driver`. */
export interface IommuDriver {
  /** Serves no-IOMMU groups, or all others. */
  readonly noiommu: boolean;
  /** VFIO_CHECK_EXTENSION of a container that has none set. */
  checkExtension(system: System, arg: bigint): number;
  /** The argument of VFIO_SET_IOMMU. */
  open(p: Process, arg: bigint): IommuBackend | number;
}

/** In the order they are asked. */
const drivers: readonly IommuDriver[] = [type1Driver, noiommuDriver];

/** `struct vfio_container`: its file and each attached group hold it. */
export class Container {
  readonly system: System;
  /** The one that came last is first. */
  readonly groups: VfioGroup[] = [];
  backend: IommuBackend | undefined;
  noiommu = false;

  constructor(system: System) {
    this.system = system;
  }

  /** vfio_container_attach_group. */
  attachGroup(p: Process, group: VfioGroup): number {
    const noiommu = group.type === 'noiommu';
    if (noiommu && !p.capable('CAP_SYS_RAWIO')) return -EPERM;
    if (this.groups.length > 0 && this.noiommu !== noiommu) return -EPERM;
    if (group.type === 'iommu') {
      const claimed = group.iommuGroup!.claimDma(group);
      if (claimed < 0) return claimed;
    }
    const error = this.backend?.attachGroup(p, group) ?? 0;
    if (error < 0) {
      if (group.type === 'iommu') group.iommuGroup!.releaseDma(group);
      return error;
    }
    group.container = this;
    group.containerUsers = 1;
    this.noiommu = noiommu;
    this.groups.unshift(group);
    return 0;
  }

  /** vfio_group_detach_container. With the last group the backend goes, and the container can be set anew. */
  detachGroup(p: Process, group: VfioGroup): void {
    this.backend?.detachGroup(p, group);
    if (group.type === 'iommu') group.iommuGroup!.releaseDma(group);
    group.container = undefined;
    group.containerUsers = 0;
    this.groups.splice(this.groups.indexOf(group), 1);
    if (this.groups.length === 0) this.backend = undefined;
  }

  /** VFIO_CHECK_EXTENSION. */
  checkExtension(arg: bigint): number {
    if (this.backend !== undefined) return this.backend.checkExtension(arg);
    for (const driver of drivers) {
      if (this.groups.length > 0 && driver.noiommu !== this.noiommu) continue;
      const answer = driver.checkExtension(this.system, arg);
      if (answer > 0) return answer;
    }
    return 0;
  }

  /** VFIO_SET_IOMMU: the first driver that takes the type and all groups. The last refusal is told. */
  setIommu(p: Process, arg: bigint): number {
    if (this.groups.length === 0 || this.backend !== undefined) return -EINVAL;
    let refusal = -ENODEV;
    for (const driver of drivers) {
      if (driver.noiommu !== this.noiommu || driver.checkExtension(this.system, arg) <= 0) continue;
      const backend = driver.open(p, arg);
      const error = typeof backend === 'number' ? backend : this.#attachAll(p, backend);
      if (error === 0) return 0;
      refusal = error;
    }
    return refusal;
  }

  #attachAll(p: Process, backend: IommuBackend): number {
    const attached: VfioGroup[] = [];
    for (const group of this.groups) {
      const error = backend.attachGroup(p, group);
      if (error < 0) {
        for (const other of attached.reverse()) backend.detachGroup(p, other);
        return error;
      }
      attached.push(group);
    }
    this.backend = backend;
    return 0;
  }
}

/** An open `/dev/vfio/vfio`. Closing it leaves attached groups, and what is mapped for them, as they are. */
export class ContainerFile extends CharFile {
  readonly container: Container;

  constructor(device: CharDevice, flags: number, system: System) {
    super(device, flags);
    this.container = new Container(system);
  }

  /** Numbers the container does not know are its backend's; without one they are EINVAL. */
  override ioctl(p: Process, request: number, arg: bigint): number {
    const row = containerIoctls.rows.get(request);
    if (row !== undefined) return row.handler!(this.container, p, arg);
    return this.container.backend?.ioctl(p, request, arg) ?? -EINVAL;
  }
}

const getApiVersion: Handler<Container> = () => v.VFIO_API_VERSION;

/** What a container answers itself. */
export const containerIoctls: RequestTable<Container> = new RequestTable<Container>('vfio-container', EINVAL, {
  VFIO_GET_API_VERSION: getApiVersion,
  VFIO_CHECK_EXTENSION: (container, _p, arg) => container.checkExtension(arg),
  VFIO_SET_IOMMU: (container, p, arg) => container.setIommu(p, arg),
});
