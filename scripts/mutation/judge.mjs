/** Runs the compiled conformance cases of a package on its simulator, against the goldens; exit status 1 and the first difference if any. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [, , folder, goldens] = process.argv;
const load = (name) => import(pathToFileURL(join(folder, 'dist/conformance', name)).href);
const [{ candidates }, { cases }, { compare }, { runCases }] = await Promise.all(
  ['candidates.js', 'cases/index.js', 'golden.js', 'run-cases.js'].map(load),
);
const known = JSON.parse(readFileSync(join(goldens, 'differences.json'), 'utf8'));
for (const [name, one] of candidates()) {
  if (!name.startsWith('sim ')) continue;
  const report = await runCases(one.candidate, cases);
  const path = join(goldens, 'kvm', `${report.identity}.json`);
  if (!existsSync(path)) continue;
  const [first] = compare(JSON.parse(readFileSync(path, 'utf8')), report, known).differences;
  if (first === undefined) continue;
  console.log(`${first.case} › ${first.label}`);
  process.exit(1);
}
