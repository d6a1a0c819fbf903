#!/usr/bin/env bash
# A laboratory to play with: two network namespaces joined by a veth pair.
set -euo pipefail

usage() {
    cat <<END
Usage: scripts/lab.sh up | down | status [NAME]

  up      makes the namespaces NAME-client (10.77.0.1, fd77::1) and NAME-server
          (10.77.0.2, fd77::2), joined by a veth pair, and says how to probe in them
  down    removes them, and with them their devices
  status  lists them

NAME is ptlab by default. Needs root, and cargo: it is the laboratory of the tests (netns/src/lab.rs),
built when it is missing. Processes started in the namespaces are not ended.
END
}

die() {
    echo "lab: $*" >&2
    exit 1
}

# Runs the laboratory of the crate netns.
laboratory() {
    local program=${CARGO_TARGET_DIR:-target}/release/examples/lab
    PATH="${HOME:-/root}/.cargo/bin:$PATH"
    if ! command -v cargo >/dev/null; then
        die "cargo is needed to build $program: scripts/setup.sh installs it"
    fi
    cargo build --locked --quiet --release --package netns --example lab
    "$program" "$@"
}

status() {
    local namespace
    for namespace in "$name-client" "$name-server"; do
        if ip netns list | awk '{ print $1 }' | grep -qx -- "$namespace"; then
            echo "$namespace"
            ip -n "$namespace" -brief address show
        else
            echo "$namespace: not there"
        fi
    done
}

command=${1:-}
name=${2:-ptlab}
case "$command" in
    -h | --help) usage && exit ;;
    up | down | status) ;;
    *) usage >&2 && exit 2 ;;
esac
[[ "$name" =~ ^[A-Za-z0-9_.-]+$ ]] || die "a name consists of letters, digits, and _ . -"
[[ $EUID -eq 0 ]] || die "network namespaces need root"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "$command" in
    status) status ;;
    *) laboratory "$command" "$name" ;;
esac
