// VMs with private memory on a machine with confidential device assignment, dma-bufs whose exporter a test plays, vCPUs whose guest is a script.
import type { Memory } from '../../../src/kernel/memory.ts';
import type { AssignedTdi, DmaBufExporter, DmaBufPlace } from '../../../src/sim/dma-buf.ts';
import { DmaBufFile } from '../../../src/sim/dma-buf.ts';
import type { GuestAgent, TeeIo } from '../../../src/sim/index.ts';
import type { Vm, VmFile } from '../../../src/sim/kvm/vm.ts';
import { teeIo } from '../../../src/uapi/index.ts';
import { ENODEV, O_RDWR } from '../../../src/uapi/sys.ts';
import { Kit, named, u } from '../kvm/kit.ts';

export { named, u };
export const { KVM_MEM_VFIO_DMABUF } = teeIo.xuMay25;
export const PRIVATE = u.KVM_MEMORY_ATTRIBUTE_PRIVATE;
export const MMIO = 0xe000_0000n;

export class TeeKit extends Kit {
  constructor(switches: Partial<TeeIo> | 'off' = {}) {
    super({ machine: 'tee-io-7.2', teeIo: switches });
  }

  override vm(type: number = u.KVM_X86_SW_PROTECTED_VM): number {
    return this.kernel.ioctl(this.kvm, u.KVM_CREATE_VM, type);
  }

  vmOf(fd: number): Vm {
    return (this.kernel.process.fds.get(fd) as VmFile).vm;
  }

  region2(vm: number, change: Partial<u.kvm_userspace_memory_region2>): number | string {
    const region = {
      slot: 0,
      flags: 0,
      guest_phys_addr: MMIO,
      memory_size: 0x4000n,
      userspace_addr: 0n,
      guest_memfd_offset: 0n,
      guest_memfd: 0,
      ...change,
    };
    return this.io(vm, u.KVM_SET_USER_MEMORY_REGION2, u.kvm_userspace_memory_region2.encode(region));
  }

  /** A slot of a dma-buf. */
  mmioSlot(vm: number, dmaBuf: DmaBufDouble, change: Partial<u.kvm_userspace_memory_region2> = {}): number | string {
    return this.region2(vm, { flags: KVM_MEM_VFIO_DMABUF, guest_memfd: dmaBuf.fd, memory_size: dmaBuf.file.size, ...change });
  }

  /** Private memory of `pages` pages at 0; shared memory there as well. */
  ram(vm: number, pages = 4): { readonly gmem: number; readonly shared: Memory } {
    const size = BigInt(pages) * 4096n;
    const gmem = this.kernel.ioctl(
      vm,
      u.KVM_CREATE_GUEST_MEMFD,
      u.kvm_create_guest_memfd.encode({ size, flags: 0n, reserved: [0n, 0n, 0n, 0n, 0n, 0n] }),
    );
    const shared = this.kernel.guestRam(size);
    const slot = {
      slot: 1,
      flags: u.KVM_MEM_GUEST_MEMFD,
      guest_phys_addr: 0n,
      memory_size: size,
      userspace_addr: shared.address,
      guest_memfd: gmem,
    };
    if (this.region2(vm, slot) !== 0) throw new Error('no slot');
    return { gmem, shared };
  }

  attributes(vm: number, address: bigint, size: bigint, attributes: bigint): number | string {
    return this.io(vm, u.KVM_SET_MEMORY_ATTRIBUTES, u.kvm_memory_attributes.encode({ address, size, attributes, flags: 0n }));
  }

  preFault(vcpu: number, gpa: bigint, size: bigint): number | string {
    return this.io(
      vcpu,
      u.KVM_PRE_FAULT_MEMORY,
      u.kvm_pre_fault_memory.encode({ gpa, size, flags: 0n, padding: [0n, 0n, 0n, 0n, 0n] }),
    );
  }

