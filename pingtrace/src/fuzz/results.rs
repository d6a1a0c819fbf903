//! The results of a run whose probes anybody may have stamped: every analysis and every text of them.

use report::analysis::breakdown::{breakdown, breakdown_into};
use report::analysis::clock::WireSplit;
use report::analysis::hops::HopStats;
use report::analysis::path_change::Paths;
use report::analysis::series::Series;
use report::analysis::slowest::Slowest;
use report::analysis::stats::Stats;
use report::analysis::threshold::AdaptiveThreshold;
use report::analysis::verdict::VerdictQueue;
use report::format::json::{self, Line};
use report::format::style::Style;
use report::format::text;
use report::model::{
    Breakdown, ClockRelation, Names, Probe, ProbeResult, Run, Segment, Status, Summary,
};

/// Analyses probes as a live run does, and checks what comes out.
pub struct Results {
    wire: WireSplit,
    scratch: Breakdown,
    pub stats: Stats,
    verdicts: VerdictQueue,
    threshold: AdaptiveThreshold,
    paths: Paths,
    series: Series,
    slowest: Slowest,
    hops: HopStats,
    pub names: Names,
    run: Run,
}

impl Results {
    pub fn new() -> Self {
        Self {
            wire: WireSplit::new(),
            scratch: Breakdown::default(),
            stats: Stats::new(),
            verdicts: VerdictQueue::default(),
            threshold: AdaptiveThreshold::default(),
            paths: Paths::default(),
            series: Series::new(),
            slowest: Slowest::new(3),
            hops: HopStats::new(),
            names: Names::default(),
            run: Run::default(),
        }
    }

    /// An answered probe.
    pub fn answered(&mut self, probe: &Probe) {
        let alone = breakdown(probe, &mut self.wire.clone());
        let has_total = breakdown_into(probe, &mut self.wire, &mut self.scratch);
        assert_eq!(alone.as_ref(), has_total.then_some(&self.scratch));
        self.hops.record(probe);
        if !has_total {
            return;
        }
        check_laws(probe, &self.scratch);
        let sent_ns = probe.sent_ns().unwrap_or(0);
        self.stats.counters.path_changes += self.paths.observe(probe).count() as u64;
        self.verdicts.confirm(&self.scratch, sent_ns);
        self.stats.record(&self.scratch);
        self.stats.vary(probe);
        self.series.record(sent_ns, self.scratch.total_ns);
        let slow = self.threshold.is_slow(&self.scratch) || probe.status != Status::Ok;
        let mut result = ProbeResult {
            breakdown: Some(self.scratch.clone()),
            ..ProbeResult::new(probe.clone())
        };
        if slow {
            self.stats.counters.recorded += 1;
            self.verdicts.push(result.clone());
        }
        result.verdict = self.verdicts.provisional(&result);
        self.check_result(&result);
        self.slowest.offer(result);
        self.finish(sent_ns, false);
    }

    /// Verdicts that nothing can change any more.
    fn finish(&mut self, now_ns: u64, last: bool) {
        let mut results = Vec::new();
        self.verdicts
            .finish(now_ns, last, |result| results.push(result));
        for result in &results {
            self.stats.slow(result.verdict.as_ref());
            self.check_result(result);
        }
    }

    /// A result is shown, and its line of JSON is read back as it was written.
    pub fn check_result(&self, result: &ProbeResult) {
        let style = Style::default();
        let shown = text::probe_line(result, &self.run, &self.names, &style);
        printable(&(shown + &text::hops(result, &self.names)));
        let line = json::probe_line(result, &self.names);
        printable(&line);
        let Line::Probe(read) = json::parse_line(&line).expect("a line of ours") else {
            panic!("another line: {line}");
        };
        assert_eq!(json::probe_line(&read.result, &read.names), line);
    }

    /// The end of the run: its summary is shown and read back. That takes a thousand times as long as a
    /// probe, because all histograms are deflated: so `elapsed_ns` decides whether it is done.
    pub fn end(mut self, elapsed_ns: u64) {
        self.finish(u64::MAX, true);
        if elapsed_ns % 32 != 1 {
            return;
        }
        let interval = self.stats.interval(elapsed_ns);
        check_summary(&self.run, &interval, &self.names);
        let summary = self.stats.last_summary(elapsed_ns);
        check_summary(&self.run, &summary, &self.names);
        let hops = text::hop_table(&self.hops, &self.names, &Style::default());
        printable(&(hops + &json::hops_line(&self.hops, &self.names)));
        let (_, buckets) = self.series.snapshot();
        assert!(buckets.len() < 10_000);
    }
}

/// What holds for every breakdown.
fn check_laws(probe: &Probe, breakdown: &Breakdown) {
    let ns = |delay: &report::model::Delay| u128::from(delay.ns);
    let sum: u128 = breakdown.delays.iter().map(ns).sum();
    let late = breakdown.late_ns().unwrap_or(0);
    assert_eq!(
        sum,
        u128::from(breakdown.total_ns) + u128::from(late),
        "{probe:?}\n{breakdown:?}"
    );
    let segments = breakdown.delays.iter().map(|delay| delay.segment);
    let on_path = segments.filter(|segment| *segment != Segment::Remote);
    assert!(on_path.is_sorted_by(|a, b| a < b), "{breakdown:?}");
    let parts = &breakdown.way;
    assert!(
        parts.iter().all(|part| part.base_ns <= part.ns),
        "{parts:?}"
    );
    for delay in &breakdown.delays {
        if let Some((lo, hi)) = delay.bounds {
            assert!(lo <= delay.ns && delay.ns <= hi, "{delay:?}");
            assert_eq!(probe.clock, ClockRelation::Separate);
        }
    }
}

/// A summary is shown, and its lines of JSON are read back.
pub fn check_summary(run: &Run, summary: &Summary, names: &Names) {
    printable(&text::summary(run, summary, names, &Style::default()));
    printable(&text::interval(summary, 0, run));
    for line in [
        json::stat_line(run, summary, names, 0),
        json::interval_line(summary, names, 0),
    ] {
        printable(&line);
        json::parse_line(&line).expect("a line of ours");
    }
}

/// No text does anything to a terminal.
pub fn printable(text: &str) {
    let acts = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(acts), "{text:?}");
}
