import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, hostname, release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findKernels } from 'kvio';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const main = resolve(import.meta.dirname, '../../dist/cli/main.js');
const kernels = findKernels()
  .filter(({ available }) => available)
  .map(({ kind }) => kind);

describe.each(kernels)('kvio conformance on %s', (kernel) => {
  let folder = '';
  const kvio = (...args: string[]) => {
    const { KVIO_KERNEL: _, ...env } = process.env;
    const all = [main, 'conformance', ...args, '--kernel', kernel];
    return spawnSync(process.execPath, all, { cwd: folder, env, encoding: 'utf8', timeout: 170_000, maxBuffer: 1 << 24 });
  };
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kvio conformance '));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  // Where KVM emulates, a case can answer otherwise when the host is interrupted in it: then once more.
  it('records into a file named after the kernel, masked, and finds itself the same', { timeout: 600_000, retry: 2 }, () => {
    for (const old of readdirSync(folder)) rmSync(join(folder, old));
    const { status, stdout, stderr } = kvio('record');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [file, ...others] = readdirSync(folder);
    expect(others).toEqual([]);
    const text = readFileSync(join(folder, file!), 'utf8');
    const golden = JSON.parse(text);
    expect(file).toBe(`${golden.identity}.json`);
    expect(golden.release).toMatch(/^\d+(\.\d+)*$/);
    expect(golden.cases['kvm/system/msr-index-list'].indices).toBe('(volatile)');
    expect(Object.values(golden.notRun).filter((reason) => /^failed/.test(String(reason)))).toEqual([]);
    expect(stdout).toContain(`observations in ${Object.keys(golden.cases).length} cases`);
    for (const reason of Object.values(golden.notRun)) expect(stdout).toContain(reason);
    for (const own of [homedir(), hostname(), release()].filter((word) => word.length > 4 && word !== golden.release))
      expect(text).not.toContain(own);

    const same = kvio('compare', file!);
    expect(same).toMatchObject({ status: 0, stderr: '' });
    expect(same.stdout).toMatch(/: [1-9]\d{3,} the same, 0 different/);

    golden.cases['kvm/system/api-version']['arg 1'] = 'EFAULT';
    writeFileSync(join(folder, 'other.json'), JSON.stringify(golden));
    const other = kvio('compare', 'other.json');
    expect(other.status).toBe(1);
    expect(other.stdout).toContain('kvm/system/api-version › arg 1\n    golden: "EFAULT"\n    answer: "EINVAL"');
  });

  it.skipIf(kernel !== 'sim')('prints it', () => {
    const printed = kvio('record', '--out', '-');
    expect(printed.status).toBe(0);
    expect(JSON.parse(printed.stdout).cases).toHaveProperty('kvm/files/system');
  });
});
