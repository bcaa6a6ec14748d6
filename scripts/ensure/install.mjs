// node_modules as package-lock.json has it.
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { at, exists, fingerprint, readJson, readStamp, run, say, Unable, which, writable, writeStamp } from './tree.mjs';

const lockFile = 'package-lock.json';

/** `npm ci` may leave out an optional package (another platform, a failed download): one attempt per lock file is enough. */
function problem() {
  const wanted = readJson(at(lockFile))?.packages;
  if (wanted === undefined) throw new Unable(`${lockFile} is missing or damaged`);
  const have = readJson(at('node_modules', '.package-lock.json'))?.packages;
  if (have === undefined) return 'node_modules is missing';
  const attempted = readStamp('install')?.lock === fingerprint([lockFile]);
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '' || entry.link) continue;
    const found = have[path];
    if (found === undefined || !exists(at(path, 'package.json'))) {
      if (!entry.optional || (!attempted && fits(entry))) return `${path} is missing`;
    } else if (found.version !== entry.version || found.integrity !== entry.integrity) {
      return `${path} is ${found.version}, not ${entry.version}`;
    }
  }
  return undefined;
}

function libc() {
  process.report.excludeNetwork = true;
  return process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'glibc';
}

/** Made for this machine. An optional package for no machine in particular serves one that is (a WebAssembly build's runtime). */
function fits(entry) {
  if (entry.os === undefined && entry.cpu === undefined) return false;
  const allows = (list, value) => list === undefined || (list.includes(value) && !list.includes(`!${value}`));
  return (
    allows(entry.os, process.platform) &&
    allows(entry.cpu, process.arch) &&
    (entry.libc === undefined || allows(entry.libc, libc()))
  );
}

/** The npm that runs us, else the one on PATH, else the one beside this node. */
function npmCommand() {
  const script = process.env.npm_execpath;
  if (script?.endsWith('.js') && exists(script)) return [process.execPath, script];
  const npm = which('npm') ?? which(join(dirname(process.execPath), 'npm'));
  if (npm === undefined) throw new Unable('npm is not on PATH; install Node.js with npm, or run `npm ci --include=dev` yourself');
  return [npm];
}

/** npm's cache lies in the home directory, which a service user may not have. */
function creatable(folder) {
  return exists(folder) ? writable(folder) : dirname(folder) !== folder && creatable(dirname(folder));
}

export const install = {
  name: 'packages',
  fresh: () => problem() === undefined,
  run() {
    say(`installing packages (${problem()}): npm ci --include=dev`);
    const [program, ...args] = npmCommand();
    const env = { ...process.env };
    if (!creatable(env.npm_config_cache ?? join(homedir(), '.npm'))) env.npm_config_cache = at('.cache', 'npm');
    const { ok, output } = run(program, [...args, 'ci', '--include=dev', '--no-audit', '--no-fund', '--no-update-notifier'], {
      env,
      quiet: true,
    });
    if (!ok) {
      process.stderr.write(output);
      throw new Unable('npm ci failed (its words are above): is the package registry within reach?');
    }
    writeStamp('install', { lock: fingerprint([lockFile]) });
    const still = problem();
    if (still !== undefined) throw new Unable(`npm ci succeeded, yet ${still}`);
  },
};
