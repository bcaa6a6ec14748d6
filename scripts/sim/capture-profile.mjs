#!/usr/bin/env node
// Captures this host's /dev/kvm as a machine profile of the simulator: node scripts/sim/capture-profile.mjs NAME BACKEND [FILE]
// NAME: 'pvm-6.18'; BACKEND: pvm, svm or vmx. Without FILE the module goes to standard output. Needs cc and /dev/kvm.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const [name, backend, file] = process.argv.slice(2);
if (!name || !['pvm', 'svm', 'vmx'].includes(backend ?? '')) {
  console.error('usage: capture-profile.mjs NAME pvm|svm|vmx [FILE]');
  process.exit(2);
}

const scratch = mkdtempSync(join(tmpdir(), 'kvio-profile-'));
let host;
try {
  const program = join(scratch, 'capture-profile');
  const source = join(dirname(fileURLToPath(import.meta.url)), 'capture-profile.c');
  execFileSync('cc', ['-O1', '-Wall', '-o', program, source], { stdio: 'inherit' });
  host = JSON.parse(execFileSync(program, { encoding: 'utf8' }));
} finally {
  rmSync(scratch, { recursive: true });
}

const hex = (value) => `0x${BigInt(value).toString(16)}`;
const numbers = (list, perLine = 8) =>
  Array.from(
    { length: Math.ceil(list.length / perLine) },
    (_, i) =>
      `      ${list
        .slice(i * perLine, (i + 1) * perLine)
        .map(hex)
        .join(', ')},`,
  ).join('\n');

/** What names one CPU of the host and not the kind of host: the APIC ids in leaves 1 and 0xB. */
function withoutIdentity([leaf, index, flags, eax, ebx, ecx, edx]) {
  if (leaf === 1) return [leaf, index, flags, eax, ebx & 0xffffff, ecx, edx];
  if (leaf === 0xb || leaf === 0x1f) return [leaf, index, flags, eax, ebx, ecx, 0];
  return [leaf, index, flags, eax, ebx, ecx, edx];
}

function leaves(rows) {
  return rows.map((row) => `      [${withoutIdentity(row).map(hex).join(', ')}],`).join('\n');
}

/** Those that are 1 everywhere as a list, the others by value, or by [system, vm] where the two descriptors differ. */
const caps = [...new Set([...Object.keys(host.system), ...Object.keys(host.vm)])].map((cap) => [
  cap,
  host.system[cap] ?? 0,
  host.vm[cap] ?? 0,
]);
const ones = caps.filter(([, system, vm]) => system === 1 && vm === 1).map(([cap]) => cap);
const others = caps.filter(([, system, vm]) => system !== 1 || vm !== 1);

const native = host.nativeCpuid.length === 0 ? '' : `    nativeCpuid: leaves([\n${leaves(host.nativeCpuid)}\n    ]),\n`;
const module = `// Captured from /dev/kvm by scripts/sim/capture-profile.mjs; the APIC ids of the CPU that answered are masked.
${native === '' ? '' : "import type { PvmHost } from '../kvm/pvm-cpuid.ts';\n"}import type { Machine } from '../machine.ts';
import { capabilities, leaves } from './tables.ts';

export const ${name.replace(/[^a-z0-9]/gi, '')}: Machine${native === '' ? '' : ' & { readonly kvm: PvmHost }'} = {
  name: '${name}',
  release: '${release().replace(/-.*/, '')}',
  backend: '${backend}',
  cpus: ${cpus().length},
  instructionsPerMs: 100_000,
  limits: { nofile: ${host.nofile}, maps: 65530, memory: ${host.memory}, memlock: Infinity },
  hugePages: { ${hex(2 ** 21)}: 0, ${hex(2 ** 30)}: 0 },
  memfdNoexec: 0,
  devices: { '/dev/kvm': true },
  kvm: {
    capabilities: capabilities(
      [${ones.join(', ')}],
      { ${others.map(([cap, system, vm]) => `${cap}: ${system === vm ? system : `[${system}, ${vm}]`}`).join(', ')} },
    ),
    cpuid: leaves([
${leaves(host.cpuid)}
    ]),
    emulatedCpuid: leaves([
${leaves(host.emulatedCpuid)}
    ]),
${native}    msrs: [
${numbers(host.msrs)}
    ],
    featureMsrs: [
${host.featureMsrs.map(([index, value]) => `      [${hex(index)}, ${hex(value)}n],`).join('\n')}
    ],
    mceCap: ${hex(host.mceCap)}n,
    tscKhz: ${host.tscKhz},
    gpaBits: ${host.gpaBits},
    vmTypes: ${hex(host.system[235] ?? 1)},
  },
};
`;
if (file) writeFileSync(file, module);
else process.stdout.write(module);
