// What `import 'kvio'` costs a process: a fresh one that does only that, minus an empty one, in turns.
import { spawnSync } from 'node:child_process';
import { root } from '../ensure/tree.mjs';
import { median } from './statistics.mjs';

const report = `process.stdout.write(JSON.stringify([performance.now(), process.memoryUsage().rss, process.memoryUsage().heapUsed, process.cpuUsage()]))`;

function fresh(statement) {
  const start = process.hrtime.bigint();
  const { stdout, status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', `${statement};${report}`], {
    cwd: root,
    encoding: 'utf8',
  });
  const wall = Number(process.hrtime.bigint() - start) / 1e6;
  if (status !== 0) throw new Error(`${statement}: ${stderr}`);
  const [ready, rss, heap, { user, system }] = JSON.parse(stdout);
  return { wall, ready, cpu: (user + system) / 1e3, rss: rss / 1e6, heap: heap / 1e6 };
}

/** Milliseconds and megabytes of the import alone: differences of medians. */
export function footprint(rounds, specifier = 'kvio') {
  const empty = [];
  const full = [];
  for (let round = 0; round < rounds; round++) {
    empty.push(fresh('0'));
    full.push(fresh(`import '${specifier}'`));
  }
  const difference = (key) => median(full.map((each) => each[key])) - median(empty.map((each) => each[key]));
  return {
    import_ms: difference('ready'),
    process_ms: difference('wall'),
    cpu_ms: difference('cpu'),
    rss_mb: difference('rss'),
    heap_mb: difference('heap'),
  };
}
