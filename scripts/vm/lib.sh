# What the guests' scripts share: checks, a server, a client, questions about its probes.
# A script that sources this defines `at HOST COMMAND...`, where HOST is client or server.
# shellcheck shell=sh
# shellcheck disable=SC3043  # busybox has local

# All but the receiver's sleep: the reply may find it awake.
readonly REQUIRED="l_tx_user l_tx_devqueue l_tx_devout r_rx_softirq r_rx_napi r_rx_devrcv \
r_rx_icmprcv r_tx_devqueue r_tx_devout l_rx_softirq l_rx_napi l_rx_iprcv l_rx_skdataready l_rx_user"
# shellcheck disable=SC2034  # the scripts use it
readonly SERVER4=10.77.0.2 SERVER6=fd77::2
# Where the guest of the server takes commands from the guest of the client.
# shellcheck disable=SC2034  # the scripts use it
readonly AGENT_PORT=1077

pass=0
fail=0

ok() {
    pass=$((pass + 1))
    echo "ok $*"
}

not_ok() {
    fail=$((fail + 1))
    echo "not ok $*"
}

# check NAME COMMAND...: the command's status decides, what it prints explains.
check() {
    local name="$1" verdict=ok said
    shift
    # Not in a subshell: a command may start a server.
    "$@" >said 2>&1 || verdict=not_ok
    said=$(cat said)
    "$verdict" "$name${said:+: $said}"
}

finish() { echo "$pass passed, $fail failed"; }

# By path, because busybox prefers its own.
ip() { /usr/sbin/ip "$@"; }
tc() { /usr/sbin/tc "$@"; }

# within SECONDS COMMAND...: waits until the command succeeds, at most this long.
within() {
    local seconds="$1"
    shift
    while ! "$@"; do
        seconds=$((seconds - 1))
        [ "$seconds" -ge 0 ] || return 1
        sleep 1
    done
}

# address NUMBER [OPTION OF ip...]: gives eth0 its addresses.
address() {
    local number="$1"
    shift
    ip "$@" address add "10.77.0.$number/24" dev eth0
    ip "$@" address add "fd77::$number/64" dev eth0 nodad
    ip "$@" link set lo up
    ip "$@" link set eth0 up
}

# --- the server ---

# start_server [OPTION...]: true when it serves. in_server is what leads to its namespace.
start_server() {
    # Not through a function: ip becomes pingtrace, so this is the pid of pingtrace itself.
    ${in_server:-} pingtrace -s --open --debug "$@" >server.out 2>server.err &
    echo $! >server.pid
    within 60 grep -qs serving server.err || {
        grep 'pingtrace: ' server.err | grep -v libbpf: | tail -n 20
        return 1
    }
}

# stop_server SIGNAL
stop_server() {
    kill "-$1" "$(cat server.pid)"
    # Where it is a child of this shell it stays until it is waited for.
    wait "$(cat server.pid)" 2>/dev/null
    within 10 server_gone
}

server_gone() { ! kill -0 "$(cat server.pid)" 2>/dev/null; }

# hook_is HOOK: that of r_rx_icmprcv, as the server says.
hook_is() {
    local hook
    hook=$(at server cat server.err | sed -n 's/.*r_rx_icmprcv (\([^)]*\)).*/\1/p')
    echo "$hook"
    [ "$hook" = "$1" ]
}

# None that is not the kernel's own; they vanish a moment after their process.
no_program() { [ -z "$(bpftool prog show)" ]; }

no_programs() {
    within 10 no_program && return
    bpftool prog show
    return 1
}

# --- what a process may do ---

# Capabilities by name, from include/uapi/linux/capability.h.
bit_of() {
    case "$1" in
        cap_net_admin) echo 12 ;;
        cap_net_raw) echo 13 ;;
        cap_sys_ptrace) echo 19 ;;
        cap_sys_admin) echo 21 ;;
        cap_syslog) echo 34 ;;
        cap_perfmon) echo 38 ;;
        cap_bpf) echo 39 ;;
        *) echo "an unknown capability: $1" >&2 && echo 63 ;;
    esac
}

# mask NAME...: a set as /proc/PID/status has it.
mask() {
    local name sum=0
    for name in "$@"; do
        sum=$((sum | 1 << $(bit_of "$name")))
    done
    printf '%016x' "$sum"
}

# confined PID KEPT OF_KEEPER: every thread has exactly these capabilities, the keeper its own, can gain
# none, and has a filter of system calls.
confined() {
    local pid="$1" kept="$2" of_keeper="$3" task wanted said count=0
    for task in /proc/"$pid"/task/*; do
        wanted=$kept
        [ "$(cat "$task/comm")" = keeper ] && wanted=$of_keeper
        said=$(sed -n -E 's/^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):\s*//p' "$task/status" |
            tr '\n' ' ')
        [ "$said" = "0000000000000000 $wanted $wanted 0000000000000000 1 2 " ] || {
            echo "$(cat "$task/comm"): $said, not $wanted"
            return 1
        }
        count=$((count + 1))
    done
    echo "$count threads"
    [ "$count" -gt 1 ]
}

