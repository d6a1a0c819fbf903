# What the guests' scripts share: checks, a server, a client, questions about its probes.
# shellcheck shell=sh
# shellcheck disable=SC3043  # busybox has local

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

# in_ns NAMESPACE COMMAND...; by path, because busybox prefers its own ip.
in_ns() {
    local ns="$1"
    shift
    /usr/sbin/ip netns exec "$ns" "$@"
}

ip() { /usr/sbin/ip "$@"; }
tc() { /usr/sbin/tc "$@"; }

# Waits until a command succeeds, at most so many seconds.
within() {
    local seconds="$1"
    shift
    while ! "$@"; do
        seconds=$((seconds - 1))
        [ "$seconds" -ge 0 ] || return 1
        sleep 1
    done
}

# probes FILE FILTER: jq's filter on the list of probes.
probes() { jq -s "[.[] | select(.type == \"probe\")] | $2" "$1"; }

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

# The delays of every probe add up to its total.
adds_up() {
    is_true "$1" 'length > 0 and all(([.delays[].ns] | add) == .total_ns)'
}
