#!/bin/sh
# Checks pingtrace between two guests: this one is the client, and commands the server.
# shellcheck disable=SC3043  # busybox has local
# shellcheck source=scripts/vm/lib.sh
. /payload/lib.sh

on_server() {
    echo "$*" | nc -w 10 "$SERVER4" "$AGENT_PORT" >answer
    sed '$d' answer
    [ "$(tail -n 1 answer)" = "status 0" ]
}

at() {
    local host="$1"
    shift
    if [ "$host" = server ]; then on_server "$*"; else "$@"; fi
}

start_server() { on_server start_server "$@"; }
stop_server() { on_server stop_server "$@"; }

# How much faster the server's clock runs, from the kernel's command line.
readonly drift_ppm="${drift_ppm:?}"

# Each host's clock by itself.
forwards() { forwards_by "$1" .host; }

# The clocks differ by more than any probe takes.
two_clocks() {
    clock_is "$1" separate || {
        echo "the run says one clock"
        return 1
    }
    is_true "$1" far_clocks
}

# two_hosts NAME COUNT MODE OPTION...: a client run, and what is true of every one between hosts.
two_hosts() {
    local name="$1" count="$2" mode="$3"
    shift 3
    measure "$name" "$count" "$@"
    check "$name: stamps come $mode" mode_is "$name.json" "$mode"
    check "$name: two clocks" two_clocks "$name.json"
    check "$name: both wires have bounds" is_true "$name.json" bounded
}

# The clocks drift apart as vm.sh made them.
drift() {
    local ppm
    ppm=$(probes "$1" "drift_ppm | round")
    echo "$ppm ppm"
    [ "$ppm" -ge $((drift_ppm - 15)) ] && [ "$ppm" -le $((drift_ppm + 15)) ]
}

# CLOCK_MONOTONIC in seconds, to 10 ms.
now() { cut -d ' ' -f 1 /proc/uptime; }

# wire NAME DEVICE: a run during which the wire delays what leaves by the device, for a while.
# NAME.window has three times: until then it certainly did not, between the others it did.
wire() {
    # The queue stays: with it, what is in it would go.
    on_server tc -n wire qdisc replace dev "$2" root netem delay 0
    probe "$1" 300 -c "$SERVER4" --nslocal &
    within 60 grep -q '"type":"probe"' "$1.json"
    sleep 3
    now >"$1.window"
    on_server tc -n wire qdisc change dev "$2" root netem delay 10ms
    now >>"$1.window"
    sleep 2
    now >>"$1.window"
    on_server tc -n wire qdisc change dev "$2" root netem delay 0
    wait $!
}

# near_10ms NAME WAY OTHER: what the wire delayed is so in this direction only, and named so.
near_10ms() {
    probes "$1.json" "delayed_wire($(tr '\n' ';' <"$1.window") $2; $3)" >found
    jq -c . found
    [ "$(jq 'all(.[]; . != false)' found)" = true ]
}

modes() {
    check "server starts" start_server
    at server "grep 'pingtrace: ' server.err | grep -v debug:"
    check "r_rx_icmprcv by fentry" hook_is fentry
    two_hosts ipv4 100 inband -c "$SERVER4"
    two_hosts ipv6 100 inband -c "$SERVER6"
    two_hosts compact-ipv4 100 compact -c "$SERVER4" --mode compact
    two_hosts compact-ipv6 100 compact -c "$SERVER6" --mode compact
}

clocks() {
    two_hosts long 1000 inband -c "$SERVER4"
    check "the server's clock is $drift_ppm ppm faster" drift long.json
}

queues() {
    queue server r_tx_qdisc
    queue client l_tx_qdisc
    check "the server ends well" stop_server TERM
}

wires() {
    check "a wire between the hosts" on_server make_wire
    check "wire: server starts" start_server --nslocal
    check "wire out: the client ends well" wire wire-out host
    sound wire-out 300
    check "wire out: both wires have bounds" is_true wire-out.json bounded
    check "wire out: 10 ms are there and nowhere else" near_10ms wire-out out inward
    check "wire in: the client ends well" wire wire-in eth0
    sound wire-in 300
    check "wire in: both wires have bounds" is_true wire-in.json bounded
    check "wire in: 10 ms are there and nowhere else" near_10ms wire-in inward out
    stop_server TERM
}

address 1
check "the other guest answers" within 60 on_server true
modes
clocks
queues
wires
on_server touch finished
finish
