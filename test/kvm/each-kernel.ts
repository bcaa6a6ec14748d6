import { findKernels, type Kernel, Kvm, openKernel, type Vcpu, type Vm } from 'kvio';
import { afterEach, describe } from 'vitest';

export interface Bench {
  readonly kernel: Kernel;
  readonly kvm: Kvm;
}

/**
 * The same cases on every kernel there is. `open` gives a kernel and its /dev/kvm; both are closed after the case. One that is
 * not here is a skipped block whose name says why.
 */
export function onEachKernel(title: string, cases: (open: () => Bench) => void, needs?: 'async' | 'kick'): void {
  for (const { kind, available, reason } of findKernels()) {
    if (!available) {
      describe.skip(`${title}, ${kind} (not run: ${reason})`, () => cases(neverOpened));
      continue;
    }
    const probe = openKernel({ kernel: kind });
    const able = needs === undefined || probe.features[needs];
    probe.close();
    if (!able) {
      describe.skip(`${title}, ${kind} (not run: it has no ${needs})`, () => cases(neverOpened));
      continue;
    }
    describe(`${title}, ${kind}`, () => {
      const opened: Kernel[] = [];
      afterEach(() => {
        for (const kernel of opened.splice(0)) kernel.close();
      });
      cases(() => {
        const kernel = openKernel({ kernel: kind });
        opened.push(kernel);
        return { kernel, kvm: Kvm.open(kernel) };
      });
    });
  }
}

const neverOpened = (): Bench => {
  throw new Error('a skipped case ran');
};

export interface Machine extends Bench {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  /** Guest-physical 0x1000 … 0x2fff. */
  readonly ram: ReturnType<Kernel['guestRam']>;
}

/** A VM with a real-mode vCPU about to execute `code` at 0x1000. */
export function boot({ kernel, kvm }: Bench, code: readonly number[]): Machine {
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
