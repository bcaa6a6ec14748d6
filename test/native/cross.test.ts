// The addon's sources for the other architecture: they compile there, where this host has the compiler. (That they run is the prebuilds' business.)
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const headers = [process.env['npm_config_nodedir'], dirname(dirname(realpathSync(process.execPath)))]
  .filter((folder) => folder !== undefined)
  .map((folder) => join(folder, 'include/node'))
  .find((folder) => existsSync(join(folder, 'node_api.h')));

/** As in binding.gyp. */
const flags = [
  ...['-DNAPI_VERSION=9', '-DNODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', '-DNODE_ADDON_API_DISABLE_DEPRECATED'],
  '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
  ...['-std=gnu++20', '-fno-exceptions', '-fno-rtti', '-fno-threadsafe-statics', '-fcheck-new', '-Wall', '-Wextra', '-Werror'],
];

const compilers = { x64: ['x86_64-linux-gnu-g++', 'g++'], arm64: ['aarch64-linux-gnu-g++'] } as const;
const others = Object.entries(compilers).filter(
  ([arch]) => arch !== process.arch || process.env['KVIO_TEST_CROSS'] !== undefined,
);

/** Why this compiler cannot be used here. */
function missing(compiler: string): string | undefined {
  if (headers === undefined) return 'this Node has no headers';
  const tried = spawnSync(compiler, ['-x', 'c++', '-fsyntax-only', '-'], { input: '#include <cstddef>\n', encoding: 'utf8' });
  return tried.status === 0
    ? undefined
    : `no working ${compiler} (apt-get install ${compiler.replace(/^(\S+)-linux-gnu-g\+\+$/, 'g++-$1-linux-gnu')})`;
}

for (const [arch, names] of others) {
  const reasons = names.map((name) => [name, missing(name)] as const);
  const compiler = reasons.find(([, reason]) => reason === undefined)?.[0];
  const title = `the addon for ${arch}${compiler === undefined ? ` (not run: ${reasons.at(-1)![1]})` : ''}`;
  describe.skipIf(compiler === undefined)(title, () => {
    it.each(readdirSync(join(root, 'native')).filter((file) => file.endsWith('.cc')))('%s compiles', (file) => {
      const include = ['-isystem', headers!, '-isystem', join(root, 'node_modules/node-addon-api')];
      const { status, stderr } = spawnSync(compiler!, [...flags, ...include, '-fsyntax-only', join(root, 'native', file)], {
        encoding: 'utf8',
      });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    });
  });
}
