#!/usr/bin/env node
// npm run example -- NAME [arguments]: runs examples/NAME.ts, on every Node we support (20 cannot strip types), against the built
// package, as a user's program would.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { compileExamples, names, output } from './ensure/examples.mjs';
import { ensureOrExit } from './ensure.mjs';

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
