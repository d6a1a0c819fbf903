#!/usr/bin/env bash
# What building and testing need, on Debian 12 or 13.
set -euo pipefail

readonly MIN_RUST=1.88
readonly PACKAGES=(clang gcc make pkg-config libelf-dev zlib1g-dev clang-format iproute2
    e2fsprogs xfsprogs btrfs-progs mount util-linux nftables jq shellcheck systemd curl openssl
    python3-venv)

usage() {
    cat <<END
Usage: scripts/setup.sh [--help | PACKAGE...]

Installs the Debian packages that building and testing need (${PACKAGES[*]})
and checks that Rust is $MIN_RUST or newer. Installs nothing that is there already.
Needs root only when something is missing. With packages named, installs those instead, without what
they recommend.
END
}

say() { echo "setup: $*" >&2; }

die() {
    say "$*"
    exit 1
}

install_packages() {
    local package missing=()
    for package in "$@"; do
        [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    say "installing ${missing[*]}"
    [[ $EUID -eq 0 ]] || die "run as root, or: apt-get install ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local install=(apt-get install -y -q "${apt_options[@]}" "${missing[@]}")
    "${install[@]}" >/dev/null 2>&1 && return
    apt-get update -q >/dev/null
    "${install[@]}" >/dev/null
}

# Is version $1 at least $2?
at_least() { [[ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

rust_version() { cargo --version 2>/dev/null | awk '{ print $2 }' || true; }

install_rust() {
    local version
    version=$(rust_version)
    [[ -n "$version" ]] && at_least "$version" "$MIN_RUST" && return
    say "cargo is ${version:-missing}; $MIN_RUST or newer is needed"
    if ! command -v rustup >/dev/null && [[ -n "$(apt-cache -q search --names-only '^rustup$' 2>/dev/null)" ]]; then
        install_packages rustup
    fi
    command -v rustup >/dev/null ||
        die "this Debian has no package rustup: install Rust from https://rustup.rs, then run this again"
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy >&2
    rustup default stable >&2
    version=$(rust_version)
    at_least "${version:-0}" "$MIN_RUST" ||
        die "cargo in PATH is still ${version:-missing}: put ~/.cargo/bin first in PATH"
}

case "${1:-}" in
    -h | --help) usage && exit ;;
    -*) usage >&2 && exit 2 ;;
esac

command -v dpkg-query >/dev/null || die "not a Debian: install the equivalents of ${*:-${PACKAGES[*]}}"
apt_options=()
if (($#)); then
    apt_options=(--no-install-recommends)
    install_packages "$@"
    exit
fi
PATH="${HOME:-/root}/.cargo/bin:$PATH"
install_packages "${PACKAGES[@]}"
install_rust
say "ready: cargo $(rust_version), $(clang --version | head -n 1)"
