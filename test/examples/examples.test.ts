import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { findKernels } from 'kvio';
import { describe, expect, it } from 'vitest';
import { assigned } from './assigned.ts';
import { teeIo } from './tee-io.ts';

const root = `${resolve(import.meta.dirname, '../..')}/`;

/** What each example prints, on every kernel. Those that need what ffi lacks say so there. */
const outputs: Readonly<Record<string, readonly string[]>> = {
  hello: ['H'],
  ports: [
    'in  8 bits at port 0x10: 0x2a',
    'out 8 bits at port 0x11: 0x2a',
    'in  16 bits at port 0x12: 0x1fff',
    'out 16 bits at port 0x14: 0x2000',
    'in  32 bits at port 0x18: 0xcafef00d',
    'out 32 bits at port 0x1c: 0xcafef00d',
    'rax 0xcafef00d',
  ],
  'string-io': [
    'REP INSB asks for 1024 bytes',
    'REP INSB asks for 476 bytes',
    'REP OUTSB wrote: a string, written by REP OUTSB',
    'the guest has all 1500 bytes in its memory',
  ],
  mmio: [
    'read  2 at 0: 34 12',
    'write 2 at 2: 34 12',
    'write 4 at 4: 01 02 03 04',
    'read  1 at 8: 7f',
    'write 1 at 8: 80',
    'device: 34 12 34 12 01 02 03 04 80',
  ],
  'dirty-log': [
    'the guest wrote: 0 3 7',
    'fetched already: none',
    'manual protection: 0 3 7',
    'page 3 cleared: 0 7',
    'the ring, first run: 1:0 1:3 1:7',
    '3 entries reset',
    'the ring, second run: 1:0 1:3 1:7',
    '3 entries reset',
  ],
  'async-run': ['the guest wrote to port 1', 'intr', 'the guest spun while the event loop ticked 3 times; it stands at 0x1002'],
  irq: [
    'the guest is ready',
    ...[1, 2, 3].map((i) => `interrupt ${i}: the guest has answered`),
    'then KVM_RUN came back: io, and the guest has counted 3',
  ],
  smp: ['in one thread', 'in a thread each'].flatMap((way) => [
    `${way}, the boot processor says 2000 on port 16`,
    `${way}, the other has got INIT`,
    `${way}, the other says hello on port 17`,
    `${way}, the other says hello on port 18`,
  ]),
  'worker-kick': ['KVM_RUN came back: intr, rip 0x1000'],
  'private-memory': [
    "guest reads 0x11; the host's own byte there is 0x11",
    'guest: 1 page at 0x20000 to be private',
    "guest reads 0x0; the host's own byte there is 0x11",
    "guest reads 0x5e; the host's own byte there is 0x11",
    'guest: 1 page at 0x20000 to be shared',
    "guest reads 0x11; the host's own byte there is 0x11",
    'guest: 1 page at 0x20000 to be private',
    "guest reads 0x5e; the host's own byte there is 0x11",
    'host: the private page is given back',
    "guest reads 0x0; the host's own byte there is 0x11",
    'memory fault: private 0x50000, 4096 bytes',
    'host: memory there, shared',
    'guest reads 0x0 where memory is now',
  ],
};

/** What simulates a machine whatever kernel was asked for. */
const simulated: Readonly<Record<string, readonly string[]>> = {
  'device-model': [
    'the sum of 1000 bytes: 124716',
    'with a device that miscounts: 124717',
    'beyond what is mapped: the device could not read its buffer',
    'with a device that forgets its interrupt: the device did not answer, and was reset',
    'after the reset: 124716',
    'without the device: the device is gone',
  ],
  'dirty-tracking': [
    'the IOMMU can track what is dirty: true',
    'before: none',
    'the device wrote to: 0 3 17 63',
    'since then: none',
    'and again: 5; the byte there is 0x5a',
  ],
  'page-faults': [
    'the device wants 0x400000: mapped',
    'page 0: the sum is 4096',
    'the device wants 0x402000: mapped',
    'page 2: the sum is 12288',
    'page 0: the sum is 4096',
    'the device wants 0x409000: there is nothing',
    'page 9: the device gave up',
    'the device asked 3 times',
  ],
  'nested-smmuv3': [
    'an SMMUv3 whose IDR0 is 0x94c149b: the VMM shows the guest as much of it as it wants',
    'the device writes 17 to 0x12345004: done',
    "  in the guest's page 8: 17",
    'the device writes 18 to 0x12346000: stopped',
    '  the guest has an event 0x10 of stream 0x2a at 0x12346000',
    'the device writes 19 to 0x12346000: done',
    'the SMMU is given 0x100000012 0x12346000',
    'the SMMU is given 0x8000000005 0x1',
  ],
};

