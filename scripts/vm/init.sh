#!/bin/busybox sh
# shellcheck shell=dash
# The guest's first process: mounts, loads modules, runs $script, and hands the files that it left
# to the host, as an archive on the disk. The kernel puts what it does not know of its command
# line into the environment.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin HOME=/
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs run /run
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
while read -r module; do
    insmod "/modules/$module.ko" || echo "cannot load $module"
done </modules/order

# A host with a first process of its own, which runs the script.
if [ -d /sysroot ]; then
    mkdir /new
    mount -t tmpfs -o mode=755 new /new
    mv /sysroot/* /new
    busybox --install -s /new/usr/bin
    umount -l /sys/fs/bpf /sys/kernel/debug /sys/kernel/tracing /sys /proc /run /tmp /dev
    exec switch_root /new /usr/lib/systemd/systemd
fi

cd /tmp || exit
sh "/payload/${script:?}" >/dev/ttyS1 2>&1
tar -cf /dev/vda .
sync
poweroff -f
