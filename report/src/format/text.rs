//! A run as text for people: a line a slow probe, hops, and the summary. Tables and lists are at
//! most 110 columns wide.

use std::cmp::Reverse;
use std::fmt::{Display, Write as _};

use chrono::{DateTime, Local, TimeZone};

use crate::analysis::headline::Headline;
use crate::analysis::hops::{HopStat, HopStats};
use crate::format::flow_table::flow_table;
use crate::format::places::Places;
use crate::format::style::Style;
use crate::format::way_table::way_table;
use crate::model::send_error::SendError;
use crate::model::{
    Breakdown, Cause, Certainty, ClockRelation, ClockSummary, Counters, Counts, Delay, DelayStat,
    Direction, Endpoint, Host, KernelDrop, Loss, LossCount, Marks, Moved, Names, OwnCost, Point,
    Probe, ProbeResult, ProgramCost, Run, Segment, Stamp, Status, Summary, Symbol, Variation,
    Verdict,
};
use crate::printable::printable;
use crate::units::{duration, share};

/// Columns of the widest table or list.
const WIDTH: usize = 110;
/// Segments shown in the line of a probe: the culprit and the largest ones.
const SHOWN: usize = 3;

/// One line for a recorded probe, with the local time of its send.
///
/// `14:03:22.123    #17 web1 (10.0.0.2) ok   5.13 ms  server host +5.02 ms, queue of eth0 in netns web:
/// r_tx_qdisc 5.03 ms, ...`: time, with its date where that is not the one of the run's start; sequence
/// number, peer, status, total; who made it slow and by how much over its baseline (`?` if that is
/// likely or provisional), at which device, where that has a name, and what was not seen; the segment
/// it was, and the largest of the others, three in all if there is room. An ordinary probe has nobody
/// to blame. [`summary`] explains the marks behind times.
pub fn probe_line(result: &ProbeResult, run: &Run, names: &Names, style: &Style) -> String {
    probe_line_in(result, run, names, style, &Local)
}

/// Like [`probe_line`], in this time zone.
pub fn probe_line_in<Tz>(
    result: &ProbeResult,
    run: &Run,
    names: &Names,
    style: &Style,
    zone: &Tz,
) -> String
where
    Tz: TimeZone,
    Tz::Offset: Display,
{
    let probe = &result.probe;
    let server = Some(&run.server).filter(|server| server.addr == Some(probe.peer));
    let peer = server.and_then(Endpoint::label);
    let mut line = format!(
        "{} {:>6} {} {:<4}",
        time_of_day(probe.sent_unix_ns, run.start_unix_ns, zone),
        format!("#{}", probe.seq),
        peer.unwrap_or_else(|| probe.peer.to_string()),
        probe.status.name(),
    );
    match &result.breakdown {
        Some(breakdown) => {
            let verdict = result.verdict.as_ref();
            push_breakdown(&mut line, breakdown, verdict, names, style);
        }
        None => match &result.loss {
            Some(loss) => push_loss(&mut line, loss),
            None => push_last_seen(&mut line, probe),
        },
    }
    if probe.status == Status::Amended {
        line.push_str("; answered after all, was counted as lost");
    }
    for blame in &result.blame {
        push(
            &mut line,
            format_args!("\n    {}: {}", host(blame.host), blame.text()),
        );
    }
    line
}

/// `14:03:22.123`; with the date in front where that is another one than at the run's start.
fn time_of_day<Tz>(unix_ns: i64, start_unix_ns: i64, zone: &Tz) -> String
where
    Tz: TimeZone,
    Tz::Offset: Display,
{
    let at = |ns| DateTime::from_timestamp_nanos(ns).with_timezone(zone);
    let (time, start) = (at(unix_ns), at(start_unix_ns));
    let format = if time.date_naive() == start.date_naive() {
        "%H:%M:%S%.3f"
    } else {
        "%Y-%m-%d %H:%M:%S%.3f"
    };
    time.format(format).to_string()
}

fn host(host: Host) -> &'static str {
    match host {
        Host::Client => "client host",
        Host::Server => "server host",
        Host::Transit(_) => "on the way",
    }
}

