#!/usr/bin/env bash
# A server and many clients under mixed faults for a while; then all counts must add up, and nothing is left.
set -euo pipefail

readonly FILES="summaries, intervals, lines, stories, counters of the kernels, samples of memory"

usage() {
    cat <<END
Usage: scripts/soak.sh [--clients N] [--seed N] [--keep DIRECTORY] [LENGTH]

For LENGTH (such as 90s, 10m or 8h; default 20m) a server and N clients (default 50) of mixed rates and modes,
IPv4 and IPv6, probe between two network namespaces that end with this script. Meanwhile links flap, packets are
dropped, routes, addresses and neighbours vanish, the MTU sinks, processes are stopped and continued, logs are
reopened, clients are ended and started again, and in the first half of the time the server is too, also by
SIGKILL. The seed decides what happens, and is printed. Then the same clients run once more without a fault.

An error, with a sentence on stderr, if
  - a probe is not answered, lost, forgotten or in flight, in a summary, an interval or the lines, of any client;
  - clients, servers and the counters of both kernels contradict each other; without faults, by one packet;
  - the memory or the descriptors of a process have grown (scripts/soak/watch.py says by how much is meant);
  - a program, link or map, a qdisc, a filter, a socket or a temporary file is left.

Builds with debug assertions. Needs root and python3. The rate is about 500 probes a second with 50 clients, and that
of one client that sends its next probe at each reply.
Results ($FILES)
are kept in DIRECTORY if one is named. Exit status: 1 an error as above, 2 usage.
END
}

refuse() {
    echo "soak: $*" >&2
    exit 2
}

length=20m
count=50
seed=$RANDOM
keep=
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        --clients) count=${2:?--clients needs a number} && shift ;;
        --seed) seed=${2:?--seed needs a number} && shift ;;
        --keep) keep=$(realpath -m "${2:?--keep needs a directory}") && shift ;;
        -*) usage >&2 && exit 2 ;;
        *) length=$1 ;;
    esac
    shift
done
[[ $length =~ ^([1-9][0-9]*)([smh]?)$ ]] || refuse "a length is such as 90s, 10m or 8h, not '$length'"
case ${BASH_REMATCH[2]} in
    h) seconds=$((BASH_REMATCH[1] * 3600)) ;;
    m) seconds=$((BASH_REMATCH[1] * 60)) ;;
    *) seconds=${BASH_REMATCH[1]} ;;
esac
[[ $count =~ ^[1-9][0-9]*$ && $seed =~ ^[0-9]+$ ]] || refuse "--clients and --seed take whole numbers"
((EUID == 0)) || refuse "network namespaces and BPF need root"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="${HOME:-/root}/.cargo/bin:$PATH"
if [[ -z ${SOAK_INSIDE:-} ]]; then
    cargo build --locked --quiet --workspace --bin pingtrace
    # The names of namespaces, and so the namespaces, are of this mount namespace, and end with it.
    SOAK_INSIDE=1 exec unshare --mount --net scripts/soak.sh --clients "$count" --seed "$seed" \
        ${keep:+--keep "$keep"} "${seconds}s"
fi

BINARY=${CARGO_TARGET_DIR:-$PWD/target}/debug/pingtrace
readonly BINARY
results=$(mktemp -d)
folder=$results/faults
declare -A clients=() runs=()
server_pid=
watch_pid=

clean_up() {
    local pid
    # A stopped process takes no other signal.
    for pid in "${clients[@]}" $server_pid $watch_pid; do
        kill -CONT "$pid" 2>/dev/null || continue
        kill -TERM "$pid" 2>/dev/null || true
    done
    wait
    [[ -z $keep ]] || { mkdir -p "$keep" && cp -r "$results/." "$keep/"; }
    rm -rf "$results"
}

in_ns() { ip netns exec "$@"; }

laboratory() {
    local end other
    mkdir -p /run/netns
    mount -t tmpfs tmpfs /run/netns
    ip netns add client
    ip netns add server
    ip -n client link add eth0 type veth peer name eth0 netns server
    for end in client server; do
        [[ $end == client ]] && other=1 || other=2
        in_ns "$end" sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1 net.ipv6.conf.eth0.accept_dad=0 \
            net.ipv6.conf.eth0.keep_addr_on_down=1 net.ipv6.conf.eth0.router_solicitations=0
        ip -n "$end" link set lo up
        ip -n "$end" link set eth0 up
        ip -n "$end" address add "10.77.0.$other/24" dev eth0
        ip -n "$end" address add "fd77::$other/64" dev eth0 nodad
    done
}

# For what samples memory: the processes that live.
list_processes() {
    local name
    {
        echo "$server_pid server"
        for name in "${!clients[@]}"; do
            echo "${clients[$name]} $name"
        done
    } >"$results/pids.new"
    mv "$results/pids.new" "$results/pids"
}

