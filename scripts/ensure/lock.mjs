// One ensure at a time in one tree: `npm start` and `npm test` may run at once on a fresh clone.
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { at, exists, Unable } from './tree.mjs';

const path = at('.cache', 'ensure', 'lock');
const patience = 20 * 60_000;

function tryTake() {
  try {
    const fd = openSync(path, 'wx');
    writeSync(fd, String(process.pid));
    closeSync(fd);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function holder() {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return 0;
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Two waiters may see the same dead holder: only who gets to rename its lock away has removed it. */
function breakLock(pid) {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  const taken = Number(readFileSync(aside, 'utf8'));
  if (taken === pid || exists(path)) rmSync(aside);
  else renameSync(aside, path);
}

/** Runs `work` while no other ensure of this tree does; `onWait(pid)` is called once if another one is at it. */
export async function withLock(onWait, work) {
  mkdirSync(dirname(path), { recursive: true });
  const deadline = Date.now() + patience;
  let told = false;
  let empty = 0;
  while (!tryTake()) {
    const pid = holder();
    // A lock without a number is being written right now, or its writer died in between.
    empty = pid === 0 ? empty + 1 : 0;
    if (pid === 0 ? empty > 10 : !alive(pid)) {
      breakLock(pid);
      continue;
    }
    if (!told && pid !== 0) onWait(pid);
    told ||= pid !== 0;
    if (Date.now() > deadline) throw new Unable(`process ${pid} holds ${path} for 20 minutes; end it, or remove that file`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const release = () => rmSync(path, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.off('exit', release);
    release();
  }
}
