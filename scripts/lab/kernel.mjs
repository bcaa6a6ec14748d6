import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const checkout = join(here, '../..');
const cache = process.env.KVIO_LAB_CACHE ?? join(checkout, '.cache/lab');
const version = '7.2';

/** Where an image may lie ready: named, cached, or beside the checkout. */
export function findKernel() {
  const named = process.env.KVIO_LAB_KERNEL;
  if (named) {
    if (!existsSync(named)) throw new Error(`KVIO_LAB_KERNEL names ${named}, which does not exist`);
    return named;
  }
  for (const dir of [cache, join(checkout, '../shared/lab')]) {
    const image = existsSync(dir) && readdirSync(dir).find((name) => name.startsWith(`bzImage-${version}`));
    if (image) return join(dir, image);
  }
  return undefined;
}

const tools = {
  make: 'make',
  gcc: 'gcc',
  flex: 'flex',
  bison: 'bison',
  bc: 'bc',
  xz: 'xz-utils',
  kmod: 'kmod',
  'dpkg-deb': 'dpkg',
};
const headers = { '/usr/include/libelf.h': 'libelf-dev', '/usr/include/openssl/ssl.h': 'libssl-dev' };

function missingForBuild() {
  const have = (tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
  return [
    ...Object.entries(tools)
      .filter(([tool]) => !have(tool))
      .map(([, pkg]) => pkg),
    ...Object.entries(headers)
      .filter(([file]) => !existsSync(file))
      .map(([, pkg]) => pkg),
  ];
}

function run(what, command, args, options = {}) {
  const started = Date.now();
  process.stderr.write(`lab: ${what} … `);
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  process.stderr.write(`${((Date.now() - started) / 1000).toFixed(0)} s\n`);
  if (result.status !== 0)
    throw new Error(
      `lab: ${what} failed (${command} ${args.join(' ')}):\n${(result.stderr || result.stdout || String(result.error)).slice(-3000)}`,
    );
  return result.stdout;
}

/** The mirror the machine's own apt uses; the source package is in Debian's newer suites. */
function mirror() {
  const lists = [
    '/etc/apt/sources.list',
    ...readdirSync('/etc/apt/sources.list.d').map((name) => join('/etc/apt/sources.list.d', name)),
  ];
  for (const file of lists) {
    if (!existsSync(file)) continue;
    const match = /(?:^URIs:|^deb)\s+(?:\[[^\]]*\]\s+)?(\S*debian\/?)(?:\s|$)/m.exec(readFileSync(file, 'utf8'));
    if (match) return match[1];
  }
  throw new Error('lab: no Debian mirror in /etc/apt: name an image with KVIO_LAB_KERNEL');
}

/** Fetches a package of another suite without touching the machine's own lists. */
export function fetchPackage(name, into, suites = ['sid']) {
  const state = mkdtempSync(join(tmpdir(), 'kvio-apt-'));
  try {
    mkdirSync(join(state, 'lists/partial'), { recursive: true });
    const list = join(state, 'sources.list');
    writeFileSync(list, suites.map((suite) => `deb [trusted=yes] ${mirror()} ${suite} main\n`).join(''));
    const options = [
      '-o',
      `Dir::Etc::SourceList=${list}`,
      '-o',
      'Dir::Etc::SourceParts=/dev/null',
      '-o',
      `Dir::State::Lists=${join(state, 'lists')}`,
      '-o',
      'APT::Sandbox::User=root',
    ];
    run(`package lists of ${suites.join(', ')}`, 'apt-get', [...options, 'update']);
    run(`download ${name}`, 'apt-get', [...options, 'download', name], { cwd: into });
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
  return join(
    into,
    readdirSync(into).find((file) => file.startsWith(`${name}_`)),
  );
}

/** Builds the lab's kernel from Debian's source package (10–20 minutes on two cores) and caches it. */
export function buildKernel() {
  const missing = missingForBuild();
  if (missing.length > 0)
    throw new Error(
      `lab: to build a kernel install: apt-get install ${missing.join(' ')}\n(or name an image with KVIO_LAB_KERNEL)`,
    );
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, 'build-'));
  try {
    const deb = fetchPackage(`linux-source-${version}`, work);
    run('unpack the package', 'dpkg-deb', ['-x', deb, work]);
    const tarball = join(
      work,
      'usr/src',
      readdirSync(join(work, 'usr/src')).find((name) => name.startsWith('linux-source')),
    );
    run('unpack the source', 'tar', ['-xf', tarball, '-C', work]);
    const source = join(
      work,
      readdirSync(work).find((name) => name.startsWith('linux-source') && !name.endsWith('.deb')),
    );
    cpSync(join(here, 'kernel.config'), join(source, 'kvio.config'));
    run(
      'configure',
      'sh',
      ['-c', 'make allnoconfig && scripts/kconfig/merge_config.sh -m .config kvio.config && make olddefconfig'],
      { cwd: source },
    );
    run('compile (10–20 minutes)', 'make', [`-j${cpus().length}`, 'bzImage'], { cwd: source });
    const release = run('release', 'make', ['-s', 'kernelversion'], { cwd: source }).trim();
    const image = join(cache, `bzImage-${release}`);
    renameSync(join(source, 'arch/x86/boot/bzImage'), image);
    return image;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
