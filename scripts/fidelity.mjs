// docs/fidelity.md from test/conformance/checks, the goldens and the simulator's coverage.
//
//   npm run fidelity
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureOrExit } from './ensure.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = join(root, 'test', 'golden', 'kvm');

await ensureOrExit();
const { fidelity } = await import('../dist/conformance/fidelity.js');
const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
const goldens = files.sort().map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')));
writeFileSync(join(root, 'docs', 'fidelity.md'), fidelity(goldens));
