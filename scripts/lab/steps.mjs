import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const children = new Set();

/** A process group of ours must not outlive us: the steps of a build are groups of their own. */
process.on('exit', () => {
  for (const pid of children) {
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // it ended by itself
    }
  }
});

/** A line of progress on stderr: rewritten in place on a terminal, otherwise one line now and one at the end. */
class Progress {
  #what;
  #started = Date.now();
  #shown = 0;
  #tty = process.stderr.isTTY === true;

  constructor(what) {
    this.#what = what;
    this.#show('…');
  }

  seconds() {
    return Math.round((Date.now() - this.#started) / 1000);
  }

  update(detail) {
    if (Date.now() - this.#shown < (this.#tty ? 500 : 30_000)) return;
    this.#show(`${detail}, ${this.seconds()} s`);
  }

  end(outcome) {
    this.#show(`${outcome} (${this.seconds()} s)`);
    if (this.#tty) process.stderr.write('\n');
  }

  #show(detail) {
    this.#shown = Date.now();
    const line = `lab: ${this.#what}: ${detail}`;
    process.stderr.write(this.#tty ? `\r\x1b[K${line}` : `${line}\n`);
  }
}

/**
 * Runs one step of a longer work, with progress; resolves with its stdout. `count` says of a line of output whether it is a unit of
 * the work, `total` about how many of those there are. A failure is an Error with the last of what was said.
 */
export async function step(what, command, args, { cwd, count, total } = {}) {
  const progress = new Progress(what);
  // pdeathsig reaches make, whose jobs end at their next write to us; the group is for an orderly end
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
    cwd,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', MAKEFLAGS: '' },
  });
  let units = 0;
  let stdout = '';
  let tail = '';
  const take = (chunk, isOutput) => {
    if (isOutput) stdout += chunk;
    tail = (tail + chunk).slice(-6000);
    if (count) for (const line of chunk.split('\n')) if (count.test(line)) units++;
  };
  child.stdout.setEncoding('utf8').on('data', (chunk) => take(chunk, true));
  child.stderr.setEncoding('utf8').on('data', (chunk) => take(chunk, false));
  const ticker = setInterval(() => progress.update(count ? `${units} of about ${total}` : 'still at it'), 500);
  const status = await new Promise((resolve) => {
    child.on('error', (error) => {
      tail += error.message;
      resolve(-1);
    });
    child.on('spawn', () => children.add(child.pid));
    child.on('close', (code, signal) => resolve(signal ?? code));
  });
  children.delete(child.pid);
  clearInterval(ticker);
  progress.end(status === 0 ? `done${count ? `, ${units}` : ''}` : 'failed');
  if (status !== 0) throw new Error(`lab: ${what}: ${command} ended with ${status}; it said last:\n${tail.trimEnd()}`);
  return stdout;
}

/** This process, so that another can tell whether it lives: a pid alone is used again. */
export function ownerLine() {
  return `${process.pid} ${startTime(process.pid)} ${namespace()}`;
}

/** Whether the process that wrote `ownerLine()` is gone. One of another pid namespace is taken for alive. */
export function isGone(line) {
  const [pid, started, where] = line.trim().split(' ');
  return where === namespace() && startTime(pid) !== started;
}

function startTime(pid) {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[19];
  } catch {
    return 'none';
  }
}

function namespace() {
  return readlinkSync('/proc/self/ns/pid');
}

/** Removes directories `prefix…` of `parent` whose owner is gone: what a runner leaves that was killed by SIGKILL. */
export function sweep(parent, prefix) {
  for (const name of readdirSync(parent).filter((entry) => entry.startsWith(prefix))) {
    const dir = join(parent, name);
    try {
      if (isGone(readFileSync(join(dir, 'owner'), 'utf8'))) rmSync(dir, { recursive: true, force: true });
    } catch {
      // another user's, or just being made
    }
  }
}

/** Does `work` while no other process is inside the same lock; others wait. */
export async function exclusively(dir, what, work) {
  for (let told = false; ; told = true) {
    try {
      mkdirSync(dir);
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    let owner = '';
    try {
      owner = readFileSync(join(dir, 'owner'), 'utf8');
    } catch {
      // between its mkdir and its write
    }
    if (owner !== '' && isGone(owner)) rmSync(dir, { recursive: true, force: true });
    else if (!told) process.stderr.write(`lab: waiting for another process (${owner.split(' ')[0]}) to ${what}\n`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  try {
    writeFileSync(join(dir, 'owner'), ownerLine());
    return await work();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