  setMpState(vcpu: number, mp_state: number): void {
    this.kernel.ioctl(vcpu, u.KVM_SET_MP_STATE, u.kvm_mp_state.encode({ mp_state }));
  }

  /** The program's own descriptor of it. */
  close({ fd }: DmaBufDouble): void {
    this.kernel.process.fds.close(fd);
  }

  guestOf(vm: number, agent: GuestAgent): Played {
    const vcpu = this.vcpu(vm);
    this.kernel.agent(vcpu, agent);
    return new Played(this, vcpu);
  }
}

/** A vCPU whose guest is a script. */
export class Played {
  readonly kit: TeeKit;
  readonly vcpu: number;
  readonly run: Memory;

  constructor(kit: TeeKit, vcpu: number) {
    this.kit = kit;
    this.vcpu = vcpu;
    this.run = kit.kernel.mmap({ length: 3 * 4096, fd: vcpu });
  }

  /** KVM_RUN: its value or errno's name, then the exit reason. */
  step(): [number | string, number] {
    return [named(this.kit.kernel.run(this.vcpu)), this.run.read32(u.kvm_run.offsetOf('exit_reason'))];
  }

  get exit(): u.kvm_run {
    return u.kvm_run.decode(this.run.read(0, u.kvm_run.size));
  }

  /** 'private' or 'shared', and the address: what KVM_EXIT_MEMORY_FAULT says. */
  get fault(): string {
    const { flags, gpa, size } = this.exit.memory_fault;
    return `${flags === PRIVATE ? 'private' : 'shared'} ${gpa.toString(16)}+${size.toString(16)}`;
  }

  /** The union of kvm_run, from the start of the exit's own part. */
  get union(): DataView {
    return new DataView(this.run.read(u.kvm_run.offsetOf('hw'), 256).slice().buffer);
  }

  write(offset: number, bytes: Uint8Array): void {
    this.run.write(u.kvm_run.offsetOf('hw') + offset, bytes);
  }
}

/** A dma-buf of device memory that notes each access, and whether it came with the T bit. */
export class DmaBufDouble implements DmaBufExporter {
  readonly name = 'double';
  readonly fd: number;
  readonly file: DmaBufFile;
  readonly accesses: string[] = [];
  readonly assigned: { kvm: Vm | null; isPrivate: boolean; tdi: AssignedTdi | undefined } = {
    kvm: null,
    isPrivate: false,
    tdi: undefined,
  };
  revoked = false;
  released = false;
  attachError = 0;
  readonly #bytes: DataView;

  constructor(kit: TeeKit, pages = 4) {
    const { process } = kit.kernel;
    this.#bytes = new DataView(new ArrayBuffer(pages * 4096));
    this.file = new DmaBufFile(process, this, BigInt(pages) * 4096n, O_RDWR);
    this.fd = process.fds.install(this.file, true);
  }

  attach(): number {
    return this.attachError;
  }

  map(): number {
    return -ENODEV;
  }

  place(offset: number): DmaBufPlace | number {
    return this.revoked ? -ENODEV : { memory: this, offset };
  }

  load(offset: number, width: number, t = false): number | bigint {
    this.accesses.push(`load ${offset.toString(16)}/${width}${t ? ' T' : ''}`);
    if (width === 8) return this.#bytes.getBigUint64(offset, true);
    return Number(this.#bytes.getBigUint64(offset & ~7, true) >> BigInt((offset & 7) * 8)) & (2 ** (width * 8) - 1);
  }

  store(offset: number, width: number, value: number | bigint, t = false): number {
    this.accesses.push(`store ${offset.toString(16)}/${width}${t ? ' T' : ''}`);
    for (let i = 0; i < width; i++) this.#bytes.setUint8(offset + i, Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
    return 0;
  }

  move(revoked: boolean): void {
    this.revoked = revoked;
    this.file.moveNotify();
  }

  release(): void {
    this.released = true;
  }
}
