/** Runs the compiled conformance cases of a package on its simulator, against the goldens; exit status 1 and the first difference if any. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [, , folder, goldens] = process.argv;
const load = (name) => import(pathToFileURL(join(folder, 'dist/conformance', name)).href);
const [{ candidates }, { cases }, { compare }, { runCases }, { readDifferences, readGolden }] = await Promise.all(
  ['candidates.js', 'cases/index.js', 'golden.js', 'run-cases.js', 'golden-files.js'].map(load),
);
const known = readDifferences(goldens);
for (const [name, one] of candidates()) {
  if (!name.startsWith('sim ')) continue;
  const report = await runCases(one.candidate, cases);
  const golden = readGolden(goldens, report.identity);
  if (golden === undefined) continue;
  const [first] = compare(golden, report, known).differences;
  if (first === undefined) continue;
  console.log(`${first.case} › ${first.label}`);
  process.exit(1);
}
