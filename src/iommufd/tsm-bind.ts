import { oneOf } from '../kernel/arguments.ts';
import { type Descriptor, fdOf } from '../kernel/descriptor.ts';
import { NotAvailable, typeError } from '../kernel/errors.ts';
import { rfcIoctl } from '../kernel/rfc.ts';
import * as sev from '../uapi/tee-io/aik-v2.ts';
import * as may from '../uapi/tee-io/aneesh-may25.ts';
import * as v5 from '../uapi/tee-io/aneesh-v5.ts';
import type { Vdevice } from './vdevice.ts';

/** RFC: the series in which iommufd binds TDIs, each by requests of its own: IOMMU_VDEVICE_TSM_OP; IOMMU_VDEVICE_TSM_BIND and _UNBIND of May 2025; that of SEV-TIO v2. */
export type BindSeries = (typeof BIND_SERIES)[number];

const BIND_SERIES = ['aneeshV5', 'aneeshMay25', 'aikV2'] as const;

export interface TsmBindOptions {
  /** Whose request it is. Default 'aneeshV5'. Numbers of the older ones are other requests' in mainline. */
  series?: BindSeries;
  /** The VM: of 'aikV2', whose request names it. Others have it from VFIO, or from the vIOMMU. */
  vm?: Descriptor;
}

type Operation = (vdevice: Vdevice, vm: Descriptor | undefined) => void;

const operation =
  (type: number): Operation =>
  ({ iommufd, liveId: vdevice_id }) => {
    const struct = v5.iommu_vdevice_tsm_op;
    const rfc = { series: 'aneeshV5', name: 'IOMMU_VDEVICE_TSM_OP', request: v5.IOMMU_VDEVICE_TSM_OP } as const;
    rfcIoctl(iommufd, rfc, struct.encode({ size: struct.size, type, flags: 0, vdevice_id }));
  };

const ofMay =
  (name: 'IOMMU_VDEVICE_TSM_BIND' | 'IOMMU_VDEVICE_TSM_UNBIND'): Operation =>
  ({ iommufd, liveId: vdevice_id }) => {
    const rfc = { series: 'aneeshMay25', name, request: may[name], displaces: true } as const;
    rfcIoctl(iommufd, rfc, may.iommu_vdevice_id.encode({ size: may.iommu_vdevice_id.size, vdevice_id }));
  };

const bindSev: Operation = (vdevice, vm) => {
  if (vm === undefined) throw typeError("vm must be the VM: IOMMU_VDEVICE_TSM_BIND of series 'aikV2' names it");
  const struct = sev.iommu_vdevice_tsm_bind;
  const name = 'IOMMU_VDEVICE_TSM_BIND';
  const bytes = struct.encode({ size: struct.size, ...sevNames(vdevice), kvmfd: fdOf(vm, 'vm', vdevice.iommufd.kernel), pad: 0 });
  rfcIoctl(vdevice.iommufd, { series: 'aikV2', name, request: sev[name], displaces: true }, bytes);
};

/** What requests of SEV-TIO v2 name. */
export function sevNames({ liveId: vdevice_id, madeFor }: Vdevice): { viommu_id: number; dev_id: number; vdevice_id: number } {
  if (madeFor === undefined)
    throw typeError("requests of series 'aikV2' name vIOMMU and device: new Vdevice(iommufd, id, { viommu_id, dev_id })");
  return { ...madeFor, vdevice_id };
}

const binds: Readonly<Record<BindSeries, Operation>> = {
  aneeshV5: operation(v5.IOMMU_VDEVICE_TSM_BIND),
  aneeshMay25: ofMay('IOMMU_VDEVICE_TSM_BIND'),
  aikV2: bindSev,
};

const unbinds: Readonly<Record<BindSeries, Operation>> = {
  aneeshV5: operation(v5.IOMMU_VDEVICE_TSM_UNBIND),
  aneeshMay25: ofMay('IOMMU_VDEVICE_TSM_UNBIND'),
  aikV2: () => {
    throw new NotAvailable("series 'aikV2' has no request that unbinds: destroy() of the vDEVICE does");
  },
};

export function bind(vdevice: Vdevice, { series = 'aneeshV5', vm }: TsmBindOptions): void {
  binds[oneOf(series, 'series', BIND_SERIES)](vdevice, vm);
}

export function unbind(vdevice: Vdevice, series: BindSeries = 'aneeshV5'): void {
  unbinds[oneOf(series, 'series', BIND_SERIES)](vdevice, undefined);
}
