/** What only the lab can be asked: devices that are really there, private memory. By the machines and kernels that can answer. */
import type { Kernel } from 'kvio';
import { KVM_CHECK_EXTENSION, KVM_X86_SW_PROTECTED_VM } from 'kvio/uapi';
import type { Case } from '../../conformance/case.ts';
import { assigned, unassisted } from './assigned.ts';
import { kvmVfioCases } from './kvm-vfio.ts';
import { privateMemory } from './private-memory.ts';

const KVM_CAP_VM_TYPES = 235;
const withIommu = ['vtd', 'amd', 'virtio'];

interface Group {
  readonly cases: readonly Case[];
  /** Machines of scripts/lab/machines.mjs. */
  readonly machines: readonly string[];
  /** What this kernel has not, and the cases need. */
  readonly lacks?: (kernel: Kernel) => string | undefined;
}

const groups: readonly Group[] = [
  { cases: privateMemory, machines: [...withIommu, 'none'], lacks: withoutProtectedVms },
  { cases: assigned, machines: withIommu },
  { cases: kvmVfioCases, machines: withIommu },
  { cases: unassisted, machines: ['none'] },
];

function withoutProtectedVms(kernel: Kernel): string | undefined {
  const kvm = kernel.open('/dev/kvm');
  const types = kernel.ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES);
  kernel.close(kvm);
  return (types & (1 << KVM_X86_SW_PROTECTED_VM)) !== 0 ? undefined : 'this kernel has no SW_PROTECTED VMs';
}

/** All cases, each with why it is not for this machine and kernel, where it is not. */
export function labCases(
  machine: string,
  kernel: Kernel,
): readonly { readonly one: Case; readonly notRun: string | undefined }[] {
  return groups.flatMap(({ cases, machines, lacks }) => {
    const notRun = machines.includes(machine) ? lacks?.(kernel) : `only on the machine ${machines.join(', ')}`;
    return cases.map((one) => ({ one, notRun }));
  });
}
