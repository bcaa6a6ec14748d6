/**
 * Runs inside a lab machine, compiled, with plain node: the examples of an assigned device as their reader runs them, on the real one, by its group and by its own
 * node. One line each for scripts/lab/test.mjs: `passed NAME`, or `FAILED NAME` and what it printed.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { assigned } from '../examples/assigned.ts';

/** Compiled too, to .cache/examples; this file is in .cache/lab-cases/lab. */
const compiled = join(import.meta.dirname, '../../examples');

const runs = [
  ['edu-driver', 'group'],
  ['edu-driver', 'cdev'],
  ['passthrough', 'group'],
  ['passthrough', 'cdev'],
  ['nvme', 'group'],
  ['nvme', 'cdev'],
  ['bind', '0000:04:01.0'],
  ['dma-map'],
  ['replace'],
] as const;

/** With QEMU's AMD IOMMU the nvme behind its root port reads nothing of mapped memory: it is enabled, and at once in its fatal state (CSTS.CFS). */
const withoutDma = process.env['KVIO_LAB'] === 'amd' ? ['nvme', 'replace'] : [];

for (const [name, ...args] of runs.filter(([one]) => !withoutDma.includes(one))) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(compiled, `${name}.js`), ...args], {
    encoding: 'utf8',
    timeout: 300_000,
    env: { ...process.env, KVIO_KERNEL: 'native' },
  });
  const passed = status === 0 && stderr === '' && stdout.trimEnd() === assigned[name]!.join('\n');
  const title = `examples/${[name, ...args].join(' ')}`;
  console.log(passed ? `passed ${title}` : `FAILED ${title}: status ${status}\n${stdout}${stderr}`);
}
