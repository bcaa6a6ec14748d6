#!/usr/bin/env node
// npm run bench [-- --json] [-- --check]: what a call costs through each road to the kernel, as ratios to C. docs/benchmarks.md
// says how to read it. All contestants are measured in turns, in one run: only ratios within a run mean something.
// npm run bench -- NAME [--lab]: one of the others.
import { spawnSync } from 'node:child_process';
import { release } from 'node:os';
import { at } from '../ensure/tree.mjs';
import { ensureOrExit } from '../ensure.mjs';
import { median } from './statistics.mjs';

/** What is measured by a program of its own, on this host or in the lab. */
const others = {
  attributes: 'KVM_SET_MEMORY_ATTRIBUTES, by how many ranges there are',
  dma: 'memory mapped for devices, by how many mappings there are: /dev/iommu and VFIO',
  vfio: 'a device through VFIO beside C: its registers, MAP and UNMAP, an interrupt',
};

const words = process.argv.slice(2);
if (words[0] in others) {
  // Not in the lab, where compiling takes minutes.
  await ensureOrExit();
  const [name, ...rest] = words;
  const lab = rest.includes('--lab') ? [at('scripts', 'lab', 'main.mjs'), '--timeout', '3600', '--', 'node'] : [];
  const args = [...lab, at('scripts', 'bench', `${name}.mjs`), ...rest.filter((word) => word !== '--lab')];
  process.exit(spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1);
}

const options = new Set(words);
const known = ['--json', '--check', '--quick'];
const unknown = [...options].find((option) => !known.includes(option));
if (unknown !== undefined) {
  const names = Object.entries(others).map(([name, about]) => `       npm run bench -- ${name} [--lab]: ${about}\n`);
  process.stderr.write(`usage: npm run bench -- [${known.join('] [')}]; not ${unknown}\n${names.join('')}`);
  process.exit(1);
}

await ensureOrExit();
const { openContestants } = await import('./contestants.mjs');
const { footprint } = await import('./footprint.mjs');

const rounds = options.has('--quick') ? 25 : 101;
const importRounds = options.has('--quick') ? 7 : 25;
/** A turn is about a millisecond: most are then not interrupted, and the turns of a round stand close together in time. */
const counts = { ioctl: 4_000, exit: 100 };
const slowCounts = { ioctl: 200, exit: 100 };

