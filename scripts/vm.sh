#!/usr/bin/env bash
# Other kernels, and two hosts, on one machine: Debian's kernels in emulated guests.
set -euo pipefail

# Each kernel alone; then the oldest and the newest as two hosts, both ways: what a driver gives
# the stack differs.
readonly RUNS=(6.1 6.12 newest 5.10 "5.10,newest" "newest,5.10")
readonly PACKAGES=(qemu-system-x86 busybox-static cpio xz-utils jq iproute2 bpftool dmsetup clang \
    systemd libc6-dev linux-libc-dev wireguard-tools)
readonly MODULES=(veth bridge virtio_pci virtio_net virtio_blk sch_netem sch_ingress cls_bpf loop dm_mod \
    raid0 cls_matchall act_mirred 8021q macvlan ipvlan bonding vxlan geneve ip_gre ip6_gre ipip sit \
    ip6_tunnel wireguard xfrm_user esp4 authenc crypto_null)
readonly META=linux-image-cloud-amd64
# A guest says everything that it has to say within this time, also on a busy machine.
guest_seconds=900
# How much faster the clock of the server runs than the client's, where they are two guests.
readonly DRIFT_PPM=50

usage() {
    cat <<END
Usage: scripts/vm.sh [--json DIR] [--topologies | --systemd] [--help] [KERNEL | CLIENT,SERVER]...

Boots Debian's amd64 cloud kernels with QEMU's own emulation (no KVM).
  KERNEL         one guest: runs pingtrace between two of its network namespaces, and checks the
                 points, the hooks, the filters, and the delays that netem adds
                 with --topologies instead: 20 ms at either end and on the wire, below VLAN, QinQ,
                 macvlan, ipvlan and bond devices and tunnels, in a guest whose time is the number
                 of its instructions
                 with --systemd instead: the units of scripts/dist, installed as a package would, under
                 this machine's systemd as the first process: what their processes may do, stages,
                 blame, logs, reload, end; in such a guest, too
  CLIENT,SERVER  two guests, each with its kernel and its clock, the server's ${DRIFT_PPM} ppm faster,
                 connected by a wire: checks the same between two hosts, and delays on the wire
Each kernel is a series (6.1, 6.12), "newest", or a full name (6.12.117+deb13-cloud-amd64).
Default: ${RUNS[*]}; of --topologies and of --systemd 6.1 and newest.

What the runs of pingtrace wrote is kept in DIR (default: target/vm/json), a directory a guest,
with tsc_khz, the rate of its clock (less is faster); what the guests said is in target/vm/logs.
Kernels are fetched with an apt of its own, which leaves the system's alone, into target/vm. A
kernel that cannot be fetched is skipped, and the end says why. Ends with an error when a check
failed. Missing packages are installed, which needs root:
${PACKAGES[*]}

PINGTRACE=/path/to/binary in the environment is used instead of building. GUEST_PARAMETERS are added
to the kernels' command lines (preempt=lazy; topologies=gre,sit for some of them). With GUEST_CPUS=2 one of the CPUs
is taken away during a run, too. DEBIAN_MIRROR and
DEBIAN_SECURITY_MIRROR replace the mirrors that this machine's own apt uses.
END
}

say() { echo "vm: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# --- an apt of our own: lists, cache and (empty) package database under target/vm/apt ---

# The first repository of this machine's apt whose address names security, or (-v) does not.
system_mirror() {
    # shellcheck disable=SC2016  # apt expands it
    apt-get indextargets --format '$(REPO_URI)' | grep "$@" -m 1 security || true
}

private_apt() {
    local apt="$cache/apt" suite mirror proxy
    proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
    mkdir -p "$apt"/{lists/partial,archives/partial,parts}
    : >"$apt/status"
    cat >"$apt/conf" <<END
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "$apt/parts";
Dir::Etc::main "/dev/null"; Dir::Etc::parts "$apt/parts";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "$apt/parts";
Dir::State::lists "$apt/lists"; Dir::State::status "$apt/status"; Dir::Cache "$apt";
APT::Architecture "amd64"; APT::Architectures "amd64"; APT::Sandbox::User "root";
Acquire::Languages "none"; Acquire::http::Proxy "$proxy";
Acquire::Check-Valid-Until "false"; // a mirror may be a stored copy
END
    for suite in bullseye-security bookworm bookworm-security trixie trixie-security \
        trixie-backports sid; do
        mirror=${DEBIAN_MIRROR:-$(system_mirror -v)}
        [[ "$suite" != *-security ]] ||
            mirror=${DEBIAN_SECURITY_MIRROR:-$(system_mirror)}
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$apt/sources.list"
    # A list older than a day is fetched anew; one suite that is missing is no reason to stop.
    [[ -n "$(find "$apt/updated" -mtime -1 2>/dev/null)" ]] && return
    say "fetching package lists"
    own apt-get update -q >"$apt/update.log" 2>&1 || true
    touch "$apt/updated"
}

# Runs a command of apt's on the private state. The variable is read before anything in /etc.
own() { APT_CONFIG="$cache/apt/conf" "$@"; }

# The names of all kernels that the mirror has, oldest first. The metapackage names each suite's.
kernels() {
    own apt-cache show "$META" 2>/dev/null | grep -E '^(Depends|Pre-Depends):' |
        grep -oE 'linux-image-[0-9][^ ,]*' | sed 's/^linux-image-//' | sort -Vu
}

# The newest kernel of a series, or the kernel of that name.
resolve() {
    case "$1" in
        newest) kernels | tail -n 1 ;;
        *-amd64) echo "$1" ;;
        *) kernels | awk -v series="$1." 'index($0, series) == 1' | tail -n 1 ;;
    esac
}

