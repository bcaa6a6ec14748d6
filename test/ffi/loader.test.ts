import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { findKernels, NotAvailable, openKernel } from 'kvio';
import { beforeEach, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const reasonNow = findKernels([]).find(({ kind }) => kind === 'ffi')!;

/** What a fresh process says of the ffi kernel. */
function reasonIn(cwd: string, options: string[] = []): { available: boolean; reason: string } {
  const script =
    "import { findKernels } from 'kvio'; console.log(JSON.stringify(findKernels([]).find(({ kind }) => kind === 'ffi')))";
  const output = execFileSync(process.execPath, [...options, '--input-type=module', '-e', script], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  return JSON.parse(output);
}

/** The built package with only these packages beside it. */
function installed(packages: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'kvio loader '));
  for (const file of ['dist', 'package.json']) cpSync(join(root, file), join(folder, file), { recursive: true });
  mkdirSync(join(folder, 'node_modules'));
  for (const name of packages) cpSync(join(root, 'node_modules', name), join(folder, 'node_modules', name), { recursive: true });
  return folder;
}

describe('where ffi-rs cannot be loaded', () => {
  it('the reason names what is missing, and importing kvio works', () => {
    const [without, half] = [installed([]), installed(['ffi-rs'])];
    expect(reasonIn(without)).toMatchObject({ available: false, reason: expect.stringMatching(/^ffi-rs is not installed/) });
    expect(reasonIn(half)).toMatchObject({
      available: false,
      reason: expect.stringMatching(/^@yuuang\/ffi-rs-\S+ is not installed/),
    });
    symlinkSync(join(root, 'node_modules', '@yuuang'), join(half, 'node_modules', '@yuuang'));
    expect(reasonIn(half).available).toBe(reasonNow.available);
    for (const folder of [without, half]) rmSync(folder, { recursive: true });
  });

  it('addons switched off: so is ffi-rs, which is one', () => {
    expect(reasonIn(root, ['--no-addons'])).toMatchObject({
      available: false,
      reason: expect.stringContaining('ERR_DLOPEN_DISABLED'),
    });
  });
});

describe('the ffi kernel', () => {
  beforeEach((context) => context.skip(!reasonNow.available, reasonNow.reason));

  it('refuses what it has not, before any kernel sees it', async () => {
    using kernel = openKernel({ kernel: 'ffi', devices: [] });
    expect(kernel).toMatchObject({ kind: 'ffi', features: { async: false, kick: false, exactAccess: false } });
    await expect(kernel.waitAsync(kernel.eventfd())).rejects.toThrow(NotAvailable);
  });

  it('serves several threads at once, each with its own errno', async () => {
    const script = `const { parentPort } = require('node:worker_threads');
      import('kvio').then(({ openKernel }) => {
        const kernel = openKernel({ kernel: 'ffi', devices: [] });
        const fd = kernel.memfd('worker');
        const wrong = [];
        for (let round = 0; round < 2000; round++) {
          const codes = [() => kernel.open('/nonexistent'), () => kernel.ftruncate(fd, 1n << 63n), () => kernel.read(fd, new Uint8Array(8))].map((call) => {
            try { return call(); } catch (error) { return error.code; }
          });
          const expected = ['ENOENT', 'EINVAL', 0];
          const errno = kernel.tryIoctl(fd, 0xae00);
          if (codes.join() !== expected.join() || errno !== -25) wrong.push([codes, errno]);
        }
        kernel.close();
        parentPort.postMessage(wrong);
      });`;
    const results = await Promise.all(
      [0, 1, 2].map(
        () =>
          new Promise((resolve, reject) => {
            const worker = new Worker(script, { eval: true });
            worker.on('message', resolve).on('error', reject);
          }),
      ),
    );
    expect(results).toEqual([[], [], []]);
  });
});
