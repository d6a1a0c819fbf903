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

NAME is ptlab by default. Needs root. Processes started in the namespaces are not ended.
END
}

die() {
    echo "lab: $*" >&2
    exit 1
}

exists() { ip netns list | awk '{ print $1 }' | grep -qx -- "$1"; }

up() {
    if exists "$client" || exists "$server"; then
        die "$name is there already; scripts/lab.sh down $name removes it"
    fi
    trap down ERR
    ip netns add "$client"
    ip netns add "$server"
    ip -n "$client" link add eth0 type veth peer name eth0 netns "$server"
    address "$client" 1
    address "$server" 2
    trap - ERR
    cat <<END
ip netns exec $server pingtrace -s
ip netns exec $client pingtrace -c 10.77.0.2
END
}

address() {
    ip -n "$1" address add "10.77.0.$2/24" dev eth0
    ip -n "$1" address add "fd77::$2/64" dev eth0 nodad
    ip -n "$1" link set lo up
    ip -n "$1" link set eth0 up
}

down() {
    local namespace
    for namespace in "$client" "$server"; do
        ! exists "$namespace" || ip netns delete "$namespace"
    done
}

status() {
    local namespace
    for namespace in "$client" "$server"; do
        if exists "$namespace"; then
            echo "$namespace"
            ip -n "$namespace" -brief address show
        else
            echo "$namespace: not there"
        fi
    done
}

command=${1:-}
name=${2:-ptlab}
client="$name-client"
server="$name-server"
case "$command" in
    -h | --help) usage && exit ;;
    up | down | status) ;;
    *) usage >&2 && exit 2 ;;
esac
[[ "$name" =~ ^[A-Za-z0-9_.-]+$ ]] || die "a name consists of letters, digits, and _ . -"
[[ $EUID -eq 0 ]] || die "network namespaces need root"
"$command"
