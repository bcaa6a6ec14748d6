import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const prebuilt = `prebuilds/${process.platform}-${process.arch}/kvio.node`;
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

const run = (args: string[]): string => execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' });

describe('the package', () => {
  const packed: string[] = JSON.parse(
    execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts', '--no-update-notifier'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  )[0].files.map((file: { path: string }) => file.path);

  it('holds what runs and what builds, and nothing else', () => {
    const tops = new Set(packed.map((path) => path.split('/')[0]!));
    for (const needed of [
      'dist',
      'docs',
      'examples',
      'native',
      'binding.gyp',
      'package.json',
      'README.md',
      'LICENSE',
      'CHANGELOG.md',
    ])
      expect(tops).toContain(needed);
    if (existsSync(join(root, prebuilt))) expect(packed).toContain(prebuilt);
    for (const own of ['src', 'test', 'scripts', 'build', 'node_modules', '.ci', '.cache']) expect(tops).not.toContain(own);
    expect(packed.filter((path) => path.startsWith('dist/') && !/\.(js|js\.map|d\.ts|json)$/.test(path))).toEqual([]);
  });

  it('holds every file that exports and bin name', () => {
    const named = Object.values(manifest.exports as Record<string, string | Record<string, string>>).flatMap((entry) =>
      typeof entry === 'string' ? [entry] : Object.values(entry),
    );
    for (const file of [...named, ...Object.values<string>(manifest.bin)]) expect(packed).toContain(file.replace('./', ''));
  });

  it('names types first', () => {
    for (const entry of Object.values(manifest.exports))
      if (typeof entry === 'object') expect(Object.keys(entry!)[0]).toBe('types');
  });

  it('does nothing at installation', () => {
    // npm runs node-gyp for a package with binding.gyp that has no such script: `npm ci` also against gypfile, which no lock file has.
    const scripts = Object.entries(manifest.scripts).filter(([name]) => /^(pre|post)?install$|^(pre|post)?prepare$/.test(name));
    expect(scripts).toEqual([['install', 'node -e 0']]);
    expect(manifest.gypfile).toBe(false);
  });

  it('depends on what its addon is built with, and on nothing else', () => {
    const required = readFileSync(join(root, 'binding.gyp'), 'utf8').matchAll(/require\('([^']+)'\)/g);
    expect([...required].map(([, name]) => name)).toEqual(Object.keys(manifest.dependencies));
  });

  it.each(['kvio', 'kvio/sim', 'kvio/uapi', 'kvio/testing'])('%s resolves, and importing it touches nothing', async (name) => {
    const script = `const before = process.listenerCount('warning'); const it = await import('${name}');
      console.log(JSON.stringify([Object.keys(it).length, process.listenerCount('warning') - before]))`;
    const [names, listeners] = JSON.parse(run(['--input-type=module', '-e', script]));
    expect(names).toBeGreaterThan(0);
    expect(listeners).toBe(0);
  });

  it('has every class under its own name, and once for all entries', () => {
    const script = `
      const [kvio, sim, testing] = await Promise.all(['kvio', 'kvio/sim', 'kvio/testing'].map((name) => import(name)));
      const isClass = (it) => typeof it === 'function' && /^class\\b/.test(Function.prototype.toString.call(it));
      const misnamed = [kvio, sim, testing].flatMap((it) => Object.keys(it).filter((key) => isClass(it[key]) && it[key].name !== key));
      const refusal = (kernel) => { try { kernel.open('/none'); } catch (error) { return error instanceof kvio.KernelError; } };
      const kernels = [sim.openSim(), kvio.openKernel({ kernel: 'sim' })];
      console.log(JSON.stringify([misnamed, kernels.map(refusal), new Set(kernels.map((kernel) => kernel.constructor)).size]));`;
    expect(JSON.parse(run(['--input-type=module', '-e', script]))).toEqual([[], [true, true], 1]);
  });

  it.each([
    ['kvio', ['index', 'shared/kernel', 'shared/objects', 'shared/open', 'shared/uapi']],
    ['kvio/sim', ['sim/index', 'shared/kernel', 'shared/sim', 'shared/uapi']],
    ['kvio/uapi', ['uapi/index', 'shared/uapi']],
    ['kvio/testing', ['testing', 'shared/kernel', 'shared/open', 'shared/uapi']],
  ])('%s loads few files, and the simulator only where it is asked for', (name, files) => {
    const hooks = `import { writeSync } from 'node:fs';
      export const load = (url, context, next) => { if (url.startsWith('file:')) writeSync(1, url + '\\n'); return next(url, context); };`;
    const asModule = (text: string): string => `data:text/javascript,${encodeURIComponent(text)}`;
    const register = asModule(`import { register } from 'node:module'; register(${JSON.stringify(asModule(hooks))});`);
    const loaded = run(['--import', register, '--input-type=module', '-e', `await import('${name}')`]);
    const dist = pathToFileURL(join(root, 'dist/')).href;
    expect(loaded.trim().split('\n').sort()).toEqual(files.map((file) => `${dist}${file}.js`).sort());
  });

  it('leads a stack trace to src/', () => {
    const script = `import { openKernel } from 'kvio'; try { openKernel({ kernel: 'none' }); } catch ({ stack }) { console.log(stack); }`;
    expect(run(['--enable-source-maps', '--input-type=module', '-e', script])).toContain(`${join(root, 'src/open.ts')}:`);
  });

  it('publishes the ioctl table as kvio/uapi.json', () => {
    const table = JSON.parse(readFileSync(createRequire(import.meta.url).resolve('kvio/uapi.json'), 'utf8'));
    expect(JSON.stringify(table)).toContain('"KVM_SET_USER_MEMORY_REGION"');
  });
});