/** Medians over the rounds, in nanoseconds, and of the ratios to C within each round. */
async function measure(contestants, what) {
  const present = contestants.filter((each) => each.reason === undefined);
  const count = (each) => (each.slow ? slowCounts : counts)[what];
  // Optimized code before the first round.
  for (let warm = 0; warm < 20; warm++) for (const each of present) await each[what](count(each));
  const samples = new Map(present.map((each) => [each.name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const each of present) samples.get(each.name).push(await each[what](count(each)));
  }
  const base = samples.get('C');
  return Object.fromEntries(
    [...samples].map(([name, values]) => [
      name,
      { ns: median(values), ratio: base && median(values.map((value, round) => value / base[round])) },
    ]),
  );
}

/** Nanoseconds of an interrupt round trip on the real kernel and on the simulator, in turns: medians. */
async function measureRoundTrips() {
  const trips = roundTrips();
  const samples = Object.fromEntries(Object.keys(trips).map((kind) => [kind, []]));
  for (const trip of Object.values(trips)) trip.turn(200);
  for (let round = 0; round < rounds; round++)
    for (const [kind, trip] of Object.entries(trips)) samples[kind].push(trip.turn(20));
  for (const trip of Object.values(trips)) await trip.close();
  return Object.fromEntries(Object.entries(samples).map(([kind, values]) => [kind, median(values)]));
}

const { contestants, memslots, roundTrips, close } = await openContestants();
const result = { node: process.versions.node, kernel: release(), rounds, absent: {}, ioctl: {}, exit: {}, targets: [] };
for (const { name, reason } of contestants) if (reason !== undefined) result.absent[name] = reason;
result.ioctl = await measure(contestants, 'ioctl');
result.exit = await measure(contestants, 'exit');
result.memslots = memslots();
result.roundTrip = await measureRoundTrips();
close();
result.import = footprint(importRounds);
result.targets = targets(result);

/** Each with what was measured; `met` is undefined where a side of it was absent. */
function targets({ ioctl, exit, import: footprint }) {
  const addon = 'addon, kernel.ioctl / vcpu.run';
  const against = (what, value, limit) => ({ what, value, limit, met: value === undefined ? undefined : value <= limit });
  return [
    against('ioctl through kernel.ioctl, guard on: times C', ioctl[addon]?.ratio, 1.5),
    against('the same: times koffi', ioctl[addon] && ioctl.koffi && ioctl[addon].ns / ioctl.koffi.ns, 1),
    against('port exit through vcpu.run: times C', exit[addon]?.ratio, 1.1),
    against("import 'kvio': milliseconds", footprint.import_ms, 60),
  ];
}

function table() {
  const cell = (entry) => {
    if (entry === undefined) return ['', ''];
    const time = entry.ns < 10_000 ? `${entry.ns.toFixed(0)} ns` : `${(entry.ns / 1000).toFixed(1)} µs`;
    return [time, entry.ratio === undefined ? '' : `${entry.ratio.toFixed(2)} × C`];
  };
  const rows = contestants.map(({ name, reason }) =>
    reason === undefined ? [name, ...cell(result.ioctl[name]), ...cell(result.exit[name])] : [name, 'absent', '', '', ''],
  );
  const all = [['', 'KVM_GET_API_VERSION', '', 'port exit', ''], ...rows];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...all.map((row) => row[column].length)));
  const lines = all.map((row) =>
    row
      .map((text, column) => (column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column])))
      .join('  ')
      .trimEnd(),
  );
  const absent = Object.entries(result.absent).map(([name, reason]) => `${name}: absent, ${reason}`);
  const { import_ms, process_ms, cpu_ms, rss_mb, heap_mb } = result.import;
  const footprintLine = `import 'kvio': ${import_ms.toFixed(1)} ms (whole process ${process_ms.toFixed(1)} ms, processor time ${cpu_ms.toFixed(1)} ms), ${rss_mb.toFixed(1)} MB resident, ${heap_mb.toFixed(1)} MB heap; a fresh process minus an empty one`;
  const verdicts = result.targets.map(({ what, value, limit, met }) => {
    const verdict = met === undefined ? 'not measured' : met ? 'met' : 'MISSED';
    return `${verdict.padEnd(12)}  ${what}: ${value === undefined ? '–' : value.toFixed(2)} (at most ${limit})`;
  });
  const { native, sim } = result.memslots;
  const micro = (ns) => `${(ns / 1000).toFixed(1)} µs`;
  const slotLine = (what, side) =>
    `32 764 memslots in random order, ${what}: simulator ${sim ? micro(sim[side]) : 'absent'} a slot, real kernel ${native ? micro(native[side]) : 'absent'}${sim && native ? `, ratio ${(sim[side] / native[side]).toFixed(2)}` : ''}`;
  const { native: realTrip, sim: simTrip } = result.roundTrip;
  const tripLine = `irqfd → guest → ioeventfd: simulator ${simTrip ? micro(simTrip) : 'absent'}, real kernel ${realTrip ? micro(realTrip) : 'absent'}${simTrip && realTrip ? `, ratio ${(simTrip / realTrip).toFixed(2)}` : ''}`;
  const slotLines = [slotLine('set', 'insert'), slotLine('deleted', 'remove')];
  const head = `Node ${result.node}, Linux ${result.kernel}, median of ${rounds} rounds in turns`;
  return [head, '', ...lines, '', ...absent, footprintLine, ...slotLines, tripLine, '', ...verdicts].join('\n');
}

process.stdout.write(`${options.has('--json') ? JSON.stringify(result, null, 2) : table()}\n`);
if (options.has('--check') && result.targets.some((target) => target.met === false)) process.exitCode = 1;
