/**
 * Runs inside a lab machine, compiled, with plain node: every case on the machine's kernel through the addon. Each step is a line of
 * JSON in $KVIO_LAB_OUT/results.jsonl at once, so that a case that hangs or ends the process is known by name.
 */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostKernel } from '../conformance/candidates.ts';
import type { Case } from '../conformance/case.ts';
import { cases as conformance } from '../conformance/cases/index.ts';
import { identify } from '../conformance/identity.ts';
import { type Candidate, type Result, runCase } from '../conformance/run-cases.ts';
import { labCases } from './cases/index.ts';

/** One line of results.jsonl. */
export type Line =
  | { readonly release: string; readonly identity: string | undefined; readonly machine: string }
  | { readonly begins: string }
  | { readonly name: string; readonly suite: Suite; readonly result: Result; readonly milliseconds: number }
  | { readonly done: true };

export type Suite = 'kvm' | 'lab';

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

const candidate: Candidate = {
  ...found.candidate,
  open() {
    const kernel = found.candidate.open();
    const run = kernel.run.bind(kernel);
    kernel.run = (vcpu, options) => run(vcpu, { budget: BUDGET, ...options });
    return kernel;
  },
};
const probe = candidate.open();
say({ release: probe.release, identity: identify(probe), machine });
const chosen: { suite: Suite; one: Case; notRun: string | undefined }[] = [
  ...conformance.map((one) => ({ suite: 'kvm' as const, one, notRun: undefined })),
  ...labCases(machine, probe).map((entry) => ({ suite: 'lab' as const, ...entry })),
].filter(({ one }) => (names === '' ? one.name.includes(only) : named.includes(one.name)));
probe.close();
for (const { suite, one, notRun } of chosen.slice(Number(first))) {
  say({ begins: one.name });
  const started = Date.now();
  const result: Result = notRun === undefined ? await runCase(candidate, one) : { notRun };
  say({ name: one.name, suite, result, milliseconds: Date.now() - started });
}
say({ done: true });