fn push_breakdown(
    line: &mut String,
    breakdown: &Breakdown,
    verdict: Option<&Verdict>,
    names: &Names,
    style: &Style,
) {
    push(line, format_args!(" {:>7}  ", duration(breakdown.total_ns)));
    if let Some(verdict) = verdict {
        let excess = duration(verdict.excess_ns);
        push(line, format_args!("{} +{excess}", who(verdict)));
        if let Some(device) = at_device(verdict, names) {
            push(line, format_args!(", {device}"));
        }
        if let Some(stretch) = verdict.on_way {
            push(line, format_args!(", {}", stretch.words()));
        }
        if let Some(doubt) = verdict.doubt {
            push(line, format_args!(", {}", doubt.words(names)));
        }
        line.push_str(": ");
    }
    let culprit = verdict.and_then(|verdict| verdict.segment);
    let mut delays: Vec<&Delay> = breakdown.delays.iter().collect();
    delays.sort_by_key(|delay| (Some(delay.segment) != culprit, Reverse(delay.ns)));
    let shown = delays.into_iter().take(SHOWN).map(|delay| {
        let marks = Marks::from_delay(delay);
        let (name, ns) = (delay.segment.name(), duration(delay.ns));
        format!("{name} {ns}{}{}", marks.symbols(), range(delay))
    });
    let shown: Vec<_> = shown.collect();
    let used = line.chars().count();
    let fits = |count: &usize| style.has_room(used + shown[..*count].join(", ").chars().count());
    let count = (2..=shown.len()).rev().find(fits);
    line.push_str(&shown[..count.unwrap_or(1).min(shown.len())].join(", "));
}

/// The owner, with its doubt.
fn who(verdict: &Verdict) -> String {
    match (verdict.certainty, verdict.owner) {
        (Certainty::Undecided, _) => "undecided".to_owned(),
        (Certainty::Likely | Certainty::Provisional, owner) => format!("{}?", owner.label()),
        (Certainty::Sure, owner) => owner.label().to_owned(),
    }
}

/// `queue of eth0 in netns web`, if the device has a name here.
fn at_device(verdict: &Verdict, names: &Names) -> Option<String> {
    let at = verdict.at?;
    let device = names.device_in_netns(at.device)?;
    let way = if at.queue { "queue of" } else { "at" };
    Some(format!("{way} {device}"))
}

/// Bounds that are worth a reader's time: wider than a tenth of the estimate.
fn range(delay: &Delay) -> String {
    match delay.bounds {
        Some((lo, hi)) if hi - lo > delay.ns / 10 && hi - lo > 1_000 => {
            format!(" ({} to {})", duration(lo), duration(hi))
        }
        _ => String::new(),
    }
}

/// The last place at which this host saw a probe without an answer.
fn push_last_seen(line: &mut String, probe: &Probe) {
    if let Some(stamp) = probe.path.last() {
        push(
            line,
            format_args!("          last seen at {}", stamp.point.name()),
        );
    }
}

/// Where a probe was lost, what the kernel said, and the last point that saw it.
fn push_loss(line: &mut String, loss: &Loss) {
    push(line, format_args!("          at {}", loss.place.label()));
    if let Some(error) = loss.error {
        push(line, format_args!(": {error}"));
    }
    if let Some(drop) = &loss.drop {
        push(line, format_args!(": {}", dropped(drop)));
    }
    if let Some(last) = loss.last {
        push(line, format_args!("; last seen at {}", last.name()));
    }
}