start_server() {
    local before
    before=$(grep -c 'serving; stop' "$folder/server.err" || true)
    ip netns exec server "$BINARY" -s --nslocal 2>>"$folder/server.err" &
    server_pid=$!
    for _ in {1..300}; do
        (($(grep -c 'serving; stop' "$folder/server.err" || true) == before)) || return 0
        sleep 0.1
    done
    echo "soak: the server does not serve: $(tail -n 1 "$folder/server.err")" >&2
    exit 1
}

end_server() {
    kill "-$1" "$server_pid"
    wait "$server_pid" 2>/dev/null || true
}

# The options of the client of a number: what is named "whole" has a line for each probe, and logs; what is named
# "inband" is stamped in no other way. Of "whole" and "adaptive", which has a core for itself, there is one each.
kinds=(
    "whole-inband 10.77.0.2 -i 20ms -W 0.5 -o json,log"
    "whole-late-inband 10.77.0.2 -i 50ms -W 0.001 -o json,log"
    "whole-inband-v6 fd77::2 -i 100ms -o json,log"
    "slow-inband 10.77.0.2 -i 1s"
    "compact 10.77.0.2 -i 100ms --mode compact"
    "pingpong 10.77.0.2 -i 200ms --mode pingpong"
    "inband-v6 fd77::2 -i 200ms --mode inband"
    "flows-inband fd77::2 -i 100ms --flows 4"
    "large-inband 10.77.0.2 -i 250ms -b 1400 -n"
    "explain-inband 10.77.0.2 -i 500ms --explain"
    "adaptive-inband 10.77.0.2 -A"
)

options() {
    local kind=${kinds[$1 % ${#kinds[@]}]}
    [[ $kind == whole* || $kind == adaptive* ]] && (($1 >= ${#kinds[@]})) && kind="auto-inband 10.77.0.2 -i 300ms"
    read -r name address more <<<"$kind"
    name=$name-$1
    [[ $more == *json* ]] && return
    more+=" -o json -m 10s"
}

# NUMBER OPTION...: what it writes is in files of its name and run.
start_client() {
    local name address more number=$1 file
    options "$number"
    runs[$name]=$((${runs[$name]:-0} + 1))
    file=$folder/$name.${runs[$name]}
    # shellcheck disable=SC2086  # options have no spaces
    ip netns exec client "$BINARY" -c "$address" --nslocal $more --stat-interval 5 --log "$file" \
        --logsize 2M --logbackup 1 "${@:2}" >"$file.json" 2>"$file.err" &
    clients[$name]=$!
}

# NAME: its exit status is that of a run with or without answers.
end_client() {
    local name=$1 status=0
    wait "${clients[$name]}" || status=$?
    unset "clients[$name]"
    if ((status != 0 && status != 3)); then
        echo "soak: the client $name ended with status $status: $(tail -n 3 "$folder/$name.${runs[$name]}.err")" >&2
        failed=1
    fi
}

part_of_second() { printf '%d.%d' $((RANDOM % ${1:-1})) $((RANDOM % 9 + 1)); }

flap() {
    ip -n "$1" link set eth0 down
    sleep "$(part_of_second 2)"
    ip -n "$1" link set eth0 up
}

no_route() {
    ip -n client route add "$1" 10.77.0.2/32
    sleep "$(part_of_second 2)"
    ip -n client route del "$1" 10.77.0.2/32
}

no_address() {
    ip -n "$1" address del "$2/24" dev eth0
    sleep "$(part_of_second 2)"
    ip -n "$1" address add "$2/24" dev eth0
}

no_neighbour() {
    ip -n "$1" neighbour flush dev eth0
    ip -n "$1" neighbour replace "$2" lladdr 02:00:00:00:00:99 dev eth0 nud permanent
    sleep "$(part_of_second 2)"
    ip -n "$1" neighbour del "$2" dev eth0
}

small_mtu() {
    ip -n "$1" link set eth0 mtu 1300
    sleep "$(part_of_second 2)"
    ip -n "$1" link set eth0 mtu 1500
}

# What the queue has no room for is dropped.
narrow() {
    tc -n "$1" qdisc replace dev eth0 root tbf rate 200kbit burst 3kb limit 6kb
    sleep "$(part_of_second 2)"
    tc -n "$1" qdisc del dev eth0 root
}

# SIGNAL: to a third of the clients.
to_some() {
    local name
    for name in "${!clients[@]}"; do
        ((RANDOM % 3 > 0)) || kill "-$1" "${clients[$name]}" 2>/dev/null || true
    done
}

stall() {
    local pid
    to_some STOP
    ((RANDOM % 3 > 0)) || kill -STOP "$server_pid"
    sleep "$(part_of_second 3)"
    for pid in "${clients[@]}" "$server_pid"; do
        kill -CONT "$pid" 2>/dev/null || true
    done
}

# Without a log SIGHUP ends a client.
reopen() {
    local name
    for name in "${!clients[@]}"; do
        [[ $name != whole* ]] || kill -HUP "${clients[$name]}"
    done
}

restart_client() {
    local number=$((RANDOM % count)) name address more signal
    options "$number"
    [[ $name != whole* ]] || return 0
    ((RANDOM % 2)) && signal=INT || signal=TERM
    kill "-$signal" "${clients[$name]}" || return 0
    end_client "$name"
    start_client "$number"
    list_processes
}

restart_server() {
    end_server "$1"
    sleep "$(part_of_second)"
    start_server
    list_processes
}

# Faults of the first half too if $1.
fault() {
    case $((RANDOM % ($1 ? 18 : 15))) in
        0) flap client ;;
        1) flap server ;;
        2) no_route blackhole ;;
        3) no_route unreachable ;;
        4) narrow client ;;
        5) narrow server ;;
        6 | 7) stall ;;
        8) reopen ;;
        9) to_some USR1 ;;
        10) no_address client 10.77.0.1 ;;
        11) no_address server 10.77.0.2 ;;
        12) no_neighbour client 10.77.0.2 ;;
        13) small_mtu client ;;
        14) small_mtu server ;;
        15) restart_client ;;
        16) restart_server TERM ;;
        17) restart_server KILL ;;
    esac
}

