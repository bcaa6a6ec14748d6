import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

interface Outcome {
  status: number | null;
  said: string;
}

/** A tree of our shape with next to nothing in it, in a path with spaces, whose packages are this tree's. */
describe('scripts/ensure.mjs', () => {
  let tree = '';
  const plant = (file: string, text: string): void => {
    mkdirSync(dirname(join(tree, file)), { recursive: true });
    writeFileSync(join(tree, file), text);
  };
  const ensure = (env: NodeJS.ProcessEnv = {}, args: string[] = []): Promise<Outcome> =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, ['scripts/ensure.mjs', ...args], { cwd: tree, env: { ...process.env, ...env } });
      let said = '';
      child.stdout.on('data', (data) => (said += data));
      child.stderr.on('data', (data) => (said += data));
      child.on('error', reject);
      child.on('close', (status) => resolve({ status, said }));
    });
  const built = (file: string): boolean => statSync(join(tree, file), { throwIfNoEntry: false }) !== undefined;

  beforeAll(() => {
    tree = mkdtempSync(join(tmpdir(), 'kvio ensure '));
    for (const file of ['package.json', 'tsconfig.json', 'scripts/ensure.mjs', 'scripts/ensure']) {
      cpSync(join(root, file), join(tree, file), { recursive: true });
    }
    // What is installed is what the lock file wants: a test must never make npm touch the packages of the tree it runs in.
    cpSync(join(root, 'node_modules/.package-lock.json'), join(tree, 'package-lock.json'));
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    plant('src/index.ts', 'export const one: number = 1;\n');
    plant('src/old.ts', 'export const old: number = 1;\n');
    plant('binding.gyp', "{ 'targets': [ { 'target_name': 'kvio', 'sources': [ 'native/kvio.cc' ] } ] }\n");
    plant('native/kvio.cc', '#include <node_api.h>\nNAPI_MODULE_INIT() { return exports; }\n');
  });
  afterAll(() => rmSync(tree, { recursive: true, force: true }));

  /** No compiler within reach: PATH holds nothing. */
  const bare = { PATH: '/nonexistent', CXX: '', PYTHON: '', npm_config_python: '', MAKE: '' };

  it('of two at once one works and the other waits', async () => {
    const both = await Promise.all([ensure(bare), ensure(bare)]);
    expect(both.map(({ status }) => status)).toEqual([0, 0]);
    expect(both.filter(({ said }) => said.includes('compiling 2 TypeScript files'))).toHaveLength(1);
    expect(built('dist/index.js')).toBe(true);
    expect(built('.cache/ensure/lock')).toBe(false);
  });

  it('names what the addon is missing, goes on, and does not ask again', async () => {
    plant('native/kvio.cc', '#include <node_api.h>\n// changed\nNAPI_MODULE_INIT() { return exports; }\n');
    const first = await ensure(bare);
    expect(first).toMatchObject({ status: 0 });
    expect(first.said).toMatch(/no addon, missing: python3 .*, make, g\+\+/);
    expect(await ensure(bare)).toEqual({ status: 0, said: '' });
  });

  it('is silent and leaves everything alone where all is fresh, also when only times changed', async () => {
    const before = statSync(join(tree, 'dist/index.js')).mtimeMs;
    utimesSync(join(tree, 'src/index.ts'), new Date(), new Date());
    expect(await ensure(bare)).toEqual({ status: 0, said: '' });
    expect(statSync(join(tree, 'dist/index.js')).mtimeMs).toBe(before);
  });

  it('compiles what changed and forgets what is gone', async () => {
    plant('src/index.ts', 'export const one: number = 11;\n');
    rmSync(join(tree, 'src/old.ts'));
    expect((await ensure(bare)).said).toContain('compiling 1 TypeScript files');
    expect(readFileSync(join(tree, 'dist/index.js'), 'utf8')).toContain('11');
    expect(built('dist/old.js')).toBe(false);
  });

  it('restores a file that was removed from dist/', async () => {
    rmSync(join(tree, 'dist/index.js'));
    expect((await ensure(bare)).said).toContain('compiling');
    expect(built('dist/index.js')).toBe(true);
  });

  it('an error in the source leaves dist/ as it was, and is told', async () => {
    plant('src/index.ts', "export const one: number = 'x';\n");
    const { status, said } = await ensure(bare);
    expect(status).toBe(1);
    expect(said).toContain('src/index.ts(1,14): error TS2322');
    expect(said).not.toContain('at ensure');
    expect(readFileSync(join(tree, 'dist/index.js'), 'utf8')).toContain('11');
    plant('src/index.ts', 'export const one: number = 11;\n');
    expect((await ensure(bare)).status).toBe(0);
  });

  it('takes over the lock of a process that died', async () => {
    rmSync(join(tree, 'dist'), { recursive: true });
    plant('.cache/ensure/lock', '4194303');
    expect(await ensure(bare)).toMatchObject({ status: 0 });
    expect(built('dist/index.js')).toBe(true);
    expect(built('.cache/ensure/lock')).toBe(false);
  });
});
