/** Runs cases on a kernel: what each observed, or why it was not run. */
import type { Kernel } from 'kvio';
import { EOPNOTSUPP, KVM_CHECK_EXTENSION } from 'kvio/uapi';
import { type Case, type Fact, isRecord, NOT_MODELLED, NotHere, type Observation } from './case.ts';
import { freePages, GIANT, HUGE } from './hugepages.ts';
import { identify } from './identity.ts';
import { exists, link, MTTY, missingPart, parts, pci, removeMdevs, show, unbindFromVfio } from './parts.ts';
import { isDriven, replug } from './slot.ts';

/** A kernel to judge. Each case gets a fresh one, so that no case sees what another left behind. */
export interface Candidate {
  readonly name: string;
  /** What it runs on, as Node calls it: 'x64', 'arm64'. */
  readonly arch: string;
  open(): Kernel;
  /** Whose golden it is held to, where its own answers do not tell: a simulated machine lacks what is not simulated. */
  readonly identity?: string;
  /** The machine of the lab it is, or imitates: the devices there may be bound and driven. */
  readonly machine?: string;
  /** What cases it is asked begin with: a machine that differs from another in these alone. */
  readonly only?: readonly string[];
  /** Its process's RLIMIT_NOFILE. */
  readonly nofile: number;
}

export type Result = { readonly facts: Observation } | { readonly notRun: string } | { readonly failed: string };

export interface Report {
  readonly kernel: string;
  readonly release: string;
  readonly identity: string | undefined;
  readonly results: ReadonlyMap<string, Result>;
}

export const VOLATILE = '(volatile)';

export async function runCases(candidate: Candidate, cases: readonly Case[]): Promise<Report> {
  const probe = candidate.open();
  const { release } = probe;
  const identity = candidate.identity ?? identify(probe, candidate.arch);
  probe.close();
  const results = new Map<string, Result>();
  for (const one of casesFor(candidate, cases)) {
    if (results.has(one.name)) throw new Error(`two cases are called '${one.name}'`);
    results.set(one.name, await runCase(candidate, one));
  }
  return { kernel: candidate.name, release, identity, results };
}

/** Cases of devices are for machines made for them, and a simulated machine of the lab is asked for nothing else: its KVM is another's. */
export function casesFor({ machine, only = [''] }: Candidate, cases: readonly Case[]): readonly Case[] {
  return cases.filter((one) => isOfDevices(one) === (machine !== undefined) && only.some((start) => one.name.startsWith(start)));
}

/** Whether a case's answers depend on the machine around the processor: its golden is one of `vfio/`. */
export function isOfDevices({ name }: Pick<Case, 'name'>): boolean {
  return /^(vfio|pci)\//.test(name);
}

export async function runCase(candidate: Candidate, one: Case): Promise<Result> {
  const kernel = candidate.open();
  try {
    const missing = unmet(candidate, kernel, one);
    if (missing !== undefined) return { notRun: missing };
    return { facts: mask(await one.run(kernel), one.volatile ?? []) };
  } catch (error) {
    const { code, what, message, stack } = error as { code?: string; what?: string; message?: string; stack?: string };
    if (error instanceof NotHere) return { notRun: message! };
    if (code === 'ERR_KVIO_NOT_MODELLED') return { notRun: `${NOT_MODELLED}${what}` };
    return { failed: `${message ?? String(error)}${stack === undefined ? '' : `\n${stack.split('\n').slice(1, 6).join('\n')}`}` };
  } finally {
    kernel.close();
    if (candidate.machine !== undefined) await restore(candidate, one);
  }
}

function isOverridden(kernel: Kernel, address: string): boolean {
  const path = `${pci(address)}/driver_override`;
  return exists(kernel, path) && show(kernel, path) !== '(null)';
}

/** A real machine lasts longer than a case: its devices go back to no driver. A simulated one is new each time. */
async function restore(candidate: Candidate, { needs }: Case): Promise<void> {
  const kernel = candidate.open();
  try {
    for (const part of needs?.slots === true ? needs.pci!.slice(0, 1) : [])
      if (kernel.kind !== 'sim' && missingPart(kernel, part) !== undefined) await replug(kernel, parts[part].at);
    for (const { at } of (needs?.pci ?? []).map((part) => parts[part]))
      if (kernel.kind !== 'sim' && isOverridden(kernel, at)) unbindFromVfio(kernel, at);
    if (needs?.mtty === true) removeMdevs(kernel);
  } finally {
    kernel.close();
  }
}

