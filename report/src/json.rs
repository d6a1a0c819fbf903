//! A run as JSON, one object a line, written and read. The schema is
//! `schema/pingtrace.schema.json`, and a test holds the two together.
//!
//! Times are integer nanoseconds; a missing value is absent. Wall-clock times are RFC 3339 in UTC
//! with microseconds, so that a probe read back has its send time to the microsecond.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use chrono::{DateTime, SecondsFormat, Utc};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{
    Deserializer as HdrReader, Serializer as _, V2DeflateSerializer,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::blame::{Blame, BlameTally};
use crate::causes::Cause;
use crate::clock::{ClockSummary, Counts, State};
use crate::hops::{HopStat, HopStats};
use crate::loss::{Direction, Loss, LossCount, Place as LostAt};
use crate::model::{
    Breakdown, ClockRelation, Counters, Delay, DelayStat, Endpoint, Host, KernelDrop, Names,
    OwnCost, Owner, Point, Probe, Record, Run, Segment, Stamp, Status, Summary, Symbol, Variation,
    Way,
};
use crate::slo::{Judged, Value};
use crate::verdict::{Certainty, Verdict};

/// Version of the format, in the `run` line.
pub const VERSION: u32 = 1;

/// The name of the total among the delays of a `stat` line.
const TOTAL: &str = "total";

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not what the schema says.
    #[error("read JSON line: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a later version of the format.
    #[error("read JSON line: format version {0}, this reads up to {VERSION}")]
    Version(u32),
}

/// A line read back.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The start of a run.
    Run(Run),
    /// A recorded probe.
    Probe(Box<ProbeRead>),
    /// A summary.
    Stat {
        /// When it was written, nanoseconds since the Unix epoch.
        time_unix_ns: i64,
        /// The summary; means are rounded to nanoseconds, rates to 0.0001 ppm.
        summary: Summary,
    },
    /// A summary of one interval alone.
    Interval {
        /// When it ended, nanoseconds since the Unix epoch.
        time_unix_ns: i64,
        /// The summary; means are rounded to nanoseconds.
        summary: Summary,
    },
    /// Statistics of hops, or a line of a companion: not read back.
    Other,
}

/// A probe read back.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeRead {
    /// The probe, its breakdown, and what made it slow.
    pub record: Record,
    /// The names that the line had for its stamps' namespaces and devices.
    pub names: Names,
}

/// The line that starts a run.
pub fn run_line(run: &Run) -> String {
    write(&Written::Run(RunLine {
        version: VERSION,
        tool: concat!("pingtrace ", env!("CARGO_PKG_VERSION")).into(),
        start: Time(run.start_unix_ns),
        start_ns: run.start_ns,
        client: EndpointLine::from(&run.client),
        server: EndpointLine::from(&run.server),
        mode: Cow::Borrowed(&run.mode),
        interval_ns: run.interval_ns,
        threshold_ns: run.threshold_ns,
        size: run.size,
        points: run
            .points
            .iter()
            .map(|(point, hook)| Hook {
                point: *point,
                hook: Cow::Borrowed(hook),
            })
            .collect(),
    }))
}

/// The line of a recorded probe.
pub fn probe_line(record: &Record, names: &Names) -> String {
    let Record {
        probe,
        breakdown,
        verdict,
        loss,
        blame,
    } = record;
    let start = probe
        .path
        .iter()
        .find(|stamp| stamp.point == Point::LTxUser);
    let delays = breakdown.iter().flat_map(|breakdown| &breakdown.delays);
    write(&Written::Probe(ProbeLine {
        seq: probe.seq,
        time: Time(probe.sent_unix_ns),
        start_ns: start.map(|stamp| stamp.ns),
        peer: probe.peer,
        status: probe.status,
        clock: Clock::from(probe.clock),
        total_ns: breakdown.as_ref().map(|breakdown| breakdown.total_ns),
        points: probe
            .path
            .iter()
            .map(|stamp| StampLine::new(stamp, names))
            .collect(),
        delays: delays.map(DelayLine::from).collect(),
        unordered: breakdown
            .as_ref()
            .map_or(0, |breakdown| breakdown.unordered),
        verdict: verdict.as_ref().map(VerdictLine::from),
        loss: loss.as_ref().map(LossLine::from),
        blame: blame.iter().map(BlameLine::from).collect(),
    }))
}

