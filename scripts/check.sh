#!/usr/bin/env bash
# What a machine can check about the source.
set -euo pipefail

usage() {
    cat <<END
Usage: scripts/check.sh [--help]

Checks formatting (Rust and C), clippy's lints as errors, shell scripts, the documentation's links,
that each dependency is used and has a licence of scripts/licences.txt, that no files import each
other in a circle (tests/imports), and units, dashboard, rules and manifests (scripts/dist/check.sh). Runs all of them
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

shell_scripts() { shellcheck -x scripts/*.sh scripts/bench/*.sh scripts/dist/*.sh scripts/fuzz/*.sh scripts/vm/*.sh .ci/run; }

metadata() { cargo metadata --locked --format-version 1 "$@"; }

# Each dependency is named in its crate's code; generated code (OUT_DIR) says so with "use NAME as _;".
unused_dependencies() {
    local rows crate name sources word unused=0
    rows=$(metadata --no-deps | jq -r '.packages[]
        | ([.targets[].src_path | sub("/[^/]*$"; "")] | unique | join(" ")) as $sources
        | .name as $crate | .dependencies[] | [$crate, .rename // .name, $sources] | @tsv') || return
    while IFS=$'\t' read -r crate name sources; do
        word=${name//-/_}
        # shellcheck disable=SC2086  # several directories, whose names have no spaces
        if ! grep -rqE --include='*.rs' "(^|[^[:alnum:]_:])$word::|use $word( as [[:alnum:]_]+)?;" $sources; then
            echo "$crate does not use $name" >&2
            unused=1
        fi
    done <<<"$rows"
    return "$unused"
}

# Each crate that is compiled in has a licence of the list.
licences() {
    local host others
    host=$(rustc -vV | sed -n 's/^host: //p')
    others=$(metadata --filter-platform "$host" | jq -r --rawfile allowed scripts/licences.txt '
        ($allowed | split("\n")) as $list | .packages[]
        | (.license // "no licence") as $licence | select($list | index($licence) | not)
        | "\(.name) \(.version): \($licence)"') || return
    [[ -z "$others" ]] || {
        printf 'not in scripts/licences.txt: %s\n' "$others" >&2
        return 1
    }
}

documentation() {
    local flags="-D warnings -A rustdoc::private_intra_doc_links"
    RUSTDOCFLAGS="$flags" cargo doc --locked --quiet --workspace --no-deps --document-private-items
}

imports() { cargo run --locked --quiet --package imports; }

check "rust formatting" cargo fmt --all --check
check "C formatting" c_format
check "shell scripts" shell_scripts
check "unused dependencies" unused_dependencies
check "licences" licences
check "clippy" cargo clippy --locked --workspace --all-targets -- -D warnings
check "documentation" documentation
check "circles of imports" imports
check "what is deployed" scripts/dist/check.sh

if ((${#failed[@]})); then
    printf 'check: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "check: all passed" >&2
