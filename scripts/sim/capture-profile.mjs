#!/usr/bin/env node
/**
 * Captures a /dev/kvm as a machine profile of the simulator. What all profiles share is in src/sim/machines/tables.ts and is not repeated.
 *
 *   node scripts/sim/capture-profile.mjs [--lab] [--base OTHER] NAME BACKEND [FILE]
 *
 * NAME: 'pvm-6.18'; BACKEND: pvm, svm or vmx. --base: a profile of the same processor; of its CPUID only what is different is written. Without FILE
 * the module goes to standard output. Needs cc, and /dev/kvm or, with --lab, the lab: KVIO_LAB_KERNEL=debian-6.1 names its kernel.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureOrExit } from '../ensure.mjs';
import { optionsOf, refuse, usageOf } from '../options.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const {
  values: { lab, base },
  positionals: [name, backend, file],
} = optionsOf(usageOf(import.meta.filename), {
  allowPositionals: true,
  options: { lab: { type: 'boolean', default: false }, base: { type: 'string' } },
});
if (!name || !['pvm', 'svm', 'vmx'].includes(backend ?? ''))
  refuse(usageOf(import.meta.filename), 'a NAME and a BACKEND, please');
await ensureOrExit();
const tables = await import('../../.cache/ensure/modules/sim/machines/tables.js');
const { profiles } = await import('../../.cache/ensure/modules/sim/profiles.js');
const other = base === undefined ? undefined : profiles[base];
if (base !== undefined && other === undefined) throw new Error(`there is no profile '${base}'`);

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
/** What names one CPU of the host and not the kind of host: the APIC ids in leaves 1 and 0xB. */
function withoutIdentity([leaf, index, flags, eax, ebx, ecx, edx]) {
  if (leaf === 1) return [leaf, index, flags, eax, ebx & 0xffffff, ecx, edx];
  if (leaf === 0xb || leaf === 0x1f) return [leaf, index, flags, eax, ebx, ecx, 0];
  return [leaf, index, flags, eax, ebx, ecx, edx];
}

function leaves(rows) {
  return `leaves([\n${rows.map((row) => `[${withoutIdentity(row).map(hex).join(', ')}],`).join('\n')}\n])`;
}

const camel = (text) => text.replace(/[^a-z0-9]+([a-z])?/gi, (_all, letter = '') => letter.toUpperCase());
/** What the module takes from tables.ts. */
const used = new Set(['capabilities']);
const use = (what) => {
  used.add(what);
  return what;
};