/// The line of a summary, written at this time, nanoseconds since the Unix epoch.
pub fn stat_line(summary: &Summary, time_unix_ns: i64) -> String {
    write(&Written::Stat(StatLine::new(summary, time_unix_ns)))
}

/// The line of one interval alone, which ended at this time, nanoseconds since the Unix epoch.
pub fn interval_line(summary: &Summary, time_unix_ns: i64) -> String {
    write(&Written::Interval(StatLine::new(summary, time_unix_ns)))
}

/// The line of a run's hops.
pub fn hops_line(hops: &HopStats, names: &Names) -> String {
    let stats = hops.hops();
    write(&Written::Hops(HopsLine {
        hops: stats.iter().map(|hop| HopLine::new(hop, names)).collect(),
        overflow: hops.overflow(),
        unordered: hops.unordered(),
    }))
}

/// Reads a line that one of the functions above wrote, or [`Line::Other`].
pub fn parse_line(line: &str) -> Result<Line, Error> {
    let read = serde_json::from_str(line).map_err(|error| match serde_json::from_str(line) {
        // A later version may look different in every other respect.
        Ok(Version { version }) if version > VERSION => Error::Version(version),
        _ => error.into(),
    })?;
    Ok(match read {
        Read::Run(run) if run.version > VERSION => return Err(Error::Version(run.version)),
        Read::Run(run) => Line::Run(run.into()),
        Read::Probe(probe) => Line::Probe(Box::new((*probe).into())),
        Read::Stat(stat) => Line::Stat {
            time_unix_ns: stat.time.0,
            summary: stat.into(),
        },
        Read::Interval(stat) => Line::Interval {
            time_unix_ns: stat.time.0,
            summary: stat.into(),
        },
        Read::Other => Line::Other,
    })
}

fn write(line: &Written) -> String {
    serde_json::to_string(line).expect("keys are strings and nothing else can fail")
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Written<'a> {
    Run(RunLine<'a>),
    Probe(ProbeLine<'a>),
    Stat(StatLine<'a>),
    Interval(StatLine<'a>),
    Hops(HopsLine<'a>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Read {
    Run(RunLine<'static>),
    Probe(Box<ProbeLine<'static>>),
    Stat(StatLine<'static>),
    Interval(StatLine<'static>),
    #[serde(other)]
    Other,
}

/// All that can be relied on in a `run` line of whatever version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct RunLine<'a> {
    version: u32,
    tool: Cow<'a, str>,
    start: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    client: EndpointLine<'a>,
    server: EndpointLine<'a>,
    mode: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ns: Option<u64>,
    threshold_ns: u64,
    size: usize,
    points: Vec<Hook<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Hook<'a> {
    point: Point,
    hook: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct EndpointLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<Cow<'a, str>>,
    /// 16 hexadecimal digits: a number of 64 bits does not survive every JSON reader.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_id: Option<Hex>,
}

#[derive(Serialize, Deserialize)]
struct ProbeLine<'a> {
    seq: u32,
    time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    peer: IpAddr,
    status: Status,
    clock: Clock,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ns: Option<u64>,
    points: Vec<StampLine<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    delays: Vec<DelayLine>,
    #[serde(default, skip_serializing_if = "is_default")]
    unordered: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<VerdictLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<LossLine<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blame: Vec<BlameLine<'a>>,
}

/// Who had the CPU during a segment.
#[derive(Serialize, Deserialize)]
struct BlameLine<'a> {
    #[serde(flatten)]
    blame: Cow<'a, Blame>,
    unexplained_ns: u64,
}

impl<'a> From<&'a Blame> for BlameLine<'a> {
    fn from(blame: &'a Blame) -> Self {
        Self {
            unexplained_ns: blame.unexplained_ns(),
            blame: Cow::Borrowed(blame),
        }
    }
}

/// Where a probe was lost.
#[derive(Serialize, Deserialize)]
struct LossLine<'a> {
    place: LostAt,
    direction: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Point>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop: Option<DropLine<'a>>,
}

/// What a kernel said when it dropped a packet.
#[derive(Serialize, Deserialize)]
struct DropLine<'a> {
    host: Host,
    reply: bool,
    ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Cow<'a, str>>,
    #[serde(flatten)]
    place: Place<'a>,
}

/// How many probes were lost at one place for one reason.
#[derive(Serialize, Deserialize)]
struct LossEntry<'a> {
    place: LostAt,
    direction: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Cow<'a, str>>,
    count: u64,
}

#[derive(Serialize, Deserialize)]
struct StampLine<'a> {
    point: Point,
    ns: u64,
    host: Host,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
    #[serde(flatten)]
    place: Place<'a>,
}

/// A device and its namespace.
#[derive(Serialize, Deserialize)]
struct Place<'a> {
    #[serde(default, skip_serializing_if = "is_default")]
    ifindex: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    netns: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns_name: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct DelayLine {
    delay: Segment,
    ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lo: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hi: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    merged: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    clamped: bool,
}

#[derive(Serialize, Deserialize)]
struct VerdictLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<Segment>,
    owner: Owner,
    excess_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lo: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hi: Option<u64>,
    certainty: Certainty,
    sure: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
}

