//! Draws an invented run: `draw_sample PICTURE [PROBES]`; the ending of the name chooses the format.
//!
//! Every probe takes about 90 us; some wait in the client's queueing discipline, some for the
//! server's softirq, and a few get lost.

use std::env;
use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;

use report::analysis::causes::Causes;
use report::analysis::verdict::{Baselines, ClockTrust, judge};
use report::draw;
use report::model::{
    Breakdown, Bucket, Capture, ClockRelation, Counters, Delay, DelayStat, Endpoint, Names, Probe,
    ProbeResult, Run, Segment, Status, Summary,
};

mod dice;

use dice::Dice;

/// 2026-11-03 01:14:07.25 UTC.
const START_UNIX_NS: i64 = 1_793_668_447_250_000_000;
/// Between probes.
const INTERVAL_NS: u64 = 10_000_000;
/// Slower probes are recorded.
const THRESHOLD_NS: u64 = 1_000_000;
/// The segments, and what they usually take, nanoseconds.
const BASELINE: [(Segment, u64); 15] = [
    (Segment::LTxKern, 3_100),
    (Segment::LTxQdisc, 650),
    (Segment::LTxOutlink, 24_000),
    (Segment::RRxSoftirq, 1_200),
    (Segment::RRxNapi, 1_900),
    (Segment::RRxKern, 2_400),
    (Segment::RTxKern, 1_700),
    (Segment::RTxQdisc, 420),
    (Segment::LRxInlink, 23_000),
    (Segment::LRxSoftirq, 1_300),
    (Segment::LRxNapi, 2_000),
    (Segment::LRxKern, 3_300),
    (Segment::LRxTaskWaking, 1_500),
    (Segment::LRxTaskQueue, 6_800),
    (Segment::LRxTaskRun, 5_200),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let path = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: draw_sample PICTURE [PROBES]")?,
    );
    let count = match arguments.next() {
        Some(count) => count.to_string_lossy().parse()?,
        None => 1000,
    };
    draw::write(draw::Picture::Run(&capture(count)), &path)?;
    Ok(())
}

fn capture(count: u32) -> Capture {
    let mut dice = Dice::default();
    let results: Vec<ProbeResult> = (0..count).map(|seq| result(seq, &mut dice)).collect();
    let mut slowest: Vec<ProbeResult> = results
        .iter()
        .filter(|result| total(result) >= THRESHOLD_NS)
        .cloned()
        .collect();
    slowest.sort_by_key(|result| std::cmp::Reverse(total(result)));
    let summary = summary(&results, &slowest);
    slowest.truncate(7);
    slowest.extend(
        results
            .iter()
            .find(|result| result.breakdown.is_none())
            .cloned(),
    );
    Capture {
        run: run(),
        slowest,
        summary,
        series: series(&results),
        names: Names::default(),
    }
}

fn total(result: &ProbeResult) -> u64 {
    result
        .breakdown
        .as_ref()
        .map_or(0, |breakdown| breakdown.total_ns)
}

fn result(seq: u32, dice: &mut Dice) -> ProbeResult {
    let lost = dice.one_in(300);
    let mut delays: Vec<Delay> = BASELINE
        .iter()
        .map(|(segment, baseline)| delay(*segment, *baseline, dice))
        .collect();
    if dice.one_in(60) {
        delays[1].ns += (13e6 * dice.part()) as u64 + 700_000;
    }
    if seq % 400 > 340 && dice.one_in(5) {
        delays[3].ns += (14e6 * dice.part().powi(2)) as u64 + 400_000;
        delays[3].clamped = dice.one_in(4);
    }
    if dice.one_in(150) {
        delays[13].ns += (5e6 * dice.part()) as u64;
    }
    let total_ns = delays.iter().map(|delay| delay.ns).sum();
    let probe = Probe {
        seq,
        sent_unix_ns: START_UNIX_NS + i64::from(seq) * INTERVAL_NS as i64,
        peer: IpAddr::from([10, 0, 0, 2]),
        status: if lost { Status::Lost } else { Status::Ok },
        flow: 0,
        ttl: [None; 2],
        clock: ClockRelation::Separate,
        path: Vec::new(),
    };
    let breakdown = Breakdown {
        total_ns,
        delays,
        unordered: 0,
        wire: None,
        way: Vec::new(),
    };
    ProbeResult {
        probe,
        breakdown: (!lost).then_some(breakdown),
        verdict: None,
        loss: None,
        blame: Vec::new(),
    }
}

