#!/usr/bin/env bash
# What pingtrace costs: every promise in figures, in one run.
set -euo pipefail

readonly PAIRS=5
readonly FLOOD_SECONDS=1.5
readonly ADDRESS=10.77.0.2

usage() {
    cat <<END
Usage: scripts/bench.sh [--quick] [PART...]

Builds a release, makes two network namespaces joined by a veth pair, and prints figures beside
their goals. Runs that are compared alternate, and medians count, so that other load on this
machine hits both. Parts (default: all):

  rate     probes a second of -A with full stamping at both ends, beside the same packets and
           socket in a bare loop
  load     20 000 probes a second for a minute: losses, send slip, memory
  rtt      what stamping adds to the median round trip
  hooks    what each program costs a packet that is no probe, beside an empty program: idle, armed,
           with 1 000 peers; also where there is a tunnel, and inside of it
  foreign  how fast other traffic is on a host without a server, with an idle and an armed one, with
           empty programs at its hooks, and with an armed agent
  keys     what tags (--key-file) cost a server's programs for each probe
  start    time to the first probe, time until the server serves, size of the binary
  slip     how late probes leave, at an interval of 1 ms
  diff     how often diff names a move between two like runs, quiet, beside a busy loop and over
           a wire of 250 us, and how often it finds that wire a fifth slower
  iofsstat what iofsstat adds to a request of a loop device, and to system calls (-f)
  recorder what the recorder behind --explain, irqoff, nosched and runqlat costs a pipe ping-pong
           and a CPU with 10 000 switches and 10 000 softirqs a second
  memleak  what following allocations costs: one cache, beside all of slab
  fleet    1 000 targets in one process, beside smokeping_prober: CPU, memory, round trip, a changed
           list, a scrape

  --quick  shorter runs: 5 seconds instead of a minute

Needs root. Everything that was made is removed at the end.
END
}

say() { echo "bench: $*" >&2; }

die() {
    say "$*"
    exit 1
}

build() {
    scripts/setup.sh
    PATH="${HOME:-/root}/.cargo/bin:$PATH"
    cargo build --locked --release --package pingtrace --package bench
    local built
    built=$(realpath "${CARGO_TARGET_DIR:-target}/release")
    binary=$built/pingtrace
    flood=$built/flood
    hooks=$built/hooks
    iocost=$built/iocost
    pingpong=$built/pingpong
    allocs=$built/allocs
    delayed=$built/delayed
    foreign=$built/foreign
    crowd=$built/crowd
}

# Starts a server with the given options; server_ms is how long it took.
start_server() {
    start_serving -s "$@"
}

# An agent that probes the client's host, and has had a reply.
start_agent() {
    : >"$work/agent"
    start_serving agent -c 10.77.0.1 -o json "$@" >"$work/agent"
    until grep -q '"type":"probe"' "$work/agent"; do
        kill -0 "$server_pid" 2>/dev/null || die "no agent: $(cat "$work/server.err")"
        sleep 0.01
    done
}

start_serving() {
    local begin
    begin=$(now_ms)
    # ip becomes pingtrace, so this is the pid of pingtrace itself.
    ip netns exec "$server" "$binary" "$@" 2>"$work/server.err" &
    server_pid=$!
    until grep -q serving "$work/server.err"; do
        kill -0 "$server_pid" 2>/dev/null || die "no server: $(cat "$work/server.err")"
        sleep 0.002
    done
    server_ms=$(($(now_ms) - begin))
}

