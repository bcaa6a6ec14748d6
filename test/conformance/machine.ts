/** What cases build their scenes from: descriptors, a memslot, a guest. Plain system calls, so that a case shows what it asks for. */
import type { IoctlOptions, Kernel, Memory } from 'kvio';
import {
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_MSRS,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_USER_MEMORY_REGION,
  KVM_SET_USER_MEMORY_REGION2,
  kvm_regs,
  kvm_run,
  kvm_sregs,
  kvm_userspace_memory_region,
  kvm_userspace_memory_region2,
} from 'kvio/uapi';

export const PAGE = 0x1000n;
/** The size of a vCPU's mapping: kvm_run, the PIO data page, the coalesced MMIO ring. */
export const RUN_SIZE = 0x3000;
export const UNSAFE: IoctlOptions = { unsafe: true };

export type Regs = ReturnType<typeof kvm_regs.decode>;
export type Sregs = ReturnType<typeof kvm_sregs.decode>;

export function openKvm(kernel: Kernel): number {
  return kernel.open('/dev/kvm');
}

/** A VM of the default type, with the system descriptor closed again. */
export function newVm(kernel: Kernel): number {
  const kvm = openKvm(kernel);
  const vm = kernel.ioctl(kvm, KVM_CREATE_VM, 0);
  kernel.close(kvm);
  return vm;
}

export function newVcpu(kernel: Kernel, id = 0): { vm: number; vcpu: number } {
  const vm = newVm(kernel);
  return { vm, vcpu: kernel.ioctl(vm, KVM_CREATE_VCPU, id) };
}

export function mapRun(kernel: Kernel, vcpu: number): Memory {
  return kernel.mmap({ length: RUN_SIZE, fd: vcpu });
}

/** The fields of struct kvm_run, by name, on a mapping of it. */
export class RunPage {
  readonly memory: Memory;
  readonly #view: DataView;

  constructor(memory: Memory) {
    this.memory = memory;
    const bytes = memory.bytes!;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get bytes(): Uint8Array {
    return this.memory.bytes!;
  }

  get(field: string): number | bigint {
    const { offset, size } = place(field);
    if (size === 1) return this.#view.getUint8(offset);
    if (size === 2) return this.#view.getUint16(offset, true);
    if (size === 4) return this.#view.getUint32(offset, true);
    return this.#view.getBigUint64(offset, true);
  }

  set(field: string, value: number | bigint): void {
    const { offset, size } = place(field);
    if (size === 1) this.#view.setUint8(offset, Number(value));
    else if (size === 2) this.#view.setUint16(offset, Number(value), true);
    else if (size === 4) this.#view.setUint32(offset, Number(value), true);
    else this.#view.setBigUint64(offset, BigInt(value), true);
  }

  /** A copy of bytes of the page: `offset` from its start. */
  slice(offset: number, length: number): Uint8Array {
    return Uint8Array.from(this.bytes.subarray(offset, offset + length));
  }
}

const places = new Map<string, { offset: number; size: number }>();

function place(field: string): { offset: number; size: number } {
  let found = places.get(field);
  if (!found) places.set(field, (found = { offset: kvm_run.offsetOf(field), size: kvm_run.sizeOf(field) }));
  return found;
}

export interface Region {
  slot?: number;
  flags?: number;
  guest_phys_addr?: bigint;
  memory_size?: bigint;
  userspace_addr?: bigint;
}

/** KVM_SET_USER_MEMORY_REGION; pointers are not guarded, since most cases name addresses no memory has. */
export function setRegion(kernel: Kernel, vm: number, region: Region): number {
  const bytes = kvm_userspace_memory_region.encode({ ...emptyRegion, ...region });
  return kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION, bytes, UNSAFE);
}

/** KVM_SET_USER_MEMORY_REGION2. */
export function setRegion2(
  kernel: Kernel,
  vm: number,
  region: Region & { guest_memfd?: number; guest_memfd_offset?: bigint },
): number {
  const bytes = kvm_userspace_memory_region2.encode({ ...emptyRegion, guest_memfd: 0, guest_memfd_offset: 0n, ...region });
  return kernel.ioctl(vm, KVM_SET_USER_MEMORY_REGION2, bytes, UNSAFE);
}

const emptyRegion: Required<Region> = { slot: 0, flags: 0, guest_phys_addr: 0n, memory_size: 0n, userspace_addr: 0n };

