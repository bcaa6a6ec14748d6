import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

/** Makes the initrd below `dir` and returns its path. `modules`: `{ file, parameters }` in the order they are loaded. */
export function makeInitrd(dir, busybox, modules) {
  const root = join(dir, 'initrd');
  mkdirSync(join(root, 'bin'), { recursive: true });
  copyFileSync(busybox, join(root, 'bin/busybox'));
  chmodSync(join(root, 'bin/busybox'), 0o755);
  copyFileSync(join(dirname(fileURLToPath(import.meta.url)), 'init.sh'), join(root, 'init'));
  chmodSync(join(root, 'init'), 0o755);
  if (modules.length > 0) {
    mkdirSync(join(root, 'modules'));
    const load = modules.map(({ file, parameters }, at) => {
      copyFileSync(file, join(root, 'modules', `${at}.ko`));
      return `insmod /modules/${at}.ko ${parameters.join(' ')} || at "cannot load ${file.split('/').at(-1)}"\n`;
    });
    writeFileSync(join(root, 'modules/load'), load.join(''));
  }
  const cpio = spawnSync('sh', ['-c', 'find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible'], {
    cwd: root,
    maxBuffer: 1 << 28,
  });
  if (cpio.status !== 0) throw new Error(`lab: cpio failed: ${cpio.stderr}`);
  rmSync(root, { recursive: true });
  const file = join(dir, 'initrd.gz');
  writeFileSync(file, gzipSync(cpio.stdout, { level: 1 }));
  return file;
}

/** The busybox for the initrd: a static one, since an initrd has no loader. */
export function findBusybox() {
  return ['/bin/busybox', '/usr/bin/busybox', '/bin/busybox.static', '/usr/bin/busybox.static'].find(
    (file) => existsSync(file) && isStatic(file),
  );
}

function isStatic(file) {
  const head = readFileSync(file).subarray(0, 4096);
  return head.readUInt32BE(0) === 0x7f454c46 && !head.includes('/ld-linux') && !head.includes('/ld-musl');
}
