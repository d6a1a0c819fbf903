//! The line of a summary.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;

use serde::{Deserialize, Serialize};

use super::hdr::Hdr;
use super::value::{
    AtDeviceLine, DeviceLine, DoubtLine, LostOn, Numbers, StretchLine, Time, TotalOr, count,
    is_default, read_symbol, symbol,
};
use crate::analysis::headline::{About, Headline};
use crate::model::{
    Above, BlameSummary, Cause, ClockSummary, Counters, Counts, DelayStat, FlowStat, Judged,
    LossCount, Mark, Marks, Moved, Names, OwnCost, Owner, Place as LostAt, Segment, Slow, Spread,
    State, Stretch, Summary, Trip, Value, Variation,
};

/// How many probes were lost at one place for one reason at one device.
#[derive(Serialize, Deserialize)]
struct LossEntry<'a> {
    place: LostAt,
    direction: LostOn,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Cow<'a, str>>,
    #[serde(flatten)]
    device: DeviceLine<'a>,
    count: u64,
}

impl<'a> LossEntry<'a> {
    fn new(count: &'a LossCount, names: &'a Names) -> Self {
        Self {
            device: DeviceLine::new(count.device, names),
            place: count.place,
            direction: LostOn(count.place.direction()),
            reason: count.reason.as_ref().and_then(symbol),
            location: count.location.as_ref().and_then(symbol),
            count: count.count,
        }
    }
}

impl From<LossEntry<'_>> for LossCount {
    fn from(line: LossEntry) -> Self {
        let named = |name: Option<Cow<'_, str>>| name.map(|n| read_symbol(Some(n)));
        Self {
            place: line.place,
            reason: named(line.reason),
            location: named(line.location),
            device: line.device.device(),
            count: line.count,
        }
    }
}

/// The slow probes with one cause.
#[derive(Serialize, Deserialize)]
struct CauseLine<'a> {
    owner: Owner,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<Segment>,
    count: u64,
    sure: u64,
    #[serde(default)]
    excess_ns: u64,
    min: u64,
    p50: u64,
    max: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_count: Option<u64>,
    #[serde(flatten)]
    at: AtDeviceLine<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_way: Option<StretchLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_way_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<DoubtLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt_count: Option<u64>,
}

/// How many slow probes each owner answers for.
fn by_owner(causes: &[Cause]) -> BTreeMap<Owner, u64> {
    let mut owners = BTreeMap::new();
    for cause in causes {
        *owners.entry(cause.owner).or_default() += cause.count;
    }
    owners
}

impl<'a> CauseLine<'a> {
    fn new(cause: &Cause, names: &'a Names) -> Self {
        let Cause {
            owner,
            segment,
            count,
            sure,
            excess_ns,
            min_ns,
            p50_ns,
            max_ns,
            cpu,
            at,
            on_way,
            doubt,
        } = *cause;
        Self {
            owner,
            segment,
            count,
            sure,
            excess_ns,
            min: min_ns,
            p50: p50_ns,
            max: max_ns,
            cpu: cpu.map(|(cpu, _)| cpu),
            cpu_count: cpu.map(|(_, count)| count),
            at: AtDeviceLine::new(at.map(|(at, _)| at), names),
            device_count: at.map(|(_, count)| count),
            on_way: on_way.map(|(on_way, _)| on_way.into()),
            on_way_count: on_way.map(|(_, count)| count),
            doubt: doubt.map(|(doubt, _)| DoubtLine::new(doubt, names)),
            doubt_count: doubt.map(|(_, count)| count),
        }
    }
}

