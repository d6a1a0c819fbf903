#!/usr/bin/env bash
# Builds pingtrace and prints where it is, for the scripts that use it.
set -euo pipefail

usage() {
    cat <<END
Usage: scripts/build.sh [--help]

Installs what is missing, builds a release, and prints the path of the binary.
PINGTRACE=/path/to/binary in the environment is used instead.
END
}

case "${1:-}" in
    -h | --help) usage && exit ;;
    "") ;;
    *) usage >&2 && exit 2 ;;
esac

if [[ -n "${PINGTRACE:-}" ]]; then
    realpath "$PINGTRACE"
    exit
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh >&2
PATH="${HOME:-/root}/.cargo/bin:$PATH"
echo "build: pingtrace (a few minutes the first time)" >&2
cargo build --locked --release --package pingtrace >&2
realpath "${CARGO_TARGET_DIR:-target}/release/pingtrace"
