/** docs/README.md leads to every page, its links lead somewhere, and its table is what `npm run docs` writes. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import * as kvio from 'kvio';
import { ioctls } from 'kvio/uapi';
import { expect, it } from 'vitest';
import { withTables } from '../../scripts/docs/index.mjs';

const root = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const pages = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)];

it('is up to date (npm run docs)', () => expect(withTables(read('docs/README.md'), kvio, ioctls())).toBe(read('docs/README.md')));

it('has every page', () => {
  const linked = [...read('docs/README.md').matchAll(/\]\(([\w-]+\.md)\)/g)].map(([, name]) => `docs/${name}`);
  expect([...new Set(linked)].sort()).toEqual(pages.filter((page) => page !== 'README.md' && page !== 'docs/README.md').sort());
});

/** As GitHub makes them of headings. */
const anchors = (text: string): string[] =>
  [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, '')
      .replaceAll(/\s/g, '-'),
  );

it.each(pages)('%s: links lead somewhere', (page) => {
  const links = [...read(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!).filter((link) => !/^https?:/.test(link));
  for (const link of links) {
    const [path, anchor] = link.split('#') as [string, string?];
    const text = read(path === '' ? page : join(dirname(page), path));
    if (anchor !== undefined) expect(anchors(text), link).toContain(anchor);
  }
});

it.each(pages)('%s: files and commands it names are there', (page) => {
  const { scripts } = JSON.parse(read('package.json'));
  const text = read(page).replaceAll(/node_modules\/kvio/g, '');
  for (const [, script] of text.matchAll(/\bnpm run ([\w:]+)/g)) expect(scripts, script).toHaveProperty([script!]);
  const named = [...text.matchAll(/`((?:docs|examples|scripts|test|src)\/[\w./-]+\.(?:md|ts|mjs|json|c|config))`/g)];
  for (const [, path] of named) expect(read(path!), path).not.toBe('');
});
