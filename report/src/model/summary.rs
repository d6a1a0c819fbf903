//! Everything about a run, or a part of it, that fits in a few lines.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::blame::BlameSummary;
use super::breakdown::Marks;
use super::clock::ClockSummary;
use super::cost::OwnCost;
use super::counters::Counters;
use super::delay_stat::DelayStat;
use super::flow::FlowStat;
use super::loss::LossCount;
use super::moved::Moved;
use super::objective::Judged;
use super::segment::Segment;
use super::verdict::Cause;

/// How a delay varied in the course of a run: percentiles of its consecutive parts, in order, of the
/// parts with enough probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Values of the whole run that were cut at the packet's arrival (`Delay::clamped`).
    pub clamped: u64,
    /// Medians, nanoseconds.
    pub p50: Vec<u64>,
    /// 99th percentiles, nanoseconds.
    pub p99: Vec<u64>,
}

/// A part of the path whose delay varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Trip {
    /// From the client's driver to the server's `netif_receive_skb`.
    Out,
    /// From the server's driver to the client's `netif_receive_skb`.
    In,
    /// From `l_tx_user` to `l_rx_user`.
    #[strum(serialize = "rtt")]
    Round,
}

impl Trip {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Out, Self::In, Self::Round];

    /// The direction with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Its name: `out`, `in`, `rtt`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How much the delay of one trip varies from a probe to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Variation {
    /// Which direction.
    pub direction: Trip,
    /// Distribution of |IPDV| (RFC 3393), nanoseconds, over pairs of consecutive probes.
    pub ipdv: DelayStat,
    /// Interarrival jitter as RFC 3550 smooths it (section 6.4.1), at the end, nanoseconds.
    pub rfc3550_ns: u64,
}

/// How many probes of a span were slow, and the threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    /// From this total on a probe counts as slow, nanoseconds. Absent while it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ns: Option<u64>,
    /// The threshold was learnt from the run (its last value), not given.
    pub learnt: bool,
    /// Answered probes that were slow.
    pub probes: u64,
}

/// The summary of a run, or of one interval of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Nanoseconds from the run's start to this summary; of an interval, its length.
    pub elapsed_ns: u64,
    /// Losses and irregularities.
    pub counters: Counters,
    /// Total first, then the segments in path order.
    pub delays: Vec<DelayStat>,
    /// What qualifies the times of the segments, over all probes.
    pub marks: Marks,
    /// Which probes were slow.
    pub slow: Slow,
    /// The causes of slow probes, by the time that they took, largest first.
    pub causes: Vec<Cause>,
    /// How late probes left against their schedule, nanoseconds; absent when adaptive.
    pub send_slip: Option<DelayStat>,
    /// The server's clock; absent when both ends are on one, or nothing came from the server.
    pub clock: Option<ClockSummary>,
    /// Variation of the delay, by direction, where two consecutive probes had it.
    pub jitter: Vec<Variation>,
    /// All values of each of `delays`, in the same order; only at the end of a run.
    pub histograms: Vec<Histogram<u64>>,
    /// How each of `delays` varied, in the same order; only at the end of a run.
    pub spreads: Vec<Spread>,
    /// What became of the run's objectives; only at the end of a run.
    pub slo: Vec<Judged>,
    /// What the client itself cost.
    pub own: Option<OwnCost>,
    /// Lost probes by place and reason.
    pub losses: Vec<LossCount>,
    /// The flows, if there are several.
    pub flows: Vec<FlowStat>,
    /// What was to blame for slow probes, where that was asked for.
    pub blame: BlameSummary,
    /// Counters that moved while probes were slow or lost, of each host of which they were read; only at the end of a run.
    pub moved: Vec<Moved>,
}

impl Summary {
    /// What probes took in all: the response, where there is a schedule, else the total; if a probe
    /// was answered.
    pub fn taken(&self) -> Option<&DelayStat> {
        let of = |segment| {
            let mut delays = self.delays.iter();
            delays.find(move |stat| stat.segment == segment && stat.count > 0)
        };
        of(Some(Segment::Response)).or(of(None))
    }
}
