import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchPackage, whyNoPackages } from './debian.mjs';
import { exclusively, ownerLine, step, sweep } from './steps.mjs';

const here = dirname(fileURLToPath(import.meta.url));

/** Compiled objects and linked archives of kernel.config at 7.2, for the progress line only. */
const aboutUnits = 2300;

const tools = {
  make: 'make',
  gcc: 'gcc',
  ld: 'binutils',
  flex: 'flex',
  bison: 'bison',
  bc: 'bc',
  perl: 'perl',
  xz: 'xz-utils',
  depmod: 'kmod',
  'dpkg-deb': 'dpkg',
};
const headers = { '/usr/include/libelf.h': 'libelf-dev', '/usr/include/openssl/ssl.h': 'libssl-dev' };

/** Packages that must be installed before a kernel can be built. */
export function missingForBuild() {
  // depmod and the like are in /sbin, which a user's PATH may lack
  const have = (tool) => spawnSync('sh', ['-c', `PATH=$PATH:/usr/sbin:/sbin command -v ${tool}`]).status === 0;
  return [
    ...Object.keys(tools)
      .filter((tool) => !have(tool))
      .map((tool) => tools[tool]),
    ...Object.keys(headers)
      .filter((file) => !existsSync(file))
      .map((file) => headers[file]),
  ];
}

/** Why no kernel can be built here, with what to do; undefined when it can. */
export function whyNoBuild() {
  const missing = missingForBuild();
  if (missing.length > 0) return `to build the lab's kernel install: apt-get install ${missing.join(' ')}`;
  return whyNoPackages();
}

/**
 * Builds the lab's kernel from Debian's source package, with kernel.config merged into allnoconfig (10–20 minutes on two cores, 2.5 GiB
 * of scratch space below `cache`), and returns the image. Two processes never build at once: the second takes the first one's.
 */
export async function buildKernel(cache, version) {
  const obstacle = whyNoBuild();
  if (obstacle) throw new Error(`lab: ${obstacle}\n(or name an image with KVIO_LAB_KERNEL=FILE)`);
  mkdirSync(cache, { recursive: true });
  sweep(cache, 'build-');
  const started = Date.now();
  return exclusively(join(cache, 'building'), 'build a kernel', async () => {
    const built = readdirSync(cache).find(
      (name) => name.startsWith(`bzImage-${version}.`) && statSync(join(cache, name)).mtimeMs > started,
    );
    if (built) return join(cache, built);
    const work = mkdtempSync(join(cache, 'build-'));
    try {
      writeFileSync(join(work, 'owner'), ownerLine());
      return await buildIn(work, cache, version);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}

async function buildIn(work, cache, version) {
  const deb = await fetchPackage({
    pattern: new RegExp(`^linux-source-${version.replace('.', '\\.')}$`),
    suites: ['sid', 'forky', 'trixie-backports'],
    into: work,
  });
  await step('unpack the package', 'dpkg-deb', ['-x', deb, work]);
  rmSync(deb);
  const sources = join(work, 'usr/src');
  const tarball = join(
    sources,
    readdirSync(sources).find((name) => /^linux-source-.*\.tar\./.test(name)),
  );
  const tree = join(work, 'linux');
  mkdirSync(tree);
  await step('unpack the source', 'tar', ['-xf', tarball, '-C', tree, '--strip-components=1']);
  rmSync(tarball);
  copyFileSync(join(here, 'kernel.config'), join(tree, 'kvio.config'));
  await step('configure', 'make', ['allnoconfig'], { cwd: tree });
  await step('merge our options', 'sh', ['scripts/kconfig/merge_config.sh', '-m', '.config', 'kvio.config'], { cwd: tree });
  await step('complete the configuration', 'make', ['olddefconfig'], { cwd: tree });
  await step('compile', 'make', [`-j${availableParallelism()}`, 'bzImage'], {
    cwd: tree,
    count: /^ {2}(CC|AS|AR|LD|HOSTCC)\s/,
    total: aboutUnits,
  });
  const release = (await step('kernel version', 'make', ['-s', 'kernelversion'], { cwd: tree })).trim();
  const image = join(cache, `bzImage-${release}`);
  renameSync(join(tree, 'arch/x86/boot/bzImage'), image);
  return image;
}
