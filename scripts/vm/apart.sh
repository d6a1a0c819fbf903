#!/bin/sh
# Runs a command, in a mount namespace of its own, that is to take this kernel for another one, whose
# clock the other end does not know.
tr 0-9a-f 1-9a-f0 </proc/sys/kernel/random/boot_id >/tmp/boot_id
mount --bind /tmp/boot_id /proc/sys/kernel/random/boot_id && exec "$@"
