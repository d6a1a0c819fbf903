#!/usr/bin/env bash
# Runs Python with the packages that checks and tests need.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly NEEDED=scripts/requirements.txt VENV=target/venv

if [[ "${1:---help}" == --help ]]; then
    echo "Usage: scripts/python.sh ARGUMENTS
Python with the packages of $NEEDED, kept in $VENV; it begins in the project's folder."
    exit
fi
cmp -s "$NEEDED" "$VENV/installed" || {
    rm -rf "$VENV"
    python3 -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check -r "$NEEDED"
    cp "$NEEDED" "$VENV/installed"
}
exec "$VENV/bin/python" -B "$@"