/** Guest RAM at `gpa`, as memslot `slot`. */
export function addRam(kernel: Kernel, vm: number, slot: number, gpa: bigint, length: number, flags = 0): Memory {
  const ram = kernel.guestRam(length);
  setRegion(kernel, vm, { slot, flags, guest_phys_addr: gpa, memory_size: BigInt(length), userspace_addr: ram.address });
  return ram;
}

export function getRegs(kernel: Kernel, vcpu: number): Regs {
  const bytes = kvm_regs.alloc();
  kernel.ioctl(vcpu, KVM_GET_REGS, bytes);
  return kvm_regs.decode(bytes);
}

export function setRegs(kernel: Kernel, vcpu: number, change: Partial<Regs>): number {
  return kernel.ioctl(vcpu, KVM_SET_REGS, kvm_regs.encode({ ...getRegs(kernel, vcpu), ...change }));
}

export function getSregs(kernel: Kernel, vcpu: number): Sregs {
  const bytes = kvm_sregs.alloc();
  kernel.ioctl(vcpu, KVM_GET_SREGS, bytes);
  return kvm_sregs.decode(bytes);
}

/** KVM_SET_SREGS with the current values, changed by `edit`. */
export function setSregs(kernel: Kernel, vcpu: number, edit: (sregs: Sregs) => void): number {
  const sregs = getSregs(kernel, vcpu);
  edit(sregs);
  return kernel.ioctl(vcpu, KVM_SET_SREGS, kvm_sregs.encode(sregs));
}

/** struct kvm_msrs as bytes: `nmsrs` is what is claimed, `entries` what is there. */
export function msrBytes(
  entries: readonly { index: number; data?: bigint; reserved?: number }[],
  nmsrs: number = entries.length,
  room = 0,
): Uint8Array {
  const bytes = new Uint8Array(8 + 16 * Math.max(entries.length, room));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, nmsrs, true);
  for (const [at, entry] of entries.entries()) {
    view.setUint32(8 + 16 * at, entry.index, true);
    view.setUint32(12 + 16 * at, entry.reserved ?? 0, true);
    view.setBigUint64(16 + 16 * at, entry.data ?? 0n, true);
  }
  return bytes;
}

export function msrData(bytes: Uint8Array, at: number): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(16 + 16 * at, true);
}

/** KVM_GET_MSRS of one MSR: its value, or undefined where the kernel stopped at it. */
export function getMsr(kernel: Kernel, fd: number, index: number): bigint | undefined {
  const bytes = msrBytes([{ index }]);
  return kernel.ioctl(fd, KVM_GET_MSRS, bytes) === 1 ? msrData(bytes, 0) : undefined;
}

/** KVM_SET_MSRS of one MSR: the count, 1 or 0. */
export function setMsr(kernel: Kernel, fd: number, index: number, data: bigint): number {
  return kernel.ioctl(fd, KVM_SET_MSRS, msrBytes([{ index, data }]));
}

export interface CpuidEntry {
  function: number;
  index?: number;
  flags?: number;
  eax?: number;
  ebx?: number;
  ecx?: number;
  edx?: number;
  padding?: number;
}

/** struct kvm_cpuid2 as bytes, with room for `room` entries. */
export function cpuidBytes(
  entries: readonly CpuidEntry[],
  nent: number = entries.length,
  room: number = entries.length,
): Uint8Array {
  const bytes = new Uint8Array(8 + 40 * Math.max(room, entries.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, nent, true);
  for (const [at, entry] of entries.entries()) {
    const fields = [entry.function, entry.index, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx, entry.padding];
    for (const [column, value] of fields.entries()) view.setUint32(8 + 40 * at + 4 * column, value ?? 0, true);
  }
  return bytes;
}

export function cpuidEntries(bytes: Uint8Array): Required<Omit<CpuidEntry, 'padding'>>[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: view.getUint32(0, true) }, (_, at) => {
    const [fn, index, flags, eax, ebx, ecx, edx] = Array.from({ length: 7 }, (_, column) =>
      view.getUint32(8 + 40 * at + 4 * column, true),
    );
    return { function: fn!, index: index!, flags: flags!, eax: eax!, ebx: ebx!, ecx: ecx!, edx: edx! };
  });
}

export function u32(bytes: Uint8Array, offset = 0): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
}

export function withU32(value: number, length = 4): Uint8Array {
  const bytes = new Uint8Array(length);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