/// The slow probes with one cause.
#[derive(Serialize, Deserialize)]
struct CauseLine {
    owner: Owner,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<Segment>,
    count: u64,
    sure: u64,
    min: u64,
    p50: u64,
    max: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_count: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StatLine<'a> {
    time: Time,
    elapsed_ns: u64,
    #[serde(flatten)]
    counters: Counters,
    delays: Vec<DelayEntry>,
    verdicts: BTreeMap<Owner, u64>,
    causes: Vec<CauseLine>,
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
    #[serde(default, skip_serializing_if = "BlameTally::is_empty")]
    blame: Cow<'a, BlameTally>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    hdr: Option<Hdr>,
}

#[derive(Serialize, Deserialize)]
struct JitterLine {
    direction: Way,
    ipdv: Numbers,
    rfc3550_ns: u64,
}

#[derive(Serialize, Deserialize)]
struct Numbers {
    count: u64,
    min: u64,
    mean: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
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

#[derive(Serialize)]
struct HopsLine<'a> {
    hops: Vec<HopLine<'a>>,
    overflow: u64,
    unordered: u64,
}

#[derive(Serialize)]
struct HopLine<'a> {
    direction: &'static str,
    index: u16,
    point: Point,
    host: Host,
    #[serde(flatten)]
    place: Place<'a>,
    seen: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_previous: Option<Numbers>,
}

impl<'a> From<&'a Endpoint> for EndpointLine<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        Self {
            host: endpoint.host.as_deref().map(Cow::Borrowed),
            addr: endpoint.addr,
            dev: endpoint.dev.as_deref().map(Cow::Borrowed),
            host_id: endpoint.host_id.map(Hex),
        }
    }
}

impl From<EndpointLine<'_>> for Endpoint {
    fn from(line: EndpointLine) -> Self {
        Self {
            host: line.host.map(Cow::into_owned),
            addr: line.addr,
            dev: line.dev.map(Cow::into_owned),
            host_id: line.host_id.map(|hex| hex.0),
        }
    }
}

impl From<RunLine<'_>> for Run {
    fn from(line: RunLine) -> Self {
        Self {
            start_unix_ns: line.start.0,
            start_ns: line.start_ns,
            client: line.client.into(),
            server: line.server.into(),
            mode: line.mode.into_owned(),
            interval_ns: line.interval_ns,
            threshold_ns: line.threshold_ns,
            size: line.size,
            points: line
                .points
                .into_iter()
                .map(|Hook { point, hook }| (point, hook.into_owned()))
                .collect(),
        }
    }
}

impl<'a> Place<'a> {
    fn new(host: Host, netns: u32, ifindex: u32, names: &'a Names) -> Self {
        Self {
            ifindex,
            dev: names.device_of(host, netns, ifindex).map(Cow::Borrowed),
            netns,
            netns_name: names.netns_of(host, netns).map(Cow::Borrowed),
        }
    }
}

impl<'a> StampLine<'a> {
    fn new(stamp: &Stamp, names: &'a Names) -> Self {
        let Stamp {
            point,
            host,
            ns,
            cpu,
            ifindex,
            netns,
        } = *stamp;
        Self {
            point,
            ns,
            host,
            cpu,
            place: Place::new(host, netns, ifindex, names),
        }
    }