const withoutAsync: Readonly<Record<string, readonly string[]>> = {
  'async-run': ['the ffi kernel has synchronous calls only'],
  irq: ['the ffi kernel has synchronous calls only'],
  smp: ['the ffi kernel has synchronous calls only'],
  'worker-kick': ['the ffi kernel cannot interrupt a vCPU'],
};

/** What a host's kernel without the feature makes of them; the simulated machine has it. */
const withoutFeature: Readonly<Record<string, readonly string[]>> = {
  'private-memory': ['this kernel has no SW_PROTECTED VMs'],
};

it('every example has its output here', () => {
  const names = readdirSync(`${root}examples`).filter((name) => name.endsWith('.ts'));
  expect(names.map((name) => name.slice(0, -3)).sort()).toEqual(
    [outputs, assigned, simulated, teeIo].flatMap(Object.keys).sort(),
  );
});

for (const { kind, available, reason } of findKernels()) {
  describe.skipIf(!available)(`examples on ${kind}${available ? '' : ` (not run: ${reason})`}`, () => {
    it.each(Object.keys(outputs))('%s', (name) => {
      const { stdout, stderr, status } = spawnSync(process.execPath, [`${root}scripts/example.mjs`, name], {
        env: { ...process.env, KVIO_KERNEL: kind },
        encoding: 'utf8',
      });
      expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
      const lines = stdout.trimEnd().split('\n');
      if (kind !== 'sim' && lines[0] === withoutFeature[name]?.[0]) expect(lines).toEqual(withoutFeature[name]);
      else expect(lines).toEqual((kind === 'ffi' && withoutAsync[name]) || outputs[name]);
    });
  });
}

describe('examples of an assigned device on a simulated machine', () => {
  it.each([
    ...[
      ['edu-driver', 'group'],
      ['edu-driver', 'cdev'],
      ['passthrough', 'group'],
      ['passthrough', 'cdev'],
      ['nvme', 'group'],
      ['nvme', 'cdev'],
    ],
    ['bind', '0000:04:01.0'],
    ['dma-map'],
    ['replace'],
    ['device-model'],
    ['dirty-tracking'],
    ['page-faults'],
    ['nested-smmuv3'],
    ...Object.keys(teeIo).map((name) => [name]),
  ])('%s %s', (name = '', ...args: string[]) => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [`${root}scripts/example.mjs`, name, ...args], {
      env: { ...process.env, KVIO_KERNEL: 'sim' },
      encoding: 'utf8',
    });
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    expect(stdout.trimEnd().split('\n')).toEqual({ ...assigned, ...simulated, ...teeIo }[name]);
  });
});

describe('README.md', () => {
  const readme = readFileSync(`${root}README.md`, 'utf8');
  it('shows examples/hello.ts, which is run above', () => {
    const [, block] = /```ts\n(.*?)```/s.exec(readme)!;
    expect(block).toBe(readFileSync(`${root}examples/hello.ts`, 'utf8'));
  });

  it('names commands and files that exist', () => {
    const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
    for (const [, script] of readme.matchAll(/npm (?:run )?(start|test|example)\b/g)) expect(scripts).toHaveProperty([script!]);
    for (const [, path] of readme.matchAll(/`((?:docs|examples)\/[\w.-]+)`/g))
      expect(readFileSync(`${root}${path}`, 'utf8')).not.toBe('');
    const table = readme.slice(readme.indexOf('| to see how |'), readme.indexOf('## Which kernel'));
    const listed = [...table.matchAll(/^\|[^|]+\| (`.+) \|$/gm)]
      .flatMap(([, names]) => names!.split(', '))
      .map((name) => name.slice(1, -1));
    expect(listed.filter((name) => !name.startsWith('npm run')).sort()).toEqual(
      [outputs, assigned, simulated, teeIo].flatMap(Object.keys).sort(),
    );
  });
});
