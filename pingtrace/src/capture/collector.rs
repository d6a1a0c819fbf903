//! Turns probes into statistics and results: every probe passes here on its way from the journey to the
//! outputs.

use crate::capture::moved;
use crate::capture::outage::Outage;
use crate::capture::published::Published;
use crate::control::Asked;
use crate::kernel::meter::Meter;
use crate::kernel::tracer::Tracer;
use crate::options::{Format, Results};
use crate::output::live::Present;
use crate::output::metrics::Target;
use crate::output::run::{End, Message, SoFar, Stat, Way};
use crate::output::story::{self, Progress};
use crate::units::{Time, monotonic_ns, realtime_ns};
use crate::wire::icmp_error::IcmpError;
use crate::wire::number::SessionId;
use crate::wire::stamp_return::StampReturn;
use crate::wire::timestamps;
use report::analysis::blame::BlameTally;
use report::analysis::breakdown::breakdown_into;
use report::analysis::clock::WireSplit;
use report::analysis::hops::HopStats;
use report::analysis::loss::LossId;
use report::analysis::path_change::Paths;
use report::analysis::series::Series;
use report::analysis::slo::Objectives;
use report::analysis::slowest::Slowest;
use report::analysis::stats::Stats;
use report::analysis::threshold::AdaptiveThreshold;
use report::analysis::verdict::VerdictQueue;
use report::model::host_time::ClientNs;
use report::model::{
    Blame, Breakdown, Capture, Certainty, Counters, Host, Judged, Loss, Names, OwnCost, Owner,
    Point, Probe, ProbeResult, Run, Segment, Slow, Status, Summary,
};
use report::units::duration;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

/// Number of probes in a picture.
const PICTURED: usize = 8;
/// Time between summaries in the log, unless another is asked for.
const STAT_INTERVAL: Duration = Duration::from_secs(60);
/// How often the live view is told how things stand, ns.
const PRESENT_NS: u64 = 250_000_000;
/// Upper bound on the delay of a server's blame for a probe, ns; later it does not come at all.
const BLAME_PATIENCE_NS: u64 = 300_000_000;
/// Upper bound on blame for a probe: one for each segment on either host.
const MAX_BLAME: usize = 2 * Segment::ALL.len();
/// Upper bound on probes whose blame waits until they are written.
const MOST_BLAMED: usize = 4096;
/// Upper bound on ICMP errors that are reported one by one.
const TOLD_ERRORS: usize = 8;
/// Upper bound on path changes that are reported one by one.
const TOLD_PATH_CHANGES: u64 = 8;

/// Statistics of one capture, and its outputs.
pub struct Collector {
    run: Run,
    start_ns: u64,
    /// When the first probe of the run was due: of a part of a saved run, before the start.
    first_due_ns: u64,
    stats: Stats,
    verdicts: VerdictQueue,
    /// Learns what is slow, if no threshold was given.
    adaptive: AdaptiveThreshold,
    wire: WireSplit,
    paths: Paths,
    /// For a picture: not of one of many targets.
    series: Option<Series>,
    slowest: Slowest,
    hops: Option<HopStats>,
    told_errors: HashSet<(std::net::IpAddr, u8, u8)>,
    scratch: Breakdown,
    /// Points that were seen, a bit each.
    seen: u32,
    objectives: Option<Objectives>,
    /// Of a live run.
    meter: Option<Meter>,
    /// The cost at the start of the interval.
    cost_before: OwnCost,
    stat_interval_ns: u64,
    next_stat_ns: u64,
    /// When the live view is told how things stand.
    next_present_ns: u64,
    outputs: Way,
    /// Whether results wait for blame.
    explained: bool,
    /// By sequence number, until the result is written.
    blame: BTreeMap<u32, Vec<Blame>>,
    /// Results with their verdict, and until when they wait for blame, `CLOCK_MONOTONIC` ns.
    settled: VecDeque<(u64, ProbeResult)>,
    blame_tally: BlameTally,
    /// Blame for a probe beyond [`MAX_BLAME`].
    refused_blame: u64,
    /// Answered probes at or over the threshold.
    slow: u64,
    progress: Progress,
    /// Of a live run.
    outage: Option<Outage>,
    /// Where metrics are wanted.
    published: Option<Published>,
    /// Where slow probes are explained.
    moved: Option<moved::OfTarget>,
}

