import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { step } from './steps.mjs';

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The mirror the machine's own apt uses. */
function mirror() {
  const parts = '/etc/apt/sources.list.d';
  const files = ['/etc/apt/sources.list', ...(existsSync(parts) ? readdirSync(parts).map((name) => join(parts, name)) : [])];
  for (const file of files.filter(existsSync)) {
    const match = /^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(\S*debian\/?)(?:\s|$)/m.exec(readFileSync(file, 'utf8'));
    if (match) return match[1];
  }
  throw new Error(
    'lab: no Debian mirror in /etc/apt, so no kernel package can be fetched: name an image with KVIO_LAB_KERNEL=FILE',
  );
}

/** Whether packages of Debian can be fetched here: apt, and a Debian mirror in its sources. */
export function whyNoPackages() {
  if (spawnSync('apt-get', ['--version']).status !== 0) return 'there is no apt-get here';
  try {
    mirror();
  } catch (error) {
    return error.message;
  }
  return undefined;
}

/**
 * Downloads a package of another suite into a directory and returns the file, without touching the machine's own lists; signatures
 * are checked as always. The first suite that has it wins. `choose` picks a name from those that match `pattern`.
 */
export async function fetchPackage({ pattern, suites, choose = (names) => names[0], into }) {
  const state = mkdtempSync(join(tmpdir(), 'kvio-apt-'));
  try {
    const failures = [];
    for (const suite of suites) {
      const lists = join(state, suite);
      mkdirSync(join(lists, 'partial'), { recursive: true });
      const list = join(state, `${suite}.list`);
      const signed = existsSync(keyring) ? `[signed-by=${keyring}] ` : '';
      writeFileSync(list, `deb ${signed}${mirror()} ${suite} main\n`);
      const options = Object.entries({
        'Dir::Etc::SourceList': list,
        'Dir::Etc::SourceParts': '/dev/null',
        'Dir::State::Lists': lists,
        'Dir::Cache::pkgcache': '',
        'Dir::Cache::srcpkgcache': '',
        'Acquire::Languages': 'none',
        'APT::Sandbox::User': 'root',
        'Debug::NoLocking': 'true',
      }).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
      try {
        await step(`package list of Debian ${suite}`, 'apt-get', [...options, '-q', 'update']);
      } catch (error) {
        failures.push(error.message);
        continue;
      }
      const found = spawnSync('apt-cache', [...options, 'pkgnames', pattern.source.match(/^\^([a-z0-9.-]*)/)?.[1] ?? ''], {
        encoding: 'utf8',
      });
      const names = found.stdout.split('\n').filter((name) => pattern.test(name));
      if (names.length === 0) {
        failures.push(`Debian ${suite} has no package ${pattern.source}`);
        continue;
      }
      const name = choose(names);
      await step(`download ${name}`, 'apt-get', [...options, '-q', 'download', name], { cwd: into });
      return join(
        into,
        readdirSync(into).find((file) => file.startsWith(`${name}_`)),
      );
    }
    throw new Error(`lab: no package ${pattern.source} to be had:\n${failures.join('\n')}`);
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
}