    /// The stamp; its names go to `names`.
    fn into_stamp(self, names: &mut Names) -> Stamp {
        let Self {
            point,
            ns,
            host,
            cpu,
            place,
        } = self;
        let Place {
            ifindex,
            dev,
            netns,
            netns_name,
        } = place;
        if let Some(name) = netns_name {
            names.netns.insert((host, netns), name.into_owned());
        }
        if let Some(name) = dev {
            names
                .device
                .insert((host, netns, ifindex), name.into_owned());
        }
        Stamp {
            point,
            host,
            ns,
            cpu,
            ifindex,
            netns,
        }
    }
}

impl<'a> HopLine<'a> {
    fn new(hop: &HopStat, names: &'a Names) -> Self {
        let key = hop.key;
        Self {
            direction: if key.reply { "reply" } else { "request" },
            index: key.index,
            point: key.point,
            host: key.host,
            place: Place::new(key.host, key.netns, key.ifindex, names),
            seen: hop.seen,
            since_previous: hop.since_previous.as_ref().map(Numbers::from),
        }
    }
}

impl From<ProbeLine<'_>> for ProbeRead {
    fn from(line: ProbeLine) -> Self {
        let mut names = Names::default();
        let path = line
            .points
            .into_iter()
            .map(|stamp| stamp.into_stamp(&mut names))
            .collect();
        let probe = Probe {
            seq: line.seq,
            sent_unix_ns: line.time.0,
            peer: line.peer,
            status: line.status,
            clock: line.clock.into(),
            path,
        };
        let breakdown = line.total_ns.map(|total_ns| Breakdown {
            total_ns,
            delays: line.delays.iter().map(Delay::from).collect(),
            unordered: line.unordered,
            wire: None,
        });
        let record = Record {
            probe,
            breakdown,
            verdict: line.verdict.as_ref().map(Verdict::from),
            loss: line.loss.map(Loss::from),
            blame: line
                .blame
                .into_iter()
                .map(|b| b.blame.into_owned())
                .collect(),
        };
        Self { record, names }
    }
}

/// A name, or the number that nobody has a name for; none if nothing is known.
fn symbol(symbol: &Symbol) -> Option<Cow<'_, str>> {
    (!symbol.is_unknown()).then(|| match &symbol.name {
        Some(name) => Cow::Borrowed(name.as_str()),
        None => Cow::Owned(symbol.to_string()),
    })
}

fn read_symbol(name: Option<Cow<'_, str>>) -> Symbol {
    Symbol {
        number: 0,
        name: name.map(Cow::into_owned),
    }
}

impl<'a> From<&'a Loss> for LossLine<'a> {
    fn from(loss: &'a Loss) -> Self {
        Self {
            place: loss.place,
            direction: loss.place.direction(),
            last: loss.last,
            drop: loss.drop.as_ref().map(DropLine::from),
        }
    }
}

impl From<LossLine<'_>> for Loss {
    fn from(line: LossLine) -> Self {
        Self {
            place: line.place,
            last: line.last,
            drop: line.drop.map(KernelDrop::from),
        }
    }
}

impl<'a> From<&'a KernelDrop> for DropLine<'a> {
    fn from(drop: &'a KernelDrop) -> Self {
        Self {
            host: drop.host,
            reply: drop.reply,
            ns: drop.ns,
            reason: symbol(&drop.reason),
            location: symbol(&drop.location),
            place: Place {
                ifindex: drop.ifindex,
                dev: drop.device.as_deref().map(Cow::Borrowed),
                netns: drop.netns,
                netns_name: drop.netns_name.as_deref().map(Cow::Borrowed),
            },
        }
    }
}

impl From<DropLine<'_>> for KernelDrop {
    fn from(line: DropLine) -> Self {
        Self {
            host: line.host,
            reply: line.reply,
            ns: line.ns,
            netns: line.place.netns,
            ifindex: line.place.ifindex,
            reason: read_symbol(line.reason),
            location: read_symbol(line.location),
            device: line.place.dev.map(Cow::into_owned),
            netns_name: line.place.netns_name.map(Cow::into_owned),
        }
    }
}

impl<'a> From<&'a LossCount> for LossEntry<'a> {
    fn from(count: &'a LossCount) -> Self {
        Self {
            place: count.place,
            direction: count.place.direction(),
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
            count: line.count,
        }
    }
}

impl From<&Delay> for DelayLine {
    fn from(delay: &Delay) -> Self {
        Self {
            delay: delay.segment,
            ns: delay.ns,
            lo: delay.bounds.map(|(lo, _)| lo),
            hi: delay.bounds.map(|(_, hi)| hi),
            merged: delay.merged,
            clamped: delay.clamped,
        }
    }
}

