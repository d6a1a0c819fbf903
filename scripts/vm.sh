#!/usr/bin/env bash
# Other kernels on one machine: Debian's kernels in emulated guests.
set -euo pipefail

readonly SERIES=(6.1 6.12 newest 5.10)
readonly PACKAGES=(qemu-system-x86 busybox-static cpio xz-utils jq iproute2 bpftool)
readonly MODULES=(veth virtio_pci virtio_net sch_netem sch_ingress cls_bpf)
readonly META=linux-image-cloud-amd64
# A guest says everything that it has to say within this time, also on a busy machine.
readonly GUEST_SECONDS=240

usage() {
    cat <<END
Usage: scripts/vm.sh [--help] [KERNEL...]

Boots Debian's amd64 cloud kernels with QEMU's own emulation (no KVM), runs pingtrace between
two network namespaces in each, and checks its points, its filters and the delays that netem
adds. KERNEL is a series (6.1, 6.12), "newest", or a full name (6.12.117+deb13-cloud-amd64).
Default: ${SERIES[*]}.

Kernels are fetched with an apt of its own, which leaves the system's alone, into target/vm.
A kernel that cannot be fetched is skipped, and the end says why. Missing packages
(${PACKAGES[*]}) are installed, which needs root. What the guests said
is in target/vm/logs. Ends with an error when a check failed.

PINGTRACE=/path/to/binary in the environment is used instead of building. DEBIAN_MIRROR and
DEBIAN_SECURITY_MIRROR replace the mirrors that this machine's own apt uses.
END
}

say() { echo "vm: $*" >&2; }

die() {
    say "$*"
    exit 1
}

install_packages() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    [[ $EUID -eq 0 ]] || die "run as root, or: apt-get install ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local install=(apt-get install -y -q --no-install-recommends "${missing[@]}")
    "${install[@]}" >/dev/null 2>&1 && return
    apt-get update -q >/dev/null
    "${install[@]}" >/dev/null
}

build() {
    if [[ -n "${PINGTRACE:-}" ]]; then
        binary=$(realpath "$PINGTRACE")
        return
    fi
    PATH="${HOME:-/root}/.cargo/bin:$PATH"
    cargo build --locked --release --package pingtrace
    binary=$(realpath "${CARGO_TARGET_DIR:-target}/release/pingtrace")
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
    [[ -e "$directory/base.cpio" ]] && return
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
    cp "$image" "$directory/vmlinuz"
    base_archive "$work/files" "$directory/base.cpio"
    rm -rf "$work"
}

# --- what a guest boots into: busybox, init and modules; then the payload, the same for all ---

base_archive() {
    local files=$1 archive=$2 root module
    root="$files/initrd"
    mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,etc,modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    cp scripts/vm/init.sh "$root/init"
    chmod +x "$root/init"
    find "$files" -name '*.ko*' -not -path "$root/*" >"$files/index"
    : >"$root/modules/order"
    for module in "${MODULES[@]}"; do
        add_module "$module"
    done
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$archive.part"
    mv "$archive.part" "$archive"
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
    local program file library
    for program in "$@"; do
        file=$(realpath "$(command -v "$program")")
        mkdir -p "$root/usr/sbin"
        cp "$file" "$root/usr/sbin/${program##*/}"
        while read -r library; do
            mkdir -p "$root${library%/*}"
            cp -L "$library" "$root$library"
        done < <(ldd "$file" | grep -o '/[^ ]*')
    done
}

payload_archive() {
    local root="$work/payload"
    mkdir -p "$root/payload"
    add_programs "$binary" ip tc jq
    cp scripts/vm/*.sh "$root/payload/"
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$work/payload.cpio"
}

# --- guests ---

# boot KERNEL SCRIPT LOG [QEMU ARGUMENT...]: runs scripts/vm/SCRIPT; what it says goes to LOG.
# The calibration of an emulated clock goes wrong on a busy machine, so none is left to do.
boot() {
    local kernel=$1 script=$2 log=$3
    shift 3
    : >"$log"
    cat "$cache/kernels/$kernel/base.cpio" "$work/payload.cpio" >"$log.initrd"
    timeout --foreground -k 5 "$GUEST_SECONDS" nice -n 5 qemu-system-x86_64 -M pc -cpu max,la57=off \
        -smp 1 -m 768 -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$cache/kernels/$kernel/vmlinuz" -initrd "$log.initrd" \
        -append "console=ttyS0 rdinit=/init panic=-1 mitigations=off random.trust_cpu=on \
quiet no_timer_check tsc=reliable hpet=disable pmtmr=0 tsc_early_khz=$khz script=$script" \
        -accel tcg,thread=multi -serial "file:$log.console" -serial "file:$log" "$@" >"$log.qemu" 2>&1 </dev/null ||
        echo "not ok the guest ended by itself (see $log.console)" >>"$log"
    rm -f "$log.initrd"
}

# Adds up the checks of a log.
account() {
    local name=$1 log=$2 good bad
    good=$(grep -c '^ok ' "$log") || true
    bad=$(grep -c '^not ok ' "$log") || true
    if ! grep -q '^[0-9]* passed, [0-9]* failed' "$log"; then
        bad=$((bad + 1))
        say "$name: ended early; the end of $log.console:"
        tail -n 5 "$log.console" >&2
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
    local kernel log
    ready "$1" || return 0
    log="$cache/logs/$kernel"
    say "booting $kernel"
    boot "$kernel" namespaces.sh "$log"
    sed "s/^/$1: /" "$log"
    account "$kernel" "$log"
}

clean_up() { rm -rf "$work"; }

names=()
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        -*) usage >&2 && exit 2 ;;
        *) names+=("$1") ;;
    esac
    shift
done
((${#names[@]})) || names=("${SERIES[@]}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ "$(dpkg --print-architecture)" == amd64 ]] || die "the guests need an amd64 binary"

cache="$PWD/target/vm"
mkdir -p "$cache/logs"
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
khz=$(awk '/^cpu MHz/ { printf "%d", $4 * 1000; exit }' /proc/cpuinfo)
passed=0
failed=0
skipped=0
summary=()

install_packages
build
private_apt
payload_archive
for name in "${names[@]}"; do
    one_guest "$name"
done
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
