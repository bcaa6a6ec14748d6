import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

/**
 * /init of the lab. The host's root is mounted under /host (read from it only), the checkout and the exchange directory over it by
 * tags of their own, and the command runs in a chroot there: the machine's own Node, libraries and checkout.
 */
const init = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /host
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t debugfs debugfs /sys/kernel/debug
O=trans=virtio,version=9p2000.L,msize=512000
fail() { echo "kvio-lab: $1"; poweroff -f; }
mount -t 9p -o $O,cache=loose,ro host /host || fail "cannot mount the host's files"
mount -t tmpfs tmpfs /host/tmp || fail "no /tmp"
mkdir -p /host/tmp/kvio-lab /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
mount -t 9p -o $O,cache=none exchange /host/tmp/kvio-lab || fail "cannot mount the exchange directory"
. /host/tmp/kvio-lab/settings
mkdir -p "/host$CHECKOUT" 2>/dev/null
mount -t 9p -o $O,cache=loose checkout "/host$CHECKOUT" || fail "cannot mount the checkout"
for d in dev proc sys; do mount -o rbind /$d /host/$d || mount -o bind /$d /host/$d; done
mount -t tmpfs tmpfs /host/run
ip link set lo up 2>/dev/null
echo booted > /host/tmp/kvio-lab/booted
if [ "$INTERACTIVE" = 1 ]; then
  setsid -c chroot /host /bin/sh /tmp/kvio-lab/command </dev/hvc0 >/dev/hvc0 2>&1
else
  chroot /host /bin/sh /tmp/kvio-lab/command </dev/null >/dev/vport-out 2>/dev/vport-err
fi
echo $? > /host/tmp/kvio-lab/status
sync
poweroff -f
`;

/** Ports of virtio-serial appear as /dev/vportNpM; their names are in sysfs. */
const ports = `for p in /sys/class/virtio-ports/*; do n=$(cat $p/name 2>/dev/null); case "$n" in kvio.*) ln -sf /dev/$(basename $p) /dev/vport-\${n#kvio.};; esac; done\n`;

/** Makes the initrd and returns its bytes. Needs busybox (static) and cpio. */
export function makeInitrd(busybox) {
  const root = mkdtempSync(join(tmpdir(), 'kvio-initrd-'));
  try {
    mkdirSync(join(root, 'bin'));
    copyFileSync(busybox, join(root, 'bin/busybox'));
    chmodSync(join(root, 'bin/busybox'), 0o755);
    writeFileSync(join(root, 'init'), init.replace('if [ "$INTERACTIVE"', `${ports}if [ "$INTERACTIVE"`), { mode: 0o755 });
    const cpio = spawnSync('sh', ['-c', 'find . | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible'], {
      cwd: root,
      maxBuffer: 1 << 28,
    });
    if (cpio.status !== 0) throw new Error(`cpio failed: ${cpio.stderr}`);
    return gzipSync(cpio.stdout, { level: 6 });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Whether a file is a static executable (an initrd has no loader). */
export function isStatic(file) {
  const head = readFileSync(file).subarray(0, 4096);
  return head.readUInt32BE(0) === 0x7f454c46 && !head.includes('/lib64/ld-linux');
}
