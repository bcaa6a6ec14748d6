import type { iommu_hw_queue_alloc, iommu_vdevice_alloc, iommu_veventq_alloc, iommu_viommu_alloc } from '../../uapi/iommufd.ts';
import { EBADF, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, EOPNOTSUPP, EOVERFLOW, ERANGE } from '../../uapi/sys.ts';
import { IOMMU_VIOMMU_KVM_FD } from '../../uapi/tee-io/aneesh-v1.ts';
import type { Backing } from '../file.ts';
import { isTvmFile, type TvmFile } from '../hardware/tsm/tvm.ts';
import type { PageRef } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import { Access, type AccessPins } from './access.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import type { Idev } from './device.ts';
import type { PagingDomain } from './domain.ts';
import type { IommuOps, ReadyQueue, ViommuOps, ViommuState } from './driver.ts';
import { installQueue } from './fault-queue.ts';
import type { HwptPaging } from './hw-pagetable.ts';
import { lastOf, PAGE, U64_MAX } from './iova.ts';
import { IommufdObject } from './objects.ts';
import { openVeventq, Veventq } from './veventq.ts';

/** What kvmalloc gives at most, and an entry of an array of pages. */
const INT_MAX = 0x7fff_ffffn;
const POINTER = 8n;

/** IOMMU_VEVENTQ_ALLOC's depth at most. */
const MAX_DEPTH = 1 << 19;

/** `struct iommufd_viommu`: the slice of an IOMMU that a VM has, over the page table of its memory. */
export class Viommu extends IommufdObject implements ViommuState {
  override readonly kind = 'viommu';
  readonly ctx: IommufdContext;
  readonly type: number;
  readonly iommu: object;
  readonly hwpt: HwptPaging;
  readonly ops: ViommuOps;
  readonly vdevices: Map<bigint, Vdevice> = new Map();
  readonly veventqs: Map<number, Veventq> = new Map();
  readonly queues: Map<number, HwQueue> = new Map();
  /** RFC: the VM it was made for (IOMMU_VIOMMU_KVM_FD), held as a file. */
  kvmFile: TvmFile | undefined;
  /** The driver has made its part. */
  ready = false;

  constructor(ctx: IommufdContext, type: number, iommu: object, hwpt: HwptPaging, ops: ViommuOps) {
    super();
    this.ctx = ctx;
    this.type = type;
    this.iommu = iommu;
    this.hwpt = hwpt;
    this.ops = ops;
    hwpt.users++;
  }

  offer(backing: Backing, length: number): bigint {
    return this.ctx.regions.add(this, length, backing);
  }

  get parent(): PagingDomain {
    return this.hwpt.domain;
  }

  vdevice(virtId: bigint): IommuOps | undefined {
    return this.vdevices.get(virtId)?.idev?.ops;
  }

  virtIdOf(is: (device: IommuOps) => boolean): bigint | undefined {
    return [...this.vdevices.values()].find(({ idev }) => idev !== undefined && is(idev.ops))?.virtId;
  }

  report(type: number, payload: Uint8Array): void {
    this.veventqs.get(type)?.report(payload);
  }

  override destroy(p: Process): void {
    if (this.ready) this.ops.destroy?.(this);
    this.ctx.regions.remove(this);
    this.hwpt.users--;
    this.kvmFile?.unref(p);
  }
}

/** `struct iommufd_vdevice`: a device under the id a VM knows it by. */
export class Vdevice extends IommufdObject {
  override readonly kind = 'vdevice';
  readonly viommu: Viommu;
  readonly virtId: bigint;
  idev: Idev | undefined;
  readonly #gone: (() => void) | undefined;

  /** `gone`: the driver takes back what it gave it. */
  constructor(viommu: Viommu, idev: Idev, virtId: bigint, gone?: () => void) {
    super();
    this.viommu = viommu;
    this.idev = idev;
    this.virtId = virtId;
    this.#gone = gone;
    viommu.users++;
    viommu.vdevices.set(virtId, this);
    idev.vdevice = this;
  }

  /** Its device is unbound: only the id is left, which nobody else shall have. */
  bury(p: Process): void {
    this.destroy(p);
    this.viommu.ctx.objects.bury(this.id);
  }

  override destroy(_p: Process): void {
    this.#unbind();
    this.#gone?.();
    if (this.idev !== undefined) this.idev.vdevice = undefined;
    this.idev = undefined;
    this.viommu.vdevices.delete(this.virtId);
    this.viommu.users--;
  }

  /** RFC: a TDI that was bound by its vDEVICE's id does not stay so without it. The KVM-VFIO device knows of none. */
  #unbind(): void {
    const { assigned } = this.idev ?? {};
    if (assigned?.tdi?.binding?.door !== 'kvm-vfio') assigned?.unbind();
  }
}

