// A C program as a child that measures when told to, so that its rounds stand among the others' in time.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { at, which } from '../ensure/tree.mjs';

/** baseline.c: `{ measure(what, count), stop() }`, or `{ reason }`. `threads`: with a second thread that sleeps. */
export const openBaseline = ({ threads = false } = {}) =>
  openProgram('baseline.c', threads ? 'baseline-threads' : 'baseline', threads ? ['threads'] : [], 'ioctl');

/** Compiles `source` of this folder to `name` and starts it; `first` is what it is asked once, to see that it can. */
export async function openProgram(source, name, args, first) {
  const compiler = which('gcc') ?? which('cc');
  if (compiler === undefined) return { reason: 'no C compiler on PATH' };
  const program = at('.cache', 'bench', name);
  mkdirSync(at('.cache', 'bench'), { recursive: true });
  const built = spawnSync(compiler, ['-O2', '-pthread', '-o', program, at('scripts', 'bench', source)], {
    encoding: 'utf8',
  });
  if (built.status !== 0) return { reason: `${source} does not compile: ${built.stderr.split('\n')[0]}` };

  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaint = '';
  child.stderr.on('data', (data) => {
    complaint += data;
  });
  child.stdin.on('error', () => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const measure = async (what, count) => {
    child.stdin.write(`${what} ${count}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error(`the C program ended: ${complaint.trim()}`);
    return Number(value);
  };
  const ended = new Promise((resolve) => child.on('close', resolve));
  const stop = () => {
    child.stdin.end();
    return ended;
  };
  try {
    await measure(first, 100);
    return { measure, stop };
  } catch (error) {
    return { reason: error.message };
  }
}
