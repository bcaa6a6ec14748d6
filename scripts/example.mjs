#!/usr/bin/env node
// npm run example -- NAME [arguments]: runs examples/NAME.ts, on every Node we support (20 cannot strip types), against the built
// package, as a user's program would.
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { tsc } from './ensure/compile.mjs';
import { withLock } from './ensure/lock.mjs';
import { at, exists, filesUnder, fingerprint, readStamp, Unable, writeStamp } from './ensure/tree.mjs';
import { ensureOrExit } from './ensure.mjs';

const files = () => filesUnder('examples', ['.ts']).map((file) => file.slice('examples/'.length, -3));
/** Those in folders are parts of several. */
const names = () => files().filter((name) => !name.includes('/'));
const output = (name) => at('.cache', 'examples', `${name}.js`);
const inputs = () =>
  fingerprint([...filesUnder('examples', ['.ts']), 'tsconfig.json', join('node_modules', 'typescript', 'package.json')]);

/** Types are `npm run types`' business: here they are only taken away. The files stay inside the package, so that `kvio` is found. */
async function compileExamples() {
  const fresh = () => readStamp('examples')?.inputs === inputs() && files().every((name) => exists(output(name)));
  if (fresh()) return;
  await withLock(
    () => {},
    () => {
      if (fresh()) return;
      const stamp = { inputs: inputs() };
      const folder = at('.cache', 'examples');
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true });
      const options = { rootDir: '../../examples', outDir: '.', noCheck: true, declaration: false, isolatedDeclarations: false };
      const project = { extends: '../../tsconfig.json', compilerOptions: options, include: ['../../examples/**/*.ts'] };
      writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(project));
      const result = tsc(['-p', join(folder, 'tsconfig.json')]);
      if (!result.ok) throw new Unable(`examples do not compile\n${result.output}`);
      writeStamp('examples', stamp);
    },
  );
}

const [name, ...args] = process.argv.slice(2);
if (name === undefined || !names().includes(name)) {
  const list = `usage: npm run example -- NAME [arguments]\n\n${names()
    .map((each) => `  ${each}\n`)
    .join('')}`;
  if (name === undefined) process.stdout.write(list);
  else process.stderr.write(`kvio: there is no examples/${name}.ts\n${list}`);
  process.exit(name === undefined ? 0 : 1);
}

await ensureOrExit();
try {
  await compileExamples();
} catch (error) {
  process.stderr.write(`kvio: ${error.message}\n`);
  process.exit(1);
}
const child = spawn(process.execPath, [output(name), ...args], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('error', (error) => {
  process.stderr.write(`kvio: ${error.message}\n`);
  process.exitCode = 1;
});
child.on('close', (code, signal) => {
  process.exitCode = signal === null ? code : 128 + constants.signals[signal];
});
