/**
 * Runs the compiled conformance cases of a package on its simulator, against the goldens; exit status 1 and the first difference if any. `area`: what the fault is in;
 * machines with devices come first where it is not KVM.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [, , folder, goldens, area] = process.argv;
const load = (name) => import(pathToFileURL(join(folder, 'dist/conformance', name)).href);
const [{ candidates }, { cases }, { compare }, { runCases }, { readDifferences, readGolden }] = await Promise.all(
  ['candidates.js', 'cases/index.js', 'golden.js', 'run-cases.js', 'golden-files.js'].map(load),
);
const known = readDifferences(goldens);
const simulated = [...candidates()].filter(([name]) => name.startsWith('sim '));
const hasDevices = ([name]) => /^sim (lab|iommufd)-/.test(name);
if (area === 'vfio' || area === 'iommufd') simulated.sort((one, other) => hasDevices(other) - hasDevices(one));
for (const [, one] of simulated) {
  const report = await runCases(one.candidate, cases);
  const golden = readGolden(goldens, report.identity);
  if (golden === undefined) continue;
  const [first] = compare(golden, report, known).differences;
  if (first === undefined) continue;
  console.log(`${first.case} › ${first.label}`);
  process.exit(1);
}