stop() {
    [[ -n "$1" ]] || return 0
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

stop_server() {
    stop "$server_pid"
    server_pid=""
}

# A client that records no probe; its JSON goes to stdout.
probe() {
    timeout --foreground 100 ip netns exec "$client" "$binary" -c "$ADDRESS" -m 10s -o json "$@" \
        2>"$work/client.err" || die "no result: $(cat "$work/client.err")"
}

# The same client without the privilege to load kernel programs.
probe_bare() {
    timeout --foreground 100 ip netns exec "$client" setpriv \
        --bounding-set=-bpf,-perfmon,-sys_admin --inh-caps=-bpf,-perfmon,-sys_admin \
        "$binary" -c "$ADDRESS" -m 10s -o json --mode pingpong "$@" 2>"$work/client.err" ||
        die "no result: $(cat "$work/client.err")"
}

now_ms() { date +%s%3N; }

# A counter of the last summary in a file, or a field of one of its distributions.
counter() { tail -n 1 "$1" | grep -o "\"$2\":[0-9]*" | head -n 1 | cut -d: -f2; }
total() { tail -n 1 "$1" | grep -o '"delay":"total"[^}]*' | grep -o "\"$2\":[0-9]\+" | cut -d: -f2; }
slip() { tail -n 1 "$1" | grep -o '"send_slip":[^}]*' | grep -o "\"$2\":[0-9]*" | cut -d: -f2; }

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

calculate() { awk "BEGIN { printf \"%s\", $1 }"; }

title() { printf '\n%s\n' "$*"; }

row() { printf '  %-46s %14s   %s\n' "$@"; }

rate_of() { echo $(($(counter "$1" replied) * 1000000 / ($(counter "$1" elapsed_ns) / 1000))); }

# One mode: bare and stamped runs alternate.
rate_mode() {
    local mode=$1 pair missing=0 bare stamped
    shift
    start_server "$@"
    : >"$work/bare"
    : >"$work/stamped"
    for ((pair = 0; pair < PAIRS; pair++)); do
        stop_server
        ip netns exec "$client" "$flood" "$ADDRESS" "$FLOOD_SECONDS" | cut -d' ' -f3 >>"$work/bare"
        start_server "$@"
        probe -A -t "$FLOOD_SECONDS" "$@" >"$work/run"
        rate_of "$work/run" >>"$work/stamped"
        missing=$((missing + $(counter "$work/run" no_remote) + $(counter "$work/run" lost)))
    done
    stop_server
    bare=$(median <"$work/bare")
    stamped=$(median <"$work/stamped")
    row "bare loop, no programs" "$bare/s" ""
    row "stamped at both ends, $mode" "$stamped/s" ""
    row "ratio" "$(calculate "int(100 * $stamped / $bare)") %" "goal 60 % or more"
    row "ratio of each pair" "" \
        "$(paste "$work/stamped" "$work/bare" | awk '{ printf "%.0f %% ", 100 * $1 / $2 }')"
    row "probes lost or without server stamps" "$missing" "goal 0"
}

bench_rate() {
    title "Rate: next probe at each reply, 556 bytes, medians of $PAIRS pairs of $FLOOD_SECONDS s"
    rate_mode "all namespaces"
    rate_mode "--nslocal" --nslocal
}

memory_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

bench_load() {
    local seconds=60 early late
    $quick && seconds=5
    title "Load: 20 000 probes a second for $seconds s"
    start_server
    ip netns exec "$client" "$binary" -c "$ADDRESS" -i 50us -t "$seconds" -m 10s -o json \
        >"$work/run" 2>"$work/client.err" &
    client_pid=$!
    sleep $((seconds / 3))
    early=$(memory_kb "$client_pid")
    sleep $((seconds - seconds / 3 - 1))
    late=$(memory_kb "$client_pid")
    wait "$client_pid"
    client_pid=""
    stop_server
    row "sent" "$(counter "$work/run" sent)" "goal $((seconds * 20000))"
    row "answered" "$(counter "$work/run" replied)" "goal all"
    row "lost, without server stamps" \
        "$(counter "$work/run" lost), $(counter "$work/run" no_remote)" "goal 0, 0"
    row "send slip p50, p99" "$(slip "$work/run" p50), $(slip "$work/run" p99) ns" ""
    row "memory of the client after $((seconds / 3)) s, at the end" "$early, $late kB" "goal flat"
}

bench_rtt() {
    local pair seconds=3 bare stamped
    $quick && seconds=1
    title "Round trip: median at an interval of 1 ms, $PAIRS pairs of $seconds s"
    : >"$work/bare"
    : >"$work/stamped"
    for ((pair = 0; pair < PAIRS; pair++)); do
        probe_bare -i 1ms -t "$seconds" >"$work/run"
        total "$work/run" p50 >>"$work/bare"
        start_server
        probe -i 1ms -t "$seconds" >"$work/run"
        total "$work/run" p50 >>"$work/stamped"
        stop_server
    done
    bare=$(median <"$work/bare")
    stamped=$(median <"$work/stamped")
    row "the same client, no programs" "$bare ns" ""
    row "stamped at both ends" "$stamped ns" ""
    row "more" "$((stamped - bare)) ns" "goal 2000 or less"
    row "of each pair" "" "$(paste "$work/stamped" "$work/bare" | awk '{ printf "%+d ", $1 - $2 }')"
}

bench_hooks() {
    title "Hooks: ns a call for packets that are no probes, the accounting's own time included"
    echo "  idle, no program but the empty ones:"
    start_server
    hooks_beside "$$" "$ADDRESS"
    stop_server
    hooks_of "armed" "$ADDRESS"
    echo "  armed, 1 000 peers with a probe a second each:"
    start_server
    ip netns exec "$client" "$crowd" "$ADDRESS" &
    crowd_pid=$!
    sleep 1
    hooks_beside "$$" "$ADDRESS"
    stop "$crowd_pid"
    crowd_pid=""
    stop_server
    vxlan "$client" 1 2
    vxlan "$server" 2 1
    hooks_of "a VXLAN exists" "$ADDRESS"
    hooks_of "in that VXLAN; each packet is at two devices" 10.78.0.2
    ip -n "$client" link del vx0
    ip -n "$server" link del vx0
    echo "  goal: at most 20 ns more than an empty program where a packet passes; a NET_RX softirq reads"
    echo "  the clock at its raise and its entry; (all) has no empty one beside it"
}

# hooks_beside PID ADDRESS: the programs of the server and of this process, beside empty ones.
hooks_beside() {
    ip netns exec "$client" "$hooks" "$server" "$2" "$server_pid" "$1" |
        awk '{ printf "  %-8s %-17s %9s %9s %15s %15s\n", $1, $2, $3, $4, $5, $6 }'
}

# foreign_round SECONDS STATE [empty]: runs the other traffic once; appends its two rates to files of this state.
foreign_round() {
    local rates
    rates=$(ip netns exec "$client" "$foreign" "$server" "$ADDRESS" "$1" ${3:+"$3"})
    echo "${rates% *}" >>"$work/udp-$2"
    echo "${rates#* }" >>"$work/tcp-$2"
}

# foreign_row KIND STATE WHAT BESIDE GOAL: the median of the ratios of runs that follow one another, in percent.
foreign_row() {
    local ratio
    ratio=$(paste "$work/$1-$2" "$work/$1-$4" | awk '{ printf "%.2f\n", 100 * $1 / $2 }' | median)
    row "$1, $3" "$(median <"$work/$1-$2")/s" "$ratio %${5:+, goal $5 % or more}"
}

bench_foreign() {
    local round rounds=15 seconds=1 kind
    $quick && rounds=5
    title "Foreign: packets a second of CPU time, medians of $rounds rounds in turn"
    rm -f "$work"/udp-* "$work"/tcp-*
    for ((round = 0; round < rounds; round++)); do
        foreign_round "$seconds" nothing
        start_server
        foreign_round "$seconds" idle
        stop_server
        foreign_round "$seconds" empty empty
        start_server --linger infinity
        foreign_round "$seconds" armed
        stop_server
        start_agent --linger infinity
        foreign_round "$seconds" agent
        stop_server
    done
    for kind in udp tcp; do
        row "$kind, no server" "$(median <"$work/$kind-nothing")/s" ""
        foreign_row "$kind" idle "an idle server" nothing 99.5
        foreign_row "$kind" armed "an armed server" nothing 95
        foreign_row "$kind" empty "empty programs at its hooks" nothing ""
        foreign_row "$kind" armed "an armed server beside those" empty ""
        foreign_row "$kind" agent "an armed agent" nothing ""
        foreign_row "$kind" agent "an armed agent beside the server" armed ""
    done
}

# vxlan NETNS OWN OTHER
vxlan() {
    ip -n "$1" link add vx0 type vxlan id 7 dstport 4789 local "10.77.0.$2" remote "10.77.0.$3"
    ip -n "$1" address add "10.78.0.$2/24" dev vx0
    ip -n "$1" link set vx0 up
}

# hooks_of WHAT ADDRESS: the costs of packets to this address.
hooks_of() {
    start_server
    ip netns exec "$client" "$binary" -c "$ADDRESS" -i 1s -m 10s -o json \
        >"$work/run" 2>"$work/client.err" &
    client_pid=$!
    sleep 1
    echo "  $1:"
    hooks_beside "$client_pid" "$2"
    stop "$client_pid"
    client_pid=""
    stop_server
}

# What the programs of a server with these options took for a probe, ns, behind the lines of a file.
server_programs() {
    local file=$1 key=$2 took
    shift 2
    start_server --debug "$@"
    probe -i 200us -C 5000 ${key:+--key-file "$key"} >"$work/run"
    took=$(programs_of "$server_pid")
    stop_server
    calculate "int(${took% *} / $(counter "$work/run" sent))" >>"$file"
    echo >>"$file"
}

bench_keys() {
    local pair key=$work/key what
    title "Keys: all programs of a server, ns for a probe and its reply, medians of $((2 * PAIRS)) rounds of 5000 probes"
    od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$key"
    chmod 0600 "$key"
    rm -f "$work/strangers" "$work/open" "$work/keys"
    for ((pair = 0; pair < 2 * PAIRS; pair++)); do
        server_programs "$work/strangers" ""
        server_programs "$work/open" "" --open --private
        server_programs "$work/keys" "$key" --key-file "$key" --private
    done
    for what in strangers open keys; do
        row "$what" "$(median <"$work/$what") ns" "$(tr '\n' ' ' <"$work/$what")"
    done
    row "a tag, checked and made" \
        "$(paste "$work/keys" "$work/open" | awk '{ print $1 - $2 }' | median) ns" "median of the pairs' differences"
}

bench_start() {
    local pair begin first
    title "Start: medians of $PAIRS"
    : >"$work/server_ms"
    : >"$work/client_ms"
    for ((pair = 0; pair < PAIRS; pair++)); do
        start_server
        echo "$server_ms" >>"$work/server_ms"
        begin=$(now_ms)
        probe -C 1 >"$work/run"
        first=$(head -n 1 "$work/run" | grep -o '"start":"[^"]*"' | cut -d'"' -f4)
        echo $(($(date -d "$first" +%s%3N) - begin)) >>"$work/client_ms"
        stop_server
    done
    row "client: start to first probe" "$(median <"$work/client_ms") ms" "goal below 300"
    row "server: start to serving" "$(median <"$work/server_ms") ms" ""
    row "binary" "$(stat -c %s "$binary") bytes" "goal below 6 MB"
}

bench_slip() {
    local pair seconds=10
    $quick && seconds=3
    title "Send slip at an interval of 1 ms, $PAIRS runs of $seconds s"
    : >"$work/p50"
    : >"$work/p99"
    start_server
    for ((pair = 0; pair < PAIRS; pair++)); do
        probe -i 1ms -t "$seconds" >"$work/run"
        slip "$work/run" p50 >>"$work/p50"
        slip "$work/run" p99 >>"$work/p99"
    done
    stop_server
    row "p50, median of the runs" "$(median <"$work/p50") ns" ""
    row "p99, median of the runs" "$(median <"$work/p99") ns" "goal below 10000"
    row "p99 of each run" "" "$(tr '\n' ' ' <"$work/p99")"
}

# A file system on a loop device; its mount point is $work/mnt.
make_disk() {
    truncate -s 512M "$work/image"
    mkfs.ext4 -q "$work/image"
    loop=$(losetup --find --show "$work/image")
    mkdir "$work/mnt"
    mount "$loop" "$work/mnt"
    dd if=/dev/zero of="$work/mnt/file" bs=1M count=64 status=none
    sync -f "$work/mnt"
}

remove_disk() {
    [[ -z "$bpf_stats" ]] || sysctl -q "kernel.bpf_stats_enabled=$bpf_stats"
    bpf_stats=""
    [[ -n "$loop" ]] || return 0
    umount "$work/mnt" || true
    losetup --detach "$loop" || true
    loop=""
}

start_iofsstat() {
    "$binary" iofsstat -T 0 -c 10 "$@" >"$work/iofsstat" 2>"$work/client.err" &
    client_pid=$!
    until grep -q counting "$work/client.err"; do
        kill -0 "$client_pid" 2>/dev/null || die "no iofsstat: $(cat "$work/client.err")"
        sleep 0.01
    done
}

# What the kernel says the programs of a process took, ns, and the runs of the one that ran most often. A program may
# have several descriptors, and its links name it, too.
programs_of() {
    cat "/proc/$1/fdinfo/"* 2>/dev/null | awk '
        $1 == "prog_id:" { id = $2 }
        $1 == "run_time_ns:" && !(id in seen) { ns += $2; seen[id] = 1 }
        $1 == "run_cnt:" && $2 > runs { runs = $2 }
        END { printf "%.0f %.0f", ns, runs }'
}

# The same requests as those of $work/mnt/file, through a loop device: each is one request of it.
iofsstat_request() {
    local name=$1 goal=$2 run
    shift 2
    : >"$work/watched"
    for ((run = 0; run < PAIRS; run++)); do
        start_iofsstat -d "$loop" "$@"
        "$iocost" requests "$work/mnt/file" "$FLOOD_SECONDS" >/dev/null
        programs_of "$client_pid" | awk '{ printf "%.0f\n", $2 ? $1 / $2 : 0 }' >>"$work/watched"
        stop "$client_pid"
        client_pid=""
    done
    row "$name" "$(median <"$work/watched") ns" "$goal"
    row "  of each run" "" "$(tr '\n' ' ' <"$work/watched")"
}

# What -f adds to a system call, ns: runs with and without it alternate.
iofsstat_call() {
    local name=$1 what=$2 pair bare watched
    : >"$work/bare"
    : >"$work/watched"
    for ((pair = 0; pair < PAIRS; pair++)); do
        "$iocost" "$what" "$work/mnt/file" "$FLOOD_SECONDS" >>"$work/bare"
        start_iofsstat -f
        "$iocost" "$what" "$work/mnt/file" "$FLOOD_SECONDS" >>"$work/watched"
        stop "$client_pid"
        client_pid=""
    done
    bare=$(median <"$work/bare")
    watched=$(median <"$work/watched")
    row "$name" "+$(calculate "int($watched - $bare)") ns" "of $bare ns; said in --help"
    row "  of each pair" "" \
        "$(paste "$work/watched" "$work/bare" | awk '{ printf "%+d ", $1 - $2 }')"
}

bench_iofsstat() {
    title "iofsstat: medians of $PAIRS runs of $FLOOD_SECONDS s"
    make_disk
    iofsstat_call "a system call that does nothing, with -f" getppid
    iofsstat_call "a pread of a page in the page cache, with -f" calls
    bpf_stats=$(sysctl -n kernel.bpf_stats_enabled)
    sysctl -q kernel.bpf_stats_enabled=1
    iofsstat_request "its programs, for a 4 KiB request" "goal 1000 or less"
    iofsstat_request "the same with -m" "" -m
    remove_disk
}

# Pairs of like runs, and those of which a move is named; $1 says beside what they run.
# Of all pairs of runs of this kind, those that diff tells apart.
diff_repetitions() {
    local kind=$1 runs=$2 a b pairs=0 named=0
    for ((a = 0; a < runs; a++)); do
        for ((b = a + 1; b < runs; b++)); do
            pairs=$((pairs + 1))
            "$binary" diff "$work/$kind-$a" "$work/$kind-$b" -o json | grep -q '"moved":\[\]}' ||
                named=$((named + 1))
        done
    done
    row "$kind: pairs of $runs runs, those that name a move" "$pairs, $named" "$3"
}

# Of all pairs across the two delays, those of which diff names the wire.
diff_found() {
    local runs=$1 a b found=0
    for ((a = 0; a < runs; a++)); do
        for ((b = 0; b < runs; b++)); do
            ! "$binary" diff "$work/wire-$a" "$work/slower-$b" -o json | grep -Eq '"moved":\[[^]]*link"' ||
                found=$((found + 1))
        done
    done
    row "a wire of 300 us against 250: pairs, found" "$((runs * runs)), $found" "goal 95 % or more"
}

diff_runs() {
    local kind=$1 runs=$2 busy="" run
    for ((run = 0; run < runs; run++)); do
        if [[ "$kind" == busy ]]; then
            timeout 10 bash -c 'while :; do :; done' &
            busy=$!
        fi
        probe -i 2ms -t 3 >"$work/$kind-$run"
        stop "$busy"
    done
}

bench_diff() {
    local runs=20 kind
    $quick && runs=6
    title "diff between runs of 3 s and their repetitions, and with a wire that became slower"
    start_server
    for kind in quiet busy; do
        diff_runs "$kind" "$runs"
        diff_repetitions "$kind" "$runs" "goal 5 % or less"
    done
    stop_server
    "$delayed" "$binary" 250 "$work/wire-" "$runs" 3
    "$delayed" "$binary" 300 "$work/slower-" "$runs" 3
    # The thread that carries the frames competes with the client for the CPUs, in each run as it comes.
    diff_repetitions wire "$runs" ""
    diff_found "$runs"
}

bench_recorder() {
    local seconds=0.4
    $quick && seconds=0.1
    title "Recorder: two threads on one CPU wake each other, 15 runs of each kind of $seconds s"
    "$pingpong" "$seconds" >"$work/recorder"
    value() { awk -v key="$1" '$1 == key { print $2 }' "$work/recorder"; }
    row "a switch without, with the whole recorder" "$(value bare_ns), $(value recorded_ns) ns" ""
    row "more, median of the pairs" "$(value more_percent) %" "goal 8 % or less"
    row "more, with reschedules traced (nosched)" "$(value traced_reschedules_more_percent) %" ""
    row "of a CPU, 10 000 switches + softirqs a second" "$(value share_percent) %" "goal below 0.5 %"
    awk '$1 ~ /^on_/ { printf "  %-30s %6s ns a run, the accounting included\n", $1, $2 }' "$work/recorder"
}

# ns an eventfd while memleak runs with these options; prints them to the file.
allocs_followed() {
    local file=$1
    shift
    "$binary" memleak -i 60 "$@" >/dev/null 2>"$work/memleak.err" &
    memleak_pid=$!
    until grep -q following "$work/memleak.err"; do
        kill -0 "$memleak_pid" 2>/dev/null || die "no memleak: $(cat "$work/memleak.err")"
        sleep 0.05
    done
    "$allocs" 1 >>"$file"
    stop "$memleak_pid"
    memleak_pid=""
}

bench_memleak() {
    local pair kind bare one all
    title "memleak: an eventfd opened and closed (3 allocations, 3 frees), medians of $PAIRS"
    for kind in bare one all; do : >"$work/$kind"; done
    for ((pair = 0; pair < PAIRS; pair++)); do
        "$allocs" 1 >>"$work/bare"
        allocs_followed "$work/one" -n task_struct
        allocs_followed "$work/all" -t slab
    done
    bare=$(median <"$work/bare")
    one=$(median <"$work/one")
    all=$(median <"$work/all")
    row "not followed" "$bare ns" ""
    row "another cache is followed (-n)" "$((one - bare)) ns more" ""
    row "all of slab is followed (-t slab)" "$((all - bare)) ns more" \
        "$(((all - bare) / 3)) ns an allocation with its free"
    row "filtered is cheaper by" \
        "$(calculate "int(10 * ($all - $bare) / ($one > $bare ? $one - $bare : 1)) / 10") x" \
        "goal 3 x or more"
}

# shellcheck source-path=SCRIPTDIR
# shellcheck source=bench/fleet.sh
source "$(dirname "${BASH_SOURCE[0]}")/bench/fleet.sh"

clean_up() {
    stop "$memleak_pid"
    stop "$client_pid"
    stop "$crowd_pid"
    stop_server
    remove_disk
    scripts/lab.sh down "$lab" || true
    rm -rf "$work"
}

quick=false
parts=()
while (($#)); do
    case "$1" in
        -h | --help) usage && exit ;;
        --quick) quick=true ;;
        rate | load | rtt | hooks | foreign | keys | start | slip | diff | recorder | iofsstat | memleak | fleet) parts+=("$1") ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
((${#parts[@]})) || parts=(rate load rtt hooks foreign keys start slip diff recorder iofsstat memleak fleet)
[[ $EUID -eq 0 ]] || die "network namespaces and kernel programs need root"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lab="ptbench-$$"
client="$lab-client"
server="$lab-server"
client_pid=""
memleak_pid=""
crowd_pid=""
server_pid=""
loop=""
bpf_stats=""
server_ms=0
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build
scripts/lab.sh up "$lab" >/dev/null
echo "$(uname -sr) $(uname -m), $(nproc) CPUs, $("$binary" --version)"
for part in "${parts[@]}"; do
    "bench_$part"
done
