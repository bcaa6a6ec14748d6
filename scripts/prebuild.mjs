#!/usr/bin/env node
// prebuilds/<platform>-<arch>/kvio.node for this machine, as it goes into the package: Node-API, so one binary for every Node; no
// C++ run-time library, so one for every libc.
//
//   node scripts/prebuild.mjs
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, realpathSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => join(root, ...parts);
const name = `${process.platform}-${process.arch}`;
/** The newest glibc a prebuilt binary may ask for. */
const newestGlibc = [2, 34];

function fail(message) {
  process.stderr.write(`prebuild: ${message}\n`);
  process.exit(1);
}

/** The headers that came with this Node, where they did. */
function nodedir() {
  const candidates = [process.env.npm_config_nodedir, dirname(dirname(realpathSync(process.execPath)))];
  return candidates.find((folder) => folder && existsSync(join(folder, 'include', 'node', 'node_api.h')));
}

/** Everything the binary needs from outside: Node-API, and libc not newer than we promise. */
function check(file) {
  const symbols = execFileSync('nm', ['-D', '--undefined-only', file], { encoding: 'utf8' }).split('\n');
  for (const line of symbols) {
    const symbol = line.trim().split(/\s+/).at(-1);
    if (!line.includes(' U ') || /^(napi|node_api)_/.test(symbol)) continue;
    const version = /@+GLIBC_(\d+)\.(\d+)/.exec(symbol);
    if (version === null) fail(`${symbol} comes from neither libc nor Node-API`);
    if (Number(version[1]) > newestGlibc[0] || Number(version[2]) > newestGlibc[1])
      fail(`${symbol} is newer than glibc ${newestGlibc.join('.')}`);
  }
  const needed = execFileSync('readelf', ['-d', file], { encoding: 'utf8' }).matchAll(/\(NEEDED\).*\[(.*)\]/g);
  for (const [, library] of needed) if (!/^(libc\.so|libc\.musl|ld-)/.test(library)) fail(`it needs ${library}`);
}

if (process.platform !== 'linux') fail(`the addon is for linux, this is ${process.platform}`);
const headers = nodedir();
/** binding.gyp asks `node` where node-addon-api is. */
const path = { PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) };
const folder = at('prebuilds', name);
rmSync(folder, { recursive: true, force: true });
// In a folder of its own: prebuildify moves the binary away, and the checkout keeps what `npm start` built.
const scratch = at('.cache', 'prebuild');
rmSync(scratch, { recursive: true, force: true });
for (const source of ['package.json', 'binding.gyp', 'native']) cpSync(at(source), join(scratch, source), { recursive: true });
const { status } = spawnSync(
  process.execPath,
  [
    at('node_modules', 'prebuildify', 'bin.js'),
    '--napi',
    '--strip',
    '--target',
    process.versions.node,
    '--cwd',
    scratch,
    '--out',
    root,
  ],
  { cwd: scratch, env: { ...process.env, ...path, ...(headers && { npm_config_nodedir: headers }) }, stdio: 'inherit' },
);
if (status !== 0) fail(`prebuildify ended with status ${status}`);
if (!existsSync(join(folder, 'kvio.node'))) fail(`prebuildify left no kvio.node in ${folder}`);
check(join(folder, 'kvio.node'));
process.stdout.write(`prebuilds/${name}/kvio.node\n`);