# Puts vmlinuz and modules of a kernel into its directory. One package up to 6.18, four after.
fetch() {
    local kernel=$1 directory="$cache/kernels/$1" packages=() package work image
    [[ "$(cat "$directory/modules" 2>/dev/null)" == "${MODULES[*]}" ]] && return
    say "fetching $kernel"
    for package in linux-image linux-base linux-binary linux-modules; do
        [[ -z "$(own apt-cache madison "$package-$kernel")" ]] || packages+=("$package-$kernel")
    done
    ((${#packages[@]})) || return 1
    rm -rf "$directory"
    work="$directory/work"
    mkdir -p "$work"
    (cd "$work" && own apt-get download -q "${packages[@]}" >apt.log 2>&1) || return 1
    for package in "$work"/*.deb; do
        dpkg-deb -x "$package" "$work/files" || return 1
    done
    image=$(find "$work/files" -name "vmlinuz*" -type f | head -n 1)
    [[ -n "$image" ]] || return 1
    # A kernel whose modules are in a package that the mirror does not have (6.19).
    [[ -n "$(find "$work/files" -name '*.ko*' -print -quit)" ]] || return 1
    cp "$image" "$directory/vmlinuz"
    base_archive "$work/files" "$directory/base.cpio"
    echo "${MODULES[*]}" >"$directory/modules"
    rm -rf "$work"
}

# --- what a guest boots into: busybox and modules; then the payload, the same for all ---

base_archive() {
    local files=$1 archive=$2 root module
    root="$files/initrd"
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,etc,modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    find "$files" -name '*.ko*' -not -path "$root/*" >"$files/index"
    : >"$root/modules/order"
    for module in "${MODULES[@]}"; do
        add_module "$module"
    done
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$archive"
}

# Adds a module behind those that it needs; one that is built in, or that this kernel does not
# have, is left out. The packages come without modules.dep, so each module is asked itself.
add_module() {
    local name=${1//-/_} file need
    [[ ! -e "$root/modules/$name.ko" ]] || return 0
    file=$(grep -E "/${name//_/[-_]}\.ko(\.xz|\.gz|\.zst)?\$" "$files/index" | head -n 1) || true
    [[ -n "$file" ]] || return 0
    case "$file" in
        *.xz) xz -dc "$file" ;;
        *.gz) gzip -dc "$file" ;;
        *.zst) zstd -dcq "$file" ;;
        *) cat "$file" ;;
    esac >"$root/modules/$name.ko"
    for need in $(tr '\0' '\n' <"$root/modules/$name.ko" | sed -n 's/^depends=//p' | tr ',' ' '); do
        add_module "$need"
    done
    echo "$name" >>"$root/modules/order"
}

# Copies programs and the libraries that they are linked to.
add_programs() {
    local program
    for program in "$@"; do
        add_program "$(realpath "$(command -v "$program")")" "/usr/sbin/${program##*/}"
    done
}

# add_program FILE PLACE
add_program() {
    local library
    mkdir -p "$root${2%/*}"
    cp "$1" "$root$2"
    while read -r library; do
        mkdir -p "$root${library%/*}"
        cp -L "$library" "$root$library"
    done < <(ldd "$1" | grep -o '/[^ ]*')
}

payload_archive() {
    local root="$work/payload"
    mkdir -p "$root/payload"
    clang -O2 -Wall -Werror scripts/vm/fill.c -o "$work/fill"
    cp "$binary" "$work/pingtrace"
    add_programs "$work/pingtrace" "$work/fill" ip tc jq bpftool dmsetup wg
    cp scripts/vm/*.sh scripts/vm/*.jq "$root/payload/"
    mv "$root/payload/init.sh" "$root/init"
    chmod +x "$root/init" "$root"/payload/*.sh
    [[ "$alone" != systemd.sh ]] || systemd_root "$root/sysroot"
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/payload.cpio"
}

# The root directory of a host with nothing but systemd, busybox, pingtrace and its units. systemd ends
# when the script has.
systemd_root() {
    local root=$1 name file library
    mkdir -p "$root"/{dev,proc,sys,run,tmp,var/log,var/lib,root,etc/default} \
        "$root"/usr/{bin,sbin,lib/systemd/system,lib64}
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
    for file in systemd systemd-journald systemd-executor systemd-shutdown; do
        [[ ! -e "/usr/lib/systemd/$file" ]] ||
            add_program "/usr/lib/systemd/$file" "/usr/lib/systemd/$file"
    done
    # Libraries that systemd loads when it needs them.
    for library in libseccomp.so.2 libmount.so.1 libnss_systemd.so.2; do
        file=$(find /usr/lib/x86_64-linux-gnu -name "$library")
        [[ -z "$file" ]] || add_program "$(realpath "$file")" "$file"
    done
    add_programs systemctl journalctl chrt ip tc jq bpftool
    add_program "$(command -v busybox)" /usr/bin/busybox
    cp -a /usr/lib/systemd/system/{*.target,*.slice,systemd-journald*,sys-kernel-{debug,tracing}.mount} \
        "$root/usr/lib/systemd/system/"
    mkdir "$root/usr/lib/systemd/system/"{sockets,sysinit}.target.wants
    for name in journald.socket journald-dev-log.socket; do
        ln -s "../systemd-$name" "$root/usr/lib/systemd/system/sockets.target.wants/"
    done
    for name in systemd-journald.service sys-kernel-debug.mount sys-kernel-tracing.mount; do
        ln -s "../$name" "$root/usr/lib/systemd/system/sysinit.target.wants/"
    done
    add_program "$work/pingtrace" /usr/bin/pingtrace
    cp scripts/dist/*.service scripts/vm/check.service "$root/usr/lib/systemd/system/"
    mkdir "$root/usr/lib/systemd/system/multi-user.target.wants"
    ln -s ../check.service "$root/usr/lib/systemd/system/multi-user.target.wants/"
    ln -sf multi-user.target "$root/usr/lib/systemd/system/default.target"
    cp -r "$root/../payload" "$root/payload"
    printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf 'passwd: files systemd\ngroup: files systemd\n' >"$root/etc/nsswitch.conf"
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
}

# --- guests ---

# boot KERNEL SCRIPT NAME [QEMU ARGUMENT...]: runs scripts/vm/SCRIPT; what it says is in the log
# of that name, the files that it left in `results`.
# The calibration of an emulated clock goes wrong on a busy machine, so none is left to do.
boot() {
    local kernel=$1 script=$2 log="$cache/logs/$3" disk="$work/$3.disk" initrd="$work/$3.initrd"
    local kept="$results/$3"
    shift 3
    : >"$log"
    truncate -s 256M "$disk"
    cat "$cache/kernels/$kernel/base.cpio" "$work/payload.cpio" >"$initrd"
    # In the background, so that a signal ends it, and with the shell that waits for it.
    setpriv --pdeathsig TERM timeout -k 5 "$guest_seconds" nice -n 5 qemu-system-x86_64 \
        -M pc -cpu max,la57=off -smp "${GUEST_CPUS:-1}" -m 768 -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$cache/kernels/$kernel/vmlinuz" -initrd "$initrd" \
        -append "console=ttyS0 rdinit=/init panic=-1 mitigations=off random.trust_cpu=on \
quiet no_timer_check tsc=reliable hpet=disable pmtmr=0 tsc_early_khz=$khz fb_tunnels=none script=$script drift_ppm=$DRIFT_PPM \
${GUEST_PARAMETERS:-}" \
        "${pace[@]}" -serial "file:$log.console" -serial "file:$log" \
        -drive "file=$disk,format=raw,if=virtio,cache=unsafe" "$@" >"$log.qemu" 2>&1 </dev/null &
    wait $! ||
        echo "not ok the guest ended by itself (see $log.console)" >>"$log"
    rm -rf "$kept"
    mkdir -p "$kept"
    tar -xf "$disk" -C "$kept" || echo "not ok the guest left no files" >>"$log"
    echo "$khz" >"$kept/tsc_khz"
    rm -f "$initrd" "$disk"
}

# Adds up the checks of a log.
account() {
    local name=$1 log=$2 good bad
    good=$(grep -c '^ok ' "$log") || true
    bad=$(grep -c '^not ok ' "$log") || true
    if ! grep -q '^[0-9]* passed, [0-9]* failed' "$log"; then
        bad=$((bad + 1))
        say "$name: ended early; the end of $log.console:"
        tail -n 5 "$log.console" >&2 || true
    fi
    passed=$((passed + good))
    failed=$((failed + bad))
    summary+=("$name: $good passed, $bad failed")
}

skip() {
    skipped=$((skipped + 1))
    summary+=("$1: skipped: $2")
}

# Sets `kernel`; false when it was skipped.
ready() {
    kernel=$(resolve "$1")
    if [[ -z "$kernel" ]]; then
        skip "$1" "the mirror has no $META of this series"
    elif ! fetch "$kernel"; then
        skip "$1" "$kernel could not be fetched"
    else
        return 0
    fi
    return 1
}

one_guest() {
    local kernel
    ready "$1" || return 0
    say "booting $kernel"
    boot "$kernel" "$alone" "$kernel"
    tell "$1" "$kernel"
}

# two_guests CLIENT SERVER
two_guests() {
    local kernel client server name
    [[ "$alone" == namespaces.sh ]] || die "--topologies and --systemd are for one guest"
    ready "$1" || return 0
    client=$kernel
    ready "$2" || return 0
    server=$kernel
    name="${client}_$server"
    say "booting $client as client and $server as server"
    network server client 02
    khz=$((khz * (1000000 - DRIFT_PPM) / 1000000)) \
        boot "$server" server.sh "$name.server" "${link[@]}" &
    # Not together: their clocks are to be apart.
    sleep 1
    network client server 01
    boot "$client" client.sh "$name" "${link[@]}"
    wait
    tell "$1,$2" "$name"
}

# network OWN OTHER NUMBER: sets `link`, QEMU's arguments for a device whose wire leads to the
# other guest.
network() {
    link=(-netdev "dgram,id=wire,local.type=unix,local.path=$work/$1.wire,remote.type=unix,\
remote.path=$work/$2.wire" -device "virtio-net-pci,netdev=wire,mac=52:54:00:77:00:$3")
}

# tell RUN NAME: what the guest said, and how many checks passed.
tell() {
    sed "s/^/$1: /" "$cache/logs/$2"
    account "$2" "$cache/logs/$2"
}

clean_up() {
    jobs -p | xargs -r kill
    rm -rf "$work"
}

# checks SCRIPT: one guest runs this one, in counted time.
checks() {
    alone=$1
    counted_time
    defaults=(6.1 newest)
}

# Whatever else the machine does, a guest finds its own delays. Its clock counts nanoseconds.
counted_time() {
    pace=(-accel "tcg,thread=single" -icount "shift=1,sleep=off")
    khz=1000000
    guest_seconds=1800
}

runs=()
defaults=("${RUNS[@]}")
alone=namespaces.sh
pace=(-accel "tcg,thread=multi")
khz=$(awk '/^cpu MHz/ { printf "%d", $4 * 1000; exit }' /proc/cpuinfo)
results="$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../target/vm/json"
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        --json) results=$(realpath -m "${2:?--json needs a directory}") && shift ;;
        --topologies) checks topologies.sh ;;
        --systemd) checks systemd.sh ;;
        -*) usage >&2 && exit 2 ;;
        *) runs+=("$1") ;;
    esac
    shift
done
((${#runs[@]})) || runs=("${defaults[@]}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ "$(dpkg --print-architecture)" == amd64 ]] || die "the guests need an amd64 binary"

cache="$PWD/target/vm"
mkdir -p "$cache/logs"
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
passed=0
failed=0
skipped=0
summary=()

scripts/setup.sh "${PACKAGES[@]}"
binary=$(scripts/build.sh)
private_apt
payload_archive
for run in "${runs[@]}"; do
    case "$run" in
        *,*) two_guests "${run%%,*}" "${run#*,}" ;;
        *) one_guest "$run" ;;
    esac
done
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