/** Why a case cannot say anything on this kernel. */
export function unmet(candidate: Candidate, kernel: Kernel, { needs }: Pick<Case, 'needs'>): string | undefined {
  if (needs?.arch !== undefined && needs.arch !== candidate.arch) return `speaks of ${needs.arch}, and this is ${candidate.arch}`;
  if (needs?.real !== undefined && kernel.features.simulated) return `the simulated process has no ${needs.real}`;
  for (const feature of needs?.features ?? []) if (!kernel.features[feature]) return `this kernel has no ${feature}`;
  if ((needs?.pci ?? needs?.mtty) !== undefined && candidate.machine === undefined) return 'devices of this host are left alone';
  if (needs?.mtty === true && !exists(kernel, `${MTTY}/uevent`)) return 'this kernel has no mtty';
  for (const part of needs?.pci ?? []) {
    const missing = missingPart(kernel, part);
    if (missing !== undefined) return missing;
    const assisted = link(kernel, `${pci(parts[part].at)}/iommu_group`) !== undefined;
    if (needs?.iommu !== undefined && assisted !== needs.iommu) return `there is ${assisted ? 'an' : 'no'} IOMMU`;
  }
  const inside = needs?.slots === true ? needs.pci?.[0] : undefined;
  if (inside !== undefined && !isDriven(kernel, parts[inside].at)) return `the kernel does not drive the slot of ${inside}`;
  for (const path of needs?.devices ?? ['/dev/kvm']) {
    try {
      kernel.close(kernel.open(path));
    } catch (error) {
      return `${path}: ${(error as { code?: string }).code ?? error}`;
    }
  }
  if (needs?.hugepages !== undefined) {
    const free = freePages(kernel, HUGE);
    if (free < needs.hugepages) return `there are ${free} free huge pages of 2 MiB (vm.nr_hugepages), wanted: ${needs.hugepages}`;
  }
  if (needs?.giant === true && freePages(kernel, GIANT) < 1) return 'there is no free huge page of 1 GiB';
  if (needs?.iommufdTest === true && !hasTestCommand(kernel)) return '/dev/iommu has no IOMMU_TEST_CMD';
  if (needs?.since !== undefined && older(kernel.release, needs.since))
    return `kernels before ${needs.since} never return from it`;
  const backend = (): string | undefined => /-([a-z]+)/.exec(identify(kernel, candidate.arch) ?? '')?.[1];
  if (needs?.unsteady?.includes(backend() ?? '')) return `on ${backend()} the answer depends on when the host is interrupted`;
  if (needs?.endless !== undefined && !kernel.features.kick) {
    if (backend() === 'unknown' || needs.endless.includes(backend() ?? ''))
      return `its guest never leaves KVM_RUN on ${backend()}, and this kernel cannot end a run`;
  }
  if (needs?.capability !== undefined && capability(kernel, needs.capability) === 0)
    return `KVM has no capability ${needs.capability}`;
  if (needs?.vmType !== undefined && (capability(kernel, KVM_CAP_VM_TYPES) & (1 << needs.vmType)) === 0)
    return `KVM has no VMs of type ${needs.vmType}`;
  if (needs?.nofile !== undefined && candidate.nofile > needs.nofile) {
    return `fills the descriptor table, and RLIMIT_NOFILE is ${candidate.nofile} (wanted: at most ${needs.nofile})`;
  }
  return undefined;
}

/** IOMMU_TEST_CMD of no operation: a kernel that has it refuses that. */
function hasTestCommand(kernel: Kernel): boolean {
  const iommufd = kernel.open('/dev/iommu');
  try {
    const bytes = new Uint8Array(72);
    bytes[0] = bytes.length;
    return kernel.tryIoctl(iommufd, 0x3ba0, bytes, { unsafe: true }) === -EOPNOTSUPP;
  } finally {
    kernel.close(iommufd);
  }
}

const KVM_CAP_VM_TYPES = 235;

function capability(kernel: Kernel, number: number): number {
  const kvm = kernel.open('/dev/kvm');
  try {
    return kernel.ioctl(kvm, KVM_CHECK_EXTENSION, number);
  } finally {
    kernel.close(kvm);
  }
}

/** The observation with the values at these paths hidden; their presence stays. */
export function mask(facts: Observation, paths: readonly string[]): Observation {
  return paths.reduce<Observation>((masked, path) => hide(masked, path.split('/')) as Observation, facts);
}

function hide(fact: Fact, [step, ...rest]: readonly string[]): Fact {
  if (step === undefined) return VOLATILE;
  if (!isRecord(fact)) return fact;
  return Object.fromEntries(Object.entries(fact).map(([key, value]) => [key, matches(step, key) ? hide(value, rest) : value]));
}

function matches(step: string, key: string): boolean {
  return step.startsWith('*') ? key.endsWith(step.slice(1)) : step === key;
}

function older(release: string, since: string): boolean {
  const [[major, minor], [from, fromMinor]] = [release, since].map((one) => one.split('.').map(Number)) as [number[], number[]];
  return major! - from! < 0 || (major === from && minor! < fromMinor!);
}
