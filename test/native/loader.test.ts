import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/native/index.ts';
import { bareChild } from './child.ts';

const loaded = loadAddon();

/** What loadAddon() says in a fresh process. */
function answer(environment: Record<string, string>, options: string[] = []): { reason?: string; path?: string } {
  const result = bareChild('console.log(JSON.stringify(loadAddon()));', options, environment);
  expect(result.stderr).toBe('');
  return JSON.parse(result.stdout);
}

describe.skipIf(process.platform !== 'linux')('finding the addon', () => {
  test.skipIf('reason' in loaded)('it is there', () => {
    expect(answer({}).path).toMatch(/kvio\.node$/);
  });

  test('switched off', () => {
    expect(answer({ KVIO_ADDON: 'none' }).reason).toContain('switched off');
    expect(answer({ KVIO_ADDON: '' }).reason).toContain('switched off');
  });

  test('a file that is not there, or is no addon', () => {
    expect(answer({ KVIO_ADDON: '/nonexistent.node' }).reason).toContain('/nonexistent.node');
    expect(answer({ KVIO_ADDON: '/dev/null' }).reason).toMatch(/dev\/null could not be loaded/);
  });

  test.skipIf('reason' in loaded)('a process that may not load addons', () => {
    expect(answer({}, ['--no-addons']).reason).toContain('ERR_DLOPEN_DISABLED');
  });

  test.skipIf('reason' in loaded)('needs nothing but libc and Node-API', () => {
    if ('reason' in loaded) return;
    const symbols = execFileSync('nm', ['-D', '--undefined-only', loaded.path], { encoding: 'utf8' });
    const foreign = symbols
      .split('\n')
      .filter((line) => / U /.test(line) && !/ (napi_\w+|node_api_\w+|\w+@GLIBC_2\.\d+)/.test(line));
    expect(foreign).toEqual([]);
    const versions = [...symbols.matchAll(/@GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
    expect(Math.max(...versions)).toBeLessThanOrEqual(34);
  });
});
