#!/bin/sh
# Checks the units of scripts/dist, installed as a package would, under a systemd that is the guest's
# first process. That starts this script as a service.
# shellcheck disable=SC3043  # busybox has local
# shellcheck source=scripts/vm/lib.sh
. /payload/lib.sh

readonly SERVER=pingtrace-server.service
# Beside the server, and in a namespace of its own on the other side of a veth pair.
readonly NEAR=127.0.0.1 FAR="$SERVER4" FAR6="$SERVER6"

at() {
    shift
    "$@"
}

# --- the host ---

# The server's side of the pair is this host's own namespace, so that its unit runs as it is.
make_hosts() {
    ip netns add client
    ip link add eth0 type veth peer name eth0 netns client
    address 2
    address 1 -n client
}

unit_of() { echo "pingtrace-client@$1.service"; }

# options PEER OPTION...: what the administrator sets for the client of this peer.
options() {
    local peer="$1"
    shift
    echo "OPTIONS=\"$*\"" >"/etc/default/pingtrace-client-$peer"
}

# override UNIT LINE...: an administrator's drop-in.
override() {
    local directory="/run/systemd/system/$1.d"
    shift
    mkdir -p "$directory"
    printf '%s\n' '[Service]' "$@" >"$directory/override.conf"
    systemctl daemon-reload
}

from_client_namespace() {
    override "$(unit_of "$1")" NetworkNamespacePath=/run/netns/client
}

# Above every other task of the only CPU, for some ten milliseconds each time.
hog() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        chrt -f 10 /payload/hog.sh
        usleep 100000
    done
}

# --- units ---

property() { systemctl show --value -p "$1" "$2"; }

# story UNIT: of its last start.
story() {
    local start
    start=$(property InvocationID "$1")
    journalctl -q -o cat "_SYSTEMD_INVOCATION_ID=$start" + "INVOCATION_ID=$start"
}

says() { story "$1" | grep -q "$2"; }

starts() {
    systemctl start "$1" && within 60 says "$1" "$2" && return
    story "$1" | tail -n 20
    return 1
}

serves() { starts "$SERVER" serving; }

# A unit that has ended well, and not been started again.
ended_well() {
    local said
    systemctl stop "$1"
    said="$(property Result "$1") $(property ExecMainStatus "$1") $(property NRestarts "$1")"
    [ "$said" = "success 0 0" ] && return
    echo "result, status, restarts: $said"
    story "$1" | tail -n 20
    return 1
}

# warns_of_nothing UNIT: but of what this kernel does not have, and of what the unit does not give.
warns_of_nothing() {
    story "$1" >told
    warns_of told "no Landlock here|CAP_SYS_NICE|perf_event_paranoid"
}

# --- what a unit's process may do ---

# bounded UNIT NAME...: systemd gave it these capabilities and no others.
bounded() {
    local unit="$1" set said
    shift
    for set in CapabilityBoundingSet AmbientCapabilities; do
        # shellcheck disable=SC2046  # words
        said=$(mask $(property "$set" "$unit"))
        [ "$said" = "$(mask "$@")" ] || {
            echo "$set: $(property "$set" "$unit")"
            return 1
        }
    done
}

# tells UNIT WORDS: systemd knows that it is ready, what it does, and that its loops go on.
tells() {
    local said
    said="$(property StatusText "$1") $(property WatchdogTimestampMonotonic "$1")"
    echo "$said"
    [ "$(property Type "$1")" = notify ] && echo "$said" | grep -q "$2.* [1-9]"
}

# own_user UNIT: it runs as one of those that systemd makes for a service.
own_user() {
    local user
    user=$(stat -c %u "/proc/$(property MainPID "$1")")
    echo "$user"
    [ "$user" -ge 61184 ] && [ "$user" -le 65519 ]
}

# keeps UNIT NAME...: these capabilities on every thread, but the keeper, which reads symbols.
keeps() {
    local unit="$1"
    shift
    confined "$(property MainPID "$unit")" "$(mask "$@")" "$(mask cap_syslog cap_bpf)"
}

# protected UNIT: what else the unit asks of systemd is so.
protected() {
    local wanted
    for wanted in DynamicUser=yes NoNewPrivileges=yes ProtectSystem=strict PrivateDevices=yes \
        MemoryDenyWriteExecute=yes RestrictNamespaces=yes ProtectProc=invisible; do
        [ "$(systemctl show -p "${wanted%%=*}" "$1")" = "$wanted" ] || {
            systemctl show -p "${wanted%%=*}" "$1"
            return 1
        }
    done
}

# --- what a client's unit writes ---

log_of() { echo "/var/log/pingtrace-$1/pingtrace.log.seq"; }

recorded() { [ -e "$1" ] && [ "$(grep -c '"type":"probe"' "$1")" -ge "$2" ]; }

# In the unit's directory, for its user to write and its group to read.
private_log() {
    local directory="/var/log/pingtrace-$1/" modes
    modes=$(stat -L -c '%a' "$directory" "$directory"pingtrace.log.seq "$directory"pingtrace.log.stat |
        tr '\n' ' ')
    echo "$modes"
    [ "$modes" = "750 640 640 " ] &&
        [ "$(stat -c %u "$directory"pingtrace.log.seq)" = \
            "$(stat -c %u "/proc/$(property MainPID "$(unit_of "$1")")")" ]
}

