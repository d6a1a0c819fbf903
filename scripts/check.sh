#!/usr/bin/env bash
# What a machine can check about the source.
set -euo pipefail

usage() {
    cat <<END
Usage: scripts/check.sh [--help]

Checks formatting (Rust and C), clippy's lints as errors, shell scripts, and unused
dependencies (cargo-machete, installed from crates.io when it is missing). Runs all of them
and ends with an error if one of them failed.
END
}

case "${1:-}" in
    -h | --help) usage && exit ;;
    "") ;;
    *) usage >&2 && exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
PATH="${HOME:-/root}/.cargo/bin:$PATH"

failed=()

check() {
    local name=$1
    shift
    echo "check: $name" >&2
    "$@" || failed+=("$name")
}

c_format() {
    find bpf scripts tests \( -name '*.[ch]' \) -print0 | xargs -0 -r clang-format --dry-run -Werror
}

shell_scripts() {
    command -v shellcheck >/dev/null || apt-get install -y -q shellcheck >/dev/null
    shellcheck -x scripts/*.sh scripts/vm/*.sh .ci/run
}

unused_dependencies() {
    command -v cargo-machete >/dev/null || cargo install --locked --quiet cargo-machete
    cargo machete
}

check "rust formatting" cargo fmt --all --check
check "C formatting" c_format
check "shell scripts" shell_scripts
check "unused dependencies" unused_dependencies
check "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
check "fuzz targets" cargo check --locked --quiet \
    --manifest-path pingtrace/fuzz/Cargo.toml --target-dir target/fuzz/check

if ((${#failed[@]})); then
    printf 'check: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "check: all passed" >&2
