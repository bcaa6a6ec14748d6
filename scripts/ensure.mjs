#!/usr/bin/env node
// Before `npm start` and `npm test`: installs and builds what is missing or stale, says what it does, and is silent where all is
// fresh. Nothing but Node's own modules may be used here: node_modules may not exist yet.
//
//   node scripts/ensure.mjs            what is missing or stale
//   node scripts/ensure.mjs --force    compile and build again
import { realpathSync } from 'node:fs';
import { addon } from './ensure/addon.mjs';
import { compile } from './ensure/compile.mjs';
import { conformance } from './ensure/conformance.mjs';
import { install } from './ensure/install.mjs';
import { withLock } from './ensure/lock.mjs';
import { at, exists, root, say, Unable, writable } from './ensure/tree.mjs';

const steps = [install, compile, conformance, addon];

export async function ensure({ force = false } = {}) {
  if (!force && steps.every((step) => step.fresh())) return;
  if (!writable(root)) {
    const stale = steps.filter((step) => !step.fresh()).map((step) => step.name);
    const text = `${stale.join(', ')} not up to date, and this user may not write ${root}`;
    if (!exists(at('dist', 'index.js'))) throw new Unable(`${text}: run \`npm start\` once as its owner`);
    say(`${text}: going on with what is there`);
    return;
  }
  const waiting = (pid) => say(`another run (process ${pid}) is installing or building; waiting for it`);
  await withLock(waiting, () => {
    for (const step of steps) if (!step.fresh() || (force && step !== install)) step.run();
  });
}

/** For scripts: an `Unable` is told in one line, anything else is a defect of ours and keeps its stack. */
export async function ensureOrExit(options) {
  try {
    await ensure(options);
  } catch (error) {
    if (!(error instanceof Unable)) throw error;
    process.stderr.write(`kvio: ${error.message}\n`);
    process.exit(1);
  }
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  process.stderr.write(`kvio: Node.js ${process.versions.node} is too old, 20.19 or newer is needed\n`);
  process.exit(1);
}

checkNode();
if (process.argv[1] !== undefined && import.meta.filename === realpathSync(process.argv[1])) {
  await ensureOrExit({ force: process.argv.includes('--force') });
}
