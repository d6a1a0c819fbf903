#!/bin/busybox sh
# shellcheck shell=dash
# The guest's first process: mounts, loads modules, runs the script that the command line names.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin HOME=/
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs run /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
while read -r module; do
    insmod "/modules/$module.ko" || echo "cannot load $module"
done </modules/order

script=$(sed 's/.*script=\([^ ]*\).*/\1/' /proc/cmdline)
cd /tmp || exit
sh "/payload/$script" >/dev/ttyS1 2>&1
sync
poweroff -f
