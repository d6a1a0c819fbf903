//! What families there are.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::family::{Exemplar, Family, Kind, Labels, OWN, Unit, Value, labels};
use super::room::Room;
use super::view::{ArmingView, NodeTotals, NodeView, Process, ServerView, TargetView};
use crate::analysis::target_counts::{Example, Slowness};
use crate::model::{Segment, State, Symbol};

/// Series of a node that are always there, or may be from some time on: the segments, states of clocks, the
/// process, what was built, how late probes leave, and those that no result counts.
const OF_NODE: usize = Segment::ALL.len() - 1 + State::ALL.len() + 1 + 3 + 1 + 2;
/// Series of a server that are always there: its clients, and when it is armed.
const OF_SERVER: usize = 1 + 4;
/// Series of a target that are always there: the round trip, and two results.
const OF_TARGET: usize = 3;

/// All families, in an order that stays. `room` remembers which series were shown.
pub fn page(node: &NodeView<'_>, room: &mut Room) -> Vec<Family> {
    let (targets, server) = (node.targets, node.server);
    let mut families = vec![build(node)];
    families.extend(process(node.process));
    let mut counts = Vec::new();
    if !targets.is_empty() {
        families.extend([rtt(targets), segments(node.totals), clocks(targets)]);
        families.extend([slip(node.totals), uncounted(node.totals)]);
        families.extend([blame(node.totals), programs(targets)]);
        counts.extend([
            results(targets),
            slow(targets),
            lost(targets),
            irregularities(node.totals),
            clock_events(node.totals),
        ]);
    }
    if let Some(server) = server {
        families.push(clients(server));
        families.extend(arming(server.arming));
        counts.extend([stamps(server), withheld(server), server_lost(server)]);
    }
    let taken = OF_NODE + OF_TARGET * targets.len() + server.map_or(0, |_| OF_SERVER);
    room.fit(&mut counts, targets.len(), taken);
    if let Some(results) = counts.first_mut().filter(|_| !targets.is_empty()) {
        results.samples.splice(..0, always(targets).samples);
    }
    families.extend(counts);
    families.retain(|family| !family.samples.is_empty());
    families
}

fn build(node: &NodeView<'_>) -> Family {
    let help = "Version of pingtrace and release of the kernel";
    let of = labels([("version", node.version), ("kernel", node.kernel)]);
    Family::new(Kind::Info, "pingtrace_build", help).with(of, Value::Number(1.0))
}

fn process(process: Process) -> [Family; 3] {
    let gauge = |name, help| Family::new(Kind::Gauge, name, help);
    let cpu = "CPU time of this process, user and system";
    let cpu = Family::new(Kind::Counter, "process_cpu", cpu).unit(Unit::Seconds);
    let memory = gauge("process_resident_memory", "Memory of this process");
    let start = gauge("process_start_time", "When this process began, Unix time");
    let number = |family: Family, value| family.with(Labels::new(), Value::Number(value));
    [
        number(cpu, process.cpu_ns as f64 / 1e9),
        number(memory.unit(Unit::Bytes), process.resident_bytes as f64),
        number(start.unit(Unit::Seconds), process.start_s),
    ]
}

fn rtt(targets: &[&TargetView]) -> Family {
    let help = "Round trip of answered probes, from the call of send to the return of receive";
    let all = targets.iter().map(|target| {
        let rtt = target.counts.rtt.clone();
        (of(target, []), Value::Histogram(rtt))
    });
    let family = Family::new(Kind::Histogram, "pingtrace_rtt", help).unit(Unit::Seconds);
    family.all(all)
}

fn segments(totals: &NodeTotals) -> Family {
    let help = "Time of answered probes in each segment of their path, all targets together";
    let all = totals.segments.iter().map(|(segment, delays)| {
        let (name, owner) = (segment.name(), segment.owner().name());
        let of = labels([("segment", name), ("owner", owner)]);
        (of, Value::Histogram(delays.clone()))
    });
    let family = Family::new(Kind::Histogram, "pingtrace_segment", help).unit(Unit::Seconds);
    family.all(all)
}

fn slip(totals: &NodeTotals) -> Family {
    let help = "How late probes left against their schedule, all targets together";
    let family = Family::new(Kind::Histogram, "pingtrace_send_slip", help).unit(Unit::Seconds);
    family.with(Labels::new(), Value::Histogram(totals.slip.clone()))
}

