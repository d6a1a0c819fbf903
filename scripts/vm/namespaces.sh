#!/bin/sh
# Checks pingtrace between two network namespaces of one guest.
# shellcheck disable=SC3043  # busybox has local
# shellcheck source=scripts/vm/lib.sh
. /payload/lib.sh

readonly REQUIRED="l_tx_user l_tx_devqueue l_tx_devout r_rx_devrcv r_rx_icmprcv r_tx_devqueue \
r_tx_devout l_rx_iprcv l_rx_skdataready l_rx_user"
kernel=$(uname -r)

make_lab() {
    ip netns add client && ip netns add server
    ip -n client link add eth0 type veth peer name eth0 netns server
    address client 1
    address server 2
}

address() {
    ip -n "$1" address add "10.77.0.$2/24" dev eth0
    ip -n "$1" address add "fd77::$2/64" dev eth0 nodad
    ip -n "$1" link set lo up
    ip -n "$1" link set eth0 up
}

serving() { grep -q serving server.err; }

# start_server [OPTION...]: true when it serves.
start_server() {
    # Not through a function: ip becomes pingtrace, so this is the pid of pingtrace itself.
    /usr/sbin/ip netns exec server pingtrace -s --debug "$@" >server.out 2>server.err &
    server=$!
    within 60 serving || {
        grep '^pingtrace: ' server.err | grep -v libbpf: | tail -n 20
        return 1
    }
}

# stop_server SIGNAL
stop_server() {
    kill "-$1" "$server"
    wait "$server" 2>/dev/null
}

# Not an interval of 20 ms: that is what netem delays, and the receiver's own tick.
# probe NAME COUNT OPTION...: runs a client; NAME.json, NAME.err.
probe() {
    local name="$1" count="$2"
    shift 2
    in_ns client timeout 100 pingtrace -C "$count" -i 27ms -o json "$@" \
        >"$name.json" 2>"$name.err" || {
        tail -n 5 "$name.err"
        return 1
    }
}

# measure NAME COUNT OPTION...: a client run, and what is true of every one.
measure() {
    local name="$1" count="$2"
    check "$name: the client ends well" probe "$@"
    check "$name: every probe has every point in order" in_order "$name.json" "$count" "$REQUIRED"
    check "$name: delays add up" adds_up "$name.json"
    check "$name: time never runs backwards" forwards "$name.json"
    check "$name: nothing lost or odd" clean "$name.json"
    echo "$name: median us: total $(probes "$name.json" '[.[].total_ns] | sort | .[length / 2 | floor] / 1000 | floor'), r_rx_kern $(median_us "$name.json" r_rx_kern), r_tx_kern $(median_us "$name.json" r_tx_kern)"
}

# A raised softirq may be older than the packet; every other stamp is not.
forwards() {
    is_true "$1" 'all([.points[] | select(.point | test("softirq|napi") | not).ns] | . == sort)'
}

clean() {
    jq -s '.[-1] | {lost, late, dup, no_remote, lost_stamps, unordered, bad_checksum, malformed,
        unknown_points} | with_entries(select(.value != 0)) | if . == {} then empty else . end' \
        "$1" -c | grep . && return 1
    return 0
}

mode_is() { jq -e -s "[.[] | select(.type == \"run\")][-1].mode == \"$2\"" "$1" >/dev/null; }

clock_is() { is_true "$1" "all(.clock == \"$2\")"; }

# The hook of r_rx_icmprcv.
arrival_hook() { sed -n 's/.*r_rx_icmprcv (\([^)]*\)).*/\1/p' server.err; }

hook_is() {
    arrival_hook
    [ "$(arrival_hook)" = "$1" ]
}

# TCX came with 6.6.
expected_tc() {
    case "$kernel" in
        5.* | 6.[0-5].*) echo clsact ;;
        *) echo tcx ;;
    esac
}

says_tc() { grep -q "leave by eth0 ($(expected_tc))" server.err; }

tc_clean() {
    ! { tc -n server qdisc show | grep clsact ||
        tc -n server filter show dev eth0 egress 2>/dev/null | grep . ||
        tc -n server filter show dev lo egress 2>/dev/null | grep .; }
}

filter_count() { tc -n server filter show dev eth0 egress 2>/dev/null | grep -c 'handle 0x7ace'; }

ends_clean() {
    stop_server TERM
    [ "$(grep -c 'record packets sent' server.err)" = 1 ]
}

# --- the checks ---

hooks_and_points() {
    check "server starts" start_server --nslocal
    grep '^pingtrace: ' server.err | grep -v debug:
    # What the verifier refused, if anything: the end of each of its logs.
    grep -B 3 'END PROG LOAD LOG' server.err | cut -c 1-240 | tail -n 24
    check "r_rx_icmprcv by fentry" hook_is fentry
    check "replies are stamped at $(expected_tc)" says_tc
    measure ipv4 50 -c 10.77.0.2 --nslocal
    check "ipv4: stamps in band" mode_is ipv4.json inband
    measure ipv6 50 -c fd77::2 --nslocal
    check "ipv6: stamps in band" mode_is ipv6.json inband
    measure compact 50 -c 10.77.0.2 --nslocal --mode compact
    check "the server ends well" ends_clean
    check "nothing is left behind" tc_clean
}

one_kernel() {
    check "one kernel: server starts" start_server
    measure one-kernel 50 -c 10.77.0.2
    check "one kernel: one clock" clock_is one-kernel.json same
    stop_server TERM
}

killed() {
    check "killed: server starts" start_server --nslocal
    stop_server KILL
    echo "killed: $(filter_count) filters are left"
    check "killed: the next server starts" start_server --nslocal
    if [ "$(expected_tc)" = clsact ]; then
        check "killed: it removes the stale filter" grep -q 'removed the stale filter.*eth0' server.err
        check "killed: and has one of its own" [ "$(filter_count)" = 1 ]
    fi
    measure killed 20 -c 10.77.0.2 --nslocal
    stop_server TERM
    check "killed: nothing is left behind" tc_clean
}

# near_20ms FILE SEGMENT: it has the delay, and no other segment has any.
near_20ms() {
    local us others
    us=$(median_us "$1" "$2")
    echo "$us us"
    [ "$us" -ge 19900 ] && [ "$us" -le 25000 ] || return 1
    # A few probes of an emulated machine are slow for reasons of its own.
    others=$(probes "$1" "[.[].delays[] | select(.delay != \"$2\" and .ns > 5000000).delay] |
        group_by(.) | map(select(length > 5)[0]) | join(\" \")" | tr -d '"')
    [ -z "$others" ] || {
        echo "also slow: $others"
        return 1
    }
}

# queue NAMESPACE SEGMENT
queue() {
    tc -n "$1" qdisc add dev eth0 root netem delay 20ms
    measure "netem-$1" 20 -c 10.77.0.2 --nslocal
    check "netem at the $1: 20 ms are in $2 and nowhere else" near_20ms "netem-$1.json" "$2"
    tc -n "$1" qdisc del dev eth0 root
}

queues() {
    check "netem: server starts" start_server --nslocal
    queue server r_tx_qdisc
    queue client l_tx_qdisc
    stop_server TERM
}

make_lab
hooks_and_points
one_kernel
killed
queues
finish
