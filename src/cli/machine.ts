import { existsSync } from 'node:fs';
import { DEFAULT_PROFILE, type Machine, profiles } from '../sim/index.ts';

/** The modules that give the host's KVM its back end; built into the kernel or loaded, they are in /sys/module. */
const backends: readonly (readonly [module: string, backend: Machine['backend']])[] = [
  ['kvm_pvm', 'pvm'],
  ['kvm_amd', 'svm'],
  ['kvm_intel', 'vmx'],
];

/**
 * The simulated machine whose KVM has the back end of this host's: a profile where one was captured on such a host, otherwise the
 * default one with that back end's rules. The default one where the host has no KVM.
 */
export function machineLikeHost(): Machine {
  const standard = profiles[DEFAULT_PROFILE]!;
  const backend = backends.find(([module]) => existsSync(`/sys/module/${module}`))?.[1] ?? standard.backend;
  return (
    Object.values(profiles).find((machine) => machine.backend === backend) ?? {
      ...standard,
      name: `${standard.name} as ${backend}`,
      backend,
    }
  );
}
