// src/ to dist/: tsc makes a module and its types of each file, bundle.mjs few files of many modules, publish.mjs dist/uapi.json. dist/ is
// replaced as a whole: no half-built one, no file of a deleted source. The modules stay in .cache/ensure/modules, for what looks inside.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { at, exists, filesUnder, fingerprint, readStamp, run, say, Unable, writeStamp } from './tree.mjs';

const bundler = join('scripts', 'ensure', 'bundle.mjs');
const publisher = join('scripts', 'uapi', 'publish.mjs');
const packageOf = (name) => join('node_modules', name, 'package.json');
const configuration = ['package.json', 'tsconfig.json', packageOf('typescript'), packageOf('rolldown'), bundler, publisher];

const sources = () => filesUnder('src', ['.ts']);
const inputs = (files) => fingerprint([...files, ...configuration]);

/** tsc of this tree; the folder it writes to can be chosen. */
export function tsc(args) {
  return run(process.execPath, [at('node_modules', 'typescript', 'bin', 'tsc'), ...args], { quiet: true });
}

/** What tsc makes of each file of src/. */
export const modules = at('.cache', 'ensure', 'modules');

/** Modules to what is shipped; the files written, relative to `to`. */
export function bundle(from, to) {
  const { ok, output } = run(process.execPath, [at(bundler), from, to], { quiet: true });
  if (!ok) {
    process.stderr.write(output);
    throw new Unable(`${bundler} failed (above); dist/ is as it was`);
  }
  return output.trim().split('\n');
}

export const compile = {
  name: 'dist',
  fresh() {
    const files = sources();
    const stamp = readStamp('dist');
    if (stamp?.inputs !== inputs(files)) return false;
    const declared = files.filter((file) => !file.endsWith('.d.ts')).map((file) => file.slice(4).replace(/\.ts$/, '.d.ts'));
    return [...declared, ...stamp.outputs].every((file) => exists(at('dist', file)));
  },
  run() {
    const files = sources();
    const stamp = inputs(files);
    say(`compiling ${files.length} TypeScript files to dist/`);
    const fresh = at('.cache', 'ensure', 'dist');
    for (const folder of [modules, fresh]) rmSync(folder, { recursive: true, force: true });
    mkdirSync(dirname(fresh), { recursive: true });
    const { ok, output } = tsc(['-p', at('tsconfig.json'), '--outDir', modules, '--declarationDir', fresh, '--sourceMap']);
    if (!ok) {
      process.stderr.write(output);
      throw new Unable('tsc found errors (above); dist/ is as it was');
    }
    const outputs = bundle(modules, fresh);
    const old = at('.cache', 'ensure', 'dist.old');
    rmSync(old, { recursive: true, force: true });
    if (exists(at('dist'))) renameSync(at('dist'), old);
    renameSync(fresh, at('dist'));
    rmSync(old, { recursive: true, force: true });
    if (exists(at(publisher))) {
      const published = run(process.execPath, [at(publisher)], { quiet: true });
      if (!published.ok) {
        process.stderr.write(published.output);
        throw new Unable(`${publisher} failed (above): no dist/uapi.json`);
      }
      outputs.push('uapi.json');
    }
    writeStamp('dist', { inputs: stamp, outputs });
  },
};
