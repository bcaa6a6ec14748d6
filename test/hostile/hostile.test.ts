/**
 * Seeded hostile calls on each kernel, in a process of its own: closed and foreign descriptors, short, shared, detached and resized
 * buffers, wrong types, huge lengths, integer pointers, addresses of live JavaScript buffers, closed Memory, kicks and closes
 * during runAsync, arguments that do something while they are converted.
 *
 * The property: no crash, no hang, no memory changed outside `Memory`, only documented errors; and at least half of the calls get as far
 * as the kernel. KVIO_HOSTILE_CALLS says how many calls (default 100000), KVIO_HOSTILE_SEED which.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { findKernels, type KernelKind } from 'kvio';
import { describe, expect, test } from 'vitest';

const child = fileURLToPath(new URL('./child.mjs', import.meta.url));
const calls = Number(process.env['KVIO_HOSTILE_CALLS'] ?? 100_000);
const seed = Number(process.env['KVIO_HOSTILE_SEED'] ?? 1);
const TIMEOUT = 300_000;

/** ffi-rs is many times slower a call; it shares all but its back end with the addon. */
const share: Readonly<Record<KernelKind, number>> = { native: 1, sim: 1, ffi: 0.1 };

interface Outcome {
  readonly kernel: KernelKind;
  readonly calls: number;
  readonly reached: number;
  readonly located: boolean;
  readonly violations: readonly string[];
}

function run(
  kernel: KernelKind,
  count: number,
): Promise<{ code: number | null; signal: string | null; out: string; err: string }> {
  return new Promise((resolve, reject) => {
    const process_ = spawn(process.execPath, [child, '--kernel', kernel, '--calls', String(count), '--seed', String(seed)], {
      timeout: TIMEOUT - 10_000,
    });
    let out = '';
    let err = '';
    process_.stdout.on('data', (chunk) => (out += chunk));
    process_.stderr.on('data', (chunk) => (err += chunk));
    process_.on('error', reject);
    process_.on('close', (code, signal) => resolve({ code, signal, out, err }));
  });
}

const available = new Map(findKernels().map((one) => [one.kind, one]));

describe.each(['native', 'sim', 'ffi'] as const)('%s', (kernel) => {
  const { available: here, reason } = available.get(kernel)!;
  if (!here) console.log(`hostile calls on ${kernel}: not run: ${reason}`);

  test.skipIf(!here)(
    'stands hostile calls',
    async () => {
      const count = Math.round(calls * share[kernel]);
      const repeat = `node test/hostile/child.mjs --kernel ${kernel} --calls ${count} --seed ${seed} --trace`;
      const { code, signal, out, err } = await run(kernel, count);
      expect({ signal, err }, `killed; repeat with: ${repeat}`).toEqual({ signal: null, err: '' });
      const outcome = JSON.parse(out.trim().split('\n').at(-1) ?? '') as Outcome;
      expect(outcome.violations.join('\n\n'), repeat).toBe('');
      expect(code, repeat).toBe(0);
      expect(outcome).toMatchObject({ kernel, calls: count });
      expect(outcome.reached, 'calls that got as far as the back end').toBeGreaterThanOrEqual(count / 2);
      if (process.platform === 'linux') expect(outcome.located, 'the addresses of the canaries were found').toBe(true);
      console.log(`hostile calls on ${kernel}: ${count}, ${outcome.reached} reached the kernel, seed ${seed}`);
    },
    TIMEOUT,
  );
});
