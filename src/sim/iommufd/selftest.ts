import { IOMMUFD_PAGE_RESP_INVALID } from '../../uapi/iommufd.ts';
import { type Struct, struct } from '../../uapi/struct.ts';
import { EFAULT, EINVAL, EIO, ENOENT, EOPNOTSUPP, EOVERFLOW } from '../../uapi/sys.ts';
import { PAGE_SIZE, type PageRef } from '../mm/pages.ts';
import type { Process } from '../process.ts';
import type { Call } from './call.ts';
import type { IommufdContext } from './context.ts';
import { Idev, IommufdGroup, RID } from './device.ts';
import type { ViommuState } from './driver.ts';
import type { Hwpt, HwptNested, HwptPaging } from './hw-pagetable.ts';
import type { Ioas } from './ioas.ts';
import { PAGE, U64_MAX } from './iova.ts';
import { MOCK_FLAGS_NO_DIRTY, MOCK_FLAGS_PASID, MockDevice, MockNested, VEVENTQ_TYPE } from './mock-iommu.ts';
import { IommufdObject } from './objects.ts';
import type { NumberedRow } from './row.ts';
import { accessPages, accessReplace, accessRw, createAccess, destroyAccessPages } from './selftest-access.ts';
import { dmabufGet, dmabufRevoke } from './selftest-dmabuf.ts';
import { Viommu } from './viommu.ts';

/** `struct iommu_test_cmd` of drivers/iommu/iommufd/iommufd_test.h: the union's words, each operation has its own view of. */
export interface iommu_test_cmd {
  size: number;
  op: number;
  id: number;
  __reserved: number;
  w: number[];
  last: number;
}

const iommu_test_cmd: Struct<iommu_test_cmd> = struct(
  'iommu_test_cmd',
  'struct',
  72,
  8,
  `
  0 __u32 size;
  4 __u32 op;
  8 __u32 id;
  12 __u32 __reserved;
  16 __u32 w[12];
  64 __u32 last;
`,
);

/** The words of the union as the operations read them: from byte 16 of the struct on. */
export class TestArguments {
  readonly call: Call;
  readonly id: number;
  readonly #view: DataView;

  constructor(call: Call, id: number) {
    this.call = call;
    this.id = id;
    this.#view = new DataView(call.bytes.buffer, call.bytes.byteOffset, call.bytes.length);
  }

  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }

  u64(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }

  put32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }

  put64(at: number, value: bigint): void {
    this.#view.setBigUint64(at, value, true);
  }
}

type Operation = (args: TestArguments, ctx: IommufdContext, p: Process) => number;

/** `struct selftest_obj`: a mock device, bound to the context, in a group of its own. */
class SelftestObject extends IommufdObject {
  override readonly kind = 'selftest';
  readonly idev: Idev;

  constructor(idev: Idev) {
    super();
    this.idev = idev;
  }

  override destroy(p: Process): void {
    this.idev.detach(p, RID);
    this.idev.unbind(p);
  }
}

function selftestOf(ctx: IommufdContext, id: number): SelftestObject | undefined {
  return ctx.objects.get<SelftestObject>(id, 'selftest');
}

function addReserved(args: TestArguments, ctx: IommufdContext): number {
  const [start, length] = [args.u64(16), args.u64(24)];
  if (length === 0n) return -EINVAL;
  if (start + length - 1n > U64_MAX) return -EOVERFLOW;
  const ioas = ctx.objects.get<Ioas>(args.id, 'ioas');
  return ioas === undefined ? -ENOENT : ioas.iopt.reserve(start, start + length - 1n);
}

/** Ids are taken in the order stdev, idev, hwpt. */
function mockDomain(args: TestArguments, ctx: IommufdContext, p: Process, flags = 0): number {
  if (flags & ~(MOCK_FLAGS_NO_DIRTY | MOCK_FLAGS_PASID)) return -EINVAL;
  const id = ctx.objects.reserve();
  const idev: Idev = new Idev(ctx, new IommufdGroup(), new MockDevice(flags, virtIdOf), () => {});
  function virtIdOf(viommu: ViommuState): bigint | undefined {
    return viommu instanceof Viommu && idev.vdevice?.viommu === viommu ? idev.vdevice.virtId : undefined;
  }
  const hwpt = idev.attach(p, RID, args.id);
  let error = Math.min(hwpt, 0);
  if (error === 0) {
    args.put32(16, id);
    args.put32(20, hwpt);
    args.put32(24, idev.id);
    error = args.call.respond();
  }
  if (error < 0) {
    ctx.objects.free(id);
    idev.detach(p, RID);
    idev.unbind(p);
    return error;
  }
  ctx.objects.publish(id, new SelftestObject(idev));
  return 0;
}