impl Collector {
    /// For one target's capture, live or saved.
    pub fn new(wanted: &Results, run: Run, outputs: Way) -> Self {
        let logged = wanted.output.wants(Format::Log).then_some(STAT_INTERVAL);
        let stat_interval = wanted.stat_interval.or(logged).unwrap_or_default();
        let (stats, adaptive, pictured) = match run.target {
            Some(_) => (
                Stats::of_one_of_many(),
                AdaptiveThreshold::of_one_of_many(),
                0,
            ),
            None => (Stats::new(), AdaptiveThreshold::default(), PICTURED),
        };
        Self {
            run,
            start_ns: 0,
            first_due_ns: 0,
            stats,
            verdicts: VerdictQueue::default(),
            adaptive,
            wire: WireSplit::new(),
            paths: Paths::default(),
            series: (pictured > 0).then(Series::new),
            slowest: Slowest::new(pictured),
            hops: wanted.namespace.then(HopStats::new),
            told_errors: HashSet::new(),
            scratch: Breakdown::default(),
            seen: 0,
            objectives: wanted.slo.clone(),
            meter: None,
            cost_before: OwnCost::default(),
            stat_interval_ns: stat_interval.as_nanos() as u64,
            next_stat_ns: u64::MAX,
            next_present_ns: 0,
            outputs,
            explained: false,
            blame: BTreeMap::new(),
            settled: VecDeque::new(),
            blame_tally: BlameTally::default(),
            refused_blame: 0,
            slow: 0,
            progress: Progress::default(),
            outage: None,
            published: None,
            moved: None,
        }
    }

    /// Starts a live run, whose first probe leaves at `start_ns`, and whose cost is measured if it is the only one.
    pub fn begin(&mut self, start_ns: u64, tracer: Option<&Tracer<'_>>, meter: Option<Meter>) {
        self.meter = meter;
        self.run.start_ns = Some(start_ns);
        self.run.start_unix_ns =
            realtime_ns() - monotonic_ns().cast_signed() + start_ns.cast_signed();
        if let Some(tracer) = tracer {
            self.run.points.clone_from(&tracer.points);
        }
        if tracer.is_none() {
            let points = timestamps::POINTS.map(|(p, hook)| (p, hook.to_owned()));
            self.run.points.extend(points);
        }
        let user = [Point::LTxUser, Point::LRxUser].map(|p| (p, "clock_gettime".to_owned()));
        self.run.points.extend(user);
        if self.run.interval_ns.is_some() {
            self.run.points.push((Point::LTxDue, "schedule".to_owned()));
        }
        self.run.points.sort_by_key(|(p, _)| *p);
        self.start(start_ns, start_ns);
    }

    /// Starts a run, or a part of it, at `start_ns` of the client's clock; its first probe was due at `first_due_ns`.
    pub fn start(&mut self, start_ns: u64, first_due_ns: u64) {
        self.start_ns = start_ns;
        self.first_due_ns = first_due_ns;
        if self.stat_interval_ns > 0 {
            self.next_stat_ns = start_ns.saturating_add(self.stat_interval_ns);
        }
        self.outputs.send(Message::Run(Box::new(self.run.clone())));
    }

    /// The server's stamps return in another way from now on.
    pub fn mode(&mut self, way: StampReturn) {
        self.run.mode = way.to_string();
        self.outputs.send(Message::Run(Box::new(self.run.clone())));
    }

    /// What the server calls its namespaces and devices.
    pub fn names(&mut self, names: Names) {
        self.outputs.send(Message::Names(Box::new(names)));
    }

    /// Notes how full the table of slots is, and how many slots were reused too early.
    pub fn table_use(&mut self, in_use: u32, evicted: u64) {
        if let Some(meter) = &mut self.meter {
            meter.most_in_use = meter.most_in_use.max(in_use);
            meter.evicted = evicted;
        }
    }

