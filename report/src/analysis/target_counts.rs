//! What metrics say of the probes to one target: counts that never go down, in bounded memory.

use std::collections::BTreeMap;

use crate::analysis::exponential::Exponential;
use crate::analysis::loss::Losses;
use crate::model::{
    Breakdown, Certainty, Class, Host, LossCount, Owner, ProbeResult, Segment, Verdict,
};
use crate::units::duration;

/// What made slow probes slow; without a verdict, nobody.
pub type Slowness = (Owner, Option<Segment>, Certainty);

/// A slow probe, as an example of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Sequence number.
    pub seq: u32,
    /// When it was sent, nanoseconds since the Unix epoch.
    pub sent_unix_ns: i64,
    /// What made it slow, in a few words.
    pub verdict: String,
}

/// What metrics say of the probes to one target.
#[derive(Clone, Debug, Default)]
pub struct TargetCounts {
    /// The totals of answered probes.
    pub rtt: Exponential,
    segments: BTreeMap<Segment, Exponential>,
    /// How late probes left against their schedule.
    pub slip: Exponential,
    /// Slow probes, and the last one of each kind.
    pub slow: BTreeMap<Slowness, (u64, Example)>,
    losses: Losses,
    /// Time in slow segments that each class took, nanoseconds; true: on the server's host.
    pub blame_ns: BTreeMap<(bool, Class), u64>,
}

impl TargetCounts {
    /// Counts an answered probe.
    pub fn answered(&mut self, breakdown: &Breakdown) {
        self.rtt.record(breakdown.total_ns);
        for delay in &breakdown.delays {
            let segment = self.segments.entry(delay.segment).or_default();
            segment.record(delay.ns);
        }
    }

    /// Counts a result that is final: whether it was `slow`, where it was lost, who had the CPU.
    pub fn result(&mut self, result: &ProbeResult, slow: bool) {
        if slow {
            let verdict = result.verdict.as_ref();
            let slowness = verdict.map_or(UNDECIDED, |v| (v.owner, v.segment, v.certainty));
            let example = Example {
                seq: result.probe.seq,
                sent_unix_ns: result.probe.sent_unix_ns,
                verdict: verdict.map_or_else(|| "none".to_owned(), words),
            };
            self.slow_of(slowness, 1, &example);
        }
        if let Some(loss) = &result.loss {
            self.losses.count(loss);
        }
        for blame in &result.blame {
            for part in &blame.parts {
                let at_server = blame.host == Host::Server;
                let all = self.blame_ns.entry((at_server, part.class)).or_default();
                *all = all.saturating_add(part.ns);
            }
        }
    }

    /// Everything but the losses is counted anew; returns what it was.
    #[must_use]
    pub fn hand_over(&mut self) -> Self {
        let next = Self {
            losses: std::mem::take(&mut self.losses),
            ..Self::default()
        };
        std::mem::replace(self, next)
    }

    /// Adds what was counted later, of what a page says of one target alone: round trips and slow probes.
    pub fn add(&mut self, later: &Self) {
        self.rtt.add(&later.rtt);
        for (slowness, (count, last)) in &later.slow {
            self.slow_of(*slowness, *count, last);
        }
    }

    fn slow_of(&mut self, slowness: Slowness, count: u64, last: &Example) {
        let slow = self.slow.entry(slowness);
        let (all, example) = slow.or_insert_with(|| (0, last.clone()));
        *all += count;
        example.clone_from(last);
    }

    /// The segments that answered probes had, in path order.
    pub fn segments(&self) -> impl Iterator<Item = (Segment, &Exponential)> {
        self.segments.iter().map(|(segment, all)| (*segment, all))
    }

    /// Lost probes by place and reason, also those that were answered later.
    pub fn losses(&self) -> Vec<LossCount> {
        self.losses.counts()
    }
}

/// A slow probe of which nothing took longer than usual.
const UNDECIDED: Slowness = (Owner::Unknown, None, Certainty::Undecided);

/// `remote r_rx_softirq 812 us, sure`: ASCII, at most 60 characters.
fn words(verdict: &Verdict) -> String {
    let segment = verdict.segment.map_or("", Segment::name);
    let (owner, excess) = (verdict.owner.name(), duration(verdict.excess_ns));
    let certainty = verdict.certainty.name();
    format!("{owner} {segment} {excess}, {certainty}").replace("  ", " ")
}
