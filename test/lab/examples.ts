/** The examples of an assigned device as their reader runs them, on the real one: by its group, and by its own node and an iommufd. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { type Case, define, type Observer } from '../../conformance/case.ts';
import { assigned } from '../../examples/assigned.ts';
import { pci } from './vfio.ts';

/** Compiled by scripts/lab/test.mjs; this file is compiled too, to .cache/lab-cases/lab/cases. */
const compiled = join(import.meta.dirname, '../../../examples');

function run(see: Observer, name: string, args: readonly string[]): void {
  const { stdout, stderr, status } = spawnSync(process.execPath, [join(compiled, `${name}.js`), ...args], {
    encoding: 'utf8',
    timeout: 300_000,
    env: { ...process.env, KVIO_KERNEL: 'native' },
  });
  see.note('status', status);
  see.note('standard error', stderr);
  see.note('output', stdout.trimEnd().split('\n'));
  see.note('as on every kernel', stdout.trimEnd() === assigned[name]!.join('\n'));
}

const example = (name: string, bdf: string, ...args: readonly string[]): Case =>
  define(`examples/${[name, ...args.filter((arg) => arg !== bdf)].join(' ')}`, 'examples', (_, see) => run(see, name, args), {
    needs: { devices: [`${pci(bdf)}/iommu_group/type`, ...(args.includes('cdev') ? ['/dev/iommu'] : [])] },
  });

const EDU = '0000:00:02.0';
const NVME = '0000:01:00.0';
const SHARED = '0000:04:01.0';

export const examples: readonly Case[] = [
  example('edu-driver', EDU, 'group'),
  example('edu-driver', EDU, 'cdev'),
  example('nvme', NVME, 'group'),
  example('nvme', NVME, 'cdev'),
  example('bind', SHARED, SHARED),
];
