#!/usr/bin/env bash
# Checks what is in this folder with the programs and libraries of those who read it.
set -euo pipefail

# What systemd may find exposed, in tenths.
readonly EXPOSED=25

usage() {
    cat <<END
Usage: scripts/dist/check.sh [--help | --write]

  systemd      units: systemd-analyze verify, and security up to $EXPOSED tenths
  Grafana      the dashboard is what its own types make of dashboard.py (--write: write it anew)
  Prometheus   rules and their unit tests, and each query of the dashboard: promtool
  Kubernetes   schemas, and that the DaemonSet may do no more than the unit

Grafana's types and Kubernetes' schemas are Python packages, see scripts/python.sh. Without a promtool,
that of Debian is unpacked (scripts/unpack.sh). That names of metrics and labels are those of pingtrace is a unit test:
cargo test -p report deployed.
END
}

write=false
case "${1:-}" in
    -h | --help) usage && exit ;;
    --write) write=true ;;
    "") ;;
    *) usage >&2 && exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

# Units, with a program that is there. What systemd ignores it only says.
units() {
    local unit name said
    for unit in scripts/dist/*.service scripts/dist/*.timer; do
        sed 's,/usr/bin/pingtrace,/bin/true,' "$unit" >"$temporary/${unit##*/}"
    done
    for unit in scripts/dist/*.service scripts/dist/*.timer; do
        name=${unit##*/}
        said=$(SYSTEMD_UNIT_PATH="$temporary:" systemd-analyze verify --man=no --recursive-errors=no \
            "$temporary/${name/@/@web1}" 2>&1) || true
        [[ -z "$said" ]] || {
            echo "$said" >&2
            return 1
        }
    done
    for unit in scripts/dist/*.service; do
        systemd-analyze security --offline=true --threshold="$EXPOSED" --no-pager "$unit" >/dev/null
    done
}

promtool() {
    local program
    program=$(type -P promtool || echo "$(scripts/unpack.sh prometheus)/usr/bin/promtool")
    "$program" "$@"
}

queries() {
    promtool check rules "$temporary/dashboard.yml" scripts/dist/prometheus/rules.yml >/dev/null
    promtool test rules scripts/dist/prometheus/rules.test.yml >"$temporary/tests" 2>&1 || {
        cat "$temporary/tests" >&2
        return 1
    }
}

units
if "$write"; then
    scripts/python.sh scripts/dist/grafana/dashboard.py >"$temporary/dashboard"
    cp "$temporary/dashboard" scripts/dist/grafana/pingtrace.json
fi
scripts/python.sh scripts/dist/check.py "$temporary/dashboard.yml"
queries
echo "dist: all passed" >&2
