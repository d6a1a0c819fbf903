#!/bin/sh
# Checks that a queue is named, at either end and on the wire, under devices that are stacked on a NIC.
# shellcheck disable=SC3043  # busybox has local
# shellcheck source=scripts/vm/lib.sh
. /payload/lib.sh

# shellcheck disable=SC2034  # start_server reads it
readonly in_server="/usr/sbin/ip netns exec server sh /payload/apart.sh"
readonly PLACES="client wire-out server wire-in"

at() { ip netns exec "$@"; }

# --- the laboratory: two cables, so that a bond has a choice; what enters the wire leaves it as it is ---

make_lab() {
    for host in client wire server; do
        ip netns add $host
        ip -n $host link set lo up
    done
    for n in 0 1; do
        ip -n client link add eth$n type veth peer name c$n netns wire
        ip -n server link add eth$n type veth peer name s$n netns wire
        for dev in c$n s$n; do
            ip -n wire link set "$dev" up
            tc -n wire qdisc add dev "$dev" clsact
        done
    done
    lead_through
    # From the start, for a queue that goes takes packets along.
    for place in $PLACES; do
        queues "$place" 0
    done
}

# The NICs and the wire as they were made.
clear_nics() {
    ip -n wire address flush dev c0
    ip -n wire address flush dev s0
    lead_through
    for host in wire server; do
        ip -n $host xfrm policy flush 2>/dev/null
        ip -n $host xfrm state flush 2>/dev/null
    done
    for host in client server; do
        ip -n $host link delete top 2>/dev/null
        ip -n $host link delete outer 2>/dev/null
        ip -n $host address flush dev eth0
        ip -n $host link set eth0 down
        ip -n $host link set eth1 down
    done
}

lead_through() {
    for n in 0 1; do
        passes c$n s$n
        passes s$n c$n
    done
}

# passes FROM TO: of the wire.
passes() {
    tc -n wire filter delete dev "$1" ingress 2>/dev/null || true
    tc -n wire filter add dev "$1" ingress matchall action mirred egress redirect dev "$2"
}

# queues PLACE TIME: what leaves there takes this long.
queues() {
    local host="${1%%-*}" dev
    case "$1" in
        wire-out) dev=s ;;
        wire-in) dev=c ;;
        *) dev=eth ;;
    esac
    tc -n "$host" qdisc replace dev ${dev}0 root netem delay "$2"
    tc -n "$host" qdisc replace dev ${dev}1 root netem delay "$2"
}

# --- topologies: each makes the device `top` at both ends; false when the kernel does not have it ---

both() {
    for host in client server; do
        ip -n $host "$@" || return
    done
}

# NICs with addresses of their own, which tunnels lead between.
nics() {
    both link set eth0 up
    ip -n client address add 10.78.0.1/24 dev eth0
    ip -n server address add 10.78.0.2/24 dev eth0
    ip -n client address add fd78::1/64 dev eth0 nodad
    ip -n server address add fd78::2/64 dev eth0 nodad
}

stack() { nics && both link add top link eth0 type "$@"; }

# tunnel PREFIX KIND OPTION...: between the addresses with this prefix.
tunnel() {
    local prefix="$1"
    shift
    nics
    ip -n client link add top type "$@" local "${prefix}1" remote "${prefix}2" &&
        ip -n server link add top type "$@" local "${prefix}2" remote "${prefix}1"
}

bond() {
    both link add top type bond miimon 50 mode "$@" || return
    both link set eth0 master top && both link set eth1 master top
}

vlan() { stack vlan id 7; }
qinq() {
    nics && both link add outer link eth0 type vlan proto 802.1ad id 7 && both link set outer up &&
        both link add top link outer type vlan id 8
}
macvlan() { stack macvlan mode private; }
ipvlan_l2() { stack ipvlan mode l2; }
# Its devices answer no ARP: the NICs are each other's routers.
ipvlan_l3() {
    stack ipvlan mode l3 && both link set top up &&
        through_nic client 10.77.0.2 10.78.0.2 && through_nic server 10.77.0.1 10.78.0.1
}

