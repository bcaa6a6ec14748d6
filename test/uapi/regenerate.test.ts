import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { goldenOf, goldenText } from '../../scripts/uapi/golden.mjs';
import { headerVersion, localHeaders } from '../../scripts/uapi/headers.mjs';

const compilers = { x86_64: 'gcc', arm64: 'aarch64-linux-gnu-gcc' } as const;

function missing(arch: keyof typeof compilers): string | undefined {
  const tree = localHeaders();
  if (!tree) return 'no 7.2 headers at hand (KVIO_UAPI_HEADERS, or npm run uapi once)';
  if (!headerVersion(tree).join('.').startsWith('7.2.')) return `${tree} is of Linux ${headerVersion(tree).join('.')}`;
  try {
    execFileSync(compilers[arch], ['--version'], { stdio: 'ignore' });
  } catch {
    return `no ${compilers[arch]}`;
  }
  return undefined;
}

const committed = (arch: string): string => readFileSync(new URL(`../golden/uapi-7.2-${arch}.json`, import.meta.url), 'utf8');

test.for(['x86_64', 'arm64'] as const)(
  'the compiler still answers what is committed: %s',
  { timeout: 60_000 },
  (arch, { skip }) => {
    const why = missing(arch);
    if (why) skip(`not run: ${why}`);
    const tree = localHeaders()!;
    expect(goldenText(goldenOf(tree, headerVersion(tree).join('.'), arch))).toBe(committed(arch));
  },
);

test('npm run uapi writes the same files again', { timeout: 60_000 }, ({ skip }) => {
  const why = missing('x86_64') ?? missing('arm64');
  if (why) skip(`not run: ${why}`);
  const script = new URL('../../scripts/uapi/generate.mjs', import.meta.url).pathname;
  expect(execFileSync(process.execPath, [script, '--check'], { encoding: 'utf8' })).toContain('213 structs');
});
