// baseline.c as a child that measures when told to, so that its rounds stand among the others' in time.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { at, which } from '../ensure/tree.mjs';

/** `{ measure(what, count), stop() }`, or `{ reason }`. `threads`: with a second thread that sleeps. */
export async function openBaseline({ threads = false } = {}) {
  const compiler = which('gcc') ?? which('cc');
  if (compiler === undefined) return { reason: 'no C compiler on PATH' };
  const program = at('.cache', 'bench', threads ? 'baseline-threads' : 'baseline');
  mkdirSync(at('.cache', 'bench'), { recursive: true });
  const built = spawnSync(compiler, ['-O2', '-pthread', '-o', program, at('scripts', 'bench', 'baseline.c')], {
    encoding: 'utf8',
  });
  if (built.status !== 0) return { reason: `baseline.c does not compile: ${built.stderr.split('\n')[0]}` };

  const child = spawn(program, threads ? ['threads'] : [], { stdio: ['pipe', 'pipe', 'pipe'] });
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
  const stop = () => child.stdin.end();
  try {
    await measure('ioctl', 1000);
    return { measure, stop };
  } catch (error) {
    return { reason: error.message };
  }
}
