/** VMs with memory in a guest_memfd, and guests that tell what a byte of theirs is: for the cases about private memory. */
import type { Kernel, Memory } from 'kvio';
import {
  KVM_CREATE_GUEST_MEMFD,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_EXIT_HLT,
  KVM_EXIT_IO,
  KVM_EXIT_MEMORY_FAULT,
  KVM_EXIT_MMIO,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEMORY_ATTRIBUTE_PRIVATE,
  KVM_SET_MEMORY_ATTRIBUTES,
  KVM_X86_SW_PROTECTED_VM,
  kvm_create_guest_memfd,
  kvm_memory_attributes,
} from 'kvio/uapi';
import { type Fact, type Observer, result, toFact } from './case.ts';
import { addRam, getRegs, mapRun, openKvm, RunPage, setRegion2, setRegs, setSregs } from './machine.ts';

export const PRIVATE: bigint = KVM_MEMORY_ATTRIBUTE_PRIVATE;

/** A VM of the type that has private memory without any hardware for it; −1 where the kernel has none, which is noted. */
export function protectedVm(kernel: Kernel, see: Observer): number {
  const kvm = openKvm(kernel);
  const vm = see.descriptor('CREATE_VM(SW_PROTECTED)', () => kernel.ioctl(kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM));
  kernel.close(kvm);
  return vm;
}

/** KVM_CREATE_GUEST_MEMFD. */
export function guestMemfd(kernel: Kernel, vm: number, size: bigint, flags = 0n): number {
  return kernel.ioctl(vm, KVM_CREATE_GUEST_MEMFD, kvm_create_guest_memfd.encode({ size, flags }));
}

/** KVM_SET_MEMORY_ATTRIBUTES. */
export function setAttributes(
  kernel: Kernel,
  vm: number,
  address: bigint,
  size: bigint,
  attributes: bigint = PRIVATE,
  flags = 0n,
): number {
  return kernel.ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, kvm_memory_attributes.encode({ address, size, attributes, flags }));
}

export interface GmemSlot {
  readonly slot: number;
  readonly gpa: bigint;
  readonly size: bigint;
  readonly memfd: number;
  readonly offset?: bigint;
  readonly hva?: bigint;
  readonly flags?: number;
}

/** KVM_SET_USER_MEMORY_REGION2 with KVM_MEM_GUEST_MEMFD. */
export function setGmem(kernel: Kernel, vm: number, { slot, gpa, size, memfd, offset = 0n, hva = 0n, flags }: GmemSlot): number {
  return setRegion2(kernel, vm, {
    slot,
    flags: flags ?? KVM_MEM_GUEST_MEMFD,
    guest_phys_addr: gpa,
    memory_size: size,
    userspace_addr: hva,
    guest_memfd: memfd >>> 0,
    guest_memfd_offset: offset,
  });
}

const CODE = 0x1000;

/** A real-mode vCPU whose code lies in ordinary RAM at 0 (64 KiB, slot 0), and whose data segment can be put anywhere below 1 MiB. */
export class Prober {
  readonly kernel: Kernel;
  readonly vm: number;
  readonly vcpu: number;
  readonly ram: Memory;
  readonly run: RunPage;

  constructor(kernel: Kernel, vm: number, ram: Memory = addRam(kernel, vm, 0, 0n, 0x10000)) {
    this.kernel = kernel;
    this.vm = vm;
    this.ram = ram;
    this.vcpu = kernel.ioctl(vm, KVM_CREATE_VCPU, 0);
    this.run = new RunPage(mapRun(kernel, this.vcpu));
  }

  /** Starts this code with DS and ES at `gpa`; what KVM_RUN comes out with. */
  execute(gpa: bigint, code: readonly number[], regs: Partial<ReturnType<typeof getRegs>> = {}): Fact {
    this.ram.write(CODE, Uint8Array.from(code));
    setSregs(this.kernel, this.vcpu, (sregs) => {
      Object.assign(sregs.cs, { base: 0n, selector: 0 });
      for (const segment of [sregs.ds, sregs.es]) Object.assign(segment, { base: gpa, selector: Number(gpa >> 4n) });
    });
    setRegs(this.kernel, this.vcpu, { rip: BigInt(CODE), rflags: 2n, rsp: 0x8000n, rax: 0n, ...regs });
    return this.next();
  }

  /** KVM_RUN, as a fact: a byte that came out of a port, an MMIO access, a halt, or a fault with where and of which kind. */
  next(): Fact {
    const { kernel, run, vcpu } = this;
    const returned = kernel.run(vcpu);
    const reason = Number(run.get('exit_reason'));
    if (returned === 0 && reason === KVM_EXIT_IO) {
      const length = Number(run.get('io.size')) * Number(run.get('io.count'));
      const port = Number(run.get('io.port'));
      return run.get('io.direction') === 1
        ? { out: toFact(run.slice(Number(run.get('io.data_offset')), length)) }
        : { in: length, port };
    }
    if (returned === 0 && reason === KVM_EXIT_MMIO) {
      const fact = { mmio: toFact(run.get('mmio.phys_addr')), write: run.get('mmio.is_write') as number };
      this.#finish();
      return fact;
    }
    if (returned === 0 && reason === KVM_EXIT_HLT) return 'hlt';
    const rip = toFact(getRegs(kernel, vcpu).rip);
    if (reason !== KVM_EXIT_MEMORY_FAULT) return { returned: result(returned), reason, rip };
    return { returned: result(returned), ...this.memoryFault(), rip };
  }

  /** The instruction that left for MMIO comes to its end, and nothing after it: what is executed next is not mixed up with it. */
  #finish(): void {
    this.run.set('immediate_exit', 1);
    this.kernel.run(this.vcpu);
    this.run.set('immediate_exit', 0);
  }

  memoryFault(): Record<string, Fact> {
    const { run } = this;
    return {
      flags: toFact(run.get('memory_fault.flags')),
      gpa: toFact(run.get('memory_fault.gpa')),
      size: toFact(run.get('memory_fault.size')),
    };
  }

  /** mov al,[0]; out 0x10,al */
  read(gpa: bigint): Fact {
    return this.execute(gpa, [0xa0, 0, 0, 0xe6, 0x10]);
  }

  /** mov byte [0],value; hlt */
  write(gpa: bigint, value: number): Fact {
    return this.execute(gpa, [0xc6, 0x06, 0, 0, value, 0xf4]);
  }
}