impl From<&DelayLine> for Delay {
    fn from(line: &DelayLine) -> Self {
        Self {
            segment: line.delay,
            ns: line.ns,
            bounds: line.lo.zip(line.hi),
            merged: line.merged,
            clamped: line.clamped,
        }
    }
}

impl From<&Verdict> for VerdictLine {
    fn from(verdict: &Verdict) -> Self {
        let Verdict {
            owner,
            segment,
            excess_ns,
            bounds,
            certainty,
            cpu,
        } = *verdict;
        Self {
            segment,
            owner,
            excess_ns,
            lo: bounds.map(|(lo, _)| lo),
            hi: bounds.map(|(_, hi)| hi),
            certainty,
            sure: certainty == Certainty::Sure,
            cpu,
        }
    }
}

impl From<&VerdictLine> for Verdict {
    fn from(line: &VerdictLine) -> Self {
        Self {
            owner: line.owner,
            segment: line.segment,
            excess_ns: line.excess_ns,
            bounds: line.lo.zip(line.hi),
            certainty: line.certainty,
            cpu: line.cpu,
        }
    }
}

/// How many slow probes each owner answers for.
fn by_owner(causes: &[Cause]) -> BTreeMap<Owner, u64> {
    let mut owners = BTreeMap::new();
    for cause in causes {
        *owners.entry(cause.owner).or_default() += cause.count;
    }
    owners
}

impl From<&Cause> for CauseLine {
    fn from(cause: &Cause) -> Self {
        let Cause {
            owner,
            segment,
            count,
            sure,
            min_ns,
            p50_ns,
            max_ns,
            cpu,
        } = *cause;
        Self {
            owner,
            segment,
            count,
            sure,
            min: min_ns,
            p50: p50_ns,
            max: max_ns,
            cpu: cpu.map(|(cpu, _)| cpu),
            cpu_count: cpu.map(|(_, count)| count),
        }
    }
}

impl From<&CauseLine> for Cause {
    fn from(line: &CauseLine) -> Self {
        Self {
            owner: line.owner,
            segment: line.segment,
            count: line.count,
            sure: line.sure,
            min_ns: line.min,
            p50_ns: line.p50,
            max_ns: line.max,
            cpu: line.cpu.zip(line.cpu_count),
        }
    }
}

impl From<&DelayStat> for Numbers {
    fn from(stat: &DelayStat) -> Self {
        let DelayStat {
            count,
            min,
            mean,
            p50,
            p90,
            p99,
            p999,
            max,
            ..
        } = *stat;
        Self {
            count,
            min,
            mean: mean.round() as u64,
            p50,
            p90,
            p99,
            p999,
            max,
        }
    }
}

impl Numbers {
    fn into_stat(self, segment: Option<Segment>) -> DelayStat {
        let Self {
            count,
            min,
            mean,
            p50,
            p90,
            p99,
            p999,
            max,
        } = self;
        DelayStat {
            segment,
            count,
            min,
            mean: mean as f64,
            p50,
            p90,
            p99,
            p999,
            max,
        }
    }
}

impl<'a> StatLine<'a> {
    fn new(summary: &'a Summary, time_unix_ns: i64) -> Self {
        let histograms = summary.histograms.iter().cloned().map(Hdr);
        let histograms = histograms.map(Some).chain(iter::repeat_with(|| None));
        let entry = |(stat, hdr): (&DelayStat, Option<Hdr>)| DelayEntry {
            delay: TotalOr(stat.segment),
            numbers: stat.into(),
            hdr,
        };
        Self {
            time: Time(time_unix_ns),
            elapsed_ns: summary.elapsed_ns,
            counters: summary.counters,
            delays: summary.delays.iter().zip(histograms).map(entry).collect(),
            verdicts: by_owner(&summary.causes),
            causes: summary.causes.iter().map(CauseLine::from).collect(),
            send_slip: summary.send_slip.as_ref().map(Numbers::from),
            jitter: summary.jitter.iter().map(JitterLine::from).collect(),
            slo: summary.slo.iter().map(JudgedLine::from).collect(),
            own: summary.own.clone(),
            clock: summary.clock.as_ref().map(ClockLine::from),
            losses: summary.losses.iter().map(LossEntry::from).collect(),
            blame: Cow::Borrowed(&summary.blame),
        }
    }
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

impl From<StatLine<'_>> for Summary {
    fn from(line: StatLine) -> Self {
        let mut histograms = Vec::new();
        let delay = |entry: DelayEntry| {
            histograms.extend(entry.hdr.map(|hdr| hdr.0));
            entry.numbers.into_stat(entry.delay.0)
        };
        let delays: Vec<_> = line.delays.into_iter().map(delay).collect();
        Self {
            elapsed_ns: line.elapsed_ns,
            counters: line.counters,
            histograms: Some(histograms)
                .filter(|all| all.len() == delays.len())
                .unwrap_or_default(),
            delays,
            causes: line.causes.iter().map(Cause::from).collect(),
            send_slip: line.send_slip.map(|numbers| numbers.into_stat(None)),
            clock: line.clock.map(ClockSummary::from),
            jitter: line.jitter.into_iter().map(Variation::from).collect(),
            slo: line.slo.into_iter().map(Judged::from).collect(),
            own: line.own,
            losses: line.losses.into_iter().map(LossCount::from).collect(),
            blame: line.blame.into_owned(),
        }
    }
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

/// [`ClockRelation`] by name.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Clock {
    Same,
    Separate,
}

