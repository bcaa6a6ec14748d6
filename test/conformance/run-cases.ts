/** Runs cases on a kernel: what each observed, or why it was not run. */
import type { Kernel } from 'kvio';
import { KVM_CHECK_EXTENSION } from 'kvio/uapi';
import { type Case, type Fact, isRecord, NOT_MODELLED, type Observation } from './case.ts';
import { identify } from './identity.ts';

/** A kernel to judge. Each case gets a fresh one, so that no case sees what another left behind. */
export interface Candidate {
  readonly name: string;
  /** What it runs on, as Node calls it: 'x64', 'arm64'. */
  readonly arch: string;
  open(): Kernel;
  /** Whose golden it is held to, where its own answers do not tell: a simulated machine lacks what is not simulated. */
  readonly identity?: string;
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
  for (const one of cases) {
    if (results.has(one.name)) throw new Error(`two cases are called '${one.name}'`);
    results.set(one.name, await runCase(candidate, one));
  }
  return { kernel: candidate.name, release, identity, results };
}

export async function runCase(candidate: Candidate, one: Case): Promise<Result> {
  const kernel = candidate.open();
  try {
    const missing = unmet(candidate, kernel, one);
    if (missing !== undefined) return { notRun: missing };
    return { facts: mask(await one.run(kernel), one.volatile ?? []) };
  } catch (error) {
    const { code, what, message, stack } = error as { code?: string; what?: string; message?: string; stack?: string };
    if (code === 'ERR_KVIO_NOT_MODELLED') return { notRun: `${NOT_MODELLED}${what}` };
    return { failed: `${message ?? String(error)}${stack === undefined ? '' : `\n${stack.split('\n').slice(1, 6).join('\n')}`}` };
  } finally {
    kernel.close();
  }
}

/** Why a case cannot say anything on this kernel. */
function unmet(candidate: Candidate, kernel: Kernel, { needs }: Case): string | undefined {
  if (needs?.arch !== undefined && needs.arch !== candidate.arch) return `speaks of ${needs.arch}, and this is ${candidate.arch}`;
  for (const feature of needs?.features ?? []) if (!kernel.features[feature]) return `this kernel has no ${feature}`;
  for (const path of needs?.devices ?? ['/dev/kvm']) {
    try {
      kernel.close(kernel.open(path));
    } catch (error) {
      return `${path}: ${(error as { code?: string }).code ?? error}`;
    }
  }
  const backend = (): string | undefined => /-([a-z]+)/.exec(identify(kernel, candidate.arch) ?? '')?.[1];
  if (needs?.unsteady?.includes(backend() ?? '')) return `on ${backend()} the answer depends on when the host is interrupted`;
  if (needs?.endless !== undefined && !kernel.features.kick) {
    if (backend() === 'unknown' || needs.endless.includes(backend() ?? ''))
      return `its guest never leaves KVM_RUN on ${backend()}, and this kernel cannot end a run`;
  }
  if (needs?.capability !== undefined && !hasCapability(kernel, needs.capability))
    return `KVM has no capability ${needs.capability}`;
  if (needs?.nofile !== undefined && candidate.nofile > needs.nofile) {
    return `fills the descriptor table, and RLIMIT_NOFILE is ${candidate.nofile} (wanted: at most ${needs.nofile})`;
  }
  return undefined;
}

function hasCapability(kernel: Kernel, capability: number): boolean {
  const kvm = kernel.open('/dev/kvm');
  try {
    return kernel.ioctl(kvm, KVM_CHECK_EXTENSION, capability) !== 0;
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
