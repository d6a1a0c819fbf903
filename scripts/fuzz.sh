#!/usr/bin/env bash
# Fuzzes whatever parses input from outside.
set -euo pipefail

readonly TARGETS=(wire_v0 wire_v1 errors client stamps saved histogram archive files words metrics)
readonly CORPUS=pingtrace/fuzz/corpus WORK=target/fuzz
# No packet is longer, nor any line that matters; a longer input takes more time and finds no more.
readonly MAX_LENGTH=4096
# Longer ones are not kept: a third of the size has 95 % of the coverage.
readonly MAX_KEPT=1200

usage() {
    cat <<END
Usage: scripts/fuzz.sh [--minutes N | --seconds N] [--keep] [TARGET...]

Fuzzes each target (default: all) for N minutes (default 10), as many at a time as there are CPUs, beginning with
the inputs of $CORPUS. The targets and what must hold for them are in pingtrace/src/fuzz:

  wire_v0, wire_v1  packets, and stamp packets that are made of the input
  errors            ICMP errors
  client            a client among hostile hosts: what arrives, in any order
  stamps            stamps of any kind through breakdown, clock model, verdict, statistics and all formats
  saved             saved runs: lines of JSON, as replay and diff read them
  histogram         the HdrHistograms in them
  archive           files that are compressed with gzip or zstd
  files             the files of /proc and /sys that are parsed
  words             the command line, files of options, durations, sizes, objectives, schedules, clocks of
                    laboratories, target lists
  metrics           requests for metrics, and the file that says who may

New inputs and crashes are in $WORK/TARGET. --keep puts what increases the coverage into $CORPUS.
The stable toolchain is enough: only this project's crates are compiled for it (scripts/fuzz/rustc.sh).
Ends with an error after a crash, an input that takes 20 s, or 2 GB.
END
}

seconds=600
keep=false
targets=()
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        --minutes) seconds=$((${2:?--minutes needs a number} * 60)) && shift ;;
        --seconds) seconds=${2:?--seconds needs a number} && shift ;;
        --keep) keep=true ;;
        -*) usage >&2 && exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done
((${#targets[@]})) || targets=("${TARGETS[@]}")

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="${HOME:-/root}/.cargo/bin:$PATH"

# With the whole workspace, dependencies have the features with which the tests have compiled them. Prints the path.
build() {
    RUSTC_WORKSPACE_WRAPPER=$PWD/scripts/fuzz/rustc.sh cargo build --locked --quiet --workspace \
        --test fuzz --features fuzz/libfuzzer --message-format json |
        jq -r 'select(.reason == "compiler-artifact" and .target.name == "fuzz") | .executable'
}

# TARGET ARGUMENT...
run() {
    TARGET=$1 "$program" -rss_limit_mb=2048 -timeout=20 "-max_len=$MAX_LENGTH" \
        "-artifact_prefix=$WORK/$1/crashes/" "${@:2}"
}

fuzz() {
    local target=$1 work=$WORK/$1
    rm -rf "$work/failed"
    rm -rf "$work/kept"
    mkdir -p "$work/new" "$work/crashes" "$work/kept"
    tar -xzf "$CORPUS/$target.tar.gz" -C "$work/kept"
    echo "fuzz: $target for $seconds s" >&2
    if ! run "$target" "-max_total_time=$seconds" "$work/new" "$work/kept" >"$work/log" 2>&1; then
        grep -v '^#' "$work/log" | tail -n 40 >&2
        echo "fuzz: $target failed; the input is in $work/crashes" >&2
        touch "$work/failed"
        return
    fi
    echo "fuzz: $target: $(tail -n 1 "$work/log")" >&2
    ! $keep || keep "$target"
}

# The same inputs give the same archive.
keep() {
    local target=$1 work=$WORK/$1
    rm -rf "$work/merged" && mkdir "$work/merged"
    run "$target" -set_cover_merge=1 "$work/merged" "$work/new" "$work/kept" >"$work/log" 2>&1
    find "$work/merged" -type f -size "+${MAX_KEPT}c" -delete
    tar --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644 \
        -C "$work/merged" --transform='s,^\./,,' -cf - . | gzip -n9 >"$CORPUS/$target.tar.gz"
}

program=$(build)
cpus=$(nproc)
for target in "${targets[@]}"; do
    while (($(jobs -rp | wc -l) >= cpus)); do
        wait -n
    done
    fuzz "$target" &
done
wait
failed=()
for target in "${targets[@]}"; do
    [[ ! -e $WORK/$target/failed ]] || failed+=("$target")
done
if ((${#failed[@]})); then
    echo "fuzz: failed: ${failed[*]}" >&2
    exit 1
fi
echo "fuzz: nothing found in ${#targets[@]} targets" >&2
