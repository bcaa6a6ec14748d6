#!/bin/busybox sh
# /init of the lab. The host's root is mounted under /host (read from it only), the checkout and the exchange directory over it by
# tags of their own, and the command runs in a chroot there: the machine's own Node, libraries and checkout. Every step says on
# the console what it does, so that a machine that hangs says where. Its streams are pipes to virtio-serial ports: a port can be
# opened once only, and programs open /dev/stderr again.
at() { echo "kvio-lab: $1"; }
fail() { at "failed: $1"; poweroff -f; }
/bin/busybox mkdir -p /proc /sys /dev /host /tmp
/bin/busybox --install -s /bin
at "mounting the kernel's file systems"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q devtmpfs /proc/mounts || mount -t devtmpfs dev /dev
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
[ -f /modules/load ] && { at "loading modules"; . /modules/load; }
O=trans=virtio,version=9p2000.L,msize=512000
at "mounting the host's files"
mount -t 9p -o $O,cache=loose,ro host /host || fail "cannot mount the host's files"
mount -t tmpfs tmpfs /host/tmp || fail "no /tmp"
mkdir -p /host/tmp/kvio-lab /dev/shm /dev/pts
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sf /proc/self/${link#*:} /dev/${link%:*}; done
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t 9p -o $O,cache=none exchange /host/tmp/kvio-lab || fail "cannot mount the exchange directory"
. /host/tmp/kvio-lab/settings
at "mounting the checkout"
mkdir -p "/host$CHECKOUT" 2>/dev/null
mount -t 9p -o $O,cache=loose checkout "/host$CHECKOUT" || fail "cannot mount the checkout"
if [ -n "$PROGRAMS" ]; then
  mkdir -p "/host$PROGRAMS" 2>/dev/null
  mount -t 9p -o $O,cache=loose,ro programs "/host$PROGRAMS" || fail "cannot mount Node's directory"
fi
for d in dev proc sys; do mount -o rbind /$d /host/$d; done
mount -t tmpfs tmpfs /host/run
ip link set lo up 2>/dev/null
for p in /sys/class/virtio-ports/*; do
  case "$(cat $p/name 2>/dev/null)" in kvio.*) ln -sf /dev/$(basename $p) /port-$(sed s/kvio.// $p/name) ;; esac
done
where() {
  at "what runs:"
  for p in /proc/[0-9]*; do
    line=$(tr '\0' ' ' <$p/cmdline 2>/dev/null | cut -c 1-160)
    case "$line" in '' | cat\ /tmp/* | cat\ /port-*) continue ;; esac
    state=$(sed 's/.*) \(.\).*/\1/' $p/stat)
    [ $(basename $p) = 1 ] || echo "  $(basename $p) $state in $(cat $p/wchan 2>/dev/null), syscall $(cut -d' ' -f1 $p/syscall 2>/dev/null): $line"
  done
  echo 8 >/proc/sys/kernel/printk
  echo l >/proc/sysrq-trigger
  echo w >/proc/sysrq-trigger
  at "(end)"
}
while read -r question; do where; done </port-control >/dev/console 2>&1 &
at "running the command"
echo booted > /host/tmp/kvio-lab/booted
if [ "$INTERACTIVE" = 1 ]; then
  # the size is that of an open terminal, and QEMU says 0 by 0 when it is opened
  setsid -c sh -c "stty $TERMINAL; exec chroot /host /bin/sh /tmp/kvio-lab/command" </dev/hvc0 >/dev/hvc0 2>&1
  echo $? > /host/tmp/kvio-lab/status
else
  mkfifo /tmp/in /tmp/out /tmp/err
  cat /tmp/out >/port-out & OUT=$!
  cat /tmp/err >/port-err & ERR=$!
  cat /port-in >/tmp/in 2>/dev/null &
  # in a subshell: opening a pipe blocks, and the end of a child would interrupt it
  (exec chroot /host /bin/sh /tmp/kvio-lab/command </tmp/in >/tmp/out 2>/tmp/err)
  echo $? > /host/tmp/kvio-lab/status
  (sleep 5; kill $OUT $ERR 2>/dev/null) &
  wait $OUT $ERR
fi
at "ending"
umount "/host$CHECKOUT" 2>/dev/null
sync
poweroff -f
