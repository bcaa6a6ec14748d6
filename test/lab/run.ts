/**
 * Runs inside a lab machine, compiled, with plain node: every case on the machine's kernel through the addon. Each step is a line of
 * JSON in $KVIO_LAB_OUT/results.jsonl at once, so that a case that hangs or ends the process is known by name.
 */
import { openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Case } from '../conformance/case.ts';
import { cases } from '../conformance/cases/index.ts';
import { identify } from '../conformance/identity.ts';
import { ofMachine, realKernel } from '../conformance/real-kernel.ts';
import { casesFor, type Result, runCase } from '../conformance/run-cases.ts';

/** One line of results.jsonl. `identity` is that of the goldens of a suite. */
export type Line =
  | { readonly release: string; readonly machine: string; readonly identity: Readonly<Record<Suite, string | undefined>> }
  | { readonly begins: string }
  | { readonly name: string; readonly suite: Suite; readonly result: Result; readonly milliseconds: number }
  | { readonly done: true };

/** Cases of the kernel alone, and cases of the machine's devices. */
export type Suite = 'kvm' | 'vfio';

/** What a machine is asked: JSON, the first argument. */
export interface Question {
  /** Cases with one of these, between commas, in their name. */
  readonly only?: string | undefined;
  /** These cases only. */
  readonly names?: readonly string[] | undefined;
  /** Of the chosen cases those of one machine among several: its number, and how many there are. */
  readonly share?: readonly [at: number, of: number] | undefined;
  /** How many of its cases a machine before it has answered. */
  readonly first?: number | undefined;
}

const { only = '', names, share: [at, of] = [0, 1], first = 0 } = JSON.parse(process.argv[2] ?? '{}') as Question;
const machine = process.env['KVIO_LAB'] ?? '';
const file = openSync(join(process.env['KVIO_LAB_OUT'] ?? '.', 'results.jsonl'), 'a');

/** One write: each is a message to the host and back. */
function say(...lines: readonly Line[]): void {
  writeSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

const found = realKernel('native');
if ('missing' in found) throw new Error(`the addon finds no kernel in the lab: ${found.missing}`);

const kvm = found.candidate;
const probe = kvm.open();
const { release } = probe;
const vfio = { ...kvm, ...ofMachine(release, machine) };
say({ release, machine, identity: { kvm: identify(probe), vfio: vfio.identity } });
probe.close();

/**
 * QEMU 7.2 goes on watching what a guest has written into its debug registers while others run on the processor: DR7 all ones watches address 0, a later guest that uses that
 * address gets a #DB, and QEMU ends with an assertion where the frame of an exception is pushed there. The guests that write them come last.
 */
const isOfDebugRegisters = ({ name }: Case): boolean => name.startsWith('kvm/debug/');

const chosen = (Object.entries({ kvm, vfio }) as [Suite, typeof kvm][])
  .flatMap(([suite, candidate]) => casesFor(candidate, cases).map((one) => ({ suite, candidate, one })))
  .filter(({ one }) => names?.includes(one.name) ?? only.split(',').some((text) => one.name.includes(text)))
  .sort((a, b) => Number(isOfDebugRegisters(a.one)) - Number(isOfDebugRegisters(b.one)))
  .filter((_, index) => index % of === at);
const mine = chosen.slice(first);
const next = (index: number): Line => (index < mine.length ? { begins: mine[index]!.one.name } : { done: true });
say(next(0));
for (const [index, { suite, candidate, one }] of mine.entries()) {
  const started = Date.now();
  const result = await runCase(candidate, one);
  say({ name: one.name, suite, result, milliseconds: Date.now() - started }, next(index + 1));
}
