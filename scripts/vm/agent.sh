#!/bin/sh
# The server's guest runs this for each command of the client: reads it, runs it, prints its
# status.
# shellcheck disable=SC3043  # busybox has local
# shellcheck source=scripts/vm/lib.sh
. /payload/lib.sh

# Puts a namespace with a bridge between the network and this host, which is where a wire's
# queues can be. This host keeps its addresses.
make_wire() {
    local port mac
    mac=$(cat /sys/class/net/eth0/address)
    ip netns add wire
    ip link set eth0 netns wire address 52:54:00:77:00:03
    ip link add eth0 address "$mac" type veth peer name host netns wire
    ip -n wire link add bridge type bridge mcast_snooping 0
    for port in eth0 host; do
        ip -n wire link set "$port" up master bridge
    done
    ip -n wire link set bridge up
    address 2
}

read -r command
eval "$command"
echo "status $?"
