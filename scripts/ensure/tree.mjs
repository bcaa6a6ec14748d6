// What the steps of scripts/ensure.mjs share: where the tree is, fingerprints of files, stamps, programs on PATH, running one.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** A path inside the tree. */
export function at(...parts) {
  return join(root, ...parts);
}

export function exists(path) {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** All files below a folder whose name ends in one of `suffixes`, sorted, relative to the tree. */
export function filesUnder(folder, suffixes) {
  const found = [];
  const walk = (relative) => {
    for (const entry of readdirSync(at(relative), { withFileTypes: true })) {
      const path = join(relative, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (suffixes.some((suffix) => entry.name.endsWith(suffix))) found.push(path);
    }
  };
  if (exists(at(folder))) walk(folder);
  return found.sort();
}

/** The content of these files (names included; a missing one counts as missing) as one short word. */
export function fingerprint(files, ...more) {
  const hash = createHash('sha256');
  for (const file of files) {
    hash.update(`\0${file}\0`);
    if (exists(at(file))) hash.update(readFileSync(at(file)));
  }
  return hash
    .update(`\0${JSON.stringify(more)}`)
    .digest('hex')
    .slice(0, 32);
}

const stampPath = (name) => at('.cache', 'ensure', `${name}.json`);

/** What a step wrote down when it last ran, or undefined. */
export function readStamp(name) {
  return readJson(stampPath(name));
}

export function writeStamp(name, value) {
  const path = stampPath(name);
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(temporary, path);
}

/** A JSON file's content; undefined where there is none, or none that parses. */
export function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Where a program is on PATH, or undefined. */
export function which(program) {
  const candidates = isAbsolute(program)
    ? [program]
    : (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, program));
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return statSync(path).isFile();
    } catch {
      return false;
    }
  });
}

export function writable(path) {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** To standard error: a program's own output stays its own. */
export function say(text) {
  process.stderr.write(`kvio: ${text}\n`);
}

/** Runs a program in the tree. `quiet` keeps its output for the caller; otherwise the terminal has it. */
export function run(program, args, { env = process.env, quiet = false } = {}) {
  const result = spawnSync(program, args, {
    cwd: root,
    env,
    stdio: quiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const ending = result.error?.message ?? (result.signal === null ? undefined : `${program} was ended by ${result.signal}`);
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}${ending === undefined ? '' : `${ending}\n`}`;
  return { ok: result.status === 0, output };
}

/** A step that cannot be done and that nothing can replace: the message is for the user, no stack. */
export class Unable extends Error {}
