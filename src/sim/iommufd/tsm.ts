import { EBADF, EEXIST, EINVAL, ENODEV, ENOENT, EOPNOTSUPP } from '../../uapi/sys.ts';
import type { iommu_vdevice_tsm_bind } from '../../uapi/tee-io/aik-v2.ts';
import type { iommu_vdevice_id } from '../../uapi/tee-io/aneesh-may25.ts';
import { IOMMU_VDEICE_TSM_BIND, IOMMU_VDEICE_TSM_UNBIND, type iommu_vdevice_tsm_map } from '../../uapi/tee-io/aneesh-v1.ts';
import type { iommu_vdevice_tsm_op } from '../../uapi/tee-io/aneesh-v5.ts';
import type { AssignedFunction } from '../assigned-function.ts';
import type { Door } from '../hardware/tsm/binding.ts';
import { isTvmFile, type Tvm } from '../hardware/tsm/tvm.ts';
import type { Call } from './call.ts';
import type { Idev } from './device.ts';
import type { Vdevice, Viommu } from './viommu.ts';

const PAGE_SHIFT = 12n;
const PAGE = 4096n;

export function vdeviceOf({ ctx }: Call, id: number): Vdevice | undefined {
  return ctx.objects.get<Vdevice>(id, 'vdevice');
}

/** The VM a vDEVICE belongs to: the one its device was opened with, or its vIOMMU was made for. */
function tvmOf({ idev, viommu }: Vdevice): Tvm | undefined {
  return idev?.assigned?.kvm ?? viommu.kvmFile?.tvm;
}

/** The binding holds vDEVICE and device where teeIo.bindRefPolicy is 'xm'. */
function bind(vdevice: Vdevice, assigned: AssignedFunction, kvm: Tvm, door: Door): number {
  const idev = vdevice.idev!;
  const wasBound = assigned.tdi?.binding !== undefined;
  const held = vdevice.viommu.ctx.system.machine.teeIo!.bindRefPolicy === 'xm' ? [vdevice, idev] : [];
  const hold = (by: 1 | -1): void => {
    for (const object of held) object.users += by;
  };
  const error = assigned.bind({
    ...{ door, kvm, virtId: vdevice.virtId },
    exclusive: door === 'vfio' || idev.exclusiveRanges,
    ended: () => hold(-1),
  });
  if (error === 0 && !wasBound) hold(1);
  return error;
}

/** RFC. What VFIO_DEVICE_TSM_BIND asks of iommufd once the BARs are claimed: the vDEVICE, that neither it nor the device is bound, its VM, the TSM. */
export function bindByVfio(idev: Idev, vdeviceId: number): number {
  const { assigned } = idev;
  const vdevice = idev.ctx.objects.get<Vdevice>(vdeviceId, 'vdevice');
  if (vdevice === undefined) return -ENOENT;
  if (vdevice.idev !== idev || assigned === undefined) return -EINVAL;
  if (assigned.tdi?.binding !== undefined) return -EEXIST;
  const kvm = tvmOf(vdevice);
  return kvm === undefined ? -ENOENT : bind(vdevice, assigned, kvm, 'vfio');
}

function unbind(assigned: AssignedFunction): number {
  assigned.unbind();
  return 0;
}

/** RFC. IOMMU_VDEVICE_TSM_OP. Version 1 makes ENODEV of whatever stands behind the id (teeIo.tsmOpErrno). */
export function tsmOp(call: Call, cmd: iommu_vdevice_tsm_op): number {
  if (cmd.flags !== 0) return -EOPNOTSUPP;
  const vdevice = vdeviceOf(call, cmd.vdevice_id);
  if (vdevice === undefined) return -ENOENT;
  const error = operate(vdevice, cmd.type);
  return error < 0 && call.p.system.machine.teeIo!.tsmOpErrno === 'v1' ? -ENODEV : error;
}

function operate(vdevice: Vdevice, type: number): number {
  const kvm = tvmOf(vdevice);
  if (kvm === undefined) return -ENODEV;
  if (type !== IOMMU_VDEICE_TSM_BIND && type !== IOMMU_VDEICE_TSM_UNBIND) return -EINVAL;
  const assigned = vdevice.idev?.assigned;
  if (assigned === undefined) return -EINVAL;
  return type === IOMMU_VDEICE_TSM_BIND ? bind(vdevice, assigned, kvm, 'iommufd') : unbind(assigned);
}

/** RFC. IOMMU_VDEVICE_TSM_BIND and _UNBIND of May 2025: an operation, a number. */
export function tsmOpOf(type: number): (call: Call, cmd: iommu_vdevice_id) => number {
  return (call, { vdevice_id }) => tsmOp(call, { size: 0, type, flags: 0, vdevice_id });
}

/** RFC. IOMMU_VDEVICE_TSM_BIND of SEV-TIO v2: all three objects by id, the VM by its descriptor. */
export function tsmBindSev(call: Call, { viommu_id, dev_id, vdevice_id, kvmfd }: iommu_vdevice_tsm_bind): number {
  const named = sevObjects(call, viommu_id, dev_id, vdevice_id);
  if (named === undefined) return -ENOENT;
  const { vdevice, idev } = named;
  if (vdevice.idev !== idev) return -EINVAL;
  if (idev.assigned?.tdi === undefined) return -ENODEV;
  const file = call.p.fds.get(kvmfd);
  if (file === undefined || !isTvmFile(file)) return -EBADF;
  return bind(vdevice, idev.assigned, file.tvm, 'iommufd');
}

/** The three lookups of SEV-TIO v2; undefined: one of them is not there. */
export function sevObjects(
  call: Call,
  viommuId: number,
  devId: number,
  vdeviceId: number,
): { readonly vdevice: Vdevice; readonly idev: Idev } | undefined {
  const { objects } = call.ctx;
  const viommu = objects.get<Viommu>(viommuId, 'viommu');
  const idev = objects.get<Idev>(devId, 'device');
  const vdevice = vdeviceOf(call, vdeviceId);
  return viommu && idev && vdevice ? { vdevice, idev } : undefined;
}

/**
 * RFC. IOMMU_VDEVICE_TSM_MAP: the pages of [start_gpa, end_gpa) are made and committed to private DMA, whatever their attribute, bound or not. Stops at the first that cannot be; those before it
 * stay.
 */
export function tsmMap(call: Call, { flags, vdevice_id, start_gpa, end_gpa }: iommu_vdevice_tsm_map): number {
  if (flags !== 0) return -EOPNOTSUPP;
  const vdevice = vdeviceOf(call, vdevice_id);
  if (vdevice === undefined) return -ENOENT;
  const kvm = tvmOf(vdevice);
  if (kvm === undefined) return -ENODEV;
  for (let gpa = start_gpa; gpa < end_gpa; gpa += PAGE) {
    const error = kvm.commit(Number(gpa >> PAGE_SHIFT));
    if (error < 0) return error;
  }
  return 0;
}
