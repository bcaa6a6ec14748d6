// Linux 7.2's uapi headers: KVIO_UAPI_HEADERS, or .cache/uapi-headers, or Debian's linux-libc-dev fetched into it.
//
// A header tree is what `dpkg -x linux-libc-dev_*.deb` leaves: usr/include/linux/*.h and, per architecture,
// usr/lib/linux/uapi/<arch>/asm/*.h. Debian 12 carries 6.1; the newer suites of the same mirror carry 7.2,
// and apt reads them from scratch lists without touching the machine's own configuration.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
export const CACHE = join(ROOT, '.cache/uapi-headers');
const WANTED = '7.2';
const SUITES = ['sid', 'forky', 'trixie-backports'];

/** The kernel version a header tree names in linux/version.h, as [major, minor, patch]. */
export function headerVersion(tree) {
  const text = readFileSync(join(tree, 'usr/include/linux/version.h'), 'utf8');
  const part = (name) => Number(new RegExp(`#define ${name} (\\d+)`).exec(text)?.[1]);
  return [part('LINUX_VERSION_MAJOR'), part('LINUX_VERSION_PATCHLEVEL'), part('LINUX_VERSION_SUBLEVEL')];
}

/** The tree at hand without any download, or undefined. */
export function localHeaders() {
  for (const tree of [process.env.KVIO_UAPI_HEADERS, CACHE]) {
    if (tree && existsSync(join(tree, 'usr/include/linux/version.h'))) return tree;
  }
  return undefined;
}

function sourceOfDebian() {
  const files = ['/etc/apt/sources.list', ...listing('/etc/apt/sources.list.d').map((name) => `/etc/apt/sources.list.d/${name}`)];
  for (const file of files.filter(existsSync)) {
    const text = readFileSync(file, 'utf8');
    const uri =
      /^\s*URIs:\s*(\S+\/debian)\/?\s*$/m.exec(text)?.[1] ?? /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+\/debian)\/?\s/m.exec(text)?.[1];
    if (uri) return uri;
  }
  throw new Error('no Debian mirror in /etc/apt: set KVIO_UAPI_HEADERS to an unpacked linux-libc-dev of Linux 7.2');
}

const listing = (folder) => (existsSync(folder) ? readdirSync(folder) : []);

function fetchInto(tree) {
  const scratch = join(ROOT, '.cache/apt');
  const mirror = sourceOfDebian();
  for (const suite of SUITES) {
    rmSync(scratch, { recursive: true, force: true });
    mkdirSync(join(scratch, 'lists/partial'), { recursive: true });
    const list = join(scratch, 'sources.list');
    const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
    writeFileSync(list, `deb [arch=amd64 signed-by=${keyring}] ${mirror} ${suite} main\n`);
    const options = [
      `Dir::Etc::SourceList=${list}`,
      'Dir::Etc::SourceParts=/dev/null',
      `Dir::State::Lists=${join(scratch, 'lists')}`,
    ]
      .concat([`Dir::Cache=${scratch}`, 'APT::Sandbox::User=root'])
      .flatMap((option) => ['-o', option]);
    const run = (...args) =>
      execFileSync('apt-get', [...options, '-q', ...args], { cwd: scratch, stdio: ['ignore', 'ignore', 'inherit'] });
    try {
      run('update');
      run('download', 'linux-libc-dev');
    } catch {
      continue;
    }
    const deb = readdirSync(scratch).find((name) => /^linux-libc-dev_.*\.deb$/.test(name));
    if (!deb) continue;
    rmSync(tree, { recursive: true, force: true });
    execFileSync('dpkg', ['-x', join(scratch, deb), tree]);
    rmSync(scratch, { recursive: true, force: true });
    if (headerVersion(tree).slice(0, 2).join('.') === WANTED) return;
    rmSync(tree, { recursive: true, force: true });
  }
  throw new Error(`no linux-libc-dev ${WANTED} in ${SUITES.join(', ')} of ${mirror}: set KVIO_UAPI_HEADERS`);
}

/** The 7.2 tree: at hand, or fetched. Throws when it is of another version. */
export function findHeaders() {
  let tree = localHeaders();
  if (!tree) {
    tree = CACHE;
    fetchInto(tree);
  }
  const version = headerVersion(tree);
  if (`${version[0]}.${version[1]}` !== WANTED) throw new Error(`${tree}: Linux ${version.join('.')} headers, ${WANTED} wanted`);
  return { tree, version: version.join('.') };
}

/** gcc of an architecture, told to see only this header tree. */
export function compiler(tree, arch) {
  const command = arch === 'arm64' ? 'aarch64-linux-gnu-gcc' : 'gcc';
  const folder = arch === 'arm64' ? 'arm64' : 'x86';
  const builtin = execFileSync(command, ['-print-file-name=include'], { encoding: 'utf8' }).trim();
  const include = [join(tree, 'usr/lib/linux/uapi', folder), join(tree, 'usr/include'), builtin];
  const args = ['-nostdinc', ...include.flatMap((folderName) => ['-isystem', folderName]), '-x', 'c', '-std=gnu11', '-w'];
  return {
    command,
    args,
    run: (extra, input) => execFileSync(command, [...args, ...extra], { input, stdio: 'pipe', maxBuffer: 1 << 28 }),
  };
}
