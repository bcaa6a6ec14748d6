// Records what this processor makes of random 64-bit user-mode instructions:
// node scripts/cpu/record-long.mjs [--count N] [--seed S] [--dist DIR] [--show N] [--masked] [--write]
//
// No /dev/kvm is needed: the cases run natively in a child process. Without --write the results are only compared with the simulator. Flags
// the manual leaves undefined are recorded as this processor has them; --masked leaves them out of the comparison.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { makeCase } from './generate-long.mjs';
import { masked } from './guest.mjs';
import { ALIAS, CODE, CODE_SIZE, DATA, DATA_SIZE, ENTRY, formatInput, formatResult, images, replay } from './long-guest.mjs';

const argument = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const count = Number(argument('count', '4000'));
const seed = Number(argument('seed', '1'));
const dist = resolve(argument('dist', 'dist'));
const here = import.meta.dirname;

const { FORMS } = await import(pathToFileURL(join(dist, 'sim/cpu/table.js')).href);
const { Cpu } = await import(pathToFileURL(join(dist, 'sim/cpu/cpu.js')).href);

function runNatively(cases) {
  const scratch = mkdtempSync(join(tmpdir(), 'kvio-cpu-'));
  try {
    const program = join(scratch, 'record-long');
    execFileSync('cc', ['-O2', '-o', program, join(here, 'record-long.c')], { stdio: 'inherit' });
    const parts = [
      Buffer.from(Uint32Array.of(DATA_SIZE, CODE_SIZE).buffer),
      Buffer.from(BigUint64Array.of(DATA, ALIAS, CODE).buffer),
      Buffer.from(images()),
    ];
    for (const { code, regs, flags } of cases) {
      parts.push(Buffer.from(Uint32Array.of(code.length, ENTRY).buffer), Buffer.from(code));
      parts.push(Buffer.from(BigUint64Array.of(...regs, flags).buffer));
    }
    const done = spawnSync(program, { input: Buffer.concat(parts), maxBuffer: 2 ** 30 });
    if (done.status !== 0) throw new Error(`record-long: status ${done.status} ${done.signal ?? ''} ${done.stderr}`);
    return done.stdout;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function* results(out) {
  let at = 0;
  const u64 = () => out.readBigUInt64LE((at += 8) - 8);
  const u32 = () => out.readUInt32LE((at += 4) - 4);
  while (at < out.length) {
    const regs = Array.from({ length: 16 }, u64);
    const rip = u64();
    const flags = u64();
    const memory = Array.from({ length: u32() }, () => [u32(), u32()]);
    yield { regs, rip, flags, memory };
  }
}

const cases = Array.from({ length: count }, (_, k) => makeCase(FORMS, seed * 1_000_003 + k));
const lines = [];
const differences = [];
let k = 0;
for (const result of results(runNatively(cases))) {
  const c = cases[k++];
  const line = `${formatInput(c)} ${formatResult(c, result)}`;
  const mine = replay(Cpu, c);
  const exact = `${formatInput(c)} ${formatResult(c, mine)}`;
  const mask = process.argv.includes('--masked') ? c.forms.reduce((flags, form) => flags | form.undefinedFlags, 0) : 0;
  if (masked(exact, mask) !== masked(line, mask)) {
    const names = c.forms.map((form) => `${form.name}(${form.opcode})`).join(' ');
    differences.push({ names, line, exact, outcome: mine.outcome });
  }
  lines.push(line);
}
console.log(`${cases.length} cases, ${differences.length} differ`);
for (const d of differences.slice(0, Number(argument('show', '20')))) {
  const { kind, description = '' } = d.outcome;
  console.log(`${d.names} (${kind} ${description})\n  cpu: ${d.line}\n  sim: ${d.exact}`);
}
if (process.argv.includes('--write')) {
  const processor = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown';
  const golden = { recorded: processor, script: 'scripts/cpu/record-long.mjs', seed, user64: lines };
  const text = JSON.stringify(golden, null, 0).replaceAll('","', '",\n"');
  writeFileSync(join(here, '../../test/golden/cpu-long.json'), `${text}\n`);
}
