#!/usr/bin/env bash
# Builds and tests everything.
set -euo pipefail

usage() {
    cat <<END
Usage: scripts/test.sh [--quick] [--help]

Installs what is missing, builds, and runs all tests: those of the crates, then as root the
end-to-end tests, which probe inside network namespaces of their own. No test is skipped
silently: without root this ends with an error that says so.

The end-to-end tests measure time, on a machine that others may use as well. Up to three of them
that fail are run once more, each alone; those that pass then are named at the end as unsteady.

  --quick   only the tests that need no root and no kernel programs
END
}

run() {
    echo "test: $*" >&2
    "$@"
}

# Runs the end-to-end tests with these arguments of the test program.
end_to_end() {
    run cargo test --locked --package pingtrace --test e2e -- --test-threads=1 "$@"
}

# Those that fail get a second chance, each alone, unless they are many.
end_to_end_steadily() {
    local output failed name
    if output=$(end_to_end | tee -a /dev/stderr); then
        return
    fi
    mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' <<<"$output")
    ((${#failed[@]} >= 1 && ${#failed[@]} <= 3)) || return 1
    for name in "${failed[@]}"; do
        end_to_end --exact "$name"
    done
    echo "test: UNSTEADY, failed among the others and passed alone: ${failed[*]}" >&2
}

quick=false
for argument in "$@"; do
    case "$argument" in
        -h | --help) usage && exit ;;
        --quick) quick=true ;;
        *) usage >&2 && exit 2 ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
PATH="${HOME:-/root}/.cargo/bin:$PATH"

if $quick; then
    run cargo test --locked --package report
    run cargo test --locked --package pingtrace --lib --bins
    exit
fi

if [[ $EUID -ne 0 ]]; then
    echo "test: the end-to-end tests need root; scripts/test.sh --quick runs the others" >&2
    exit 1
fi
run cargo build --locked --workspace --all-targets
# Everything but the end-to-end tests, then those one after the other: they measure time.
run cargo test --locked --workspace --exclude pingtrace
run cargo test --locked --package pingtrace --lib --bins
run cargo test --locked --package pingtrace --doc
end_to_end_steadily
