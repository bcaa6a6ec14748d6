/**
 * Runs inside a lab machine, compiled, with plain node: every case on the machine's kernel through the addon. Each step is a line of
 * JSON in $KVIO_LAB_OUT/results.jsonl at once, so that a case that hangs or ends the process is known by name.
 */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostKernel, ofMachine, withBudget } from '../conformance/candidates.ts';
import { cases } from '../conformance/cases/index.ts';
import { identify } from '../conformance/identity.ts';
import { casesFor, type Result, runCase } from '../conformance/run-cases.ts';

/** One line of results.jsonl. `identity` is that of the goldens of a suite. */
export type Line =
  | { readonly release: string; readonly machine: string; readonly identity: Readonly<Record<Suite, string | undefined>> }
  | { readonly begins: string }
  | { readonly name: string; readonly suite: Suite; readonly result: Result; readonly milliseconds: number }
  | { readonly done: true };

/** Cases of the kernel alone, and cases of the machine's devices. */
export type Suite = 'kvm' | 'vfio';

/** `first`: how many of the chosen cases another machine has answered; `names`: these only, separated by commas. */
const [only = '', first = '0', names = ''] = process.argv.slice(2);
const named = names.split(',');
const machine = process.env['KVIO_LAB'] ?? '';
const file = join(process.env['KVIO_LAB_OUT'] ?? '.', 'results.jsonl');

function say(line: Line): void {
  appendFileSync(file, `${JSON.stringify(line)}\n`);
}

const found = hostKernel('native');
if ('missing' in found) throw new Error(`the addon finds no kernel in the lab: ${found.missing}`);

/** A guest that does not come back ends with EINTR, as a fact. */
const BUDGET = 10_000;

const kvm = withBudget(found.candidate, BUDGET);
const probe = kvm.open();
const { release } = probe;
const vfio = { ...kvm, ...ofMachine(release, machine) };
say({ release, machine, identity: { kvm: identify(probe), vfio: vfio.identity } });
probe.close();
const chosen = (Object.entries({ kvm, vfio }) as [Suite, typeof kvm][])
  .flatMap(([suite, candidate]) => casesFor(candidate, cases).map((one) => ({ suite, candidate, one })))
  .filter(({ one }) => (names === '' ? one.name.includes(only) : named.includes(one.name)));
for (const { suite, candidate, one } of chosen.slice(Number(first))) {
  say({ begins: one.name });
  const started = Date.now();
  const result = await runCase(candidate, one);
  say({ name: one.name, suite, result, milliseconds: Date.now() - started });
}
say({ done: true });
