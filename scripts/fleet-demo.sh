#!/usr/bin/env bash
# A fleet of hosts that probe each other, one of them bad: pingtrace mesh is asked which.
set -euo pipefail

readonly NODES=20 RING=6 LASTS=20 BAD=13

usage() {
    cat <<END
Usage: scripts/fleet-demo.sh [--image FILE] [--help]

Builds pingtrace, makes $NODES network namespaces at one bridge, and runs an agent (server and client) in each, which
probes its $RING next neighbours for $LASTS seconds. The device of one host gets a slow queue (tbf, 200 kbit/s).
Prints what pingtrace mesh says of their logs, and where the picture is; ends with an error if that is not the
bad host. Needs root, Debian 12 or 13; what is missing is installed, and everything that was made is removed.

  --image FILE   the picture (default: ./pingtrace-fleet.png)

PINGTRACE=/path/to/binary in the environment is used instead of building it.
END
}

say() { echo "fleet-demo: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# All devices of hosts are at one bridge, in a namespace of its own.
make_network() {
    ip netns add "$fleet-0"
    ip -n "$fleet-0" link add br0 type bridge
    ip -n "$fleet-0" link set br0 up
    for ((n = 1; n <= NODES; n++)); do
        ip netns add "$fleet-$n"
        ip -n "$fleet-$n" link add eth0 type veth peer name "port$n" netns "$fleet-0"
        ip -n "$fleet-0" link set "port$n" master br0 up
        ip -n "$fleet-$n" address add "10.99.0.$n/24" dev eth0
        ip -n "$fleet-$n" link set lo up
        ip -n "$fleet-$n" link set eth0 up
    done
    ip netns exec "$fleet-$BAD" tc qdisc add dev eth0 root tbf rate 200kbit burst 1600 limit 6kb
}

# The list holds every host; on the ring each finds itself by its address.
write_targets() {
    for ((n = 1; n <= NODES; n++)); do
        printf -- '- targets: [10.99.0.%d]\n  labels: {node: node%d}\n' "$n" "$n"
    done >"$work/nodes.yml"
}

# An agent ends by itself, with its client.
start_agents() {
    for ((n = 1; n <= NODES; n++)); do
        # shellcheck disable=SC2016  # the inner shell expands them
        ip netns exec "$fleet-$n" unshare --uts sh -c 'hostname "$1" && shift && exec "$@"' - "node$n" \
            "$binary" agent --open --targets "$work/nodes.yml" --ring "$RING" -i 200ms -m 5 -t "$LASTS" \
            -o log --log "$work/node$n" >"$work/node$n.out" 2>"$work/node$n.err" &
        agents+=($!)
    done
}

wait_for_agents() {
    local status failed=0
    for ((n = 1; n <= NODES; n++)); do
        wait "${agents[n - 1]}" && status=0 || status=$?
        ((status == 0)) && continue
        cat "$work/node$n.err" >&2
        failed=$n
    done
    agents=()
    ((failed == 0)) || die "the agent of node$failed failed"
}

show() {
    "$binary" mesh "$work"/node*.stat --image "$image" | tee "$work/answer"
    echo "picture: $image"
    [[ -s "$image" ]] || die "the picture is missing"
    head -n 3 "$work/answer" | grep -q "node$BAD\b" || die "node$BAD has the slow queue, and is not named"
}

clean_up() {
    for pid in "${agents[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    for ((n = 0; n <= NODES; n++)); do
        ip netns delete "$fleet-$n" 2>/dev/null || true
    done
    rm -rf "$work"
}

image=$PWD/pingtrace-fleet.png
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        --image) image=$(realpath -m "${2:?--image needs a file}") && shift ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[[ $EUID -eq 0 ]] || die "network namespaces and kernel programs need root"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fleet="ptfleet-$$"
agents=()
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

binary=$(scripts/build.sh)
make_network
write_targets
say "$NODES hosts probe each other for $LASTS seconds"
start_agents
wait_for_agents
show
