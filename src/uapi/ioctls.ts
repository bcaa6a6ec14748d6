/** The ioctl table: one row per request and meaning. Everything that must know what a call touches reads it here. */
import type { Arch, FdKind, IoctlRow } from './ioctl-row.ts';
import { dmaBufIoctls, iommufdIoctls } from './ioctls-iommufd.ts';
import { arm64Ioctls, otherKvmIoctls, unnumberedIoctls } from './ioctls-kvm-foreign.ts';
import { kvmMachineIoctls } from './ioctls-kvm-machine.ts';
import { kvmMemoryIoctls } from './ioctls-kvm-memory.ts';
import { kvmSystemIoctls } from './ioctls-kvm-system.ts';
import { vcpuIoctls } from './ioctls-kvm-vcpu.ts';
import { vfioIoctls } from './ioctls-vfio.ts';

export type { Arch, Direction, Expression, FdKind, IoctlRow, PointerRule, Tail } from './ioctl-row.ts';
export { unnumberedIoctls };

let rows: readonly IoctlRow[] | undefined;

/** Every row, also those of other architectures. Made when first asked for: importing costs little. */
export function ioctls(): readonly IoctlRow[] {
  rows ??= [
    ...[kvmSystemIoctls(), kvmMemoryIoctls(), kvmMachineIoctls(), vcpuIoctls(), arm64Ioctls(), otherKvmIoctls()],
    ...[vfioIoctls(), iommufdIoctls(), dmaBufIoctls()],
  ].flat();
  return rows;
}

type Index = ReadonlyMap<number | string, readonly IoctlRow[]>;
const indices: Map<Arch, Index> = new Map();

/** Rows by number and by name as an architecture has them: its own before the common ones, other architectures' last. */
function indexOf(arch: Arch): Index {
  let index = indices.get(arch);
  if (index) return index;
  const made = new Map<number | string, IoctlRow[]>();
  const rank = (row: IoctlRow) => (row.arch === arch ? 0 : row.arch === undefined ? 1 : 2);
  for (const row of [...ioctls()].sort((a, b) => rank(a) - rank(b))) {
    for (const key of [row.request, row.name]) {
      const bucket = made.get(key);
      if (bucket) bucket.push(row);
      else made.set(key, [row]);
    }
  }
  index = made;
  indices.set(arch, index);
  return index;
}

const pick = (found: readonly IoctlRow[] | undefined, fd: string | undefined): IoctlRow | undefined =>
  found?.find((row) => (row.fds as readonly string[]).includes(fd as string)) ?? found?.[0];

/**
 * The row of a request word. The kind of fd decides where a number has several meanings; without one, or when that kind does
 * not take the request, it is the first that bears the number.
 */
export function ioctlByRequest(request: number, fd?: FdKind | string, arch: Arch = 'x86'): IoctlRow | undefined {
  return pick(indexOf(arch).get(request), fd);
}

/** The row of a name such as `KVM_SET_SREGS`; `fd` where the argument's rules depend on it (KVM_GET_DEVICE_ATTR). */
export function ioctlByName(name: string, fd?: FdKind | string, arch: Arch = 'x86'): IoctlRow | undefined {
  return pick(indexOf(arch).get(name), fd);
}
