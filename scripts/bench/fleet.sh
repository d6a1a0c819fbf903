# The part "fleet" of scripts/bench.sh: many targets at a probe a second each, beside smokeping_prober.
# shellcheck shell=bash disable=SC2154

readonly TARGETS=1000
readonly PAGE=http://127.0.0.1:9500/metrics

# fleet_list NETWORK COUNT: a list of so many addresses from 10.80.NETWORK.1 on, a line each.
fleet_list() {
    echo "- targets:"
    fleet_addresses "$@" | sed 's/^/    - /'
}

fleet_addresses() {
    awk -v net="$1" -v count="$2" \
        'BEGIN { for (k = 0; k < count; k++) printf "10.80.%d.%d\n", net + int(k / 250), 1 + k % 250 }'
}

# CPU time of a process, user and system, in ticks of 10 ms. What its packets cost in softirqs on the way to the
# other namespace and back is part of it.
cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }

# A process for some seconds, once it has begun: its CPU time in percent, its memory in kB, to the ends of files.
observe() {
    local name=$1 seconds=$2 before
    sleep 5
    before=$(cpu_ticks "$client_pid")
    sleep "$seconds"
    calculate "($(cpu_ticks "$client_pid") - $before) / $seconds" >>"$work/$name-cpu"
    memory_kb "$client_pid" >>"$work/$name-memory"
    echo | tee -a "$work/$name-cpu" >/dev/null
}

# fleet_client NAME LIST OPTION...: probes a list until it is stopped.
fleet_client() {
    local name=$1 list=$2
    shift 2
    ip netns exec "$client" "$binary" --targets "$list" -o json "$@" >"$work/$name" 2>"$work/client.err" &
    client_pid=$!
}

fleet_stop() {
    kill -INT "$client_pid"
    wait "$client_pid" || die "the client failed: $(tail -n 3 "$work/client.err")"
    client_pid=""
}

programs_held() { cat "/proc/$1/fdinfo/"* 2>/dev/null | awk '$1 == "prog_id:"' | sort -u | wc -l; }

# The median of the medians of all targets, ns.
fleet_median() { jq 'select(.type == "stat") | .delays[] | select(.delay == "total") | .p50' "$1" | median; }

# The time that an answer to a scrape takes, ms.
scrape_ms() {
    local page=$1
    shift
    ip netns exec "$client" curl -s -o "$work/page-$page" -w '%{time_total}\n' "$@" "$PAGE" |
        awk '{ print 1000 * $1 }' >>"$work/scrape-$page"
}

# fleet_pingtrace NAME COUNT SECONDS INTERVAL
fleet_pingtrace() {
    local proto=application/vnd.google.protobuf
    fleet_list 0 "$2" >"$work/list"
    fleet_client run "$work/list" -i "$4" -m 10s --metrics 9500
    observe "$1" "$3"
    programs_held "$client_pid" >>"$work/$1-programs"
    scrape_ms "protobuf-$2" -H "Accept: $proto;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    scrape_ms "text-$2"
    fleet_stop
    fleet_median "$work/run" >>"$work/$1-rtt"
    jq -s 'map(select(.type == "stat")) | map(.lost + .no_remote) | add' "$work/run" >>"$work/$1-lost"
}

# The median of all its answers, ns, from buckets that grow by 20 %; empty if it does not answer.
smokeping_median() {
    { ip netns exec "$client" curl -s -m 20 http://127.0.0.1:9374/metrics || true; } |
        awk -F'[" ]' '/^smokeping_response_duration_seconds_bucket/ {
                for (i = 1; i < NF; i++) if ($i ~ /le=$/) count[$(i + 1)] += $NF }
            END { for (bound in count) print bound, count[bound] }' | sort -g |
        awk '{ bound[NR] = $1; count[NR] = $2 }
            END { for (i = 1; count[i] < count[NR] / 2; i++); printf "%.0f\n", bound[i] * 1e9 }'
}

