#!/usr/bin/env bash
# Programs of Debian without an installation, which would start services.
set -euo pipefail

readonly FOLDER=target/debian

usage() {
    cat <<END
Usage: scripts/unpack.sh [--help] PACKAGE

Unpacks a package of Debian, unless that is done already, and prints where. Nothing is
installed or started, and what the package depends on is not unpacked.
END
}

case "${1:-}" in
    -h | --help) usage && exit ;;
    "" | -*) usage >&2 && exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
package=$1
mkdir -p "$FOLDER"
if [[ ! -d $FOLDER/$package ]]; then
    temporary=$(mktemp -d "$FOLDER/.$package.XXXXXX")
    trap 'rm -rf "$temporary"' EXIT
    download() { (cd "$temporary" && apt-get download -q "$package" >/dev/null 2>&1); }
    download || { apt-get update -q >/dev/null && download; } || {
        echo "unpack: no package $package" >&2
        exit 1
    }
    dpkg-deb -x "$temporary/$package"_*.deb "$temporary/root"
    # Another one may have been faster.
    mv -T "$temporary/root" "$FOLDER/$package" 2>/dev/null || [[ -d $FOLDER/$package ]]
fi
echo "$PWD/$FOLDER/$package"