function mockDomainReplace(args: TestArguments, ctx: IommufdContext, p: Process): number {
  const device = selftestOf(ctx, args.id);
  if (device === undefined) return -ENOENT;
  const hwpt = device.idev.replace(p, RID, args.u32(16));
  if (hwpt < 0) return hwpt;
  args.put32(16, hwpt);
  return args.call.respond();
}

/** Whether the domain translates to the very pages the process has. */
function checkMap(args: TestArguments, ctx: IommufdContext, p: Process): number {
  const hwpt = ctx.objects.get<HwptPaging>(args.id, 'hwpt-paging');
  if (hwpt === undefined) return -ENOENT;
  const [iova, length, uptr] = [args.u64(16), args.u64(24), args.u64(32)];
  const step = hwpt.domain.minimumPage;
  if ((iova | length | uptr) & (step - 1n) || uptr + length > U64_MAX) return -EINVAL;
  for (let at = 0n; at < length; at += step) {
    // get_user_pages, of whole pages: the end of the last one there can be wraps.
    if (uptr + at > U64_MAX - PAGE) return -EOVERFLOW;
    const page = p.mm.resolve(uptr + at, false);
    if (page === null) return -EFAULT;
    const target = hwpt.domain.translate(iova + at, Number(step), false) ?? hwpt.domain.translate(iova + at, Number(step), true);
    const within = Number((uptr + at) % PAGE);
    if (target === undefined || !('page' in target) || !same(target.page, page) || target.at !== page.offset + within)
      return -EINVAL;
  }
  return 0;
}

function same(a: PageRef, b: PageRef): boolean {
  return a.buffer === b.buffer && a.offset === b.offset;
}

function checkRefs(args: TestArguments, _ctx: IommufdContext, p: Process): number {
  const [length, uptr, refs] = [args.u64(16), args.u64(24), args.u32(32)];
  if ((length | uptr) & (PAGE - 1n) || uptr + length > U64_MAX) return -EINVAL;
  for (let at = 0n; at < length; at += PAGE) {
    const count = p.mm.pinCount(uptr + at);
    if (count === null) return -EFAULT;
    // Pins of a page that is part of a larger one are not looked at.
    if (count !== refs && p.mm.vmaAt(uptr + at)!.grain === PAGE_SIZE) return -EIO;
  }
  return 0;
}

function checkIotlb(args: TestArguments, ctx: IommufdContext): number {
  const hwpt = ctx.objects.get<HwptNested>(args.id, 'hwpt-nested');
  if (hwpt === undefined) return -ENOENT;
  const { domain } = hwpt;
  return domain instanceof MockNested && domain.iotlb[args.u32(16)] === args.u32(20) ? 0 : -EINVAL;
}

function mockOf(ctx: IommufdContext, id: number): { idev: Idev; mock: MockDevice } | undefined {
  const idev = ctx.objects.get<Idev>(id, 'device');
  return idev?.ops instanceof MockDevice ? { idev, mock: idev.ops } : undefined;
}

function checkCache(args: TestArguments, ctx: IommufdContext): number {
  const device = mockOf(ctx, args.id);
  if (device === undefined) return -ENOENT;
  return device.mock.cache[args.u32(16)] === args.u32(20) ? 0 : -EINVAL;
}

/** Sets what a device would have: a dirty bit for each bit of the bitmap, where something is mapped. */
function dirty(args: TestArguments, ctx: IommufdContext, p: Process): number {
  const [iova, length, pageSize, uptr] = [args.u64(24), args.u64(32), args.u64(40), args.u64(48)];
  if (pageSize === 0n || length === 0n || uptr === 0n || iova % pageSize !== 0n || length % pageSize !== 0n) return -EINVAL;
  const bits = length / pageSize;
  if (bits > 1n << 27n) return -EOVERFLOW;
  const hwpt = ctx.objects.get<HwptPaging>(args.id, 'hwpt-paging');
  if (hwpt === undefined) return -ENOENT;
  if (!hwpt.domain.tracking) return -EINVAL;
  const bitmap = p.mm.copyFrom(uptr, Math.ceil(Number(bits) / 64) * 8);
  if (bitmap === null) return -EFAULT;
  let count = 0;
  for (let bit = 0; bit < Number(bits); bit++) {
    if (((bitmap[bit >> 3]! >> (bit & 7)) & 1) === 0) continue;
    hwpt.domain.mark(iova + BigInt(bit) * pageSize);
    count++;
  }
  args.put64(56, BigInt(count));
  return args.call.respond();
}

