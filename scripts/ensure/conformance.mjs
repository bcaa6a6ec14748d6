// test/conformance to dist/conformance: the cases as `kvio conformance` runs them on any host. After dist/, whose types they use.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { tsc } from './compile.mjs';
import { at, exists, filesUnder, fingerprint, readStamp, say, Unable, writeStamp } from './tree.mjs';

const folder = join('test', 'conformance');
const configuration = [join(folder, 'tsconfig.json'), 'tsconfig.json', join('node_modules', 'typescript', 'package.json')];

const sources = () => filesUnder(folder, ['.ts']).filter((file) => !file.endsWith('.test.ts'));
const inputs = (files) => fingerprint([...files, ...configuration]);

export const conformance = {
  name: 'dist/conformance',
  fresh() {
    const files = sources();
    if (files.length === 0) return true;
    if (readStamp('conformance')?.inputs !== inputs(files)) return false;
    return files.every((file) => exists(at('dist', file.slice('test/'.length).replace(/\.ts$/, '.js'))));
  },
  run() {
    const files = sources();
    if (files.length === 0) return;
    const stamp = inputs(files);
    say(`compiling ${files.length} files of conformance cases to dist/conformance/`);
    const fresh = at('.cache', 'ensure', 'conformance');
    rmSync(fresh, { recursive: true, force: true });
    mkdirSync(dirname(fresh), { recursive: true });
    const { ok, output } = tsc(['-p', at(folder, 'tsconfig.json'), '--outDir', fresh]);
    if (!ok) {
      process.stderr.write(output);
      throw new Unable('tsc found errors (above); there is no new dist/conformance');
    }
    rmSync(at('dist', 'conformance'), { recursive: true, force: true });
    renameSync(fresh, at('dist', 'conformance'));
    writeStamp('conformance', { inputs: stamp });
  },
};