/** A CPUID table: where the other profile's has the same leaves, those that changed. */
function cpuidTable(key) {
  const rows = host[key].map(withoutIdentity);
  const whole = () => (rows.length === 0 ? '[]' : `${use('leaves') && leaves(rows)}`);
  const before = other?.kvm[key].map((leaf) => [leaf.function, leaf.index, leaf.flags, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
  if (before === undefined || String(before.map((row) => row.slice(0, 3))) !== String(rows.map((row) => row.slice(0, 3))))
    return whole();
  const changed = rows.filter((row, at) => String(row) !== String(before[at]));
  if (changed.length === 0) return `${camel(base)}.kvm.${key}`;
  return `${use('changedLeaves')}(${camel(base)}.kvm.${key}, ${leaves(changed).slice('leaves('.length)}`;
}

/** The MSR list: all that KVM has, without those the host has not; in full where its order is another. */
function msrList() {
  const absent = tables.MSRS.filter((index) => !host.msrs.includes(index));
  if (String(tables.MSRS.filter((index) => host.msrs.includes(index))) !== String(host.msrs))
    return `[${host.msrs.map(hex).join(', ')}]`;
  const groups = ['PMU_MSRS', 'LBR_MSRS', 'HYPERV_MSRS'].filter((group) =>
    tables[group].every((index) => absent.includes(index)),
  );
  const single = absent.filter((index) => !groups.some((group) => tables[group].includes(index)));
  const lists = [...groups.map(use), ...(single.length === 0 ? [] : [`[${single.map(hex).join(', ')}]`])];
  return `${use('msrsWithout')}(${lists.join(', ')})`;
}

/** What differs from the capabilities all kernels have: those that are 1 as a list, the others by value, or by [system, vm] where the two descriptors differ. */
const caps = [...new Set([host.system, host.vm, ...Object.values(host.types), tables.COMMON_CAPABILITIES].flatMap(Object.keys))]
  .map((cap) => [Number(cap), host.system[cap] ?? 0, host.vm[cap] ?? 0])
  .sort(([a], [b]) => a - b);
const special = caps.filter(([cap, system, vm]) => system !== vm || system !== (tables.COMMON_CAPABILITIES[cap] ?? 0));
const isOne = (cap) => special.some((row) => row[0] === cap && row[1] === 1 && row[2] === 1);
const hyperv = tables.HYPERV_CAPABILITIES.every(isOne);
const ones = special.map(([cap]) => cap).filter((cap) => isOne(cap) && !(hyperv && tables.HYPERV_CAPABILITIES.includes(cap)));
const others = special.filter(([cap]) => !isOne(cap));

/** Where a VM of another type answers otherwise than one of the default type. */
const types = Object.entries(host.types).map(([type, answers]) => {
  const other = caps.filter(([cap, , vm]) => (answers[cap] ?? 0) !== vm).map(([cap]) => `${cap}: ${answers[cap] ?? 0}`);
  return `${type}: { ${other.join(', ')} }`;
});

/** Measured anew at every boot. */
const tscKhz = Math.round(host.tscKhz / 1000) * 1000;
const mebibytes = Math.floor(host.memory / 2 ** 20);

const native = host.nativeCpuid.length === 0 ? '' : `nativeCpuid: ${use('leaves') && leaves(host.nativeCpuid)},\n`;
const body = `  kvm: {
    capabilities: capabilities(
      [${[...(hyperv ? [`...${use('HYPERV_CAPABILITIES')}`] : []), ...ones].join(', ')}],
      { ${others.map(([cap, system, vm]) => `${cap}: ${system === vm ? system : `[${system}, ${vm}]`}`).join(', ')} },
    ),
    vmTypeCapabilities: { ${types.join(', ')} },
    cpuid: ${cpuidTable('cpuid')},
    emulatedCpuid: ${cpuidTable('emulatedCpuid')},
    ${native}msrs: ${msrList()},
    featureMsrs: [
${host.featureMsrs.map(([index, value]) => `      [${hex(index)}, ${hex(value)}n],`).join('\n')}
    ],
    mceCap: ${hex(host.mceCap)}n,
    hostXcr0: ${hex(host.hostXcr0)}n,
    mxcsrMask: ${hex(host.mxcsrMask)},
    tscKhz: ${tscKhz},
    gpaBits: ${host.gpaBits},
    hvaBits: ${host.hvaBits},
    vmTypes: ${hex(host.system[235] ?? 1)},
${host.sevVmsaFeatures === undefined ? '' : `    sevVmsaFeatures: ${hex(host.sevVmsaFeatures)}n,\n`}  },
};
`;
const imports = [
  ...(native === '' ? [] : ["import type { PvmHost } from '../kvm/pvm-cpuid.ts';"]),
  "import type { Machine } from '../machine.ts';",
  ...(body.includes(`${camel(base ?? '-')}.kvm`) ? [`import { ${camel(base)} } from './${base}.ts';`] : []),
  `import { ${[...used].sort().join(', ')} } from './tables.ts';`,
];
const module = `// Captured from ${lab ? "the lab's /dev/kvm" : '/dev/kvm'} by scripts/sim/capture-profile.mjs; the APIC ids of the CPU that answered are masked.
${imports.join('\n')}

export const ${camel(name)}: Machine${native === '' ? '' : ' & { readonly kvm: PvmHost }'} = {
  name: '${name}',
  release: '${/^\d+(\.\d+)*/.exec(host.release)[0]}',
  backend: '${backend}',
  cpus: ${host.system[9]},
  instructionsPerMs: 100_000,
  limits: { nofile: ${host.nofile}, maps: 65530, memory: ${mebibytes} * 2 ** 20, memlock: Infinity },
  hugePages: { ${host.hugePages.map((kib) => `${kib * 1024}: 0`).join(', ')} },
${host.numa ? '  numa: true,\n' : ''}  memfdNoexec: 0,
  devices: { ${host.devices.map((path) => `'${path}': true`).join(', ')} },
${body}`;
if (file) writeFileSync(file, module);
else process.stdout.write(module);
