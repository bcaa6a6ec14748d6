import { errnoName } from '../../../src/kernel/errno.ts';
import type { Memory } from '../../../src/kernel/memory.ts';
import { openSim, type SimKernel, type SimOptions } from '../../../src/sim/index.ts';
import type { Vcpu } from '../../../src/sim/kvm/vcpu.ts';
import type { VcpuFile } from '../../../src/sim/kvm/vcpu-file.ts';
import * as u from '../../../src/uapi/index.ts';

export { u };

/** The errno's name, or the value: what a C program would print. */
export const named = (result: number): number | string => (result < 0 ? errnoName(result) : result);

export interface RegionArgs {
  slot?: number;
  flags?: number;
  gpa?: bigint;
  size?: bigint;
  hva?: bigint;
}

/** A simulated /dev/kvm with shorthands for what every test does. */
export class Kit {
  readonly kernel: SimKernel;
  readonly kvm: number;

  constructor(options: SimOptions = {}) {
    this.kernel = openSim(options);
    this.kvm = this.kernel.open('/dev/kvm');
  }

  /** The ioctl's value or errno's name. */
  io(fd: number, request: number, arg?: number | bigint | Uint8Array | Memory): number | string {
    return named(this.kernel.tryIoctl(fd, request, arg, { unsafe: true }));
  }

  vm(): number {
    return this.kernel.ioctl(this.kvm, u.KVM_CREATE_VM);
  }

  vcpu(vm: number, id = 0): number {
    return this.kernel.ioctl(vm, u.KVM_CREATE_VCPU, id);
  }

  region(vm: number, { slot = 0, flags = 0, gpa = 0n, size = 0x1000n, hva = 0n }: RegionArgs): number | string {
    const bytes = u.kvm_userspace_memory_region.encode({
      slot,
      flags,
      guest_phys_addr: gpa,
      memory_size: size,
      userspace_addr: hva,
    });
    return this.io(vm, u.KVM_SET_USER_MEMORY_REGION, bytes);
  }

  /** The object behind a vCPU descriptor. */
  inside(fd: number): Vcpu {
    return (this.kernel.process.fds.get(fd) as VcpuFile).vcpu;
  }

  regs(vcpu: number): u.kvm_regs {
    const bytes = u.kvm_regs.alloc();
    this.kernel.ioctl(vcpu, u.KVM_GET_REGS, bytes);
    return u.kvm_regs.decode(bytes);
  }

  setRegs(vcpu: number, change: Partial<u.kvm_regs>): void {
    this.kernel.ioctl(vcpu, u.KVM_SET_REGS, u.kvm_regs.encode({ ...this.regs(vcpu), ...change }));
  }

  sregs(vcpu: number): u.kvm_sregs {
    const bytes = u.kvm_sregs.alloc();
    this.kernel.ioctl(vcpu, u.KVM_GET_SREGS, bytes);
    return u.kvm_sregs.decode(bytes);
  }

  setSregs(vcpu: number, change: (sregs: u.kvm_sregs) => void): number | string {
    const sregs = this.sregs(vcpu);
    change(sregs);
    return this.io(vcpu, u.KVM_SET_SREGS, u.kvm_sregs.encode(sregs));
  }

  /** A real-mode guest at 0x1000 with 8 KiB of RAM there. */
  guest(code: readonly number[], vm: number = this.vm()): Guest {
    const ram = this.kernel.guestRam(0x2000);
    ram.write(0, Uint8Array.from(code));
    if (this.region(vm, { gpa: 0x1000n, size: 0x2000n, hva: ram.address }) !== 0) throw new Error('the region was refused');
    const vcpu = this.vcpu(vm);
    this.setSregs(vcpu, (sregs) => {
      sregs.cs.base = 0n;
      sregs.cs.selector = 0;
    });
    this.setRegs(vcpu, { rip: 0x1000n, rflags: 2n });
    return new Guest(this, vm, vcpu, ram, this.kernel.mmap({ length: 3 * 4096, fd: vcpu }));
  }
}

export class Guest {
  readonly kit: Kit;
  readonly vm: number;
  readonly vcpu: number;
  readonly ram: Memory;
  /** The mapping of the vCPU descriptor. */
  readonly run: Memory;

  constructor(kit: Kit, vm: number, vcpu: number, ram: Memory, run: Memory) {
    this.kit = kit;
    this.vm = vm;
    this.vcpu = vcpu;
    this.ram = ram;
    this.run = run;
  }

  /** KVM_RUN: its value or errno's name, then the exit reason. */
  step(): [number | string, number] {
    return [named(this.kit.kernel.run(this.vcpu)), this.reason];
  }

  get reason(): number {
    return this.run.read32(u.kvm_run.offsetOf('exit_reason'));
  }

  set immediateExit(value: number) {
    this.run.write8(u.kvm_run.offsetOf('immediate_exit'), value);
  }

  get rip(): bigint {
    return this.kit.regs(this.vcpu).rip;
  }

  get rax(): bigint {
    return this.kit.regs(this.vcpu).rax;
  }
}
