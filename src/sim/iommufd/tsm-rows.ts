import { IOMMU_VIOMMU_ALLOC } from '../../uapi/iommufd.ts';
import { struct } from '../../uapi/struct.ts';
import { ENOENT, ENOTTY, ENXIO } from '../../uapi/sys.ts';
import * as sev from '../../uapi/tee-io/aik-v2.ts';
import * as june from '../../uapi/tee-io/aneesh-jun26.ts';
import * as may from '../../uapi/tee-io/aneesh-may25.ts';
import * as v1 from '../../uapi/tee-io/aneesh-v1.ts';
import * as v5 from '../../uapi/tee-io/aneesh-v5.ts';
import { IOMMU_IOAS_NOIOMMU_GET_PA } from '../../uapi/tee-io/noiommu.ts';
import * as tdisp from '../../uapi/tee-io/xu-may25.ts';
import type { TeeIo, TeeIoDialect } from '../hardware/tsm/switches.ts';
import type { System } from '../system.ts';
import { type NumberedRow, numbered } from './row.ts';
import { tsmBindSev, tsmMap, tsmOp, tsmOpOf } from './tsm.ts';
import { operationRequest, scopedRequest, sevRequest, typedRequest } from './tsm-request.ts';
import { viommuAlloc } from './viommu.ts';

/** Only its number is known: whatever the caller has behind the size may be its struct. */
const unknown = struct<{ size: number }>('iommu_ioas_noiommu_get_pa', 'struct', 256, 4, '0 __u32 size;');

/** The request 0x96, or one higher, by the layout it has. */
const requests: Readonly<Record<TeeIo['tsmReqLayout'], (request: number) => NumberedRow>> = {
  type48: (request) =>
    numbered(request, 'IOMMU_VDEVICE_TSM_GUEST_REQUEST', v1.iommu_vdevice_tsm_guest_request, 'resp_uptr', typedRequest(ENXIO)),
  scope40: (request) => numbered(request, 'IOMMU_VDEVICE_TSM_REQ', v5.iommu_vdevice_tsm_req, 'resp_uptr', scopedRequest),
  op48: (request) => numbered(request, 'IOMMU_VDEVICE_TSM_REQ', june.iommu_vdevice_tsm_req, 'tsm_code', operationRequest),
};

/** What older series displace. */
const dialects: Readonly<Record<TeeIoDialect, readonly NumberedRow[]>> = {
  'aik-v1': [],
  'aik-v2': [
    numbered(sev.IOMMU_VDEVICE_TSM_BIND, 'IOMMU_VDEVICE_TSM_BIND', sev.iommu_vdevice_tsm_bind, 'pad', tsmBindSev),
    numbered(
      sev.IOMMU_VDEVICE_TSM_GUEST_REQUEST,
      'IOMMU_VDEVICE_TSM_GUEST_REQUEST',
      sev.iommu_vdevice_tsm_guest_request,
      'fw_err',
      sevRequest,
    ),
  ],
  'xu-may25': [
    numbered(
      tdisp.IOMMU_VDEVICE_TSM_GUEST_REQUEST,
      'IOMMU_VDEVICE_TSM_GUEST_REQUEST',
      tdisp.iommu_vdevice_tsm_guest_request,
      'resp_uptr',
      typedRequest(ENOENT),
    ),
  ],
  'aneesh-may25': [
    numbered(may.IOMMU_VDEVICE_TSM_BIND, 'IOMMU_VDEVICE_TSM_BIND', may.iommu_vdevice_id, 'vdevice_id', tsmOpOf(1)),
    numbered(may.IOMMU_VDEVICE_TSM_UNBIND, 'IOMMU_VDEVICE_TSM_UNBIND', may.iommu_vdevice_id, 'vdevice_id', tsmOpOf(2)),
  ],
};

/** RFC. The requests of confidential device assignment: those in a later row take the place of earlier ones and of mainline's. */
export function tsmRows({ tsmReqLayout, noiommuGetPa, dialects: spoken }: TeeIo): readonly NumberedRow[] {
  const shift = noiommuGetPa ? 1 : 0;
  return [
    numbered(IOMMU_VIOMMU_ALLOC, 'IOMMU_VIOMMU_ALLOC', v1.iommu_viommu_alloc, 'out_viommu_id', viommuAlloc),
    numbered(v5.IOMMU_VDEVICE_TSM_OP + shift, 'IOMMU_VDEVICE_TSM_OP', v5.iommu_vdevice_tsm_op, 'vdevice_id', tsmOp),
    requests[tsmReqLayout](v5.IOMMU_VDEVICE_TSM_REQ + shift),
    noiommuGetPa
      ? numbered(IOMMU_IOAS_NOIOMMU_GET_PA, 'IOMMU_IOAS_NOIOMMU_GET_PA', unknown, 'size', ({ p }) =>
          p.system.notModelled('IOMMU_IOAS_NOIOMMU_GET_PA', -ENOTTY),
        )
      : numbered(v1.IOMMU_VDEVICE_TSM_MAP, 'IOMMU_VDEVICE_TSM_MAP', v1.iommu_vdevice_tsm_map, 'vdevice_id', tsmMap),
    ...spoken.flatMap((dialect) => dialects[dialect]),
  ];
}

export function coverTsm({ coverage, machine: { teeIo } }: System): void {
  if (teeIo === undefined) return;
  const known = tsmRows(teeIo).filter(({ struct: layout }) => layout !== unknown);
  for (const { name } of known) coverage.add('RFC ioctl', `${name} (iommufd)`);
  coverage.add('RFC ioctl', 'IOMMU_VIOMMU_ALLOC (iommufd)', 'vIOMMUs of real IOMMUs are ids: no nested tables, events or queues');
  coverage.add('RFC option', 'IOMMU_OPTION_EXCLUSIVE_RANGES', 'who else maps BARs of the host (/dev/mem) is not modelled');
  if (teeIo.noiommuGetPa) coverage.add('absent ioctl', 'IOMMU_IOAS_NOIOMMU_GET_PA (iommufd)', 'only its number is known');
  if (teeIo.pinnedGuestMemfd)
    coverage.add('RFC ioctl', 'IOMMU_IOAS_MAP_FILE of a guest_memfd (iommufd)', 'discussed, never posted');
}