impl From<&CauseLine<'_>> for Cause {
    fn from(line: &CauseLine<'_>) -> Self {
        Self {
            owner: line.owner,
            segment: line.segment,
            count: line.count,
            sure: line.sure,
            excess_ns: line.excess_ns,
            min_ns: line.min,
            p50_ns: line.p50,
            max_ns: line.max,
            cpu: line.cpu.zip(line.cpu_count),
            at: line.at.at().zip(line.device_count),
            on_way: line.on_way.map(Stretch::from).zip(line.on_way_count),
            doubt: line
                .doubt
                .as_ref()
                .and_then(DoubtLine::doubt)
                .zip(line.doubt_count),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct StatLine<'a> {
    pub(super) time: Time,
    elapsed_ns: u64,
    #[serde(flatten)]
    counters: Counters,
    delays: Vec<DelayEntry>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    headline: Option<HeadlineLine<'a>>,
    #[serde(default)]
    slow: Slow,
    verdicts: BTreeMap<Owner, u64>,
    causes: Vec<CauseLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_slip: Option<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<ClockLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    jitter: Vec<JitterLine>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    slo: Vec<JudgedLine>,
    #[serde(rename = "self", skip_serializing_if = "Option::is_none")]
    own: Option<OwnCost>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    losses: Vec<LossEntry<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flows: Vec<FlowLine>,
    #[serde(default, skip_serializing_if = "BlameSummary::is_empty")]
    blame: Cow<'a, BlameSummary>,
    #[serde(default, skip_serializing_if = "<[Moved]>::is_empty")]
    moved: Cow<'a, [Moved]>,
}

impl<'a> StatLine<'a> {
    pub(super) fn new(
        summary: &'a Summary,
        headline: Option<&'a Headline>,
        names: &'a Names,
        time_unix_ns: i64,
    ) -> Self {
        let histograms = summary.histograms.iter().cloned().map(Hdr);
        let histograms = histograms.map(Some).chain(iter::repeat_with(|| None));
        let spreads = summary.spreads.iter().map(SpreadLine::from);
        let spreads = spreads.map(Some).chain(iter::repeat_with(|| None));
        let entry = |((stat, hdr), spread): ((&DelayStat, _), _)| DelayEntry {
            delay: TotalOr(stat.segment),
            numbers: stat.into(),
            marks: stat.segment.map_or_else(Vec::new, |segment| {
                summary.marks.for_segment(segment).used().collect()
            }),
            hdr,
            spread,
        };
        let delays = summary.delays.iter().zip(histograms).zip(spreads);
        Self {
            time: Time(time_unix_ns),
            elapsed_ns: summary.elapsed_ns,
            counters: summary.counters,
            delays: delays.map(entry).collect(),
            headline: headline.map(|headline| HeadlineLine::new(headline, names)),
            slow: summary.slow,
            verdicts: by_owner(&summary.causes),
            causes: summary
                .causes
                .iter()
                .map(|cause| CauseLine::new(cause, names))
                .collect(),
            send_slip: summary.send_slip.as_ref().map(Numbers::from),
            jitter: summary.jitter.iter().map(JitterLine::from).collect(),
            slo: summary.slo.iter().map(JudgedLine::from).collect(),
            own: summary.own.clone(),
            clock: summary.clock.as_ref().map(ClockLine::from),
            losses: summary
                .losses
                .iter()
                .map(|loss| LossEntry::new(loss, names))
                .collect(),
            flows: summary.flows.iter().map(FlowLine::from).collect(),
            blame: Cow::Borrowed(&summary.blame),
            moved: Cow::Borrowed(&summary.moved),
        }
    }
}

impl StatLine<'_> {
    pub(super) fn plausible(&self) -> Result<(), String> {
        let jitter = self.jitter.iter().map(|line| &line.ipdv);
        let delays = self.delays.iter().map(|entry| &entry.numbers);
        let mut numbers = jitter.chain(delays).chain(&self.send_slip);
        numbers.try_for_each(Numbers::plausible)?;
        for cause in &self.causes {
            count("slow probes", cause.count)?;
            let parts = [Some(cause.sure), cause.cpu_count];
            if parts.into_iter().flatten().any(|part| part > cause.count) {
                return Err("a part of the slow probes that is larger than all".to_owned());
            }
        }
        let mut losses = self.losses.iter();
        losses.try_for_each(|loss| count("lost probes", loss.count))?;
        self.flows.iter().try_for_each(FlowLine::plausible)?;
        if self.delays.len() > Segment::ALL.len() + 1 {
            return Err(format!("{} delays", self.delays.len()));
        }
        let largest = self.counters.largest();
        count("probes or events", largest.max(self.blame.largest()))
    }
}

