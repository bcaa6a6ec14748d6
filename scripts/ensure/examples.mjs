// examples/ to .cache/examples. Types are `npm run types`' business: here they are only taken away. The files stay inside the package, so that `kvio` is found.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tsc } from './compile.mjs';
import { withLock } from './lock.mjs';
import { at, exists, filesUnder, fingerprint, readStamp, Unable, writeStamp } from './tree.mjs';

const files = () => filesUnder('examples', ['.ts']).map((file) => file.slice('examples/'.length, -3));
const inputs = () =>
  fingerprint([...filesUnder('examples', ['.ts']), 'tsconfig.json', join('node_modules', 'typescript', 'package.json')]);

/** Those in folders are parts of several. */
export const names = () => files().filter((name) => !name.includes('/'));
export const output = (name) => at('.cache', 'examples', `${name}.js`);

export async function compileExamples() {
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
