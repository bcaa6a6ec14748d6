/** `npm run golden:record`: runs all cases on the host's kernel and writes (or prints) the golden. Run by scripts/golden-record.mjs. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostKernel } from './candidates.ts';
import { cases } from './cases/index.ts';
import { countObservations, formatGolden, toGolden } from './golden.ts';
import { runCases } from './run-cases.ts';

const [directory = '.', kind = 'native'] = process.argv.slice(2);

const found = hostKernel(kind === 'ffi' ? 'ffi' : 'native');
if ('missing' in found) {
  console.error(`nothing to record: ${found.missing}`);
  process.exitCode = 1;
} else {
  const golden = toGolden(await runCases(found.candidate, cases));
  const path = join(directory, `${golden.identity}.json`);
  const text = formatGolden(golden);
  const before = readGolden(path);
  mkdirSync(directory, { recursive: true });
  writeFileSync(path, text);
  const news = before === undefined ? 'new' : before === text ? 'unchanged' : 'CHANGED';
  console.log(`${path}: ${countObservations(golden)} observations in ${Object.keys(golden.cases).length} cases, ${news}`);
  for (const [name, reason] of Object.entries(golden.notRun)) console.log(`  not run: ${name}: ${reason}`);
}

function readGolden(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
