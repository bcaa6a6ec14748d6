// Records what /dev/kvm makes of random real-mode instructions: node scripts/cpu/record.mjs [--count N] [--seed S] [--dist DIR] [--write]
//
// KVM's instruction emulator runs the arithmetic on the silicon, so flags the manual leaves undefined come out as this processor's. Without
// --write the results are only compared with the simulator. Cases the emulator gives up on (INTERNAL_ERROR) are left out, and so are those
// listed in NOT_A_JUDGE, each with the reason.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { makeCase } from './generate.mjs';
import { CODE_IP, formatInput, formatResult, image, SELECTORS, SIZE } from './guest.mjs';
import { replay } from './replay.mjs';

const argument = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const count = Number(argument('count', '3600'));
const seed = Number(argument('seed', '1'));
const dist = resolve(argument('dist', 'dist'));
const here = import.meta.dirname;

const { FORMS } = await import(pathToFileURL(join(dist, 'sim/cpu/table.js')).href);
const { Cpu } = await import(pathToFileURL(join(dist, 'sim/cpu/cpu.js')).href);

function runOnKvm(cases) {
  const scratch = mkdtempSync(join(tmpdir(), 'kvio-cpu-'));
  try {
    execFileSync('cc', ['-O2', '-o', join(scratch, 'record'), join(here, 'record.c')], { stdio: 'inherit' });
    const parts = [Buffer.from(Uint32Array.of(SIZE).buffer), Buffer.from(image())];
    for (const c of cases) {
      parts.push(Buffer.from(Uint32Array.of(c.code.length, SELECTORS.cs * 16 + CODE_IP).buffer), Buffer.from(c.code));
      parts.push(Buffer.from(Uint32Array.of(...c.regs, CODE_IP, c.flags).buffer), Buffer.from(Uint16Array.from(Object.values(SELECTORS)).buffer));
    }
    const done = spawnSync(join(scratch, 'record'), { input: Buffer.concat(parts), maxBuffer: 2 ** 30 });
    if (done.status !== 0) throw new Error(`record: ${done.stderr}`);
    return done.stdout;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function* results(out) {
  let at = 0;
  const u32 = () => out.readUInt32LE((at += 4) - 4);
  while (at < out.length) {
    const exit = u32();
    const regs = Array.from({ length: 8 }, u32);
    const ip = u32();
    const flags = u32();
    const selectors = Array.from({ length: 6 }, () => out.readUInt16LE((at += 2) - 2));
    const memory = Array.from({ length: u32() }, () => [u32(), u32()]);
    yield { exit, regs, ip, flags, selectors, memory };
  }
}

const cases = Array.from({ length: count }, (_, k) => makeCase(FORMS, seed * 1_000_003 + k));
const lines = [];
const differences = [];
let unjudged = 0;
let k = 0;
const gaveUp = new Map();
for (const result of results(runOnKvm(cases))) {
  const c = cases[k++];
  const names = c.forms.map((form) => `${form.name}(${form.opcode})`).join(' ');
  if (result.exit !== 5) {
    unjudged++;
    gaveUp.set(names, result.exit);
    continue;
  }
  const line = `${formatInput(c)} ${formatResult(c, result)}`;
  const mine = replay(Cpu, c);
  const exact = formatResult(c, mine);
  if (`${formatInput(c)} ${exact}` !== line) differences.push({ names, line, exact });
  lines.push(line);
}
console.log(`${cases.length} cases, ${unjudged} not judged by KVM's emulator, ${differences.length} differ`);
if (process.argv.includes('--verbose')) {
  const kinds = new Map();
  for (const d of differences) kinds.set(d.names, [...(kinds.get(d.names) ?? []), d]);
  const single = [...kinds].sort((a, b) => a[0].split(' ').length - b[0].split(' ').length || b[1].length - a[1].length);
  for (const [names, list] of single.slice(0, Number(argument('show', '30')))) console.log(`${names} ×${list.length}\n  ${list[0].line}\n  sim: ${list[0].exact}`);
  console.log('gave up:', [...gaveUp].filter(([n]) => !n.includes(' ')).map(([n, e]) => `${n}:${e}`).join(' '));
}
if (process.argv.includes('--write')) {
  const golden = { recorded: `Linux ${release()} /dev/kvm, real mode`, script: 'scripts/cpu/record.mjs', seed, cases: lines };
  writeFileSync(join(here, '../../test/golden/cpu-integer.json'), `${JSON.stringify(golden, null, 0).replaceAll('","', '",\n"')}\n`);
}
