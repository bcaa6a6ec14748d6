#!/usr/bin/env node
// The compiled modules of src/, one for each file, to what is shipped: an entry for each of package.json's `exports`, and one file for each
// layer they share. Node reads a module in half a millisecond, whatever is in it, and src/ is more than four hundred.
//
//   node scripts/ensure/bundle.mjs FROM TO      prints the files it wrote, relative to TO, a line each
import { existsSync, readFileSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { rolldown } from 'rolldown';

const [from, to] = process.argv.slice(2).map((folder) => resolve(folder));

/** What is imported or started by name; `native/index` by the tests of the addon only. */
const entries = ['index', 'sim/index', 'uapi/index', 'testing', 'cli/main', 'native/index'];

/** Shared files, by the folders of src/ they hold. They lie as deep as the modules in them did: some find their neighbours by `import.meta.url`. */
const layers = {
  uapi: /^uapi\/(?!index)/,
  kernel: /^kernel\//,
  open: /^(open|native|ffi)\b/,
  objects: /^(kvm|vfio|iommufd|host|tee-io)\//,
  sim: /^sim\/(?!index)/,
};

const pathOf = (id) => relative(from, id).split(sep).join('/');

/** Source maps of the compiler's output, so that those of the bundle lead to src/. */
const maps = {
  name: 'maps',
  load: (id) => (id.startsWith(from) ? { code: readFileSync(id, 'utf8'), map: readFileSync(`${id}.map`, 'utf8') } : undefined),
};

const bundle = await rolldown({
  input: Object.fromEntries(entries.map((name) => [name, join(from, `${name}.js`)]).filter(([, file]) => existsSync(file))),
  cwd: from,
  platform: 'node',
  // As it was written: a constant keeps its name.
  optimization: { inlineConst: false },
  external: [/^node:/, 'ffi-rs', 'kvio/package.json'],
  plugins: [maps],
});
const { output } = await bundle.write({
  dir: to,
  chunkFileNames: 'shared/[name].js',
  minifyInternalExports: false,
  codeSplitting: { groups: Object.entries(layers).map(([name, folders]) => ({ name, test: (id) => folders.test(pathOf(id)) })) },
  sourcemap: true,
  sourcemapExcludeSources: true,
  // As it will be from dist/, wherever the bundle is made.
  sourcemapPathTransform: (source, map) =>
    `${'../'.repeat(relative(to, map).split(sep).length)}${source.slice(source.indexOf('src/'))}`,
});
process.stdout.write(output.map(({ fileName }) => `${fileName}\n`).join(''));
