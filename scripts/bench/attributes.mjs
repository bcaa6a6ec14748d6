#!/usr/bin/env node
// node scripts/bench/attributes.mjs: what KVM_SET_MEMORY_ATTRIBUTES costs by ranges. A real kernel stores an entry a page, so that beside the
// simulator it is asked for 1 GiB in place of 1 TiB, and only where it has SW_PROTECTED VMs.
import { ensureOrExit } from '../ensure.mjs';
import { median } from './statistics.mjs';

await ensureOrExit();
const { findKernels, Kvm, openKernel } = await import('kvio');
const { KVM_CAP_VM_TYPES, KVM_MEMORY_ATTRIBUTE_PRIVATE, KVM_X86_SW_PROTECTED_VM } = await import('kvio/uapi');

const kinds = ['sim', ...findKernels().flatMap(({ kind, available }) => (available && kind === 'native' ? [kind] : []))];
for (const kind of kinds) {
  const kernel = openKernel({ kernel: kind, machine: 'amd-svm-7.2' });
  const kvm = Kvm.open(kernel);
  if ((kvm.checkExtension(KVM_CAP_VM_TYPES) & (1 << KVM_X86_SW_PROTECTED_VM)) === 0) {
    process.stdout.write(`${kind}: no SW_PROTECTED VMs\n`);
  } else {
    const vm = kvm.createVm(KVM_X86_SW_PROTECTED_VM);
    const set = (address, size, attributes) => {
      const started = performance.now();
      vm.setMemoryAttributes({ address, size, attributes });
      return performance.now() - started;
    };
    const bits = kind === 'sim' ? 40n : 30n;
    const whole = Array.from({ length: 21 }, (_, n) => set(0n, 1n << bits, n % 2 === 0 ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n));
    set(0n, 1n << bits, 0n);
    let alternating = 0;
    for (let page = 0n; page < 200_000n; page += 2n) alternating += set(page << 12n, 0x1000n, KVM_MEMORY_ATTRIBUTE_PRIVATE);
    const all = set(0n, 1n << bits, 0n);
    const row = [`2^${bits} bytes ${median(whole).toFixed(3)} ms`, `100 000 alternating pages ${alternating.toFixed(0)} ms`];
    process.stdout.write(`${kind}: ${[...row, `all shared again ${all.toFixed(3)} ms`].join(', ')}\n`);
  }
  kernel.close();
}