    /// The counters that the client maintains.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.stats.counters
    }

    /// Sets whether blame will come for slow probes: then results wait for it a little.
    pub fn explain(&mut self, explained: bool) {
        self.explained = explained;
    }

    /// Counters of this host that move while probes are slow or lost belong to the results.
    pub fn count_moved(&mut self, counters: moved::OfTarget) {
        self.moved = Some(counters);
    }

    /// An explanation of this slow probe was requested; it counts as not explained if no blame comes before
    /// it is written.
    pub fn expect_blame(&mut self, seq: u32) {
        self.blame(seq, Vec::new());
    }

    /// Amount of blame that was refused, as a probe cannot have more.
    pub fn refused_blame(&self) -> u64 {
        self.refused_blame
    }

    /// Adds blame for a slow probe.
    pub fn blame(&mut self, seq: u32, blame: Vec<Blame>) {
        self.slowest.blame(seq, &blame);
        if self.blame.len() >= MOST_BLAMED
            && !self.blame.contains_key(&seq)
            && let Some((_, oldest)) = self.blame.pop_first()
        {
            self.blame_tally.skipped += u64::from(oldest.is_empty());
        }
        let known = self.blame.entry(seq).or_default();
        known.extend(blame);
        self.refused_blame += known.len().saturating_sub(MAX_BLAME) as u64;
        known.truncate(MAX_BLAME);
    }

    /// Gives back the memory that is kept for the next probe.
    pub fn shrink(&mut self) {
        self.scratch = Breakdown::default();
    }

    /// Takes an answered probe with all of its stamps.
    pub fn probe(&mut self, probe: &Probe) {
        if !breakdown_into(probe, &mut self.wire, &mut self.scratch) {
            return;
        }
        if let Some(event) = self.wire.estimate().and_then(|estimate| estimate.event) {
            log::info!("probe {}: {event}", probe.seq);
        }
        let sent = probe.sent_ns().unwrap_or(0);
        self.report_path_changes(probe);
        self.verdicts.confirm(&self.scratch, sent);
        self.count(probe, sent);
        let slow = self.is_slow(probe);
        let response = self.scratch.response_ns();
        let recorded = response >= self.run.threshold_ns;
        self.slow += u64::from(recorded);
        if !recorded && !self.slowest.wants(response) && !self.outputs.is_live {
            return;
        }
        let mut result = ProbeResult {
            breakdown: Some(self.scratch.clone()),
            ..ProbeResult::new(probe.clone())
        };
        if recorded {
            self.record(result.clone(), slow);
        } else if self.outputs.is_live {
            let result = Box::new(result.clone());
            self.outputs.send(Message::Unrecorded(result));
        }
        if self.slowest.wants(response) {
            result.verdict = self.verdicts.provisional(&result).filter(|_| slow);
            result.blame = self.blame.get(&probe.seq).cloned().unwrap_or_default();
            self.slowest.offer(result);
        }
    }

    /// Reports the first changes of the path that the TTLs show, and counts all.
    fn report_path_changes(&mut self, probe: &Probe) {
        for change in self.paths.observe(probe) {
            let counted = &mut self.stats.counters.path_changes;
            *counted += 1;
            if *counted <= TOLD_PATH_CHANGES {
                log::info!("probe {}: {change}", probe.seq);
            }
        }
    }

    /// Whether this answered probe, whose breakdown is in `scratch`, is slow: by the given threshold, else by
    /// the learnt one. A late probe always is.
    fn is_slow(&mut self, probe: &Probe) -> bool {
        match self.run.threshold_ns {
            0 => self.adaptive.is_slow(&self.scratch) || probe.status != Status::Ok,
            given => self.scratch.response_ns() >= given,
        }
    }

    /// Takes an answered probe of an incomplete saved run: it keeps the breakdown and the verdict that were
    /// found with all probes.
    pub fn judged(&mut self, result: ProbeResult) {
        let Some(breakdown) = &result.breakdown else {
            return;
        };
        self.scratch.clone_from(breakdown);
        let sent = result.probe.sent_ns().unwrap_or(0);
        self.count(&result.probe, sent);
        if self.scratch.response_ns() >= self.run.threshold_ns {
            self.stats.counters.recorded += 1;
            self.verdicts.push_final(result.clone());
        }
        self.slowest.offer(result);
    }

    /// Publishes metrics of the run, as of a target with this name and these labels.
    pub fn publish(&mut self, target: Target, name: String, labels: BTreeMap<String, String>) {
        self.published = Some(Published::new(target, name, labels));
    }

    /// The target is probed no more: its metrics end with it.
    pub fn retire(&mut self) {
        if let Some(published) = &mut self.published {
            published.retires = true;
        }
    }

    /// The session of the probes, by which packets are found.
    pub fn session(&mut self, session: SessionId) {
        if let Some(published) = &mut self.published {
            published.session = session.0;
        }
    }

    /// Counts an answered probe, whose breakdown is in `scratch`.
    fn count(&mut self, probe: &Probe, sent: u64) {
        self.stats.record(&self.scratch);
        if let Some(published) = &mut self.published {
            published.counts.answered(&self.scratch);
        }
        self.stats.vary(probe);
        if self.run.flows.is_some() {
            self.stats.flows.answered(probe, self.scratch.total_ns);
        }
        self.seen = probe
            .path
            .iter()
            .fold(self.seen, |seen, s| seen | 1 << s.point as u16);
        if let Some(series) = &mut self.series {
            let since_start = sent.saturating_sub(self.start_ns);
            series.record(since_start, self.scratch.response_ns());
        }
        self.slip(probe.seq, sent);
        if let Some(moved) = &mut self.moved {
            moved.passed(probe);
        }
        if let Some(hops) = &mut self.hops {
            hops.record(probe);
            hops.way.record(&self.scratch.way);
        }
    }

    /// Queues a result, written in the order of these calls once its verdict is final; a probe that was not
    /// slow has no verdict.
    fn record(&mut self, result: ProbeResult, slow: bool) {
        self.stats.counters.recorded += 1;
        if slow {
            self.verdicts.push(result);
        } else {
            self.verdicts.push_final(result);
        }
    }

    /// Writes the results whose verdict is final by now; all of them at the `last` call.
    fn settle(&mut self, now: u64, last: bool) {
        let patience_ns = if self.explained { BLAME_PATIENCE_NS } else { 0 };
        let settled = &mut self.settled;
        self.verdicts.finish(now, last, |result| {
            settled.push_back((now + patience_ns, result));
        });
        while self
            .settled
            .front()
            .is_some_and(|(at, _)| last || *at <= now)
        {
            let Some((_, result)) = self.settled.pop_front() else {
                break;
            };
            self.write(result);
        }
    }

    /// Writes a complete result.
    fn write(&mut self, mut result: ProbeResult) {
        let blame = self.blame.remove(&result.probe.seq);
        self.blame_tally.skipped += u64::from(blame.as_ref().is_some_and(Vec::is_empty));
        result.blame.extend(blame.unwrap_or_default());
        self.blame_tally.count(&result.blame);
        let over_threshold = self.run.threshold_ns > 0 && result.breakdown.is_some();
        let slow = over_threshold || result.verdict.is_some();
        if slow {
            self.stats.slow(result.verdict.as_ref());
        }
        if let Some(published) = &mut self.published {
            published.counts.result(&result, slow);
        }
        if let Some(moved) = self
            .moved
            .as_ref()
            .filter(|_| slow || result.loss.is_some())
        {
            let usual_ns = self.stats.totals().map_or(0, |totals| totals.p99);
            moved.slow_or_lost(&result, usual_ns);
        }
        let (out, inward) = late_on(&result);
        self.stats.counters.late_out += u64::from(out);
        self.stats.counters.late_in += u64::from(inward);
        self.outputs.send(Message::ProbeResult(Box::new(result)));
    }

    /// Counts how late a probe left; a lost probe of a saved run can have an unknown send time (0).
    fn slip(&mut self, sequence: u32, sent_ns: u64) {
        if let Some(interval) = self.run.interval_ns.filter(|_| sent_ns > 0) {
            // Modulo 2^32 probes, after which sequence numbers begin anew.
            let since_start = u128::from(sent_ns.saturating_sub(self.first_due_ns));
            let due = u128::from(sequence) * u128::from(interval);
            let slip = since_start.saturating_sub(due) % (u128::from(interval) << 32);
            self.stats.slip(slip as u64);
            if let Some(published) = &mut self.published {
                published.counts.slip.record(slip as u64);
            }
        }
    }

    /// Takes a probe that was given up.
    pub fn lost(&mut self, probe: Probe, loss: Loss) -> LossId {
        let id = self.stats.lost(&loss);
        if self.run.flows.is_some() {
            self.stats.flows.lost(probe.flow);
        }
        let sent = probe.sent_ns().unwrap_or(0);
        if let Some(series) = &mut self.series {
            series.lost(sent.saturating_sub(self.start_ns));
        }
        self.slip(probe.seq, sent);
        let result = ProbeResult {
            loss: Some(loss),
            ..ProbeResult::new(probe)
        };
        self.record(result, false);
        id
    }

    /// A lost probe, sent at `sent_ns`, was answered after all.
    pub fn found(&mut self, id: LossId, sent_ns: u64) {
        self.stats.found(id);
        if let Some(series) = &mut self.series {
            series.found(sent_ns.saturating_sub(self.start_ns));
        }
    }

    /// Takes a forgotten probe.
    pub fn forgotten(&mut self, probe: Probe) {
        self.stats.counters.forgotten += 1;
        if let Some(sent_ns) = probe.sent_ns() {
            self.slip(probe.seq, sent_ns);
        }
        self.record(ProbeResult::new(probe), false);
    }

    /// Whether any answered probe had this point.
    pub fn has_seen(&self, point: Point) -> bool {
        self.seen & 1 << point as u16 != 0
    }

    /// Takes a further answer to a probe.
    pub fn dup(&mut self, probe: Probe) {
        self.stats.counters.dup += 1;
        self.record(ProbeResult::new(probe), false);
    }

    /// A host on the way, or the peer, refused a probe in flight: reported once for each host and reason.
    pub fn icmp_error(&mut self, e: &IcmpError) {
        self.stats.counters.icmp_errors += 1;
        if self.told_errors.len() < TOLD_ERRORS && self.told_errors.insert((e.from, e.kind, e.code))
        {
            log::warn!("{e}");
        }
    }

    /// Does what is due: interval statistics, the progress, and what signals ask for.
    pub fn tick(&mut self, now: Time, asked: Asked) {
        if asked.reopen {
            self.outputs.send(Message::Reopen);
        }
        self.settle(now.ns, false);
        if asked.summary {
            self.outputs
                .send(Message::SoFar(Box::new(self.so_far(now))));
        }
        self.report_outage(now);
        if self.published.as_mut().is_some_and(|p| p.is_due(now.ns)) {
            self.send_metrics(now.ns);
        }
        if self.outputs.is_quiet && self.progress.is_due() {
            story::progress(self.progress_line(now));
        }
        if self.outputs.is_live && now.ns >= self.next_present_ns {
            self.next_present_ns = now.ns + PRESENT_NS;
            self.send_present(now);
        }
        if now.ns >= self.next_stat_ns {
            self.next_stat_ns = self.next_stat_ns.saturating_add(self.stat_interval_ns);
            let run = self.complete(now.ns, self.stats.summary(self.elapsed_ns(now.ns)));
            let interval = self.interval(&run);
            self.outputs.send(Message::Stat(Box::new(Stat {
                time_unix_ns: now.unix_ns,
                run,
                interval,
            })));
        }
    }

    /// Reports when replies stop and when they come back; a reply takes at most `patience_ns`.
    pub fn report_outages(&mut self, patience_ns: u64) {
        self.outage = Some(Outage::new(Time::now(), patience_ns));
    }

    fn report_outage(&mut self, now: Time) {
        let Counters { sent, replied, .. } = self.stats.counters;
        let outage = self.outage.as_mut();
        if let Some(event) = outage.and_then(|outage| outage.observe(now, sent, replied)) {
            log::warn!("{event}");
        }
    }

    /// What the live view shows beside the probes.
    fn send_present(&self, now: Time) {
        self.outputs.send(Message::Present(Box::new(Present {
            time_unix_ns: now.unix_ns,
            elapsed_ns: self.elapsed_ns(now.ns),
            counters: self.stats.counters,
            clock: self.wire.summary(ClientNs(now.ns)),
            slow: self.slow(Slow::default()),
        })));
    }

    fn send_metrics(&mut self, now_ns: u64) {
        if let Some(published) = &mut self.published {
            let clock = self.wire.summary(ClientNs(now_ns));
            let programs = self.meter.as_ref().map(|meter| meter.read().programs);
            let programs = programs.unwrap_or_default();
            self.outputs
                .send(published.hand_over(&self.stats.counters, clock, programs));
        }
    }

    fn so_far(&self, now: Time) -> SoFar {
        SoFar {
            time_unix_ns: now.unix_ns,
            run: self.run.clone(),
            summary: self.complete(now.ns, self.stats.summary(self.elapsed_ns(now.ns))),
        }
    }

    /// `1.50 min: sent 90, lost 0, p50 18.6 us, p99 54.0 us, 3 of 500 us or more`
    fn progress_line(&self, now: Time) -> String {
        let Counters { sent, lost, .. } = self.stats.counters;
        let elapsed = duration(self.elapsed_ns(now.ns));
        let mut line = format!("{elapsed}: sent {sent}, lost {lost}");
        if let Some(totals) = self.stats.totals() {
            let (p50, p99) = (duration(totals.p50), duration(totals.p99));
            let _ = write!(line, ", p50 {p50}, p99 {p99}");
        }
        if self.run.threshold_ns > 0 {
            let threshold = duration(self.run.threshold_ns);
            let _ = write!(line, ", {} of {threshold} or more", self.slow);
        }
        line
    }

    /// Merges the intervals that end before `now_ns` into one if they are more than `max`.
    pub fn join_intervals(&mut self, now_ns: u64, max: u64) {
        let rest_ns = now_ns.saturating_sub(self.next_stat_ns);
        let more = rest_ns.checked_div(self.stat_interval_ns).unwrap_or(0);
        if more > max {
            self.next_stat_ns += more * self.stat_interval_ns;
        }
    }

    /// When the next interval ends, on the client's clock.
    pub fn next_stat_ns(&self) -> u64 {
        self.next_stat_ns
    }

    /// Whether nothing can be written any more; [`Collector::finish`] returns the error.
    pub fn outputs_failed(&self) -> bool {
        self.outputs.failed()
    }

    /// The summary of the run so far, with what the statistics do not contain.
    fn complete(&self, now: u64, stats: Summary) -> Summary {
        debug_assert!(stats.counters.balance(), "{:?}", stats.counters);
        Summary {
            clock: self.wire.summary(ClientNs(now)),
            own: self.meter.as_ref().map(Meter::read),
            blame: self.blame_tally.summary(),
            slow: self.slow(stats.slow),
            ..stats
        }
    }

    /// The summary, with the present threshold.
    fn slow(&self, slow: Slow) -> Slow {
        let learnt = self.run.threshold_ns == 0;
        Slow {
            from_ns: match self.run.threshold_ns {
                0 => self.adaptive.threshold_ns(),
                given => Some(given),
            },
            learnt,
            ..slow
        }
    }

    /// The summary of the interval since the last one.
    fn interval(&mut self, run: &Summary) -> Summary {
        let own = run.own.clone().map(|cost| {
            let before = std::mem::replace(&mut self.cost_before, cost.clone());
            cost.since(&before)
        });
        let interval = self.stats.interval(run.elapsed_ns);
        Summary {
            own,
            slow: self.slow(interval.slow),
            ..interval
        }
    }

    fn elapsed_ns(&self, now: u64) -> u64 {
        now.saturating_sub(self.start_ns)
    }

    /// Ends the capture: passes on what is to be written last. `amend` can add to the summary. Returns the
    /// results of the objectives.
    pub fn finish(mut self, now: Time, amend: impl FnOnce(Summary) -> Summary) -> Vec<Judged> {
        if self.start_ns == 0 {
            // No probe was due yet.
            return Vec::new();
        }
        self.add_remote_points();
        self.settle(now.ns, true);
        if self.outputs.is_live {
            self.send_present(now);
        }
        self.send_metrics(now.ns);
        if let Some(last) = self.published.as_ref().and_then(Published::last) {
            self.outputs.send(last);
        }
        let elapsed_ns = self.elapsed_ns(now.ns);
        let summary = self.complete(now.ns, self.stats.last_summary(elapsed_ns));
        let interval = (self.stat_interval_ns > 0).then(|| self.interval(&summary));
        let mut summary = amend(summary);
        if let Some(moved) = &self.moved {
            summary.moved = moved.result().into_iter().collect();
        }
        let judged = self.objectives.map(|all| all.judge(&summary));
        let judged = judged.unwrap_or_default();
        summary.slo.clone_from(&judged);
        let capture = Capture {
            run: self.run,
            slowest: self.slowest.results().to_vec(),
            summary,
            series: self
                .series
                .map(|series| series.snapshot())
                .unwrap_or_default(),
            names: Names::default(),
        };
        self.outputs.send(Message::End(Box::new(End {
            time_unix_ns: now.unix_ns,
            capture,
            interval,
            hops: self.hops,
        })));
        judged
    }
}

impl Collector {
    fn add_remote_points(&mut self) {
        let seen = Point::PATH.into_iter().filter(|point| {
            point.host() == Some(Host::Server) && self.seen & 1 << *point as u16 != 0
        });
        self.run
            .points
            .extend(seen.map(|p| (p, "by the server".to_owned())));
        self.run.points.sort_by_key(|(p, _)| *p);
    }
}

/// Whether the wire out, or the wire in, surely made a probe late.
fn late_on(result: &ProbeResult) -> (bool, bool) {
    let late = result.probe.status.is_late();
    let sure = result
        .verdict
        .filter(|v| late && v.certainty == Certainty::Sure);
    let owner = sure.map(|v| v.owner);
    (owner == Some(Owner::WireOut), owner == Some(Owner::WireIn))
}