/** A page request of the device: always the last of its group. Whether anybody can answer it is not told. */
function triggerIopf(args: TestArguments, ctx: IommufdContext): number {
  const idev = ctx.objects.get<Idev>(args.u32(16), 'device');
  if (idev === undefined) return -ENOENT;
  const pasid = args.u32(20);
  idev.faults.report(
    { ...(pasid === 0 ? {} : { pasid }), grpid: args.u32(24), perm: args.u32(28), addr: args.u64(32), last: true },
    () => {},
    IOMMUFD_PAGE_RESP_INVALID,
  );
  return 0;
}

function triggerVevent(args: TestArguments, ctx: IommufdContext): number {
  const device = mockOf(ctx, args.u32(16));
  if (device === undefined) return -ENOENT;
  const { viommu, virtId } = device.mock;
  if (!(viommu instanceof Viommu) || virtId === 0n) return -ENOENT;
  const queue = viommu.veventqs.get(VEVENTQ_TYPE);
  if (queue === undefined) return -EOPNOTSUPP;
  queue.report(new Uint8Array(Uint32Array.of(Number(BigInt.asUintN(32, virtId))).buffer));
  return 0;
}

const pasidChange =
  (how: 'attach' | 'replace'): Operation =>
  (args, ctx, p) => {
    const device = selftestOf(ctx, args.id);
    if (device === undefined) return -ENOENT;
    const pasid = args.u32(16);
    const hwpt = device.idev[how](p, pasid, args.u32(20));
    if (hwpt < 0) return hwpt;
    args.put32(20, hwpt);
    const error = args.call.respond();
    if (error < 0 && how === 'attach') device.idev.detach(p, pasid);
    return error;
  };

function pasidDetach(args: TestArguments, ctx: IommufdContext, p: Process): number {
  const device = selftestOf(ctx, args.id);
  if (device === undefined) return -ENOENT;
  device.idev.detach(p, args.u32(16));
  return 0;
}

function pasidCheckHwpt(args: TestArguments, ctx: IommufdContext): number {
  const device = selftestOf(ctx, args.id);
  if (device === undefined) return -ENOENT;
  const attached = device.idev.group.attachments.get(args.u32(16))?.hwpt;
  const id = args.u32(20);
  if (id === 0) return attached === undefined ? 0 : -EINVAL;
  const hwpt = ctx.objects.any(id);
  if (hwpt === undefined) return -ENOENT;
  return (hwpt as Hwpt) === attached ? 0 : -EINVAL;
}

/** What batches are limited to inside the kernel: nothing to see from outside. */
const setTempMemoryLimit: Operation = (args) => (args.u32(16) < 12 ? -EINVAL : 0);

/** IOMMU_TEST_OP_*. */
const operations: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [1, addReserved],
  [2, (args, ctx, p) => mockDomain(args, ctx, p)],
  [3, checkMap],
  [4, checkRefs],
  [5, createAccess],
  [6, destroyAccessPages],
  [7, accessPages],
  [8, accessRw],
  [9, setTempMemoryLimit],
  [10, mockDomainReplace],
  [11, accessReplace],
  [12, (args, ctx, p) => mockDomain(args, ctx, p, args.u32(28))],
  [13, dirty],
  [14, checkIotlb],
  [15, triggerIopf],
  [16, checkCache],
  [17, triggerVevent],
  [18, pasidChange('attach')],
  [19, pasidChange('replace')],
  [20, pasidDetach],
  [21, pasidCheckHwpt],
  [22, dmabufGet],
  [23, dmabufRevoke],
]);

/** IOMMU_TEST_CMD, of kernels built with CONFIG_IOMMUFD_TEST. */
export const testCommand: NumberedRow = {
  name: 'IOMMU_TEST_CMD',
  request: 0x3ba0,
  struct: iommu_test_cmd as Struct<unknown>,
  least: 68,
  handler: (call: Call, cmd: iommu_test_cmd) =>
    operations.get(cmd.op)?.(new TestArguments(call, cmd.id), call.ctx, call.p) ?? -EOPNOTSUPP,
};