counters() {
    local end
    for end in client server; do
        in_ns "$end" cat /proc/net/snmp /proc/net/snmp6 >"$folder/$end.icmp"
    done
}

end_clients() {
    local name
    for name in "${!clients[@]}"; do
        kill -TERM "${clients[$name]}" || {
            echo "soak: the client $name has ended by itself: $(tail -n 3 "$folder/$name.${runs[$name]}.err")" >&2
            failed=1
        }
    done
    for name in "${!clients[@]}"; do
        end_client "$name"
    done
}

under_faults() {
    local end=$((SECONDS + seconds)) half=$((SECONDS + seconds / 2)) number number_of_faults=0
    mkdir -p "$folder"
    touch "$folder/server.err"
    start_server
    for ((number = 0; number < count; number++)); do
        start_client "$number"
    done
    list_processes
    scripts/soak/watch.py sample "$results/pids" "$results/samples" 2>"$results/watch.err" &
    watch_pid=$!
    # What takes memory once is not to be taken for a leak later.
    sleep $((seconds / 12))
    kill -USR1 "${clients[@]}"
    reopen
    while ((SECONDS < end)); do
        sleep $((RANDOM % 3 + 1))
        fault $((SECONDS < half))
        number_of_faults=$((number_of_faults + 1))
    done
    kill "$watch_pid"
    wait "$watch_pid" 2>/dev/null || true
    watch_pid=
    end_clients
    end_server TERM
    counters
    echo "soak: $number_of_faults faults in $seconds s"
    python3 scripts/soak/check.py faults "$folder" || failed=1
    scripts/soak/watch.py flat "$results/samples" || failed=1
}

# Both ends from the beginning, in a fresh laboratory.
without_faults() {
    local number name
    ip netns del client
    ip netns del server
    laboratory
    folder=$results/quiet
    mkdir -p "$folder"
    touch "$folder/server.err"
    start_server
    for ((number = 0; number < count; number++)); do
        start_client "$number" -C 40
    done
    for name in "${!clients[@]}"; do
        end_client "$name"
    done
    list_processes
    end_server TERM
    counters
    echo "soak: without a fault"
    python3 scripts/soak/check.py quiet "$folder" || failed=1
}

# Of devices, sockets and files.
nothing_left() {
    local end left
    for end in client server; do
        left=$(tc -n "$end" qdisc show dev eth0 | grep -v 'qdisc noqueue' || true)
        left+=$(ip -n "$end" -details link show dev eth0 | grep -E 'xdp|prog' || true)
        left+=$(in_ns "$end" cat /proc/net/raw /proc/net/raw6 /proc/net/icmp | grep -v 'sl  local' || true)
        left+=$(in_ns "$end" grep pingtrace /proc/net/unix || true)
        [[ -z $left ]] || {
            echo "soak: this is left in the namespace $end: $left" >&2
            failed=1
        }
    done
    left=$(find "$results" -type f ! -name '*.json' ! -name '*.err' ! -name '*.icmp' ! -name '*.seq*' \
        ! -name '*.stat*' ! -name pids ! -name samples)
    [[ -z $left ]] || {
        echo "soak: files are left: $left" >&2
        failed=1
    }
    scripts/soak/watch.py gone "$results/samples" || failed=1
}

failed=0
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
RANDOM=$seed
echo "soak: $count clients for $seconds s, seed $seed"
laboratory
under_faults
without_faults
nothing_left
((failed == 0)) || exit 1
echo "soak: all counts add up, and nothing is left"