fn uncounted(totals: &NodeTotals) -> Family {
    let help =
        "Probes sent to warm up, or to wake servers, which no result counts, all targets together";
    let family = Family::new(Kind::Counter, "pingtrace_uncounted_probes", help);
    family.with(Labels::new(), Value::Count(totals.uncounted, None))
}

fn clocks(targets: &[&TargetView]) -> Family {
    let help = "Targets by how well the server's clock is known; same: it is this host's, or none was seen";
    let mut count: BTreeMap<&str, u32> = State::ALL.map(|state| (state.name(), 0)).into();
    count.insert("same", 0);
    for target in targets {
        let state = target.clock.as_ref().map_or("same", |c| c.state.name());
        *count.entry(state).or_default() += 1;
    }
    let all = count.into_iter();
    let all = all.map(|(state, n)| (labels([("state", state)]), Value::Number(n.into())));
    Family::new(Kind::Gauge, "pingtrace_clock_targets", help).all(all)
}

/// Results that are shown from the first probe on: a rate of what was never there is none.
fn always(targets: &[&TargetView]) -> Family {
    let all = targets.iter().flat_map(|target| {
        let c = &target.counters;
        let results = [("ok", c.replied - c.late), ("lost", c.lost + c.amended)];
        results.map(|(result, count)| (of(target, [("result", result)]), Value::Count(count, None)))
    });
    empty_results().all(all)
}

fn empty_results() -> Family {
    let help = "Probes by their result: each is counted once, when it is answered (ok, late) or given up \
                (lost, forgotten)";
    Family::new(Kind::Counter, "pingtrace_probes", help)
}

fn results(targets: &[&TargetView]) -> Family {
    let all = targets.iter().flat_map(|target| {
        let c = &target.counters;
        let results = [("late", c.late - c.amended), ("forgotten", c.forgotten)];
        let results = results.into_iter().filter(|(_, count)| *count > 0);
        results.map(|(result, count)| (of(target, [("result", result)]), Value::Count(count, None)))
    });
    empty_results().all(all)
}

fn slow(targets: &[&TargetView]) -> Family {
    let help = "Slow probes by what made them slow";
    let all = targets.iter().flat_map(|target| {
        let slow = target.counts.slow.iter();
        slow.map(|(slowness, (count, example))| {
            let example = exemplar(target.session, example);
            (
                of(target, cause(*slowness)),
                Value::Count(*count, Some(example)),
            )
        })
    });
    Family::new(Kind::Counter, "pingtrace_slow_probes", help).all(all)
}

fn cause((owner, segment, certainty): Slowness) -> [(&'static str, &'static str); 3] {
    [
        ("owner", owner.name()),
        ("segment", segment.map_or("none", Segment::name)),
        ("certainty", certainty.name()),
    ]
}

fn exemplar(session: u32, example: &Example) -> Exemplar {
    let after = Duration::from_nanos(example.sent_unix_ns.max(0).cast_unsigned());
    Exemplar {
        labels: vec![
            ("session", format!("{session:08x}")),
            ("sequence", example.seq.to_string()),
            ("verdict", example.verdict.chars().take(80).collect()),
        ],
        time: UNIX_EPOCH + after,
    }
}

fn lost(targets: &[&TargetView]) -> Family {
    let help = "Probes given up as lost, by the place and the kernel's reason";
    let all = targets.iter().flat_map(|target| {
        let mut count: BTreeMap<(&str, String), u64> = BTreeMap::new();
        for loss in &target.losses {
            let reason = loss.reason.as_ref().filter(|reason| !reason.is_unknown());
            let reason = reason.map_or("none".to_owned(), Symbol::to_string);
            *count.entry((loss.place.name(), reason)).or_default() += loss.count;
        }
        count.into_iter().map(|((place, reason), count)| {
            let by = [("place", place), ("reason", reason.as_str())];
            (of(target, by), Value::Count(count, None))
        })
    });
    Family::new(Kind::Counter, "pingtrace_lost_probes", help).all(all)
}

fn irregularities(totals: &NodeTotals) -> Family {
    let help = "What was lost, refused or odd in the measurement, all targets together";
    let all = totals.irregularities.iter();
    let all = all.map(|(kind, count)| (labels([("kind", kind)]), Value::Count(*count, None)));
    Family::new(Kind::Counter, "pingtrace_irregularities", help).all(all)
}

