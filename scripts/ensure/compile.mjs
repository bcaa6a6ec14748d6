// src/ to dist/ by tsc, then dist/uapi.json. dist/ is replaced as a whole: no half-built one, no file of a deleted source.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { at, exists, filesUnder, fingerprint, readStamp, run, say, Unable, writeStamp } from './tree.mjs';

const publisher = join('scripts', 'uapi', 'publish.mjs');
const configuration = ['package.json', 'tsconfig.json', join('node_modules', 'typescript', 'package.json'), publisher];

const sources = () => filesUnder('src', ['.ts']);
const inputs = (files) => fingerprint([...files, ...configuration]);

/** tsc of this tree; the folder it writes to can be chosen. */
export function tsc(args) {
  return run(process.execPath, [at('node_modules', 'typescript', 'bin', 'tsc'), ...args], { quiet: true });
}

export const compile = {
  name: 'dist',
  fresh() {
    const files = sources();
    if (readStamp('dist')?.inputs !== inputs(files)) return false;
    const outputs = files.filter((file) => !file.endsWith('.d.ts')).map((file) => join('dist', file.slice(4, -3)));
    return (
      outputs.every((file) => exists(at(`${file}.js`)) && exists(at(`${file}.d.ts`))) &&
      (!exists(at(publisher)) || exists(at('dist', 'uapi.json')))
    );
  },
  run() {
    const files = sources();
    const stamp = inputs(files);
    say(`compiling ${files.length} TypeScript files to dist/`);
    const fresh = at('.cache', 'ensure', 'dist');
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(dirname(fresh), { recursive: true });
    const { ok, output } = tsc(['-p', at('tsconfig.json'), '--outDir', fresh]);
    if (!ok) {
      process.stderr.write(output);
      throw new Unable('tsc found errors (above); dist/ is as it was');
    }
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
    }
    writeStamp('dist', { inputs: stamp });
  },
};
