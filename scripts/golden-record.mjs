/**
 * Records what this machine's kernel answers: compiles the conformance cases and runs them with plain node on the native kernel,
 * under a descriptor limit low enough for the cases that fill the table. Writes test/golden/kvm/<identity>.json; recording twice gives the same bytes.
 *
 *   npm run golden:record                     record
 *   npm run golden:record -- --kernel ffi     through ffi-rs instead of the addon
 *   npm run golden:record -- --out DIR        elsewhere
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const compiled = join(root, '.cache', 'conformance');

function option(name, otherwise) {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : process.argv[at + 1];
}

if (!existsSync(join(root, 'dist', 'index.js'))) execFileSync('npm', ['run', 'build'], { cwd: root, stdio: 'inherit' });
execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', join(root, 'test', 'conformance', 'tsconfig.json')], {
  stdio: 'inherit',
});

const out = option('out', join(root, 'test', 'golden', 'kvm'));
const command = 'ulimit -n 1024 && exec "$@"';
const { status } = spawnSync(
  'sh',
  ['-c', command, 'sh', process.execPath, join(compiled, 'record.js'), out, option('kernel', 'native')],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
process.exitCode = status ?? 1;
