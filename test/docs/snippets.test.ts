/** Every TypeScript block of README.md and docs/ compiles as strictly as this package does, and runs on the simulator. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { others, type Program, programs } from './programs.ts';

const root = resolve(import.meta.dirname, '../..');
const folder = join(root, '.cache/docs');

const pages: ReadonlyMap<string, readonly string[]> = new Map(
  ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)]
    .filter((path) => path.endsWith('.md') && path !== 'docs/README.md')
    .map((path) => {
      const blocks = readFileSync(join(root, path), 'utf8').matchAll(/^```ts\n(.*?)^```$/gms);
      return [path.replace(/^docs\/|\.md$/g, ''), [...blocks].map(([, block]) => block!)];
    }),
);

/** Names of programs: `kvm`, a second one of the same page `kvm-2`. */
const named = programs.map((program, at): readonly [string, Program] => {
  const before = programs.slice(0, at).filter(({ page }) => page === program.page).length;
  return [before === 0 ? program.page : `${program.page}-${before + 1}`, program];
});

const textOf = ({ page, parts }: Program): string =>
  `${parts.map((part) => (typeof part === 'number' ? pages.get(page)![part]! : part)).join('\n')}\nexport {};\n`;

let complaints = 'not compiled';

beforeAll(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, program] of named) writeFileSync(join(folder, `${name}.ts`), textOf(program));
  const compilerOptions = { rootDir: '.', outDir: 'out', declaration: false, isolatedDeclarations: false };
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: '../../tsconfig.json', compilerOptions, include: ['*.ts'] }),
  );
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  complaints = spawnSync(process.execPath, [tsc, '-p', join(folder, 'tsconfig.json')], { encoding: 'utf8' }).stdout;
});

it('is every block there is', () => {
  const used = programs.flatMap(({ page, parts }) =>
    parts.flatMap((part) => (typeof part === 'number' ? [`${page} ${part}`] : [])),
  );
  const all = [...pages].flatMap(([page, blocks]) => blocks.map((_, block) => `${page} ${block}`));
  expect([...new Set([...used, ...others.map(({ page, block }) => `${page} ${block}`)])].sort()).toEqual(all.sort());
});

describe('TypeScript blocks', () => {
  it('compile', () => expect(complaints).toBe(''));

  it.each(named)('%s', (name, { prints }) => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [join(folder, 'out', `${name}.js`)], {
      env: { ...process.env, KVIO_KERNEL: 'sim' },
      encoding: 'utf8',
      timeout: 40_000,
    });
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout === '' ? [] : stdout.trimEnd().split('\n')).toEqual(prints ?? []);
  });
});