fn clock_events(totals: &NodeTotals) -> Family {
    let help = "What the clocks of servers did, and the path between, as far as it was seen";
    let events = totals.clock_events.iter().filter(|(_, count)| **count > 0);
    let all = events.map(|(event, n)| (labels([("event", *event)]), Value::Count(*n, None)));
    Family::new(Kind::Counter, "pingtrace_clock_events", help).all(all)
}

fn blame(totals: &NodeTotals) -> Family {
    let help = "Time in slow segments by what had the CPU (--explain)";
    let all = totals.blame_ns.iter().map(|((at_server, class), ns)| {
        let host = if *at_server { "server" } else { "client" };
        let of = labels([("host", host), ("class", class.name())]);
        (of, Value::Number(*ns as f64 / 1e9))
    });
    let family = Family::new(Kind::Counter, "pingtrace_blame", help).unit(Unit::Seconds);
    family.all(all)
}

fn programs(targets: &[&TargetView]) -> Family {
    let help = "Run time of each BPF program of this process (--debug)";
    let programs = targets.first().map(|target| &target.programs);
    let all = programs.into_iter().flatten().map(|program| {
        let of = labels([("program", &program.program)]);
        (of, Value::Number(program.ns as f64 / 1e9))
    });
    let family = Family::new(Kind::Counter, "pingtrace_program", help).unit(Unit::Seconds);
    family.all(all)
}

fn clients(server: &ServerView) -> Family {
    let help = "Clients that the server remembers";
    let family = Family::new(Kind::Gauge, "pingtrace_server_clients", help);
    family.with(Labels::new(), Value::Number(server.clients as f64))
}

fn arming(arming: ArmingView) -> [Family; 4] {
    let family = |kind, name, help| Family::new(kind, name, help);
    let is_armed = "1 while the server's programs are attached, 0 while it is idle";
    let times = "How often a request armed the server";
    let time = "How long the server was armed";
    let unseen = "Requests that came before the server was armed, and have none of its stamps";
    let number = |family: Family, value| family.with(Labels::new(), Value::Number(value));
    let count = |family: Family, value| family.with(Labels::new(), Value::Count(value, None));
    let time = family(Kind::Counter, "pingtrace_server_armed_time", time).unit(Unit::Seconds);
    [
        number(
            family(Kind::Gauge, "pingtrace_server_armed", is_armed),
            f64::from(u8::from(arming.is_armed)),
        ),
        number(time, arming.ns as f64 / 1e9),
        count(
            family(Kind::Counter, "pingtrace_server_armings", times),
            arming.times,
        ),
        count(
            family(Kind::Counter, "pingtrace_server_unarmed_requests", unseen),
            arming.unseen,
        ),
    ]
}

fn stamps(server: &ServerView) -> Family {
    let help = "Stamps that the server sent, by the way: inband in replies, packet in a packet of their own";
    by(
        Family::new(Kind::Counter, "pingtrace_server_stamps", help),
        "way",
        &server.stamps,
    )
}

fn withheld(server: &ServerView) -> Family {
    let help = "Stamp packets that the server did not send";
    let family = Family::new(Kind::Counter, "pingtrace_server_withheld", help);
    by(family, "reason", &server.withheld)
}

fn server_lost(server: &ServerView) -> Family {
    let help = "What the server lost or refused";
    by(
        Family::new(Kind::Counter, "pingtrace_server_lost", help),
        "kind",
        &server.lost,
    )
}

fn by(family: Family, label: &'static str, counts: &[(&'static str, u64)]) -> Family {
    let all = counts.iter();
    family.all(all.map(|(name, count)| (labels([(label, *name)]), Value::Count(*count, None))))
}

/// Labels of a target's series, with those of the user.
fn of<const N: usize>(target: &TargetView, more: [(&'static str, &str); N]) -> Labels {
    let mut all = labels([("target", target.name.as_str())]);
    all.extend(labels(more));
    let users = target
        .labels
        .iter()
        .filter(|(name, _)| !name.starts_with("__"));
    all.extend(users.map(|(name, value)| (Cow::from(free(name, &target.labels)), value.clone())));
    all
}

/// The name of a user's label: `exported_` before one of ours, and again while the user has that too, as
/// Prometheus refuses a page on which a series has a label twice.
fn free(name: &str, users: &BTreeMap<String, String>) -> String {
    let mut free = name.to_owned();
    while OWN.contains(&&*free) || free != name && users.contains_key(&free) {
        free.insert_str(0, "exported_");
    }
    free
}
