#!/usr/bin/env bash
# Mixed faults for a while; then all counts must add up.
set -euo pipefail

usage() {
    cat <<END
Usage: scripts/soak.sh [--minutes N] [--keep DIRECTORY]

Probes between two network namespaces of its own for N minutes (default 20), with an open
loop, a slow one whose round trips are often late, and -A, while links flap, packets are
dropped, routes vanish, clients are stopped, the server is restarted, and logs are rotated
and reopened. At the end each probe sent must be answered, lost, forgotten or in flight, in
each summary, in each interval and in the lines; one line a probe, or one that amends it.

Builds with debug assertions. Needs root and python3. Results are kept in DIRECTORY if one is
named. Exit status: 1 counts do not add up or a client failed, 2 usage.
END
}

minutes=20
keep=
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        --minutes) minutes=${2:?--minutes needs a number} && shift ;;
        --keep) keep=${2:?--keep needs a directory} && shift ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || {
    echo "soak: --minutes takes a whole number from 1 on, not '$minutes'" >&2
    exit 2
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="${HOME:-/root}/.cargo/bin:$PATH"
cargo build --quiet -p pingtrace
readonly BINARY=$PWD/target/debug/pingtrace
readonly lab=ptsoak$$
readonly client=$lab-client server=$lab-server
results=$(mktemp -d)
server_pid=
declare -A clients=()

clean_up() {
    local pid
    # A stopped process takes no other signal.
    for pid in "${clients[@]}" $server_pid; do
        kill -CONT "$pid" 2>/dev/null || continue
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait
    scripts/lab.sh down "$lab" || true
    [[ -z $keep ]] || cp -r "$results/." "$keep/"
    rm -rf "$results"
}

start_server() {
    ip netns exec "$server" "$BINARY" -s --nslocal 2>>"$results/server.err" &
    server_pid=$!
}

# NAME OPTION...: what it writes is in files of that name.
start_client() {
    local name=$1
    shift
    ip netns exec "$client" "$BINARY" -c 10.77.0.2 --nslocal -o json,log --log "$results/$name" \
        --logsize 2M --logbackup 1 --stat-interval 5 -t $((minutes * 60)) "$@" \
        >"$results/$name.json" 2>"$results/$name.err" &
    clients[$name]=$!
}

part_of_second() { printf '%d.%d' $((RANDOM % ${1:-1})) $((RANDOM % 9 + 1)); }

flap() {
    ip -n "$1" link set eth0 down
    sleep "$(part_of_second 2)"
    ip -n "$1" link set eth0 up
}

no_route() {
    ip -n "$client" route add "$1" 10.77.0.2/32
    sleep "$(part_of_second 2)"
    ip -n "$client" route del "$1" 10.77.0.2/32
}

# What the queue has no room for is dropped.
narrow() {
    tc -n "$1" qdisc replace dev eth0 root tbf rate 200kbit burst 3kb limit 6kb
    sleep "$(part_of_second 2)"
    tc -n "$1" qdisc del dev eth0 root
}

stall() {
    local pid
    for pid in "${clients[@]}"; do
        kill -STOP "$pid" 2>/dev/null || true
    done
    sleep "$(part_of_second 3)"
    for pid in "${clients[@]}"; do
        kill -CONT "$pid" 2>/dev/null || true
    done
}

reopen() {
    local pid
    for pid in "${clients[@]}"; do
        kill -HUP "$pid" 2>/dev/null || true
    done
}

restart() {
    kill -TERM "$server_pid"
    wait "$server_pid" || true
    sleep "$(part_of_second)"
    start_server
}

fault() {
    case $((RANDOM % 9)) in
        0) flap "$client" ;;
        1) flap "$server" ;;
        2) no_route blackhole ;;
        3) no_route unreachable ;;
        4) narrow "$client" ;;
        5) narrow "$server" ;;
        6) stall ;;
        7) reopen ;;
        8) restart ;;
    esac
}

check() {
    python3 - "$results" "$@" <<'END'
import collections, json, pathlib, sys

wrong = 0


def demand(so, what, of):
    global wrong
    if not so:
        wrong += 1
        print(f"soak: {what}: {json.dumps(of)[:600]}", file=sys.stderr)


def known(book):
    return book["replied"] + book["lost"] + book["forgotten"]


for name in sys.argv[2:]:
    path = pathlib.Path(sys.argv[1]) / f"{name}.json"
    lines = [json.loads(line) for line in path.open()]
    of = lambda kind: [line for line in lines if line["type"] == kind]
    end = (of("stat") or [None])[-1]
    if end is None:
        demand(False, f"{name} has no final statistics", path.name)
        continue
    in_flight = 0
    total = collections.Counter()
    for interval in of("interval"):
        in_flight += interval["sent"] + interval["amended"] - known(interval)
        demand(in_flight == interval.get("in_flight", 0), f"{name}: an interval", interval)
        total.update({k: interval[k] for k in ("sent", "replied", "lost", "amended", "forgotten")})
    demand(known(end) + end.get("in_flight", 0) == end["sent"], f"{name}: the end", end)
    for key in ("sent", "replied", "amended", "forgotten"):
        demand(total[key] == end[key], f"{name}: the intervals' {key} is {total[key]}", end)
    demand(total["lost"] - total["amended"] == end["lost"], f"{name}: the intervals' lost", end)
    last = {}
    written = collections.Counter()
    for probe in of("probe"):
        if probe["status"] == "dup":
            written["dup"] += 1
            continue
        said = last.get(probe["seq"])
        demand(probe.get("amends") == said, f"{name}: a second line, not an amendment", probe)
        written["amended"] += "amends" in probe
        last[probe["seq"]] = probe["status"]
    written.update(last.values())
    for key in ("late", "lost", "forgotten", "dup", "amended"):
        demand(written[key] == end[key], f"{name}: lines say {key} {written[key]}", end[key])
    if name != "adaptive":
        answered = written["ok"] + written["late"]
        demand(answered == end["replied"], f"{name}: lines say replied {answered}", end["replied"])
    keys = ("sent", "replied", "late", "lost", "amended", "forgotten", "in_flight", "dup")
    print(f"{name}: " + ", ".join(f"{key} {end.get(key, 0)}" for key in keys))
sys.exit(wrong > 0)
END
}

main() {
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    [[ -z $keep ]] || mkdir -p "$keep"
    scripts/lab.sh up "$lab" >/dev/null
    start_server
    sleep 3
    start_client open -i 10ms -W 0.5
    start_client late -i 20ms -W 0.001
    start_client adaptive -A -W 0.2 -m 100ms
    local end=$((SECONDS + minutes * 60 - 5))
    while ((SECONDS < end)); do
        sleep $((RANDOM % 3 + 1))
        fault
    done
    local failed=0 name status
    for name in "${!clients[@]}"; do
        status=0
        wait "${clients[$name]}" || status=$?
        if ((status != 0)); then
            echo "soak: the client '$name' ended with status $status:" >&2
            tail -n 5 "$results/$name.err" >&2
            failed=1
        fi
    done
    check "${!clients[@]}" || failed=1
    ((failed == 0)) || exit 1
    echo "soak: all counts add up"
}

main