impl From<ClockRelation> for Clock {
    fn from(clock: ClockRelation) -> Self {
        match clock {
            ClockRelation::Same => Self::Same,
            ClockRelation::Separate => Self::Separate,
        }
    }
}

impl From<Clock> for ClockRelation {
    fn from(clock: Clock) -> Self {
        match clock {
            Clock::Same => Self::Same,
            Clock::Separate => Self::Separate,
        }
    }
}

/// What is written as a string, and read back from one.
macro_rules! as_string {
    ($($kind:ty: $what:literal, $write:expr, $read:expr;)*) => { $(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&Self) -> Cow<'static, str> = $write;
                serializer.serialize_str(&write(self))
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                let read: fn(&str) -> Option<Self> = $read;
                read(&text).ok_or_else(|| D::Error::custom(format!("unknown {} {text:?}", $what)))
            }
        }
    )* };
}

/// Nanoseconds since the Unix epoch, written with microseconds.
struct Time(i64);

/// A number in hexadecimal digits.
struct Hex(u64);

/// All values of a distribution, as `HdrHistogram`'s V2 encoding, deflated, in base64: what its
/// other implementations read and write as a string that begins with `HISTFAAAA`.
pub(crate) struct Hdr(pub(crate) Histogram<u64>);

impl Hdr {
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.0, &mut bytes)
            .expect("a Vec takes everything, and no count is beyond 63 bits");
        BASE64_STANDARD.encode(bytes)
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        HdrReader::new()
            .deserialize(&mut bytes.as_slice())
            .ok()
            .map(Self)
    }
}

/// A segment, or the total.
struct TotalOr(Option<Segment>);

as_string! {
    Point: "point", |point| point.name().into(), Self::from_name;
    Segment: "segment", |segment| segment.name().into(), Self::from_name;
    Way: "direction", |way| way.name().into(), Self::from_name;
    Hdr: "histogram", |hdr| hdr.encode().into(), Self::decode;
    Owner: "owner", |owner| owner.name().into(), Self::from_name;
    Certainty: "certainty", |certainty| certainty.name().into(), Self::from_name;
    Status: "status", |status| status.name().into(), Self::from_name;
    State: "state", |state| state.name().into(), Self::from_name;
    Host: "host", |host| host.name(), Self::from_name;
    LostAt: "place", |place| place.name().into(), Self::from_name;
    Direction: "direction", |direction| direction.name().into(), Self::from_name;
    Hex: "number", |hex| format!("{:016x}", hex.0).into(),
        |text| u64::from_str_radix(text, 16).ok().map(Self);
    TotalOr: "delay", |total| total.0.map_or(TOTAL, Segment::name).into(),
        |text| match text {
            TOTAL => Some(Self(None)),
            name => Segment::from_name(name).map(Some).map(Self),
        };
    Time: "time",
        |time| DateTime::<Utc>::from_timestamp_nanos(time.0)
            .to_rfc3339_opts(SecondsFormat::Micros, true).into(),
        |text| DateTime::parse_from_rfc3339(text).ok()?.timestamp_nanos_opt().map(Self);
}

/// Whether a value is the one that an absent field stands for.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
