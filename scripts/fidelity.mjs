// docs/fidelity.md from test/conformance/checks, the goldens and the simulator's coverage.
//
//   npm run fidelity
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureOrExit } from './ensure.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

await ensureOrExit();
const { fidelity } = await import('../dist/conformance/fidelity.js');
const { readGoldens } = await import('../dist/conformance/golden-files.js');
writeFileSync(join(root, 'docs', 'fidelity.md'), fidelity(readGoldens(join(root, 'test', 'golden'))));