/// `QDISC_DROP in __dev_queue_xmit, eth0, netns web`, as far as it is known.
fn dropped(drop: &KernelDrop) -> String {
    let number = |n: u32, what: &str| (n != 0).then(|| format!("{what}{n}"));
    let device = drop.device.as_deref().map(|d| printable(d).into_owned());
    let device = device.or_else(|| number(drop.ifindex.0, "device "));
    let device = match (device, drop.mtu) {
        (Some(device), Some(mtu)) => Some(format!("{device} (MTU {mtu})")),
        (device, _) => device,
    };
    let netns = drop.netns_name.as_deref();
    let netns = netns.map(|n| format!("netns {}", printable(n)));
    let netns = netns.or_else(|| number(drop.netns.0, "netns "));
    let cause = cause(Some(&drop.reason), Some(&drop.location));
    let parts = [Some(cause), device, netns];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Reason and location of a drop; kernels before 5.17 say no reason.
fn cause(reason: Option<&Symbol>, location: Option<&Symbol>) -> String {
    let known = |symbol: Option<&Symbol>| {
        let symbol = symbol.filter(|s| !s.is_unknown());
        symbol.map(|s| printable(&s.to_string()).into_owned())
    };
    let error = |name: String| SendError::from_name(&name).map_or(name, |e| e.to_string());
    match (known(reason).map(error), known(location)) {
        (Some(reason), Some(location)) => format!("{reason} in {location}"),
        (Some(reason), None) => reason,
        (None, Some(location)) => format!("dropped in {location}"),
        (None, None) => "dropped by the kernel".into(),
    }
}

/// All stamps of a probe, a line each, in path order: the time since the previous one where both
/// are on one clock, host, namespace, device, CPU, and point.
pub fn hops(result: &ProbeResult, names: &Names) -> String {
    let probe = &result.probe;
    let mut text = format!("#{} {} {}\n", probe.seq, probe.peer, probe.status.name());
    let at = |stamp: &Stamp| (stamp.host, stamp.netns, stamp.ifindex);
    let places = Places::new(probe.path.iter().map(at), names);
    push(
        &mut text,
        format_args!(
            "{:>11}  {}  cpu  point\n",
            "since prev.",
            places.header("host")
        ),
    );
    let mut previous: Option<&Stamp> = None;
    for stamp in &probe.path {
        let comparable = previous
            .filter(|before| probe.clock == ClockRelation::Same || before.host == stamp.host);
        let since = comparable.map_or_else(|| "-".into(), |before| signed(before.ns, stamp.ns));
        let place = places.row(stamp.host, stamp.netns, stamp.ifindex);
        let cpu = stamp.cpu.map_or_else(|| "-".into(), |cpu| cpu.to_string());
        push(
            &mut text,
            format_args!("{since:>11}  {place} {cpu:>4}  {}\n", stamp.point.name()),
        );
        previous = Some(stamp);
    }
    text
}

fn signed(from_ns: u64, to_ns: u64) -> String {
    let sign = if to_ns < from_ns { '-' } else { '+' };
    format!("{sign}{}", duration(to_ns.abs_diff(from_ns)))
}

/// A column of a table of durations: its name, and its value in nanoseconds.
type Column = (&'static str, fn(&DelayStat) -> u64);
/// Its width, with the space before it.
const COLUMN: usize = 9;
/// Width of a hop's other columns.
const HOP_WIDTH: usize = 64;
/// In order of display; where the terminal has no room for all, the highest numbers go first.
const HOP_COLUMNS: [(usize, Column); 4] = [
    (2, ("p50", |stat| stat.p50)),
    (3, ("p90", |stat| stat.p90)),
    (1, ("p99", |stat| stat.p99)),
    (0, ("max", |stat| stat.max)),
];
/// Width of a segment's other columns.
const SEGMENT_WIDTH: usize = 45;
/// As [`HOP_COLUMNS`], of segments.
const SEGMENT_COLUMNS: [(usize, Column); 7] = [
    (4, ("min", |stat| stat.min)),
    (6, ("mean", |stat| stat.mean.round() as u64)),
    (1, ("p50", |stat| stat.p50)),
    (5, ("p90", |stat| stat.p90)),
    (2, ("p99", |stat| stat.p99)),
    (3, ("p99.9", |stat| stat.p999)),
    (0, ("max", |stat| stat.max)),
];

/// Statistics of the hops of a run, a line each, in path order: host, namespace, device, point, and
/// the time since the previous hop.
pub fn hop_table(hops: &HopStats, names: &Names, style: &Style) -> String {
    let mut text = String::new();
    let at = |hop: &HopStat| (hop.key.host, hop.key.netns, hop.key.ifindex);
    let places = Places::new(hops.hops().iter().map(at), names);
    let columns = style.columns(HOP_WIDTH + places.excess(), COLUMN, &HOP_COLUMNS);
    for direction in Direction::ALL {
        push(
            &mut text,
            format_args!(
                "{} {:<14} {:>8}",
                places.header(direction.name()),
                "point",
                "seen"
            ),
        );
        for (name, _) in &columns {
            push(&mut text, format_args!(" {name:>8}"));
        }
        text.push('\n');
        for hop in hops
            .hops()
            .iter()
            .filter(|hop| hop.key.direction == direction)
        {
            push_hop(&mut text, hop, &places, &columns);
        }
    }
    let oddities = [
        (
            "too many different hops",
            hops.overflow() + hops.way.overflow(),
        ),
        ("hops out of order", hops.unordered()),
    ];
    push_oddities(&mut text, &oddities);
    text + &way_table(&hops.way)
}

fn push_hop(text: &mut String, hop: &HopStat, places: &Places<'_>, columns: &[Column]) {
    let key = hop.key;
    let place = places.row(key.host, key.netns, key.ifindex);
    push(
        text,
        format_args!("{place} {:<14} {:>8}", key.point.name(), hop.seen),
    );
    if let Some(stat) = &hop.since_previous {
        for (_, ns) in columns {
            push(text, format_args!(" {:>8}", duration(ns(stat))));
        }
    }
    text.push('\n');
}

/// The summary of a run: what was sent and came back, a table of the segments, who was slow,
/// every oddity that occurred, what could not be seen, and the marks that were used.
pub fn summary(run: &Run, summary: &Summary, names: &Names, style: &Style) -> String {
    let mut text = String::new();
    push_head(&mut text, run, summary);
    push_table(&mut text, &summary.delays, summary.marks, style);
    push_headline(&mut text, &Headline::new(run, summary, names));
    push_causes(&mut text, &summary.causes);
    text += &flow_table(&summary.flows);
    text += &summary.blame.text();
    text.extend(summary.moved.iter().map(Moved::text));
    push_jitter(&mut text, summary);
    push_own(&mut text, summary);
    push_clock(&mut text, summary.clock.as_ref());
    push_losses(&mut text, summary, names);
    push_oddities(&mut text, &summary.counters.oddities());
    push_directions(&mut text, &summary.counters);
    push_not_seen(&mut text, run);
    push_legend(&mut text, summary.marks);
    push_objectives(&mut text, summary);
    text
}

fn push_head(text: &mut String, run: &Run, summary: &Summary) {
    let peer = run.server.label();
    let peer = peer.unwrap_or_else(|| "unknown host".into());
    let every = run.interval_ns.map_or_else(
        || "as fast as answered".into(),
        |interval| format!("every {}", duration(interval)),
    );
    let elapsed = duration(summary.elapsed_ns);
    let (size, mode) = (run.size, printable(&run.mode));
    let peer = printable(&peer);
    push(
        text,
        format_args!("{peer}: {size} bytes {every} for {elapsed}, mode {mode}\n"),
    );
    let Counters {
        sent,
        replied,
        lost,
        forgotten,
        in_flight,
        recorded,
        warm_up,
        ..
    } = summary.counters;
    let share = share(lost, sent, 2);
    push(
        text,
        format_args!("sent {sent}, replied {replied}, lost {lost}{share}, "),
    );
    for (count, what) in [(forgotten, "forgotten"), (in_flight, "still in flight")] {
        if count > 0 {
            push(text, format_args!("{what} {count}, "));
        }
    }
    push(text, format_args!("recorded {recorded}"));
    if run.threshold_ns > 0 {
        push(text, format_args!(" (from {})", duration(run.threshold_ns)));
    }
    if warm_up > 0 {
        push(text, format_args!("; warm-up {warm_up}, in no figure"));
    }
    text.push('\n');
}

fn push_table(text: &mut String, delays: &[DelayStat], marks: Marks, style: &Style) {
    if delays.is_empty() {
        return;
    }
    push(
        text,
        format_args!("\n{:<18} {:<16} {:>9}", "segment", "owner", "count"),
    );
    let columns = style.columns(SEGMENT_WIDTH, COLUMN, &SEGMENT_COLUMNS);
    for (column, _) in &columns {
        push(text, format_args!(" {column:>8}"));
    }
    text.push('\n');
    for stat in delays {
        let name = stat.segment.map_or_else(
            || "total".into(),
            |segment| format!("{}{}", segment.name(), marks.for_segment(segment).symbols()),
        );
        let owner = match stat.segment {
            None | Some(Segment::Response) => "",
            Some(segment) => segment.owner().label(),
        };
        push(
            text,
            format_args!("{name:<18} {owner:<16} {:>9}", stat.count),
        );
        for (_, ns) in &columns {
            push(text, format_args!(" {:>8}", duration(ns(stat))));
        }
        text.push('\n');
    }
    text.push('\n');
}

/// The headline and what belongs to it.
fn push_headline(text: &mut String, headline: &Headline) {
    for line in [&headline.title, &headline.detail] {
        push_wrapped(text, line);
    }
    text.push('\n');
}

/// The table for the ticket.
fn push_causes(text: &mut String, causes: &[Cause]) {
    if causes.is_empty() {
        return;
    }
    push(
        text,
        format_args!(
            "{:<26} {:<18} {:>7} {:>7} {:>8}",
            "slow because of", "segment", "probes", "sure", "in all"
        ),
    );
    for column in ["min", "p50", "max"] {
        push(text, format_args!(" {:>8}", format!("+{column}")));
    }
    text.push_str("  CPU\n");
    for cause in causes {
        let owner = cause.owner_label();
        let segment = cause.segment.map_or("-", Segment::name);
        let (count, sure) = (cause.count, cause.sure);
        push(
            text,
            format_args!("{owner:<26} {segment:<18} {count:>7} {sure:>7}"),
        );
        for ns in [cause.excess_ns, cause.min_ns, cause.p50_ns, cause.max_ns] {
            push(text, format_args!(" {:>8}", duration(ns)));
        }
        match cause.cpu {
            Some((cpu, times)) if times < count => push(text, format_args!("  {cpu} ({times})")),
            Some((cpu, _)) => push(text, format_args!("  {cpu}")),
            None => {}
        }
        text.push('\n');
    }
    text.push('\n');
}

fn push_clock(text: &mut String, clock: Option<&ClockSummary>) {
    let Some(clock) = clock else { return };
    let Counts {
        rate,
        step,
        path,
        glitches,
    } = clock.counts;
    let counted = [
        (step, "step"),
        (rate, "rate change"),
        (path, "path change"),
        (glitches, "bad stamp"),
    ];
    let counted = counted.map(|(count, what)| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    });
    let rate = format!(
        "server {:+.2} ppm (± {:.2})",
        clock.rate_ppm, clock.rate_sd_ppm
    );
    let age = clock.in_base_age_ns;
    let age = age.map(|ns| format!("last quiet probe {} ago", duration(ns)));
    let items = [clock.state.label().to_owned(), rate].into_iter();
    push_list(text, "clocks: ", items.chain(counted).chain(age));
}

/// A line a direction: |IPDV| of RFC 3393, and the jitter of RFC 3550.
fn push_jitter(text: &mut String, summary: &Summary) {
    for Variation {
        direction,
        ipdv,
        rfc3550_ns,
    } in &summary.jitter
    {
        let [p50, p90, p99, max] = [ipdv.p50, ipdv.p90, ipdv.p99, ipdv.max].map(duration);
        push(
            text,
            format_args!(
                "jitter {:<4} |IPDV| p50 {p50}, p90 {p90}, p99 {p99}, max {max}; RFC 3550 {}\n",
                format!("{}:", direction.name()),
                duration(*rfc3550_ns),
            ),
        );
    }
}

/// The cost of the measurement itself, and the send slip.
fn push_own(text: &mut String, summary: &Summary) {
    let slip = summary.send_slip.as_ref().map(|slip| {
        let [p50, p99, max] = [slip.p50, slip.p99, slip.max].map(duration);
        format!("send slip p50 {p50}, p99 {p99}, max {max}")
    });
    let lost = format!("{} stamps lost", summary.counters.lost_stamps);
    match &summary.own {
        Some(own) => {
            let more = [lost].into_iter().chain(slip);
            text.push_str(&own_cost(own, summary.elapsed_ns, more));
        }
        None => push_list(text, ITSELF, slip.into_iter()),
    }
}

const ITSELF: &str = "pingtrace itself: ";

/// The cost of pingtrace in this time, `more` about it, and a table of its kernel programs if they were
/// counted.
pub fn own_cost(own: &OwnCost, elapsed_ns: u64, more: impl Iterator<Item = String>) -> String {
    let percent = |ns: u64| 100.0 * ns as f64 / elapsed_ns.max(1) as f64;
    let OwnCost {
        cpu_ns,
        records,
        most_in_use,
        evicted,
        programs,
    } = own;
    let mut text = String::new();
    let cpu = format!("{:.1} % of a CPU", percent(*cpu_ns));
    let debug = !programs.is_empty();
    let table = (debug || *evicted > 0)
        .then(|| format!("{most_in_use} of {records} records in use, {evicted} evicted"));
    let items = [cpu].into_iter().chain(more).chain(table);
    push_list(&mut text, ITSELF, items);
    if debug {
        push(
            &mut text,
            format_args!(
                "{:<24} {:>12} {:>10} {:>12}\n",
                "program", "runs", "a run", "of a CPU"
            ),
        );
    }
    for ProgramCost { program, runs, ns } in programs {
        let mean = duration(ns / (*runs).max(1));
        let percent = format!("{:.3} %", percent(*ns));
        push(
            &mut text,
            format_args!(
                "{:<24} {runs:>12} {mean:>10} {percent:>12}\n",
                printable(program)
            ),
        );
    }
    text
}

fn push_objectives(text: &mut String, summary: &Summary) {
    if summary.slo.is_empty() {
        return;
    }
    let missed = summary.slo.iter().filter(|judged| !judged.met).count();
    let of = summary.slo.len();
    push(
        text,
        format_args!("objectives: {} of {of} met\n", of - missed),
    );
    for judged in &summary.slo {
        let met = if judged.met { "met" } else { "MISSED" };
        let judged = judged.to_string();
        push(text, format_args!("  {met:<6} {}\n", printable(&judged)));
    }
}

/// One interval: `interval_line`, and below it the programs in the kernel where they were counted.
pub fn interval(interval: &Summary, time_unix_ns: i64, run: &Run) -> String {
    let mut text = interval_line_in(interval, time_unix_ns, run, &Local) + "\n";
    let own = interval.own.as_ref();
    if own.is_some_and(|own| !own.programs.is_empty()) {
        push_own(&mut text, interval);
    }
    text
}

/// One interval in a line, with the time of its end in this zone: length, probes, losses, the total
/// and the segment that took most of the time.
pub fn interval_line_in<Tz>(interval: &Summary, time_unix_ns: i64, run: &Run, zone: &Tz) -> String
where
    Tz: TimeZone,
    Tz::Offset: Display,
{
    let Counters {
        sent,
        lost,
        amended,
        forgotten,
        in_flight,
        ..
    } = interval.counters;
    let mut line = format!(
        "{} last {}: sent {sent}, lost {lost}{}",
        time_of_day(time_unix_ns, run.start_unix_ns, zone),
        duration(interval.elapsed_ns),
        share(lost, sent, 2),
    );
    let further = [
        (amended, "answered after all"),
        (forgotten, "forgotten"),
        (in_flight, "in flight"),
    ];
    for (count, what) in further.into_iter().filter(|(count, _)| *count > 0) {
        push(&mut line, format_args!(", {what} {count}"));
    }
    let (totals, segments): (Vec<_>, Vec<_>) = interval
        .delays
        .iter()
        .filter(|stat| stat.segment != Some(Segment::Response))
        .partition(|stat| stat.segment.is_none());
    let time = |stat: &DelayStat| stat.mean * stat.count as f64;
    let largest = segments
        .into_iter()
        .rev()
        .max_by(|one, two| time(one).total_cmp(&time(two)));
    for stat in totals.into_iter().chain(largest) {
        let name = stat.segment.map_or("total", Segment::name);
        let [p50, p99, max] = [stat.p50, stat.p99, stat.max].map(duration);
        push(
            &mut line,
            format_args!("; {name} p50 {p50}, p99 {p99}, max {max}"),
        );
    }
    line
}

/// Where probes were lost, and why.
fn push_losses(text: &mut String, summary: &Summary, names: &Names) {
    let counts = summary.losses.iter().map(|count| {
        let why = match loss_cause(count, names) {
            why if why.is_empty() => why,
            why => format!(" ({why})"),
        };
        format!("{} {}{why}", count.count, count.place.label())
    });
    push_list(text, "lost at: ", counts);
}

/// The kernel's reason and the device, as far as they are known.
pub(crate) fn loss_cause(count: &LossCount, names: &Names) -> String {
    let (reason, location) = (count.reason.as_ref(), count.location.as_ref());
    let cause = reason.or(location).map(|_| cause(reason, location));
    let device = count
        .device
        .and_then(|device| names.device_in_netns(device));
    let why: Vec<String> = cause.into_iter().chain(device).collect();
    why.join(", ")
}

/// The directions in which probes were lost, late, duplicated and reordered, if known.
fn push_directions(text: &mut String, counters: &Counters) {
    let all = [
        ("lost", counters.lost, counters.lost_out, counters.lost_in),
        ("late", counters.late, counters.late_out, counters.late_in),
        (
            "duplicated",
            counters.dup,
            counters.dup_out,
            counters.dup_in,
        ),
        (
            "reordered",
            counters.reordered,
            counters.reordered_out,
            counters.reordered_in,
        ),
    ];
    let odd = all.into_iter().filter(|(_, total, ..)| *total > 0);
    let items = odd.map(|(what, total, out, inward)| {
        let unknown = total.saturating_sub(out + inward);
        format!("{what} {out} out, {inward} in, {unknown} unknown")
    });
    push_list(text, "directions: ", items);
}

fn push_oddities(text: &mut String, oddities: &[(&str, u64)]) {
    let odd = oddities.iter().filter(|(_, count)| *count > 0);
    push_list(
        text,
        "note: ",
        odd.map(|(name, count)| format!("{name} {count}")),
    );
}

/// Points of the table that no hook of this run can see.
fn push_not_seen(text: &mut String, run: &Run) {
    let seen = |point: &Point| run.points.iter().any(|(seen, _)| seen == point);
    // What answers send has no schedule.
    let adaptive = |point: &Point| *point == Point::LTxDue && run.interval_ns.is_none();
    let missing = Point::PATH.into_iter();
    let missing = missing.filter(|point| !seen(point) && !adaptive(point));
    push_list(
        text,
        "points not available: ",
        missing.map(|point| point.name().to_owned()),
    );
}

fn push_legend(text: &mut String, marks: Marks) {
    for mark in marks.used() {
        push(text, format_args!("{} {}\n", mark.symbol(), mark.meaning()));
    }
}

/// A sentence, in lines no wider than [`WIDTH`]; nothing if it is empty.
fn push_wrapped(text: &mut String, sentence: &str) {
    let mut width = 0;
    for word in sentence.split_whitespace() {
        let wide = word.chars().count();
        if width > 0 {
            let fits = width + 1 + wide <= WIDTH;
            text.push(if fits { ' ' } else { '\n' });
            width = if fits { width + 1 } else { 0 };
        }
        text.push_str(word);
        width += wide;
    }
    if width > 0 {
        text.push('\n');
    }
}

/// A title and its items, in lines no wider than [`WIDTH`]; nothing if there are no items.
fn push_list(text: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    let mut line = title.to_owned();
    while let Some(item) = items.next() {
        if line.len() + item.len() + 1 > WIDTH {
            push(text, format_args!("{}\n", line.trim_end()));
            line = " ".repeat(title.len());
        }
        line.push_str(&item);
        line.push_str(if items.peek().is_some() { ", " } else { "\n" });
    }
    text.push_str(&line);
}

fn push(text: &mut String, arguments: std::fmt::Arguments) {
    text.write_fmt(arguments)
        .expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (9_994, "9.99 us"),
            (9_996, "10.0 us"),
            (99_960, "100 us"),
            (999_499, "999 us"),
            (999_500, "1.00 ms"),
            (5_030_000, "5.03 ms"),
            (999_999_999, "1.00 s"),
            (12_345_000_000_000, "3 h 25 min"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn lists_are_wrapped() {
        let mut text = String::new();
        push_list(
            &mut text,
            "not seen: ",
            (0..30).map(|k| format!("point_number_{k}")),
        );
        assert!(text.lines().count() > 3);
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert!(text.ends_with("point_number_29\n"));
        push_list(&mut text, "nothing: ", std::iter::empty());
        assert!(!text.contains("nothing"));
    }
}
