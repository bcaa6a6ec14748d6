import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const prebuilt = `prebuilds/${process.platform}-${process.arch}/kvio.node`;
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

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
    for (const needed of ['dist', 'native', 'binding.gyp', 'package.json', 'README.md', 'LICENSE', 'CHANGELOG.md'])
      expect(tops).toContain(needed);
    if (existsSync(join(root, prebuilt))) expect(packed).toContain(prebuilt);
    for (const own of ['src', 'test', 'scripts', 'examples', 'build', 'node_modules', '.ci', '.cache'])
      expect(tops).not.toContain(own);
    expect(packed.filter((path) => path.startsWith('dist/') && !/\.(js|d\.ts|json)$/.test(path))).toEqual([]);
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

  it('runs nothing at installation', () => {
    expect(Object.keys(manifest.scripts).filter((name) => /^(pre|post)?install$|^(pre|post)?prepare$/.test(name))).toEqual([]);
    expect(manifest.gypfile).toBe(false);
    expect(manifest.dependencies).toBeUndefined();
  });

  it.each(['kvio', 'kvio/sim', 'kvio/uapi', 'kvio/testing'])('%s resolves, and importing it touches nothing', async (name) => {
    const script = `const before = process.listenerCount('warning'); const it = await import('${name}');
      console.log(JSON.stringify([Object.keys(it).length, process.listenerCount('warning') - before]))`;
    const [names, listeners] = JSON.parse(
      execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: root, encoding: 'utf8' }),
    );
    expect(names).toBeGreaterThan(0);
    expect(listeners).toBe(0);
  });

  it('publishes the ioctl table as kvio/uapi.json', () => {
    const table = JSON.parse(readFileSync(createRequire(import.meta.url).resolve('kvio/uapi.json'), 'utf8'));
    expect(JSON.stringify(table)).toContain('"KVM_SET_USER_MEMORY_REGION"');
  });
});