fn delay(segment: Segment, baseline: u64, dice: &mut Dice) -> Delay {
    let tail = if dice.one_in(50) {
        4.0 * dice.part()
    } else {
        0.0
    };
    let ns = (baseline as f64 * (0.8 + 0.4 * dice.part() + tail)) as u64;
    let wire = matches!(segment, Segment::LTxOutlink | Segment::LRxInlink);
    let bounds = wire.then_some((ns.saturating_sub(4_000), ns + 4_000));
    Delay {
        segment,
        ns,
        bounds,
        merged: false,
        clamped: false,
        doubt: None,
    }
}

fn run() -> Run {
    let end = |host: &str, addr: [u8; 4]| Endpoint {
        host: Some(host.to_owned()),
        addr: Some(IpAddr::from(addr)),
        dev: Some("eth0".to_owned()),
        host_id: None,
    };
    Run {
        target: None,
        start_unix_ns: START_UNIX_NS,
        start_ns: None,
        client: end("web1", [10, 0, 0, 1]),
        server: end("db7", [10, 0, 0, 2]),
        mode: "inband".to_owned(),
        interval_ns: Some(INTERVAL_NS),
        threshold_ns: THRESHOLD_NS,
        size: 556,
        flows: None,
        points: Vec::new(),
    }
}

fn summary(results: &[ProbeResult], slow: &[ProbeResult]) -> Summary {
    let answered = || {
        results
            .iter()
            .filter_map(|result| result.breakdown.as_ref())
    };
    let mut delays = Vec::from_iter(stat(
        None,
        answered().map(|breakdown| breakdown.total_ns).collect(),
    ));
    for (k, (segment, _)) in BASELINE.iter().enumerate() {
        delays.extend(stat(
            Some(*segment),
            answered().map(|breakdown| breakdown.delays[k].ns).collect(),
        ));
    }
    let mut baselines = Baselines::default();
    let mut causes = Causes::default();
    for (result, breakdown) in results.iter().zip(answered()) {
        baselines.learn(breakdown, u64::from(result.probe.seq) * INTERVAL_NS);
    }
    for breakdown in slow.iter().filter_map(|result| result.breakdown.as_ref()) {
        let verdict = judge(breakdown, &baselines, ClockTrust::Bounded);
        causes.count(verdict.as_ref());
    }
    let (sent, replied) = (results.len() as u64, answered().count() as u64);
    Summary {
        elapsed_ns: sent * INTERVAL_NS,
        counters: Counters {
            sent,
            replied,
            lost: sent - replied,
            reordered: sent / 500,
            recorded: slow.len() as u64 + sent - replied,
            lost_stamps: sent / 900,
            ..Counters::default()
        },
        delays,
        causes: causes.list(),
        ..Summary::default()
    }
}

fn stat(segment: Option<Segment>, mut values: Vec<u64>) -> Option<DelayStat> {
    values.sort_unstable();
    let at = |part: f64| values[((values.len() - 1) as f64 * part) as usize];
    (!values.is_empty()).then(|| DelayStat {
        segment,
        count: values.len() as u64,
        min: at(0.0),
        mean: values.iter().sum::<u64>() as f64 / values.len() as f64,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
    })
}

fn series(results: &[ProbeResult]) -> (u64, Vec<Bucket>) {
    let buckets = results.chunks(5).map(|chunk| {
        let totals: Vec<u64> = chunk
            .iter()
            .filter(|result| result.breakdown.is_some())
            .map(total)
            .collect();
        let count = totals.len() as u32;
        Bucket {
            count,
            lost: chunk.len() as u32 - count,
            min: totals.iter().copied().min().unwrap_or(0),
            mean: totals.iter().sum::<u64>() as f64 / f64::from(count.max(1)),
            max: totals.iter().copied().max().unwrap_or(0),
        }
    });
    (5 * INTERVAL_NS, buckets.collect())
}