reloads() {
    local log
    log=$(log_of "$1")
    mv "$log" "$log.moved"
    systemctl reload "$(unit_of "$1")" || return
    within 20 recorded "$log" 1
}

# Where a client begins while others run, its first probes may lack stamps of the server.
whole_probes() {
    local file="/var/log/pingtrace-$1/pingtrace.log.seq" found
    found=$(probes "$file" "(\"$REQUIRED\" | split(\" \")) as \$wanted |
        [.[5:][] | select(.status == \"ok\") |
            ([.points[].point | select(. as \$p | \$wanted | index(\$p))] == \$wanted)] |
        \"\(map(select(.)) | length) of \(length)\"" | tr -d '"')
    echo "$found"
    [ "${found%% *}" -gt 20 ] && [ "${found%% *}" = "${found##* }" ]
}

# blamed PEER: probes that the hog held up say so, and name it.
blamed() {
    local found
    found=$(probes "$(log_of "$1")" '[.[].blame[]? | tostring | select(contains("hog.sh"))] | length')
    echo "$found times"
    [ "$found" -gt 0 ]
}

# --- the checks ---

server() {
    check "server: serves" serves
    check "server: says what it does" within 3 tells "$SERVER" "server: .*, 0 sessions"
    check "server: warns of nothing" warns_of_nothing "$SERVER"
    check "server: bounding set and ambient capabilities" bounded "$SERVER" \
        cap_net_raw cap_bpf cap_perfmon cap_net_admin cap_syslog
    check "server: what the unit protects" protected "$SERVER"
    check "server: a user of its own" own_user "$SERVER"
    check "server: every thread is confined" keeps "$SERVER" \
        cap_net_raw cap_bpf cap_perfmon cap_net_admin
}

# client PEER OPTION...: a client's unit as an administrator uses it.
client() {
    local peer="$1" unit
    shift
    unit=$(unit_of "$peer")
    options "$peer" -i 27ms "$@"
    check "client of $peer: starts" starts "$unit" Started
    check "client of $peer: records probes" within 60 recorded "$(log_of "$peer")" 50
    check "client of $peer: says what it does" within 3 tells "$unit" "client: probes $peer"
    check "client of $peer: warns of nothing" warns_of_nothing "$unit"
    check "client of $peer: bounding set and ambient capabilities" bounded "$unit" \
        cap_net_raw cap_bpf cap_perfmon cap_syslog
    check "client of $peer: what the unit protects" protected "$unit"
    check "client of $peer: a user of its own" own_user "$unit"
    check "client of $peer: every thread is confined" keeps "$unit" \
        cap_net_raw cap_bpf cap_perfmon
    check "client of $peer: log for user and group" private_log "$peer"
    check "client of $peer: every point in order" whole_probes "$peer"
}

explained() {
    hog
    check "client of $1: the hog is blamed" within 3 blamed "$1"
}

# ends PEER: its log goes on in a new file at a reload, and ends with statistics.
ends() {
    local log
    log=$(log_of "$1")
    check "client of $1: reload opens a new log" reloads "$1"
    check "client of $1: ends well" ended_well "$(unit_of "$1")"
    check "client of $1: final statistics, nothing lost or odd" clean "${log%.seq}.stat"
    check "client of $1: delays add up" adds_up "$log.moved"
}

nothing_left() {
    check "$1: no program is left behind" within 10 no_program_of_ours
    check "$1: no filter is left behind" no_filters
}

# systemd has some itself, for devices and addresses.
no_program_of_ours() { ! bpftool prog show | grep ' name ' | grep -v ' name sd_'; }

no_filters() {
    local device
    ! tc qdisc show | grep -E 'clsact|ingress' || return 1
    for device in lo eth0; do
        ! tc filter show dev "$device" egress 2>/dev/null | grep . || return 1
    done
}

# With keys as the comment in the server's unit says, names of drops and of processes at both ends.
with_keys() {
    mkdir -p /etc/pingtrace
    echo 00112233445566778899aabbccddeeff >/etc/pingtrace/key
    chmod 600 /etc/pingtrace/key
    override "$SERVER" LoadCredential=key:/etc/pingtrace/key ExecStart= \
        "ExecStart=/usr/bin/pingtrace -s --explain --key-file \${CREDENTIALS_DIRECTORY}/key"
    override "$(unit_of "$FAR6")" NetworkNamespacePath=/run/netns/client \
        LoadCredential=key:/etc/pingtrace/key ExecStart= \
        "ExecStart=/usr/bin/pingtrace -c $FAR6 -o log --log /var/log/pingtrace-$FAR6/pingtrace.log --key-file \${CREDENTIALS_DIRECTORY}/key \$OPTIONS"
    check "keys: the server serves" serves
    client "$FAR6" --explain
    explained "$FAR6"
    ends "$FAR6"
    check "keys: server ends well" ended_well "$SERVER"
    nothing_left keys
}

make_hosts
server
client "$NEAR"
from_client_namespace "$FAR"
client "$FAR" --explain
explained "$FAR"
ends "$NEAR"
ends "$FAR"
check "server: says whom it serves" within 3 tells "$SERVER" "server: .*armed, [1-9][0-9]* sessions"
check "server: every thread is still confined" keeps "$SERVER" \
    cap_net_raw cap_bpf cap_perfmon cap_net_admin
check "server: ends well" ended_well "$SERVER"
nothing_left units
with_keys
check "no system call was refused" no_refusals
finish
