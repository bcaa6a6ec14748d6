import { existsSync } from 'node:fs';

/** The back-end module of the host's KVM, built in or loaded, and the simulated machine that answers as it does. */
const profiles: readonly (readonly [module: string, machine: string])[] = [
  ['kvm_pvm', 'pvm-6.18'],
  ['kvm_amd', 'svm-7.2'],
  ['kvm_intel', 'vmx-7.2'],
];

/** The name of the simulated machine that resembles this host; undefined: the default one. */
export function machineLikeHost(): string | undefined {
  return profiles.find(([module]) => existsSync(`/sys/module/${module}`))?.[1];
}