# fleet_smokeping NAME COUNT SECONDS
fleet_smokeping() {
    local prober addresses buckets
    prober=$(scripts/unpack.sh prometheus-smokeping-prober)/usr/bin/prometheus-smokeping-prober
    mapfile -t addresses < <(fleet_addresses 0 "$2")
    buckets=$(awk 'BEGIN { for (k = 0; k < 70; k++) printf "%s%.9f", k ? "," : "", 0.00001 * 1.2 ^ k }')
    ip netns exec "$client" "$prober" --privileged --log.level=error --buckets="$buckets" "${addresses[@]}" \
        2>"$work/client.err" &
    client_pid=$!
    observe "$1" "$3"
    smokeping_median >>"$work/$1-rtt"
    stop "$client_pid"
    client_pid=""
}

# How long after the change of the list the last of the new targets had its first probe, ms.
fleet_change() {
    local changed last
    fleet_list 0 "$TARGETS" >"$work/list"
    fleet_list 4 "$TARGETS" >"$work/new"
    fleet_client run "$work/list" -i 1s -m 0
    sleep 5
    changed=$(now_ms)
    mv "$work/new" "$work/list"
    sleep 5
    fleet_stop
    jq -r --arg first 10.80.4. 'select(.type == "probe" and (.target | startswith("10.80.") and . >= $first)) |
        "\(.target) \(.time)"' "$work/run" | sort | awk '!seen[$1]++ { print $2 }' | sort >"$work/first"
    wc -l <"$work/first" >>"$work/changed"
    last=$(date -d "$(tail -n 1 "$work/first")" +%s%3N)
    echo $((last - changed)) >>"$work/change"
}

fleet_row() { row "$1" "$(median <"$work/$2") $3" "${4:-}"; }

bench_fleet() {
    local round rounds=3 seconds=15 one many page
    $quick && rounds=1 seconds=5
    title "Fleet: $TARGETS targets, a probe a second each, medians of $rounds alternated rounds of $seconds s"
    ip -n "$server" route add local 10.80.0.0/21 dev lo
    ip -n "$client" route add 10.80.0.0/21 via "$ADDRESS"
    start_server
    for ((round = 0; round < rounds; round++)); do
        fleet_pingtrace one 1 "$seconds" 1ms
        fleet_pingtrace many "$TARGETS" "$seconds" 1s
        fleet_smokeping peer-one 1 "$seconds"
        fleet_smokeping peer-many "$TARGETS" "$seconds"
        fleet_change
    done
    fleet_pingtrace ten 10 "$seconds" 1s
    stop_server
    fleet_row "CPU" many-cpu "%" "goal 25 % of a core or less"
    fleet_row "  smokeping_prober" peer-many-cpu "%"
    fleet_row "memory" many-memory kB "goal 64 MB or less"
    fleet_row "  smokeping_prober" peer-many-memory kB
    fleet_row "BPF programs with one target" one-programs ""
    fleet_row "BPF programs" many-programs "" "goal as many"
    fleet_row "probes lost or without server stamps" many-lost "" "goal 0"
    for page in one many peer-one peer-many; do
        fleet_row "median round trip, $page" "$page-rtt" ns "$(tr '\n' ' ' <"$work/$page-rtt")"
    done
    one=$(median <"$work/one-rtt")
    many=$(median <"$work/many-rtt")
    row "with $TARGETS targets, beside one at 1 ms" "$(calculate "int(1000 * $many / $one) / 10") %" "goal 95 to 105 %"
    fleet_row "list changed, to the first probe of the last" change ms "goal 1000 or less; $(tr '\n' ' ' <"$work/change")"
    fleet_row "  new targets with a recorded probe after 5 s" changed "" "goal $TARGETS"
    for page in protobuf text; do
        fleet_row "scrape, $page" "scrape-$page-$TARGETS" ms \
            "goal 50 or less; $(stat -c %s "$work/page-$page-$TARGETS") bytes"
    done
    row "series of a node with 10 targets" "$(series_of "$work/page-text-10")" "goal 80 or less"
}

# Series of a page in text, where each histogram has two lines more.
series_of() { awk '!/^#/ { n++ } /_bucket{/ { n -= 2 } END { print n }' "$1"; }