impl From<StatLine<'_>> for Summary {
    fn from(line: StatLine) -> Self {
        let (mut histograms, mut spreads) = (Vec::new(), Vec::new());
        let mut marks = Marks::default();
        let delay = |entry: DelayEntry| {
            if let Some(segment) = entry.delay.0 {
                entry
                    .marks
                    .into_iter()
                    .for_each(|mark| marks.add(segment, mark));
            }
            histograms.extend(entry.hdr.map(|hdr| hdr.0));
            spreads.extend(entry.spread.map(Spread::from));
            entry.numbers.into_stat(entry.delay.0)
        };
        let delays: Vec<_> = line.delays.into_iter().map(delay).collect();
        Self {
            elapsed_ns: line.elapsed_ns,
            counters: line.counters,
            histograms: Some(histograms)
                .filter(|all| all.len() == delays.len())
                .unwrap_or_default(),
            spreads: Some(spreads)
                .filter(|all| all.len() == delays.len())
                .unwrap_or_default(),
            delays,
            marks,
            slow: line.slow,
            causes: line.causes.iter().map(Cause::from).collect(),
            send_slip: line.send_slip.map(|numbers| numbers.into_stat(None)),
            clock: line.clock.map(ClockSummary::from),
            jitter: line.jitter.into_iter().map(Variation::from).collect(),
            slo: line.slo.into_iter().map(Judged::from).collect(),
            own: line.own,
            losses: line.losses.into_iter().map(LossCount::from).collect(),
            flows: line.flows.into_iter().map(FlowStat::from).collect(),
            blame: line.blame.into_owned(),
            moved: line.moved.into_owned(),
        }
    }
}

/// What the run is about; not read back, as it follows from the rest.
#[derive(Serialize)]
struct HeadlineLine<'a> {
    about: About,
    title: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    /// What took most time.
    #[serde(skip_serializing_if = "Option::is_none")]
    slow: Option<CauseLine<'a>>,
    /// Where most probes were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<LossEntry<'a>>,
    /// Those that differ from the others.
    #[serde(skip_serializing_if = "<[u8]>::is_empty")]
    flows: &'a [u8],
}