# The kernel logs each call that a filter refuses.
no_refusals() { ! dmesg | grep 'type=1326'; }

# warns_of FILE WHAT: of this and of nothing else; "nothing" of nothing.
warns_of() { ! grep -E 'pingtrace: (warn|error)' "$1" | grep -v -E -e "$2"; }

# --- the client ---

# Not an interval of 20 ms: that is what netem delays, and the receiver's own tick.
# probe NAME COUNT OPTION...: runs a client; NAME.json, NAME.err.
probe() {
    local name="$1" count="$2"
    shift 2
    at client timeout 100 pingtrace -C "$count" -i 27ms -o json "$@" \
        >"$name.json" 2>"$name.err" || {
        tail -n 5 "$name.err"
        return 1
    }
}

# measure NAME COUNT OPTION...: a client run, and what is true of every one.
measure() {
    check "$1: the client ends well" probe "$@"
    sound "$1" "$2"
}

# sound NAME COUNT: what is true of every run.
sound() {
    check "$1: every probe has every point in order" in_order "$1.json" "$2" "$REQUIRED"
    check "$1: delays add up" adds_up "$1.json"
    check "$1: time never runs backwards" forwards "$1.json"
    check "$1: nothing lost or odd" clean "$1.json"
    echo "$1: median us: total $(probes "$1.json" '[.[].total_ns] | sort |
        .[length / 2 | floor] / 1000 | floor'), r_rx_kern $(median_us "$1.json" r_rx_kern), \
r_tx_kern $(median_us "$1.json" r_tx_kern)"
}

clean() {
    jq -s '.[-1] | {lost, late, dup, no_remote, lost_stamps, unordered, bad_checksum, malformed,
        unknown_points} | with_entries(select(.value != 0)) | if . == {} then empty else . end' \
        "$1" -c | grep . && return 1
    return 0
}

# --- questions about a run ---

mode_is() { jq -e -s "[.[] | select(.type == \"run\")][-1].mode == \"$2\"" "$1" >/dev/null; }

clock_is() { is_true "$1" "all(.clock == \"$2\")"; }

# probes FILE FILTER: jq's filter on the list of probes, which knows what is in questions.jq.
probes() { jq -L /payload -s "include \"questions\"; [.[] | select(.type == \"probe\")] | $2" "$1"; }

# is_true FILE FILTER
is_true() { [ "$(probes "$1" "$2")" = true ]; }

# The median of a segment, us; 0 when no probe has it.
median_us() {
    probes "$1" "[.[].delays[] | select(.delay == \"$2\").ns] | sort |
        if length == 0 then 0 else .[length / 2 | floor] / 1000 | floor end"
}

# Asks of every probe: answered, and these points in this order. Says what a bad one has.
in_order() {
    local file="$1" count="$2" wanted="$3" found
    found=$(probes "$file" "map(select(.status == \"ok\")) | length")
    [ "$found" = "$count" ] || {
        echo "$found of $count answered"
        return 1
    }
    found=$(probes "$file" "(\"$wanted\" | split(\" \")) as \$wanted |
        map([.points[].point | select(. as \$p | \$wanted | index(\$p))] | select(. != \$wanted)) |
        \"\(length) \(first // [] | join(\" \"))\"" | tr -d '"')
    [ "${found%% *}" = 0 ] || {
        echo "$found"
        return 1
    }
}

# The delays of every probe add up to its total, which the wait before the send precedes.
adds_up() {
    is_true "$1" 'length > 0 and
        all(([.delays[] | select(.delay != "l_tx_late").ns] | add) == .total_ns)'
}

# Stamps of each KEY (a jq expression) in the order of time. A raised softirq may be older than
# the packet; every other stamp is not.
forwards_by() {
    is_true "$1" "length > 0 and all([.points[] | select(.point | test(\"softirq|napi\") | not)] |
        group_by($2) | all([.[].ns] | . == sort))"
}

# --- queues ---

# near_20ms FILE SEGMENT: it has the delay, and no other segment has any, in most probes: an
# emulated machine stands still now and then.
near_20ms() {
    local us others
    us=$(median_us "$1" "$2")
    echo "$us us"
    [ "$us" -ge 19900 ] && [ "$us" -le 25000 ] || return 1
    others=$(probes "$1" "length as \$count |
        [.[].delays[] | select(.delay != \"$2\" and .ns > 5000000).delay] |
        group_by(.) | map(select(length > \$count / 2)[0]) | join(\" \")" | tr -d '"')
    [ -z "$others" ] || {
        echo "also slow: $others"
        return 1
    }
}

# queue HOST SEGMENT OPTION...: a queue of 20 ms at the host is a delay of this segment.
queue() {
    local host="$1" segment="$2"
    shift 2
    at "$host" /usr/sbin/tc qdisc add dev eth0 root netem delay 20ms
    measure "netem-$host" 20 -c "$SERVER4" "$@"
    check "netem at the $host: 20 ms are in $segment and nowhere else" \
        near_20ms "netem-$host.json" "$segment"
    at "$host" /usr/sbin/tc qdisc del dev eth0 root
}
