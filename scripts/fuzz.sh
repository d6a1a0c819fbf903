#!/usr/bin/env bash
# Fuzzes the parsers of packets.
set -euo pipefail

readonly TARGETS=(wire_v0 wire_v1)

usage() {
    cat <<END
Usage: scripts/fuzz.sh [--minutes N] [TARGET...]

Fuzzes each target (default: ${TARGETS[*]}) for N minutes (default 10), starting from the
packets in tests/data/packets. Needs rustup: the nightly toolchain and cargo-fuzz are
installed when they are missing. Inputs that were found and crashes are kept in
target/fuzz/<target>. Ends with an error at the first crash.
END
}

minutes=10
targets=()
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        --minutes) minutes=${2:?--minutes needs a number} && shift ;;
        -*) usage >&2 && exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done
((${#targets[@]})) || targets=("${TARGETS[@]}")

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
PATH="${HOME:-/root}/.cargo/bin:$PATH"
command -v rustup >/dev/null || {
    echo "fuzz: cargo-fuzz needs a nightly toolchain: install rustup first" >&2
    exit 1
}
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal >&2
command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz

# Writes the test packets as binary files: lines of hex, without the lines that start with '#'.
seed() {
    local file hex
    mkdir -p "$1"
    for file in tests/data/packets/*.hex; do
        hex=$(sed '/^#/d' "$file" | tr -d '[:space:]')
        # shellcheck disable=SC2001  # every pair of digits needs the prefix
        printf '%b' "$(sed 's/../\\x&/g' <<<"$hex")" >"$1/$(basename "$file" .hex)"
    done
}

for target in "${targets[@]}"; do
    work="$root/target/fuzz/$target"
    mkdir -p "$work/corpus" "$work/artifacts"
    seed "$work/seeds"
    echo "fuzz: $target for $minutes minutes" >&2
    (cd pingtrace && cargo +nightly fuzz run --target-dir "$root/target/fuzz/build" "$target" \
        "$work/corpus" "$work/seeds" -- \
        "-max_total_time=$((minutes * 60))" -max_len=2048 "-artifact_prefix=$work/artifacts/")
done
echo "fuzz: no crash in ${#targets[@]} targets" >&2
