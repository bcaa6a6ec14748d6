// Records what /dev/kvm makes of random instructions, in real mode and in 32-bit protected mode:
// node scripts/cpu/record.mjs [--count N] [--seed S] [--dist DIR] [--masked] [--verbose] [--write]
//
// KVM's instruction emulator runs the arithmetic on the silicon, so flags the manual leaves undefined come out as this processor's. Without
// --write the results are only compared with the simulator. Cases the emulator gives up on (INTERNAL_ERROR) are left out, and so are those
// where it is known to differ from processors; the reasons stand in generate.mjs and below.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { makeCase } from './generate.mjs';
import { CODE_IP, formatInput, formatResult, image, masked, SELECTORS, SIZE } from './guest.mjs';
import { replay } from './replay.mjs';

const argument = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : process.argv[at + 1];
};
const count = Number(argument('count', '2800'));
const seed = Number(argument('seed', '1'));
const dist = resolve(argument('dist', 'dist'));
const here = import.meta.dirname;

const { FORMS } = await import(pathToFileURL(join(dist, 'sim/cpu/table.js')).href);
const { Cpu } = await import(pathToFileURL(join(dist, 'sim/cpu/cpu.js')).href);

function runOnKvm(cases, mode) {
  const scratch = mkdtempSync(join(tmpdir(), 'kvio-cpu-'));
  try {
    execFileSync('cc', ['-O2', '-o', join(scratch, 'record'), join(here, 'record.c')], { stdio: 'inherit' });
    const parts = [Buffer.from(Uint32Array.of(mode, SIZE).buffer), Buffer.from(image())];
    for (const c of cases) {
      parts.push(Buffer.from(Uint32Array.of(c.code.length, SELECTORS.cs * 16 + CODE_IP).buffer), Buffer.from(c.code));
      parts.push(
        Buffer.from(Uint32Array.of(...c.regs, CODE_IP, c.flags).buffer),
        Buffer.from(Uint16Array.from(Object.values(SELECTORS)).buffer),
      );
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

function record(mode) {
  const cases = Array.from({ length: count }, (_, k) => makeCase(FORMS, seed * 1_000_003 + k, mode));
  const lines = [];
  const differences = [];
  const gaveUp = new Map();
  let unjudged = 0;
  let k = 0;
  for (const result of results(runOnKvm(cases, mode))) {
    const c = cases[k++];
    const names = c.forms.map((form) => `${form.name}(${form.opcode})`).join(' ');
    // Protected mode has no interrupt table here: a fault is a shutdown (8).
    if (result.exit !== 5 && !(mode === 1 && result.exit === 8)) {
      unjudged++;
      gaveUp.set(names, result.exit);
      continue;
    }
    const line = `${formatInput(c)} ${formatResult(c, result)}`;
    const mine = replay(Cpu, c, mode);
    // Delivering an exception in real mode KVM clears the upper half of ESP, and does not check the stack limit; processors use SP
    // alone and fault (which triple-faults here).
    if (result.selectors[0] === 0 && (mine.regs[6] >>> 16 !== 0 || mine.exit === 8)) {
      unjudged++;
      continue;
    }
    // ENTER whose new frame ends outside the stack faults on processors; KVM's emulator does not look.
    if (c.forms.some((form) => form.name === 'enter') && mine.exit === 8 && result.exit === 5) {
      unjudged++;
      continue;
    }
    const exact = `${formatInput(c)} ${formatResult(c, mine)}`;
    const mask = process.argv.includes('--masked') ? c.forms.reduce((flags, form) => flags | form.undefinedFlags, 0) : 0;
    if (masked(exact, mask) !== masked(line, mask)) differences.push({ names, line, exact });
    lines.push(line);
  }
  console.log(`mode ${mode}: ${cases.length} cases, ${unjudged} not judged by KVM's emulator, ${differences.length} differ`);
  for (const d of differences.slice(0, Number(argument('show', '20'))))
    console.log(`${d.names}\n  kvm: ${d.line}\n  sim: ${d.exact}`);
  if (process.argv.includes('--verbose'))
    console.log(
      'gave up:',
      [...gaveUp]
        .filter(([n]) => !n.includes(' '))
        .map(([n, e]) => `${n}:${e}`)
        .join(' '),
    );
  return lines;
}

const [real, protected32] = [record(0), record(1)];
if (process.argv.includes('--write')) {
  const golden = {
    recorded: `Linux ${/^[\d.]+/.exec(release())[0]} /dev/kvm`,
    script: 'scripts/cpu/record.mjs',
    seed,
    real,
    protected32,
  };
  writeFileSync(
    join(here, '../../test/golden/cpu-integer.json'),
    `${JSON.stringify(golden, null, 0).replaceAll('","', '",\n"')}\n`,
  );
}
