// Every order of closing what belongs to one VM, and many VMs one after the other: nothing is left behind, on any kernel.
import { readdirSync, readFileSync } from 'node:fs';
import type { Handle, Kernel, Memory } from 'kvio';
import {
  GUEST_MEMFD_FLAG_MMAP,
  KVM_CAP_GUEST_MEMFD,
  KVM_CAP_GUEST_MEMFD_FLAGS,
  KVM_CAP_VM_TYPES,
  KVM_DEV_TYPE_VFIO,
  KVM_X86_SW_PROTECTED_VM,
} from 'kvio/uapi';
import { expect, it } from 'vitest';
import { type Bench, onEachKernel } from './each-kernel.ts';

/** How long each test may take, in milliseconds: a VM takes milliseconds of RCU on a real kernel. KVIO_TEST_PATIENCE=600000 does all of it. */
const PATIENCE = Number(process.env['KVIO_TEST_PATIENCE'] ?? 8_000);

type Closable = Handle | Memory;

/** One of each kind that this kernel has, all of one VM; eventfds and memory that the VM refers to are among them. */
function family({ kernel, kvm }: Bench): Record<string, Closable> {
  const protectedType = 1 << KVM_X86_SW_PROTECTED_VM;
  const type = (kvm.checkExtension(KVM_CAP_VM_TYPES) & protectedType) !== 0 ? KVM_X86_SW_PROTECTED_VM : 0;
  const vm = kvm.createVm(type);
  const ram = kernel.guestRam(0x2000);
  vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
  vm.createIrqchip();
  const vcpu = vm.createVcpu(0);
  const made: Record<string, Closable> = {
    vm,
    vcpu,
    ram,
    page: kernel.mmap({ fd: vcpu.fd, length: 4096 }),
    stats: vm.getStatsFd(),
  };
  if (vm.hasDevice(KVM_DEV_TYPE_VFIO)) made['device'] = vm.createDevice(KVM_DEV_TYPE_VFIO);
  if (vm.checkExtension(KVM_CAP_GUEST_MEMFD) > 0) {
    const mappable = (vm.checkExtension(KVM_CAP_GUEST_MEMFD_FLAGS) & Number(GUEST_MEMFD_FLAG_MMAP)) !== 0;
    made['gmem'] = vm.createGuestMemfd(8192, mappable ? GUEST_MEMFD_FLAG_MMAP : 0n);
  }
  return made;
}

function* permutations<T>(items: readonly T[]): Generator<T[]> {
  if (items.length === 0) yield [];
  for (const [at, item] of items.entries())
    for (const rest of permutations([...items.slice(0, at), ...items.slice(at + 1)])) yield [item, ...rest];
}

/** Descriptors of the kernel's process. */
function descriptors(kernel: Kernel): number {
  if (!kernel.features.simulated) return readdirSync('/proc/self/fd').length;
  let open = 0;
  for (let fd = 0; fd < 64; fd++) {
    try {
      kernel.readlink(`/proc/self/fd/${fd}`);
      open++;
    } catch {}
  }
  return open;
}

const threads = (): number => readdirSync('/proc/self/task').length;
const resident = (): number => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024;

onEachKernel('teardown', (open) => {
  it('every order of closing a VM’s descriptors and mappings, however they come', { timeout: 2 * PATIENCE + 60_000 }, () => {
    const bench = open();
    const { kernel } = bench;
    const names = Object.keys(family(bench));
    kernel.close();
    let orders = 0;
    const started = performance.now();
    const again = open();
    const before = descriptors(again.kernel);
    for (const order of permutations(names)) {
      // Real VMs take milliseconds each: every 7th order, 5040 has factors enough for all firsts and lasts to come. With patience, all of them.
      if (orders++ % (again.kernel.features.simulated || PATIENCE >= 600_000 ? 1 : 7) !== 0) continue;
      const made = family(again);
      for (const name of order) made[name]!.close();
      for (const name of order) made[name]!.close();
      if (performance.now() - started > PATIENCE) break;
    }
    expect(orders).toBeGreaterThan(100);
    expect(descriptors(again.kernel)).toBe(before);
  });

  it('whatever is left of a VM works on', () => {
    const bench = open();
    for (const left of Object.keys(family(bench))) {
      const made = family(bench);
      for (const [name, one] of Object.entries(made)) if (name !== left) one.close();
      const uses: Record<string, () => unknown> = {
        vm: () => (made['vm'] as unknown as { checkExtension(n: number): number }).checkExtension(0),
        vcpu: () => (made['vcpu'] as unknown as { getRegs(): object }).getRegs(),
        ram: () => (made['ram'] as Memory).read8(0),
        page: () => (made['page'] as Memory).read32(8),
        stats: () => (made['stats'] as unknown as { read(): unknown }).read(),
        device: () =>
          (made['device'] as unknown as { hasDeviceAttr(attr: object): boolean }).hasDeviceAttr({ group: 1, attr: 1n }),
        gmem: () => (made['gmem'] as unknown as { allocate(at: number, length: number): void }).allocate(0, 4096),
      };
      expect(uses[left], left).not.toThrow();
      made[left]!.close();
    }
  });
});

const CYCLES = 10_000;

onEachKernel('10 000 lives of a VM', (open) => {
  it('leave no descriptor, no thread and no memory', { timeout: 2 * PATIENCE + 60_000 }, () => {
    const { kernel, kvm } = open();
    const ram = kernel.guestRam(0x1000);
    const live = (): void => {
      const vm = kvm.createVm();
      vm.createIrqchip();
      vm.setUserMemoryRegion({ slot: 0, guest_phys_addr: 0x1000n, memory: ram });
      const vcpu = vm.createVcpu(0);
      const event = kernel.eventfd();
      vm.irqfd({ fd: event, gsi: 5 });
      vm.ioeventfd({ fd: event, addr: 0x1000_0000n, len: 4 });
      vcpu.close();
      vm.close();
      kernel.close(event);
    };
    const some = (most: number, patience: number): number => {
      const until = performance.now() + patience;
      let done = 0;
      for (; done < most && performance.now() < until; done++) live();
      return done;
    };
    // What is allocated once (arenas, compiled code) is there after a part of them.
    const warm = some(CYCLES / 5, PATIENCE / 4);
    globalThis.gc!();
    const before = { descriptors: descriptors(kernel), threads: threads(), resident: resident() };
    const cycles = some(CYCLES - warm, PATIENCE);
    globalThis.gc!();
    expect(cycles).toBeGreaterThan(20);
    expect({ descriptors: descriptors(kernel), threads: threads() }).toEqual({
      descriptors: before.descriptors,
      threads: before.threads,
    });
    expect(resident() - before.resident).toBeLessThan(64);
  });
});
