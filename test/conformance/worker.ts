/**
 * The process that runs cases for record.ts: `worker.js <kernel> <first case> <what is in its name>`. Each step is a message at once, so that a case that
 * hangs or ends the process is known by name.
 */
import { type HostKernel, hostKernel } from './candidates.ts';
import { kernelCases as cases } from './cases/index.ts';
import { identify } from './identity.ts';
import { type Result, runCase } from './run-cases.ts';

export type Message =
  | { readonly release: string; readonly identity: string | undefined; readonly arch: string }
  | { readonly begins: number }
  | { readonly ended: number; readonly result: Result }
  | { readonly missing: string }
  | { readonly done: true };

const say = (message: Message): Promise<void> => new Promise((resolve) => process.send!(message, () => resolve()));

async function work(kind: HostKernel, first: number, only: string): Promise<void> {
  const found = hostKernel(kind);
  if ('missing' in found) return say({ missing: found.missing });
  const { candidate } = found;
  const probe = candidate.open();
  await say({ release: probe.release, identity: identify(probe, candidate.arch), arch: candidate.arch });
  probe.close();
  for (const [at, one] of cases.entries()) {
    if (at < first || !one.name.includes(only)) continue;
    await say({ begins: at });
    await say({ ended: at, result: await runCase(candidate, one) });
  }
  await say({ done: true });
}

const [kind, first, only = ''] = process.argv.slice(2);
await work(kind as HostKernel, Number(first), only);
process.disconnect();
