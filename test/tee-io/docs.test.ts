// docs/tee-io.md says which test shows what: each of them exists under the name it has there.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { openSim, profiles } from 'kvio/sim';
import { describe, expect, it } from 'vitest';
import { cases } from '../conformance/cases/index.ts';

const root = resolve(import.meta.dirname, '../..');
const page = readFileSync(`${root}/docs/tee-io.md`, 'utf8');
const rows = page.split('\n').flatMap((line) => {
  const [, demand, file, name] = /^\| (.+) \| `(test\/[\w/.-]+\.ts)` \| (.+) \|$/.exec(line) ?? [];
  return demand === undefined ? [] : [{ demand, file: file!, name: name! }];
});
const caseNames = new Set(cases.map(({ name }) => name));
const sources = new Map(rows.map(({ file }) => [file, readFileSync(`${root}/${file}`, 'utf8')]));

describe('docs/tee-io.md', () => {
  it('has a row for each demand, and none that is no row', () => {
    expect(rows.length).toBeGreaterThan(40);
    const tables = page.slice(page.indexOf('## What the seeds')).match(/^\| .*\|$/gm)!;
    expect(
      tables.filter((line) => !/^\|(?: (?:demand)? ?\| \|| \| \| test|---)/.test(line) && !line.startsWith('| demand')).length,
    ).toBe(rows.length);
  });

  it.each(rows)('$demand', ({ file, name }) => {
    const there = file.includes('/conformance/') ? caseNames.has(name) : sources.get(file)!.includes(name);
    expect(there, `${file}: ${name}`).toBe(true);
  });

  it('names every switch, with its default first', () => {
    const { teeIo } = openSim({ machine: 'tee-io-7.2', teeIo: 'rfc' }).machine;
    for (const [name, value] of Object.entries(teeIo!)) {
      const [, values] = new RegExp(`^\\| \`${name}\` \\| ([^|]+) \\|`, 'm').exec(page) ?? [];
      expect(values, name).toBeDefined();
      if (!Array.isArray(value)) expect(values!.replaceAll('`', '').startsWith(String(value)), name).toBe(true);
    }
    expect(profiles['tee-io-7.2']!.teeIo).toEqual(teeIo);
  });

  it('names files that exist', () => {
    for (const [, path] of page.matchAll(/`(docs\/[\w.-]+|test\/[\w/.-]+\.ts)`/g))
      expect(readFileSync(`${root}/${path}`, 'utf8')).not.toBe('');
  });
});
