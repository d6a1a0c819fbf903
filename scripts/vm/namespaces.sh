#!/bin/sh
# Checks pingtrace between two network namespaces of one guest.
# shellcheck disable=SC3043  # busybox has local
# shellcheck source=scripts/vm/lib.sh
. /payload/lib.sh

# shellcheck disable=SC2034  # start_server reads it
readonly in_server="/usr/sbin/ip netns exec server"
kernel=$(uname -r)

at() { ip netns exec "$@"; }

make_lab() {
    ip netns add client && ip netns add server
    ip -n client link add eth0 type veth peer name eth0 netns server
    address 1 -n client
    address 2 -n server
}

forwards() { forwards_by "$1" 0; }

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
    [ "$(grep -c 'stamp packets sent' server.err)" = 1 ]
}

# Leaves no room for fentry at icmp_rcv and icmpv6_rcv; `filler` holds it.
fill_trampolines() {
    local ids
    ids=$(bpftool btf dump file /sys/kernel/btf/vmlinux |
        sed -n "s/^\[\([0-9]*\)\] FUNC 'icmp\(v6\)*_rcv' .*/\1/p")
    # shellcheck disable=SC2086  # two words
    fill $ids >filled &
    filler=$!
    within 60 grep -q full filled || return 1
    tr '\n' ' ' <filled
    [ "$(wc -l <filled)" = 3 ]
}

empty_trampolines() {
    kill "$filler"
    wait "$filler" 2>/dev/null
}

# --- the checks ---

hooks_and_points() {
    check "server starts" start_server --nslocal
    grep 'pingtrace: ' server.err | grep -v debug:
    # What the verifier refused, if anything: the end of each of its logs.
    grep -B 3 'END PROG LOAD LOG' server.err | cut -c 1-240 | tail -n 24
    check "r_rx_icmprcv by fentry" hook_is fentry
    check "replies are stamped at $(expected_tc)" says_tc
    measure ipv4 50 -c "$SERVER4" --nslocal
    check "ipv4: stamps in band" mode_is ipv4.json inband
    measure ipv6 50 -c "$SERVER6" --nslocal
    check "ipv6: stamps in band" mode_is ipv6.json inband
    measure compact 50 -c "$SERVER4" --nslocal --mode compact
    check "the server ends well" ends_clean
    check "no filter is left behind" tc_clean
    check "no program is left behind" no_programs
}

# What is left to each thread, also on a kernel without Landlock.
left_rights() {
    local of_keeper pid
    of_keeper=$(mask cap_sys_admin cap_sys_ptrace cap_syslog cap_bpf)
    check "confined: server starts" start_server --nslocal --explain
    check "confined: the server's threads" confined "$(cat server.pid)" \
        "$(mask cap_bpf cap_perfmon cap_net_raw cap_net_admin)" "$of_keeper"
    # As in start_server, this is the pid of pingtrace itself.
    /usr/sbin/ip netns exec client pingtrace -c "$SERVER4" --nslocal -i 27ms --explain -o json \
        >confined.json 2>confined.err &
    pid=$!
    check "confined: the client probes" within 60 grep -qs '"type":"probe"' confined.json
    check "confined: the client's threads" confined "$pid" \
        "$(mask cap_bpf cap_perfmon cap_net_raw)" "$of_keeper"
    kill -INT "$pid"
    check "confined: the client ends well" wait "$pid"
    stop_server TERM
    check "confined: the client warns of nothing else" warns_of confined.err "$(unavailable)"
    check "confined: the server warns of nothing else" warns_of server.err "--open|$(unavailable)"
}

# Landlock came with 5.13.
unavailable() {
    case "$kernel" in
        5.*) echo "no Landlock here" ;;
        *) echo nothing ;;
    esac
}

one_kernel() {
    check "one kernel: server starts" start_server
    measure one-kernel 50 -c "$SERVER4"
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
    measure killed 20 -c "$SERVER4" --nslocal
    stop_server TERM
    check "killed: no filter is left behind" tc_clean
    check "killed: no program is left behind" no_programs
}

queues() {
    check "netem: server starts" start_server --nslocal
    queue server r_tx_qdisc --nslocal
    queue client l_tx_qdisc --nslocal
    stop_server TERM
}

without_fentry() {
    check "kprobe: no room for fentry" fill_trampolines
    check "kprobe: server starts" start_server --nslocal
    check "r_rx_icmprcv by kprobe" hook_is kprobe
    measure kprobe-ipv4 50 -c "$SERVER4" --nslocal
    measure kprobe-ipv6 50 -c "$SERVER6" --nslocal
    stop_server TERM
    empty_trampolines
    check "kprobe: room again, server starts" start_server --nslocal
    check "kprobe: room again, r_rx_icmprcv by fentry" hook_is fentry
    stop_server TERM
}

# during NAME COMMAND...: what happens in the middle of a run.
during() {
    local name="$1"
    shift
    { sleep 2 && "$@"; } &
    probe "$name" 200 -c "$SERVER4" --nslocal -W 5
    wait $!
}

step_back() { date -s "@$(($(date +%s) - 3600))"; }