# The first route is the host's, the second that of the device on top.
through_nic() {
    at "$1" sh -c 'echo 2 >/proc/sys/net/ipv4/conf/eth0/arp_announce' &&
        ip -n "$1" route add "$2" dev top metric 1 &&
        ip -n "$1" route add "$2" via "$3" dev eth0 metric 2
}

active_backup() { bond active-backup && both link set top type bond primary eth0; }
lacp() { bond 802.3ad; }
gre() { tunnel 10.78.0. gre; }
gretap() { tunnel 10.78.0. gretap; }
ip6gre() { tunnel fd78:: ip6gre; }
ipip() { tunnel 10.78.0. ipip; }
sit() { tunnel 10.78.0. sit; }
ip6ip6() { tunnel fd78:: ip6tnl mode ip6ip6; }
vxlan() { tunnel 10.78.0. vxlan id 7 dstport 4789; }
geneve() {
    nics && ip -n client link add top type geneve id 7 remote 10.78.0.2 &&
        ip -n server link add top type geneve id 7 remote 10.78.0.1
}

wireguard() {
    nics && both link add top type wireguard || return
    wg genkey >client.key && wg genkey >server.key
    peers client 2 "$(wg pubkey <server.key)" && peers server 1 "$(wg pubkey <client.key)"
}

peers() {
    at "$1" /usr/sbin/wg set top private-key "$1.key" listen-port 51820 peer "$3" \
        endpoint "10.78.0.$2:51820" allowed-ips 0.0.0.0/0,::/0
}

# A router on the way puts the requests into ESP, and the server's host takes them out: the NIC there
# received another packet, which no program can read.
ipsec() {
    nics && both link add top type bridge && esp wire && esp server &&
        policy wire out && policy server in || return
    tc -n wire filter delete dev c0 ingress
    tc -n wire filter delete dev s0 ingress
    ip -n wire address add 10.78.0.253 peer 10.78.0.1 dev c0
    ip -n wire address add 10.78.0.254 peer 10.78.0.2 dev s0
    at wire sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip -n wire route add 10.77.0.2 via 10.78.0.2
    ip -n client route add 10.77.0.2 via 10.78.0.253
    ip -n server route add 10.78.0.1 via 10.78.0.254
}

esp() {
    ip -n "$1" xfrm state add src 10.78.0.254 dst 10.78.0.2 proto esp spi 7 mode tunnel \
        auth digest_null '' enc 'ecb(cipher_null)' ''
}

policy() {
    ip -n "$1" xfrm policy add src 0.0.0.0/0 dst 10.77.0.2 dir "$2" \
        tmpl src 10.78.0.254 dst 10.78.0.2 proto esp mode tunnel
}

# The addresses that are probed are those of the device on top.
addresses() {
    ip -n client address add 10.77.0.1/24 dev top
    ip -n server address add 10.77.0.2/24 dev top
    ip -n client address add fd77::1/64 dev top nodad
    ip -n server address add fd77::2/64 dev top nodad
    for dev in eth0 eth1 top; do
        both link set $dev up
    done
}

# --- a run, and what it named ---

answers() { at client ping -c 1 -W 1 "$1" >/dev/null 2>&1; }

# CLOCK_MONOTONIC in seconds, to 10 ms.
now() { cut -d ' ' -f 1 /proc/uptime; }

# run NAME ADDRESS: one client, during which each place has its turn of 20 ms; NAME-PLACE.window has
# the times between which it certainly had.
run() {
    local name="$1" place client
    /usr/sbin/ip netns exec client pingtrace -c "$2" --nslocal -i 27ms -m 1us -o json \
        >"$name.json" 2>"$name.err" &
    client=$!
    within 60 grep -qs '"type":"probe"' "$name.json" || return
    sleep 3
    for place in $PLACES; do
        queues "$place" 20ms
        now >"$name-$place.window"
        sleep 2
        now >>"$name-$place.window"
        queues "$place" 0
        sleep 1
    done
    kill -INT "$client"
    wait "$client"
}

