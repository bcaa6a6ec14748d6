/** The form of the fidelity table's rows: what a kernel checks, in the order in which it does, and which observation shows it. */

/** What it answers, when, and the case and label of the fact that shows it; without them the rule was only read. */
export type Check = readonly [answer: string, rule: string, name?: string, label?: string];

/** Checks by what they are of: `KVM_CREATE_VM (kvm)` as the simulator's coverage names an ioctl, or a file operation. */
export type Checks = Readonly<Record<string, readonly Check[]>>;