# The probes' times are those of one clock: 27 ms apart, whatever the wall clock does.
evenly() { is_true "$1" '[.[].start_ns] | [.[1:], .[:-1]] | transpose | all(.[0] > .[1])'; }

second_cpu=/sys/devices/system/cpu/cpu1/online

off_and_on() { echo 0 >$second_cpu && sleep 1 && echo 1 >$second_cpu; }

disturbed() {
    check "disturbed: server starts" start_server --nslocal --explain
    check "disturbed: the wall clock steps back by an hour" during step step_back
    sound step 200
    check "disturbed: the probes' times go on" evenly step.json
    if [ -e "$second_cpu" ]; then
        check "disturbed: a CPU goes and comes back" during cpu off_and_on
        check "disturbed: each probe is answered meanwhile" clean cpu.json
        check "disturbed: delays add up" adds_up cpu.json
    fi
    stop_server TERM
    check "disturbed: no program is left behind" no_programs
}

# Whether they load, run, and end well; what they find has tests where faults can be injected.
companions() {
    check "irqoff runs" pingtrace irqoff -t 1s --softirq 1
    check "nosched runs" pingtrace nosched -t 1s 1
    check "runqlat runs" pingtrace runqlat -t 1s --hist --len 1
    check "iofsstat runs" pingtrace iofsstat -m
    check "iofsstat -f runs" pingtrace iofsstat -f
    check "memleak runs" pingtrace memleak -t slab -i 2
    check "explain: server starts" start_server --nslocal --explain
    measure explain 50 -c "$SERVER4" --nslocal --explain
    stop_server TERM
    check "companions: no program is left behind" no_programs
}

# Two tasks that stay in the kernel for longer than a tick, where a reschedule may wait for that.
lazy_reschedules() {
    local pids=
    grep -q '(lazy)' /sys/kernel/debug/sched/preempt || return 0
    for _ in 1 2; do
        dd if=/dev/zero of=/dev/null bs=128M count=1000 2>dd.err &
        pids="$pids $!"
    done
    check "lazy: nosched runs" watch_reschedules
    # shellcheck disable=SC2086  # two numbers
    kill $pids
    grep -q 'Lazy ones are not seen' nosched.json ||
        check "lazy: reschedules that wait for the tick are lazy" mostly_lazy
}

watch_reschedules() { pingtrace nosched -t 2ms -o json 5 >nosched.json; }

mostly_lazy() {
    jq -sc 'map(select(.type == "event") | {class, comm}) | group_by(.) | map(.[0] + {count: length})' \
        nosched.json
    [ "$(grep -c '"class":"lazy"' nosched.json)" -gt "$(grep -c '"class":"hard"' nosched.json)" ]
}

# Devices that are stacks of others: each counts what goes through it.
stacked_devices() {
    for n in 0 1 2; do
        truncate -s 16M "disk$n"
        losetup "/dev/loop$n" "disk$n"
    done
    check "dm: a linear device" make_linear
    check "dm: written to the byte" stacked dm-0 loop0
    check "md: a striped device" make_striped
    check "md: written to the byte, or said" "$(md_outcome)" md_test loop1
}

make_linear() { echo 0 32768 linear /dev/loop0 0 | dmsetup --noudevsync create linear; }

# Without mdadm, and without metadata on the disks (Documentation/admin-guide/md.rst).
make_striped() {
    local md=/sys/block/md_test/md n
    echo md_test >/sys/module/md_mod/parameters/new_array || return
    echo none >$md/metadata_version && echo raid0 >$md/level || return
    echo 2 >$md/raid_disks && echo 65536 >$md/chunk_size || return
    for n in 1 2; do
        echo "7:$n" >$md/new_dev && echo $((n - 1)) >"$md/dev-loop$n/slot" || return
        echo 16384 >"$md/dev-loop$n/size" || return
    done
    echo active >$md/array_state
}

# The requests of an md device are not seen on 5.10.
md_outcome() {
    case "$kernel" in
        5.10.*) echo said_apart ;;
        *) echo stacked ;;
    esac
}

said_apart() { ! stacked "$@" && grep -q "^$1: rows: .* written 0 of 6553600 B: .* APART" stacked.out; }

# stacked DEVICE LOWER: what goes through both is counted at both, and the upper says what is below.
stacked() {
    local lower="$2"
    # What it said of another device is no sign that it counts.
    : >stacked.out
    pingtrace iofsstat -d "$1" -c 5 >stacked.out 2>&1 &
    within 20 grep -q counting stacked.out
    dd if=/dev/zero of="/dev/$1" bs=64k count=100 oflag=direct 2>dd.err || cat dd.err
    wait $!
    grep -E "^$1: rows|stack on" stacked.out | sort -u
    grep -q "$1 is a stack on .*$lower" stacked.out &&
        grep -q "^$1: rows: .* written 6553600 of 6553600 B: agree" stacked.out
}

make_lab
hooks_and_points
companions
stacked_devices
lazy_reschedules
left_rights
one_kernel
killed
disturbed
queues
without_fentry
check "no system call was refused" no_refusals
finish
