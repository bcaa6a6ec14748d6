import { type Kernel, Kvm, type Memory, type Vcpu, type Vm } from 'kvio';
import { testKernels } from 'kvio/testing';
import { afterEach, describe } from 'vitest';

export interface Bench {
  readonly kernel: Kernel;
  readonly kvm: Kvm;
}

/**
 * The same cases on every kernel there is. `open` gives a kernel and its /dev/kvm, closed after the case. A kernel that is not
 * here, or lacks what the cases need, is a skipped block whose name says why.
 */
export function onEachKernel(what: string, cases: (open: () => Bench) => void, needs?: 'async' | 'kick'): void {
  for (const { title, skip, open } of testKernels()) {
    const lacks = skip === undefined && needs !== undefined && !has(open(), needs);
    describe.skipIf(skip !== undefined || lacks)(`${what}, ${title}${lacks ? ` (not run: it has no ${needs})` : ''}`, () => {
      const opened: Kernel[] = [];
      afterEach(() => {
        for (const kernel of opened.splice(0)) kernel.close();
      });
      cases(() => {
        const kernel = open();
        opened.push(kernel);
        return { kernel, kvm: Kvm.open(kernel) };
      });
    });
  }
}

function has(kernel: Kernel, feature: 'async' | 'kick'): boolean {
  using _ = kernel;
  return kernel.features[feature];
}

export interface Guest extends Bench {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  /** Guest-physical 0x1000 … 0x2fff. */
  readonly ram: Memory;
}

/** A VM with a real-mode vCPU about to execute `code` at 0x1000. */
export function boot({ kernel, kvm }: Bench, code: readonly number[]): Guest {
  const vm = kvm.createVm();
  const ram = kernel.guestRam(0x2000);
  ram.write(0, Uint8Array.from(code));
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0x1000n, rflags: 2n });
  return { kernel, kvm, vm, vcpu, ram };
}

/** What the call throws. */
export function thrown(call: () => unknown): Error & Record<string, unknown> {
  try {
    call();
  } catch (error) {
    return error as Error & Record<string, unknown>;
  }
  throw new Error('nothing was thrown');
}
