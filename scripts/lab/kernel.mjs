import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildKernel, whyNoBuild } from './build.mjs';
import { fetchPackage } from './debian.mjs';
import { ownerLine, step, sweep } from './steps.mjs';

const checkout = join(dirname(fileURLToPath(import.meta.url)), '../..');
const cache = process.env.KVIO_LAB_CACHE ?? join(checkout, '.cache/lab');
const ours = '7.2';

/** What the lab needs of a modular kernel: its files by 9p, its streams by virtio, and what is judged. Those it has not are left out. */
const modules = [
  '9p',
  '9pnet_virtio',
  'virtio_pci',
  'virtio_console',
  'virtio_iommu',
  'kvm_amd',
  'vfio',
  'vfio_iommu_type1',
  'vfio_pci',
  'udmabuf',
];

/**
 * Kernels by name. Those of Debian are its binary packages: KVM and VFIO type1 are modules there, iommufd is absent. They patch their own code
 * (jump labels), which QEMU's emulation of several CPUs may see half-done (an int3 in the scheduler, or a hang): one CPU.
 */
export const kernels = {
  [ours]: { about: 'Linux 7.2 built with kernel.config: KVM (SVM, SW_PROTECTED), VFIO, iommufd with its test interface' },
  'debian-6.1': {
    about: "Debian 12's own: KVM and VFIO type1",
    cpus: 1,
    pattern: /^linux-image-6\.1\.0-\d+-amd64$/,
    suites: ['bookworm'],
  },
  'debian-6.12': {
    about: "Debian 13's own: KVM and VFIO type1",
    cpus: 1,
    pattern: /^linux-image-6\.12\.[\w.+~]+-amd64$/,
    suites: ['trixie', 'bookworm-backports'],
  },
};

/** Where our image may lie ready: cached, or beside the checkout. */
function readyImage() {
  for (const dir of [cache, join(checkout, '../shared/lab')]) {
    const images = existsSync(dir) ? readdirSync(dir).filter((name) => name.startsWith(`bzImage-${ours}.`)) : [];
    const newest = images.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
    if (newest) return join(dir, newest);
  }
  return undefined;
}

/**
 * A kernel to boot: `{ name, image, modules }`, with `cpus` where it may have no more. `which` (default: $KVIO_LAB_KERNEL, else `7.2`) is a name of `kernels`, a file, or `build`: our
 * kernel, built even where an image is. Ours is cached, else taken from beside the checkout, else built.
 */
export async function getKernel(which = process.env.KVIO_LAB_KERNEL || ours) {
  if (which === 'build') return { name: ours, image: await buildKernel(cache, ours), modules: [] };
  if (which === ours) return { name: ours, image: readyImage() ?? (await buildKernel(cache, ours)), modules: [] };
  if (Object.hasOwn(kernels, which)) return debianKernel(which);
  if (!existsSync(which))
    throw new Error(`lab: no kernel '${which}': neither a file one may see nor one of ${Object.keys(kernels).join(', ')}, build`);
  return { name: which, image: which, modules: [] };
}

/** Why our kernel is not to be had here without minutes of work, or at all; undefined when it lies ready. */
export function whyNoKernel() {
  const named = process.env.KVIO_LAB_KERNEL;
  if (named && named !== 'build')
    return Object.hasOwn(kernels, named) || existsSync(named)
      ? undefined
      : `KVIO_LAB_KERNEL names ${named}, which does not exist`;
  if (!named && readyImage()) return undefined;
  return whyNoBuild() ?? 'there is no image: npm run test:lab builds one (10–20 minutes)';
}

async function debianKernel(name) {
  const dir = join(cache, name);
  if (!existsSync(dir)) await fetchDebian(name, dir);
  return {
    name,
    cpus: kernels[name].cpus,
    image: join(dir, 'vmlinuz'),
    modules: readFileSync(join(dir, 'modules.order'), 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((file) => join(dir, file)),
  };
}

/** Keeps of a kernel package what the lab needs: the image, and modules in an order in which each comes after those it needs. */
async function fetchDebian(name, dir) {
  const { pattern, suites } = kernels[name];
  mkdirSync(cache, { recursive: true });
  sweep(cache, 'fetch-');
  const work = mkdtempSync(join(cache, 'fetch-'));
  try {
    writeFileSync(join(work, 'owner'), ownerLine());
    const choose = (names) => names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
    const deb = await fetchPackage({ pattern, suites, choose, into: work });
    await step('unpack the package', 'dpkg-deb', ['-x', deb, work]);
    const image = readdirSync(join(work, 'boot')).find((file) => file.startsWith('vmlinuz-'));
    const lib = ['lib/modules', 'usr/lib/modules'].map((path) => join(work, path)).find(existsSync);
    const files = new Map(
      readdirSync(lib, { recursive: true })
        .filter((path) => /\.ko(\.(xz|zst))?$/.test(path))
        .map((path) => [moduleName(path), join(lib, path)]),
    );
    const ready = join(work, 'ready');
    mkdirSync(ready);
    copyFileSync(join(work, 'boot', image), join(ready, 'vmlinuz'));
    const order = [];
    const builtin = new Set(
      readFileSync(join(lib, readdirSync(lib)[0], 'modules.builtin'), 'utf8')
        .split('\n')
        .filter(Boolean)
        .map(moduleName),
    );
    const add = (module) => {
      const path = files.get(module);
      if (order.includes(`${module}.ko`) || builtin.has(module)) return;
      if (path === undefined) return;
      const bytes = plain(path);
      for (const needed of needs(bytes)) add(needed);
      writeFileSync(join(ready, `${module}.ko`), bytes);
      order.push(`${module}.ko`);
    };
    for (const module of modules) add(module);
    writeFileSync(join(ready, 'modules.order'), `${order.join('\n')}\n`);
    try {
      renameSync(ready, dir);
    } catch (error) {
      // another process was faster
      if (!existsSync(dir)) throw error;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** A module's name as the kernel has it: the file's, with underscores. */
function moduleName(path) {
  return path
    .split('/')
    .at(-1)
    .replace(/\.ko.*/, '')
    .replaceAll('-', '_');
}

function plain(path) {
  const [command] = Object.entries({ xz: '.xz', zstd: '.zst' }).find(([, ending]) => path.endsWith(ending)) ?? [];
  if (command === undefined) return readFileSync(path);
  const unpacked = spawnSync(command, ['-dc', path], { maxBuffer: 1 << 28 });
  if (unpacked.status !== 0) throw new Error(`lab: cannot unpack ${path}: ${unpacked.stderr ?? unpacked.error}`);
  return unpacked.stdout;
}

/** The modules a module needs: `depends=` in its .modinfo section. */
function needs(bytes) {
  const at = bytes.indexOf('\0depends=');
  if (at < 0) return [];
  const text = bytes.subarray(at + 9, bytes.indexOf(0, at + 9)).toString();
  return text
    .split(',')
    .filter(Boolean)
    .map((name) => name.replaceAll('-', '_'));
}
