#!/usr/bin/env node
// Captures a /dev/kvm as a machine profile of the simulator: node scripts/sim/capture-profile.mjs [--lab] NAME BACKEND [FILE]
// NAME: 'pvm-6.18'; BACKEND: pvm, svm or vmx. Without FILE the module goes to standard output. Needs cc, and /dev/kvm or, with --lab, the lab.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const lab = process.argv[2] === '--lab';
const [name, backend, file] = process.argv.slice(lab ? 3 : 2);
if (!name || !['pvm', 'svm', 'vmx'].includes(backend ?? '')) {
  console.error('usage: capture-profile.mjs [--lab] NAME pvm|svm|vmx [FILE]');
  process.exit(2);
}

// In the checkout: the lab sees it there.
const cache = join(here, '..', '..', '.cache');
mkdirSync(cache, { recursive: true });
const scratch = mkdtempSync(join(cache, 'profile-'));
let host;
try {
  const program = join(scratch, 'capture-profile');
  execFileSync('cc', ['-O1', '-Wall', '-static', '-o', program, join(here, 'capture-profile.c')], { stdio: 'inherit' });
  const inLab = [join(here, '..', 'lab', 'main.mjs'), '--devices', '', '--timeout', '60', '--', program];
  const [command, ...words] = lab ? [process.execPath, ...inLab] : [program];
  host = JSON.parse(execFileSync(command, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
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
const caps = [...new Set([host.system, host.vm, ...Object.values(host.types)].flatMap(Object.keys))].map((cap) => [
  cap,
  host.system[cap] ?? 0,
  host.vm[cap] ?? 0,
]);
const ones = caps.filter(([, system, vm]) => system === 1 && vm === 1).map(([cap]) => cap);
const others = caps.filter(([, system, vm]) => system !== 1 || vm !== 1);

/** Where a VM of another type answers otherwise than one of the default type. */
const types = Object.entries(host.types).map(([type, answers]) => {
  const other = caps.filter(([cap, , vm]) => (answers[cap] ?? 0) !== vm).map(([cap]) => `${cap}: ${answers[cap] ?? 0}`);
  return `${type}: { ${other.join(', ')} }`;
});

/** Measured anew at every boot. */
const tscKhz = Math.round(host.tscKhz / 1000) * 1000;
const mebibytes = Math.floor(host.memory / 2 ** 20);

const native = host.nativeCpuid.length === 0 ? '' : `    nativeCpuid: leaves([\n${leaves(host.nativeCpuid)}\n    ]),\n`;
const module = `// Captured from ${lab ? "the lab's /dev/kvm" : '/dev/kvm'} by scripts/sim/capture-profile.mjs; the APIC ids of the CPU that answered are masked.
${native === '' ? '' : "import type { PvmHost } from '../kvm/pvm-cpuid.ts';\n"}import type { Machine } from '../machine.ts';
import { capabilities, leaves } from './tables.ts';

export const ${name.replace(/[^a-z0-9]+([a-z])?/gi, (_all, letter = '') => letter.toUpperCase())}: Machine${native === '' ? '' : ' & { readonly kvm: PvmHost }'} = {
  name: '${name}',
  release: '${host.release.replace(/-.*/, '')}',
  backend: '${backend}',
  cpus: ${host.system[9]},
  instructionsPerMs: 100_000,
  limits: { nofile: ${host.nofile}, maps: 65530, memory: ${mebibytes} * 2 ** 20, memlock: Infinity },
  hugePages: { ${host.hugePages.map((kib) => `${hex(kib * 1024)}: 0`).join(', ')} },
  memfdNoexec: 0,
  devices: { '/dev/kvm': true },
  kvm: {
    capabilities: capabilities(
      [${ones.join(', ')}],
      { ${others.map(([cap, system, vm]) => `${cap}: ${system === vm ? system : `[${system}, ${vm}]`}`).join(', ')} },
    ),
    vmTypeCapabilities: { ${types.join(', ')} },
    cpuid: leaves([
${leaves(host.cpuid)}
    ]),
    emulatedCpuid: leaves([
${leaves(host.emulatedCpuid)}
    ]),
    hvCpuid: leaves([
${leaves(host.hvCpuid)}
    ]),
${native}    msrs: [
${numbers(host.msrs)}
    ],
    featureMsrs: [
${host.featureMsrs.map(([index, value]) => `      [${hex(index)}, ${hex(value)}n],`).join('\n')}
    ],
    mceCap: ${hex(host.mceCap)}n,
    tscKhz: ${tscKhz},
    gpaBits: ${host.gpaBits},
    hvaBits: ${host.hvaBits},
    vmTypes: ${hex(host.system[235] ?? 1)},
  },
};
`;
if (file) writeFileSync(file, module);
else process.stdout.write(module);