impl<'a> HeadlineLine<'a> {
    fn new(headline: &'a Headline, names: &'a Names) -> Self {
        let Headline {
            about,
            title,
            detail,
            cause,
            loss,
            flows,
        } = headline;
        Self {
            about: *about,
            title,
            detail,
            slow: cause.as_ref().map(|cause| CauseLine::new(cause, names)),
            loss: loss.as_ref().map(|loss| LossEntry::new(loss, names)),
            flows,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ClockLine {
    state: State,
    rate_ppm: f64,
    rate_sd_ppm: f64,
    events: Events,
    glitches: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_base_age_ns: Option<u64>,
}

impl From<&ClockSummary> for ClockLine {
    fn from(clock: &ClockSummary) -> Self {
        let Counts {
            rate,
            step,
            path,
            glitches,
        } = clock.counts;
        let rounded = |ppm: f64| (ppm * 1e4).round() / 1e4;
        Self {
            state: clock.state,
            rate_ppm: rounded(clock.rate_ppm),
            rate_sd_ppm: rounded(clock.rate_sd_ppm),
            events: Events { rate, step, path },
            glitches,
            in_base_age_ns: clock.in_base_age_ns,
        }
    }
}

impl From<ClockLine> for ClockSummary {
    fn from(line: ClockLine) -> Self {
        let Events { rate, step, path } = line.events;
        Self {
            state: line.state,
            rate_ppm: line.rate_ppm,
            rate_sd_ppm: line.rate_sd_ppm,
            counts: Counts {
                rate,
                step,
                path,
                glitches: line.glitches,
            },
            in_base_age_ns: line.in_base_age_ns,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Events {
    rate: u64,
    step: u64,
    path: u64,
}

/// The total, or a segment.
#[derive(Serialize, Deserialize)]
struct DelayEntry {
    delay: TotalOr,
    #[serde(flatten)]
    numbers: Numbers,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<Mark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hdr: Option<Hdr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<SpreadLine>,
}

/// Percentiles of consecutive parts of the run.
#[derive(Serialize, Deserialize)]
struct SpreadLine {
    #[serde(default, skip_serializing_if = "is_default")]
    clamped: u64,
    p50: Vec<u64>,
    p99: Vec<u64>,
}

impl From<&Spread> for SpreadLine {
    fn from(spread: &Spread) -> Self {
        let Spread { clamped, p50, p99 } = spread.clone();
        Self { clamped, p50, p99 }
    }
}

impl From<SpreadLine> for Spread {
    fn from(line: SpreadLine) -> Self {
        let SpreadLine { clamped, p50, p99 } = line;
        Self { clamped, p50, p99 }
    }
}

#[derive(Serialize, Deserialize)]
struct JitterLine {
    direction: Trip,
    ipdv: Numbers,
    rfc3550_ns: u64,
}

impl From<&Variation> for JitterLine {
    fn from(variation: &Variation) -> Self {
        Self {
            direction: variation.direction,
            ipdv: (&variation.ipdv).into(),
            rfc3550_ns: variation.rfc3550_ns,
        }
    }
}

impl From<JitterLine> for Variation {
    fn from(line: JitterLine) -> Self {
        Self {
            direction: line.direction,
            ipdv: line.ipdv.into_stat(None),
            rfc3550_ns: line.rfc3550_ns,
        }
    }
}

/// The probes of one flow.
#[derive(Serialize, Deserialize)]
struct FlowLine {
    flow: u8,
    replied: u64,
    lost: u64,
    above: Above,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<Numbers>,
}

impl FlowLine {
    fn plausible(&self) -> Result<(), String> {
        count("probes of a flow", self.replied.max(self.lost))?;
        if self.above.p50.max(self.above.p99) > self.replied {
            return Err("more slow probes of a flow than it has".to_owned());
        }
        self.total.iter().try_for_each(Numbers::plausible)
    }
}

impl From<&FlowStat> for FlowLine {
    fn from(stat: &FlowStat) -> Self {
        Self {
            flow: stat.flow,
            replied: stat.replied,
            lost: stat.lost,
            above: stat.above,
            total: stat.total.as_ref().map(Numbers::from),
        }
    }
}

impl From<FlowLine> for FlowStat {
    fn from(line: FlowLine) -> Self {
        Self {
            flow: line.flow,
            replied: line.replied,
            lost: line.lost,
            above: line.above,
            total: line.total.map(|numbers| numbers.into_stat(None)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct JudgedLine {
    objective: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured_percent: Option<f64>,
    met: bool,
}

impl From<&Judged> for JudgedLine {
    fn from(judged: &Judged) -> Self {
        let (measured_ns, measured_percent) = match judged.measured {
            Some(Value::Ns(ns)) => (Some(ns.round() as u64), None),
            Some(Value::Percent(percent)) => (None, Some(percent)),
            None => (None, None),
        };
        Self {
            objective: judged.objective.clone(),
            measured_ns,
            measured_percent,
            met: judged.met,
        }
    }
}

impl From<JudgedLine> for Judged {
    fn from(line: JudgedLine) -> Self {
        let ns = line.measured_ns.map(|ns| Value::Ns(ns as f64));
        Self {
            objective: line.objective,
            measured: ns.or(line.measured_percent.map(Value::Percent)),
            met: line.met,
        }
    }
}