# named NAME PLACE RIGHT: what the probes of its turn had as the culprit: most the right one (a jq
# expression on the verdict), and none another one that is sure.
named() {
    probes "$1.json" "named($(tr '\n' ';' <"$1-$2.window") $3)" >found
    jq -c . found
    [ "$(jq '.enough and .right and .never_wrong' found)" = true ]
}

# What is right at each place. Where the packets are encrypted nothing below is seen: never sure of a wire.
right() {
    case "$1 $2" in
        wireguard\ *) echo '.sure != true' ;;
        ipsec\ wire-out) echo '.owner == "wire_out" and .sure != true' ;;
        *\ client) echo '.owner == "local" and (.dev // "" | test("^eth"))' ;;
        *\ server) echo '.owner == "remote" and (.dev // "" | test("^eth"))' ;;
        *\ wire-out) echo '.owner == "wire_out"' ;;
        *\ wire-in) echo '.owner == "wire_in"' ;;
    esac
}

# topology NAME ADDRESS
topology() {
    local place
    if "$1" >said 2>&1; then
        addresses
        check "$1: the server answers" within 60 answers "$2"
        check "$1: the client ends well" run "$1" "$2"
        check "$1: two clocks" clock_is "$1.json" separate
        for place in $PLACES; do
            check "$1: 20 ms at $place" named "$1" "$place" "$(right "$1" "$place")"
        done
    else
        echo "$1: not on this kernel: $(cat said)"
    fi
    clear_nics
}

# --- a bond that spreads flows over its members, of which one is slow ---

by_hash() { bond balance-xor xmit_hash_policy layer3+4; }

flows() {
    tc -n wire qdisc replace dev s1 root netem delay 20ms
    at client pingtrace -c "$SERVER4" --nslocal --flows 16 -i 10ms -C 1600 -o json \
        >flows.json 2>flows.err
}

# The flows whose requests left by the second NIC are those that are said to be slow, and not all.
slow_flows_are_named() {
    local nic slow said
    nic=$(at client cat /sys/class/net/eth1/ifindex)
    slow=$(probes flows.json "flows_by($nic)" | jq -c .)
    said=$(jq -c 'select(.type == "stat") | .headline.flows' flows.json | tail -n 1)
    echo "on the slow one: $slow; named: $said; $(jq -r 'select(.type == "stat") | .headline.title' flows.json | tail -n 1)"
    [ "$slow" = "$said" ] && [ "$slow" != "[]" ] && [ "$slow" != "$(probes flows.json all_flows | jq -c .)" ]
}

bond_of_flows() {
    if by_hash >said 2>&1; then
        addresses
        check "bond by hash: the server answers" within 60 answers "$SERVER4"
        check "bond by hash: the client ends well" flows
        check "bond by hash: the flows of a slow member" slow_flows_are_named
    else
        echo "bond by hash: not on this kernel: $(cat said)"
    fi
    queues wire-out 0
    clear_nics
}

make_lab
# One for all: each device comes after it.
check "server starts" start_server --nslocal
# Those that the kernel's command line names, else all: topologies=gre,sit
all="vlan qinq macvlan ipvlan_l2 ipvlan_l3 active_backup lacp vxlan geneve gre gretap ipip ip6gre sit ip6ip6 wireguard ipsec bond_of_flows"
for name in $(echo "${topologies:-$all}" | tr , ' '); do
    case $name in
        bond_of_flows) bond_of_flows ;;
        sit | ip6ip6) topology "$name" "$SERVER6" ;;
        *) topology "$name" "$SERVER4" ;;
    esac
done
finish