/** `struct iommufd_hw_queue`: memory of the VM that the hardware reads itself. What it lies in stays mapped. */
export class HwQueue extends IommufdObject {
  override readonly kind = 'hw-queue';
  readonly viommu: Viommu;
  readonly index: number;
  readonly dependsOn: HwQueue | undefined;
  readonly #access: Access;
  readonly #pins: AccessPins;
  readonly #ready: ReadyQueue;

  constructor(viommu: Viommu, index: number, access: Access, pins: AccessPins, ready: ReadyQueue) {
    super();
    const dependsOn = ready.dependsOn === undefined ? undefined : viommu.queues.get(ready.dependsOn);
    this.viommu = viommu;
    this.index = index;
    this.dependsOn = dependsOn;
    this.#access = access;
    this.#pins = pins;
    this.#ready = ready;
    viommu.users++;
    viommu.queues.set(index, this);
    if (dependsOn !== undefined) dependsOn.users++;
    for (const { area } of pins.pins) area.locks++;
  }

  override destroy(p: Process): void {
    this.#ready.destroy?.();
    if (this.dependsOn !== undefined) this.dependsOn.users--;
    this.viommu.queues.delete(this.index);
    for (const { area } of this.#pins.pins) area.locks--;
    this.#access.unpin(this.#pins);
    this.#access.close(p);
    this.viommu.users--;
  }
}

/** RFC: with the VM it is for. */
type ViommuAlloc = iommu_viommu_alloc & { readonly kvm_vm_fd?: number };

/** IOMMU_VIOMMU_ALLOC. `__reserved` is not looked at. */
export function viommuAlloc(call: Call, cmd: ViommuAlloc): number {
  const { ctx, p } = call;
  const { objects } = ctx;
  const flags = p.system.machine.teeIo === undefined ? 0 : IOMMU_VIOMMU_KVM_FD;
  if ((cmd.flags & ~flags) !== 0 || cmd.type === 0) return -EOPNOTSUPP;
  const idev = objects.get<Idev>(cmd.dev_id, 'device');
  if (idev === undefined) return -ENOENT;
  const ops = idev.ops.viommuOps?.(cmd.type);
  if (ops === undefined) return -EOPNOTSUPP;
  const id = objects.reserve();
  const viommu = makeViommu(call, cmd, idev, ops);
  if (typeof viommu === 'number') {
    objects.free(id);
    return viommu;
  }
  cmd.out_viommu_id = id;
  const error = call.respond();
  if (error < 0) {
    objects.free(id);
    viommu.destroy(p);
    return error;
  }
  objects.publish(id, viommu);
  return 0;
}

function makeViommu({ ctx, p }: Call, cmd: ViommuAlloc, idev: Idev, ops: ViommuOps): Viommu | number {
  const hwpt = ctx.objects.get<HwptPaging>(cmd.hwpt_id, 'hwpt-paging');
  if (hwpt === undefined) return -ENOENT;
  if (!hwpt.nestParent) return -EINVAL;
  const viommu = new Viommu(ctx, cmd.type, idev.ops.iommu, hwpt, ops);
  const data = cmd.data_len === 0 ? undefined : { type: cmd.type, uptr: cmd.data_uptr, length: cmd.data_len };
  let error = ops.init?.(p, viommu, data) ?? 0;
  viommu.ready = error === 0;
  error ||= takeKvm(p, viommu, cmd);
  if (error === 0) return viommu;
  viommu.destroy(p);
  return error;
}

function takeKvm(p: Process, viommu: Viommu, { flags, kvm_vm_fd = -1 }: ViommuAlloc): number {
  if ((flags & IOMMU_VIOMMU_KVM_FD) === 0) return 0;
  const file = p.fds.get(kvm_vm_fd);
  if (file === undefined || !isTvmFile(file)) return -EBADF;
  viommu.kvmFile = file.ref();
  return 0;
}

/** IOMMU_VDEVICE_ALLOC. */
export function vdeviceAlloc(call: Call, cmd: iommu_vdevice_alloc): number {
  const { objects } = call.ctx;
  const viommu = objects.get<Viommu>(cmd.viommu_id, 'viommu');
  const idev = objects.get<Idev>(cmd.dev_id, 'device');
  if (viommu === undefined || idev === undefined) return -ENOENT;
  if (viommu.iommu !== idev.ops.iommu) return -EINVAL;
  if (idev.vdevice !== undefined || viommu.vdevices.has(cmd.virt_id)) return -EEXIST;
  if (ofTwoVms(viommu, idev)) return -EINVAL;
  const gone = viommu.ops.initVdevice?.(viommu, idev.ops, cmd.virt_id);
  if (typeof gone === 'number') return gone;
  const id = objects.reserve();
  const vdevice = new Vdevice(viommu, idev, cmd.virt_id, gone);
  cmd.out_vdevice_id = id;
  const error = call.respond();
  if (error < 0) {
    objects.free(id);
    vdevice.destroy(call.p);
    return error;
  }
  objects.publish(id, vdevice);
  return 0;
}

/** RFC: the device was opened with another VM than its vIOMMU is for. */
function ofTwoVms({ kvmFile }: Viommu, { assigned }: Idev): boolean {
  return kvmFile !== undefined && assigned?.kvm !== undefined && kvmFile.tvm !== assigned.kvm;
}

/** IOMMU_VEVENTQ_ALLOC. Any type will do: one that never occurs leaves the queue empty. */
export function veventqAlloc(call: Call, cmd: iommu_veventq_alloc): number {
  const { ctx } = call;
  if (cmd.flags !== 0 || cmd.__reserved !== 0 || cmd.type === 0) return -EOPNOTSUPP;
  if (cmd.veventq_depth === 0 || cmd.veventq_depth > MAX_DEPTH) return -EINVAL;
  const viommu = ctx.objects.get<Viommu>(cmd.viommu_id, 'viommu');
  if (viommu === undefined) return -ENOENT;
  if (viommu.veventqs.has(cmd.type)) return -EEXIST;
  const queue = new Veventq(viommu, cmd.type, cmd.veventq_depth);
  return installQueue(
    call,
    queue,
    () => openVeventq(ctx, queue),
    (id, fd) => {
      cmd.out_veventq_id = id;
      cmd.out_veventq_fd = fd;
    },
  );
}

/** IOMMU_HW_QUEUE_ALLOC. Takes two ids: the queue's, and that of the access by which it holds the memory. */
export function hwQueueAlloc(call: Call, cmd: iommu_hw_queue_alloc): number {
  const { ctx, p } = call;
  const { objects } = ctx;
  const { nesting_parent_iova: iova, length, index } = cmd;
  if (cmd.flags !== 0 || cmd.type === 0) return -EOPNOTSUPP;
  if (length === 0n) return -EINVAL;
  if (lastOf(iova, length) === undefined) return -EOVERFLOW;
  const viommu = objects.get<Viommu>(cmd.viommu_id, 'viommu');
  if (viommu === undefined) return -ENOENT;
  if (viommu.ops.queueTypes?.has(cmd.type) !== true) return -EOPNOTSUPP;
  const id = objects.reserve();
  const queue = makeQueue(ctx, p, viommu, { index, iova, length });
  if (typeof queue === 'number') {
    objects.free(id);
    return queue;
  }
  cmd.out_hw_queue_id = id;
  const error = call.respond();
  if (error < 0) {
    objects.free(id);
    queue.destroy(p);
    return error;
  }
  objects.publish(id, queue);
  return 0;
}

/** iommufd_hw_queue_alloc_phys, and the driver's part. */
function makeQueue(
  ctx: IommufdContext,
  p: Process,
  viommu: Viommu,
  { index, iova, length }: { index: number; iova: bigint; length: bigint },
): HwQueue | number {
  const first = iova - (iova % PAGE);
  const span = ((iova + length - 1n - first) / PAGE + 1n) * PAGE;
  if (span > U64_MAX) return -ERANGE;
  if ((span / PAGE) * POINTER > INT_MAX) return -ENOMEM;
  const access = new Access(ctx, true);
  const undo = (error: number, pins?: AccessPins): number => {
    if (pins !== undefined) access.unpin(pins);
    access.close(p);
    return error;
  };
  const attached = access.attach(viommu.hwpt.ioas.id);
  if (attached < 0) return undo(attached);
  const pins = access.pin(first, span, false);
  if (typeof pins === 'number') return undo(pins);
  const piece = contiguous(pins);
  if (piece === undefined) return undo(-EFAULT, pins);
  const [{ area, first: head }] = pins.pins as [AccessPins['pins'][number]];
  const page = (at: number): PageRef => area.pages.pinned(head + at)!;
  const made = viommu.ops.initQueue?.(viommu, { index, length, address: piece + (iova - first), page }) ?? -EOPNOTSUPP;
  return typeof made === 'number' ? undo(made, pins) : new HwQueue(viommu, index, access, pins, made);
}

/** Next to each other in physical memory: here, where an object keeps them so. Where the first one is in that piece; undefined: they are not. */
function contiguous({ pages, pins }: AccessPins): bigint | undefined {
  const [head] = pins;
  if (head === undefined) return 0n;
  const run = head.area.pages.run(head.first);
  const together = pages.length === 1 || (pins.length === 1 && run.first + run.count > head.last);
  return together ? BigInt(head.first - run.first) * PAGE : undefined;
}
