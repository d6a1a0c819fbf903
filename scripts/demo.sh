#!/usr/bin/env bash
# One real run: a queue is put into a known place, and pingtrace is asked where the time went.
set -euo pipefail

usage() {
    cat <<END
Usage: scripts/demo.sh [--image FILE] [--help]

Builds pingtrace, makes two network namespaces joined by a veth pair, and probes from one to
the other for 6 seconds. In the middle the client's device gets a slow queue (tbf, 20 Mbit/s)
and, ten times in one second, a burst of UDP packets that the probes must wait behind. Prints the
summary, the answer that pingtrace gives, and where the picture is. Needs root, Debian 12
or 13; what is missing is installed, and everything that was made is removed at the end.

  --image FILE   the picture (default: ./pingtrace-demo.png)

PINGTRACE=/path/to/binary in the environment is used instead of building it; the laboratory is built.
END
}

readonly EXPECTED=l_tx_qdisc

say() { echo "demo: $*" >&2; }

die() {
    say "$*"
    exit 1
}

start_server() {
    # ip becomes pingtrace, so this is the pid of pingtrace itself.
    ip netns exec "$server" "$binary" -s >"$work/server.out" 2>"$work/server.err" &
    server_pid=$!
    sleep 1
    kill -0 "$server_pid" 2>/dev/null || {
        cat "$work/server.err" >&2
        die "the server did not start"
    }
}

# It runs ahead of whatever else this machine does: the queue is to be the fault, and not a client
# without a CPU, which would be measured as well (l_tx_late).
start_client() {
    timeout --foreground 60 chrt --rr 1 ip netns exec "$client" "$binary" -c 10.77.0.2 -i 2ms -t 6 -m 500 \
        -o text,image,log --image "$image" --log "$work/run.log" \
        >"$work/client.out" 2>"$work/client.err" &
    client_pid=$!
}

# 60 packets of 1400 bytes take 34 ms at 20 Mbit/s. An error here is the server's "port
# unreachable", which only means that nobody listens.
burst() {
    for ((packet = 0; packet < 60; packet++)); do
        printf '%01400d' 0 >&"$1" || true
    done 2>/dev/null
}

slow_second() {
    ip netns exec "$client" tc qdisc add dev eth0 root tbf rate 20mbit burst 16kb limit 400kb
    say "the queue is slow from here"
    # shellcheck disable=SC2016  # the inner shell expands them
    ip netns exec "$client" bash -c "$(declare -f burst)"'
        exec {udp}>/dev/udp/10.77.0.2/9
        for round in {1..10}; do burst "$udp"; sleep 0.1; done'
    ip netns exec "$client" tc qdisc del dev eth0 root
    say "to here"
}

# What the run is about, by its own last word: the headline of its summary.
headline() {
    grep '^{"type":"stat"' "$work/run.log.stat" | tail -n 1 | grep -o '"headline":{.*' || true
}

# The first value of a key in a headline; in "slow", what took most time comes first.
value() {
    local key=$1
    grep -o "\"$key\":\"[^\"]*\"" | head -n 1 | cut -d'"' -f4
}

show() {
    local answer segment
    tail -n 40 "$work/client.out"
    answer=$(headline)
    segment=$(value segment <<<"$answer")
    echo
    echo "answer:  $(value title <<<"$answer")"
    echo "         (the queue was put into $EXPECTED)"
    echo "picture: $image"
    [[ -s "$image" ]] || die "the picture is missing"
    [[ "$(value about <<<"$answer")" == slow ]] || die "the answer is not about slow probes"
    [[ "$segment" == "$EXPECTED" ]] || die "the wrong segment was blamed"
}

clean_up() {
    for pid in "$client_pid" "$server_pid"; do
        [[ -n "$pid" ]] || continue
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    scripts/lab.sh down "$lab" || true
    rm -rf "$work"
}

image=$PWD/pingtrace-demo.png
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

lab="ptdemo-$$"
client="$lab-client"
server="$lab-server"
client_pid=""
server_pid=""
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

binary=$(scripts/build.sh)
scripts/lab.sh up "$lab" >/dev/null
start_server
say "probing for 6 seconds"
start_client
sleep 2.5
slow_second
wait "$client_pid" && status=0 || status=$?
client_pid=""
if ((status)); then
    cat "$work/client.err" >&2
    die "the client ended with status $status"
fi
show
