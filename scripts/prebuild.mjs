#!/usr/bin/env node
// npm run prebuild: prebuilds/PLATFORM-ARCH/kvio.node for the npm package. Node-API and no libstdc++ (binding.gyp), so one binary
// serves every Node we support, and glibc and musl alike.
import { rmSync } from 'node:fs';
import { addon, nodedir, prebuilt } from './ensure/addon.mjs';
import { withLock } from './ensure/lock.mjs';
import { at, exists, run, say, Unable } from './ensure/tree.mjs';
import { ensureOrExit } from './ensure.mjs';

await ensureOrExit();
await withLock(
  () => {},
  () => {
    rmSync(at(prebuilt), { force: true });
    const headers = nodedir();
    const env = headers === undefined ? process.env : { ...process.env, npm_config_nodedir: headers };
    const args = ['--napi', '--strip', '--name', 'kvio', '--target', process.versions.node];
    const { ok } = run(process.execPath, [at('node_modules', 'prebuildify', 'bin.js'), ...args], { env });
    if (!ok || !exists(at(prebuilt))) throw new Unable(`prebuildify made no ${prebuilt} (its words are above)`);
    addon.adoptPrebuilt();
    say(`${prebuilt} is ready`);
  },
).catch((error) => {
  if (!(error instanceof Unable)) throw error;
  process.stderr.write(`kvio: ${error.message}\n`);
  process.exitCode = 1;
});
