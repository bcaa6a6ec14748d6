/**
 * Records what this machine's kernel answers, as `kvio conformance record` does, into test/golden/kvm/<identity>/; recording
 * twice gives the same bytes. Where a case fails by itself, nothing is recorded.
 *
 *   npm run golden:record                     record
 *   npm run golden:record -- --only TEXT      cases with this in their name; what was recorded of the others stays
 *   npm run golden:record -- --kernel ffi     through ffi-rs instead of the addon
 *   npm run golden:record -- --out DIR        elsewhere than in test/golden
 *   npm run golden:record -- --hugepages N    with so many free huge pages of 2 MiB, of which the host has the rest back afterwards (root)
 *   npm run golden:record -- --import FILE    what `kvio conformance record` wrote on another host; what it does not tell of stays
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureOrExit } from './ensure.mjs';
import { optionsOf, usageOf } from './options.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = optionsOf(usageOf(import.meta.filename), {
  numbers: ['hugepages'],
  options: {
    kernel: { type: 'string', default: 'native' },
    only: { type: 'string' },
    import: { type: 'string' },
    hugepages: { type: 'string' },
    out: { type: 'string', default: join(root, 'test', 'golden') },
  },
});

await ensureOrExit();
const { caseNames, readRecording, record, writeGolden } = await import('../dist/conformance/record.js');

function takeIn(file) {
  const golden = readRecording(file);
  const told = [...Object.keys(golden.cases), ...Object.keys(golden.notRun)];
  const gone = told.filter((name) => !caseNames.includes(name));
  if (gone.length === told.length) throw new Error(`${file} tells of no case there is`);
  for (const line of writeGolden(values.out, golden, caseNames, true)) console.log(line);
  for (const name of gone) console.log(`  dropped: ${name}: there is no such case any more`);
}

async function recordHere() {
  const { golden, failed } = await record(values.kernel, values.only === undefined ? {} : { only: values.only });
  if (Object.keys(failed).length > 0) {
    const lines = Object.entries(failed).map(([name, how]) => `  ${name}: ${how}`);
    throw new Error(`cases failed; nothing is recorded:\n${lines.join('\n')}`);
  }
  for (const line of writeGolden(values.out, golden, caseNames, values.only !== undefined)) console.log(line);
  for (const [name, reason] of Object.entries(golden.notRun)) console.log(`  not run: ${name}: ${reason}`);
}

const POOL = '/proc/sys/vm/nr_hugepages';

/** Does it while the host has so many huge pages. */
async function withHugepages(pages, work) {
  const before = readFileSync(POOL, 'utf8');
  writeFileSync(POOL, pages);
  try {
    await work();
  } finally {
    writeFileSync(POOL, before);
  }
}

try {
  if (values.import === undefined)
    await (values.hugepages === undefined ? recordHere() : withHugepages(values.hugepages, recordHere));
  else takeIn(values.import);
} catch (error) {
  console.error(`nothing to record: ${error.message}`);
  process.exitCode = 1;
}
