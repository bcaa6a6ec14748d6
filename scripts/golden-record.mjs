/**
 * Records what this machine's kernel answers, as `kvio conformance record` does, into test/golden/kvm/<identity>.json; recording
 * twice gives the same bytes. Where a case fails by itself, nothing is recorded.
 *
 *   npm run golden:record                     record
 *   npm run golden:record -- --kernel ffi     through ffi-rs instead of the addon
 *   npm run golden:record -- --out DIR        elsewhere
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ensureOrExit } from './ensure.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    kernel: { type: 'string', default: 'native' },
    out: { type: 'string', default: join(root, 'test', 'golden', 'kvm') },
  },
});

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

await ensureOrExit();
const { countObservations, formatGolden, record } = await import('../dist/conformance/record.js');
try {
  const { golden, failed } = await record(values.kernel);
  if (Object.keys(failed).length > 0) {
    const lines = Object.entries(failed).map(([name, how]) => `  ${name}: ${how}`);
    throw new Error(`cases failed; nothing is recorded:\n${lines.join('\n')}`);
  }
  const path = join(values.out, `${golden.identity}.json`);
  const text = formatGolden(golden);
  const before = read(path);
  mkdirSync(values.out, { recursive: true });
  writeFileSync(path, text);
  const news = before === undefined ? 'new' : before === text ? 'unchanged' : 'CHANGED';
  console.log(`${path}: ${countObservations(golden)} observations in ${Object.keys(golden.cases).length} cases, ${news}`);
  for (const [name, reason] of Object.entries(golden.notRun)) console.log(`  not run: ${name}: ${reason}`);
} catch (error) {
  console.error(`nothing to record: ${error.message}`);
  process.exitCode = 1;
}
