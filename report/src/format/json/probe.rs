//! The line of a probe.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::value::{
    AtDeviceLine, Clock, DeviceLine, DoubtLine, LostOn, Place, StretchLine, Text, Time, is_default,
    read_symbol, symbol,
};
use crate::model::send_error::SendError;
use crate::model::{
    Blame, Breakdown, Certainty, Delay, Direction, Host, Ifindex, KernelDrop, Loss, Names, Netns,
    Owner, Place as LostAt, Point, Probe, ProbeResult, Segment, Stamp, StampFlags, Status, Stretch,
    Ttl, Verdict, WayPart, WayTime,
};

/// A probe read back.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeRead {
    /// The probe, its breakdown, and what made it slow.
    pub result: ProbeResult,
    /// The names that the line had for its stamps' namespaces and devices.
    pub names: Names,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ProbeLine<'a> {
    seq: u32,
    time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    peer: IpAddr,
    #[serde(default, skip_serializing_if = "is_default")]
    flow: u8,
    status: Status,
    /// What was said of the probe in an earlier line.
    #[serde(skip_serializing_if = "Option::is_none")]
    amends: Option<Status>,
    clock: Clock,
    /// With which TTL the packets arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_ttl: Option<Ttl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_ttl: Option<Ttl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_ns: Option<u64>,
    /// From when it was due, where there is a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_ns: Option<u64>,
    #[serde(borrow)]
    points: Vec<StampLine<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    delays: Vec<DelayLine<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    way: Vec<WayLine>,
    #[serde(default, skip_serializing_if = "is_default")]
    unordered: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<VerdictLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<LossLine<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blame: Vec<BlameLine<'a>>,
}

impl<'a> ProbeLine<'a> {
    pub(super) fn new(result: &'a ProbeResult, names: &'a Names) -> Self {
        let ProbeResult {
            probe,
            breakdown,
            verdict,
            loss,
            blame,
        } = result;
        let delays = breakdown.iter().flat_map(|breakdown| &breakdown.delays);
        let way = breakdown.iter().flat_map(|breakdown| &breakdown.way);
        let [request_ttl, reply_ttl] = probe.ttl;
        Self {
            seq: probe.seq,
            time: Time(probe.sent_unix_ns),
            start_ns: probe.sent_ns(),
            peer: probe.peer,
            flow: probe.flow,
            status: probe.status,
            amends: (probe.status == Status::Amended).then_some(Status::Lost),
            clock: Clock::from(probe.clock),
            request_ttl,
            reply_ttl,
            total_ns: breakdown.as_ref().map(|breakdown| breakdown.total_ns),
            response_ns: breakdown
                .as_ref()
                .filter(|breakdown| breakdown.late_ns().is_some())
                .map(Breakdown::response_ns),
            points: probe
                .path
                .iter()
                .map(|stamp| StampLine::new(stamp, names))
                .collect(),
            delays: delays.map(|delay| DelayLine::new(delay, names)).collect(),
            way: way.map(WayLine::from).collect(),
            unordered: breakdown
                .as_ref()
                .map_or(0, |breakdown| breakdown.unordered),
            verdict: verdict.as_ref().map(|v| VerdictLine::new(v, names)),
            loss: loss.as_ref().map(|loss| LossLine::new(loss, names)),
            blame: blame.iter().map(BlameLine::from).collect(),
        }
    }
}

/// Stamps that a probe can have: up to 32 hops a host and direction, and user space.
const MAX_STAMPS: usize = 512;
/// Parts of the way that a probe can have: hosts on it, and the wires between.
const MAX_PARTS: usize = 64;
/// Blames that a probe can have: a segment each, on either host.
const MAX_BLAMES: usize = 2 * Segment::ALL.len();

/// Checks that a run can have had such a probe, so that later code can rely on it.
pub(super) fn plausible(result: &ProbeResult) -> Result<(), String> {
    let few = |what: &str, count: usize, max: usize| {
        let why = || format!("a probe with {count} {what}, of which it can have {max}");
        (count <= max).then_some(()).ok_or_else(why)
    };
    let breakdown = result.breakdown.as_ref();
    let delays = breakdown.map_or(&[][..], |breakdown| &breakdown.delays);
    let way = breakdown.map_or(&[][..], |breakdown| &breakdown.way);
    few("stamps", result.probe.path.len(), MAX_STAMPS)?;
    few("delays", delays.len(), Segment::ALL.len())?;
    few("parts of the way", way.len(), MAX_PARTS)?;
    few("blames", result.blame.len(), MAX_BLAMES)?;
    let sum = |sum: u64, delay: &Delay| sum.checked_add(delay.ns);
    if delays.iter().try_fold(0, sum).is_none() {
        return Err("a probe whose delays took longer than 584 years".to_owned());
    }
    let verdict = result.verdict.iter().filter_map(|verdict| verdict.bounds);
    let bounds = delays.iter().filter_map(|delay| delay.bounds);
    if !bounds.chain(verdict).all(|(lo, hi)| lo <= hi) {
        return Err("a bound (lo) above the other one (hi)".to_owned());
    }
    Ok(())
}

impl From<ProbeLine<'_>> for ProbeRead {
    fn from(line: ProbeLine) -> Self {
        let mut names = Names::default();
        for stamp in &line.points {
            stamp.learn_names(&mut names);
        }
        let path = line.points.iter().map(StampLine::stamp).collect();
        let probe = Probe {
            seq: line.seq,
            sent_unix_ns: line.time.0,
            peer: line.peer,
            status: match (line.status, line.amends) {
                (Status::Late, Some(Status::Lost)) => Status::Amended,
                (status, _) => status,
            },
            flow: line.flow,
            ttl: [line.request_ttl, line.reply_ttl],
            clock: line.clock.into(),
            path,
        };
        let breakdown = line.total_ns.map(|total_ns| Breakdown {
            total_ns,
            delays: line.delays.iter().map(Delay::from).collect(),
            unordered: line.unordered,
            wire: None,
            way: line.way.iter().map(WayPart::from).collect(),
        });
        let loss = line.loss.map(Loss::from);
        let drop = loss.as_ref().and_then(|loss| loss.drop.as_ref());
        names.add(drop.map(KernelDrop::names).unwrap_or_default());
        let result = ProbeResult {
            probe,
            breakdown,
            verdict: line.verdict.as_ref().map(Verdict::from),
            loss,
            blame: line
                .blame
                .into_iter()
                .map(|b| b.blame.into_owned())
                .collect(),
        };
        Self { result, names }
    }
}

/// What had the CPU during a segment.
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
    direction: LostOn,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Point>,
    /// The device that dropped it, or the last one that saw it.
    #[serde(flatten)]
    device: DeviceLine<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop: Option<DropLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
}

impl<'a> LossLine<'a> {
    fn new(loss: &'a Loss, names: &'a Names) -> Self {
        Self {
            place: loss.place,
            direction: LostOn(loss.place.direction()),
            last: loss.last,
            device: DeviceLine::new(loss.device, names),
            drop: loss.drop.as_ref().map(DropLine::from),
            error: loss.error.map(SendError::name),
        }
    }
}

impl From<LossLine<'_>> for Loss {
    fn from(line: LossLine) -> Self {
        Self {
            place: line.place,
            last: line.last,
            device: line.device.device(),
            drop: line.drop.map(KernelDrop::from),
            error: line.error.and_then(|name| SendError::from_name(&name)),
        }
    }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

impl<'a> From<&'a KernelDrop> for DropLine<'a> {
    fn from(drop: &'a KernelDrop) -> Self {
        Self {
            host: drop.host,
            reply: drop.direction == Direction::Reply,
            ns: drop.ns,
            reason: symbol(&drop.reason),
            location: symbol(&drop.location),
            place: Place {
                ifindex: drop.ifindex,
                dev: drop.device.as_deref().map(Cow::Borrowed),
                netns: drop.netns,
                netns_name: drop.netns_name.as_deref().map(Cow::Borrowed),
            },
            mtu: drop.mtu,
        }
    }
}

impl From<DropLine<'_>> for KernelDrop {
    fn from(line: DropLine) -> Self {
        Self {
            host: line.host,
            direction: Direction::from_number(line.reply.into()),
            ns: line.ns,
            netns: line.place.netns,
            ifindex: line.place.ifindex,
            reason: read_symbol(line.reason),
            location: read_symbol(line.location),
            device: line.place.dev.map(Cow::into_owned),
            netns_name: line.place.netns_name.map(Cow::into_owned),
            mtu: line.mtu,
        }
    }
}

/// A stamp. The fields of its place and its flags are its own: those of a flattened struct are copied before
/// they are read, and a run consists of stamps.
#[derive(Serialize, Deserialize)]
struct StampLine<'a> {
    point: Point,
    ns: u64,
    host: Host,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u16>,
    #[serde(default, skip_serializing_if = "is_default")]
    ifindex: Ifindex,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    dev: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "is_default")]
    netns: Netns,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    netns_name: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "is_default")]
    direct: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    interrupts_unknown: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    underlay_unseen: bool,
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
            flags:
                StampFlags {
                    direct,
                    interrupts_unknown,
                    underlay_unseen,
                },
        } = *stamp;
        Self {
            point,
            ns,
            host,
            cpu,
            ifindex,
            dev: names.device_of(host, netns, ifindex).map(Text::from),
            netns,
            netns_name: names.netns_of(host, netns).map(Text::from),
            direct,
            interrupts_unknown,
            underlay_unseen,
        }
    }

    /// Its names that are not known yet go to `names`.
    fn learn_names(&self, names: &mut Names) {
        let Self {
            host,
            netns,
            ifindex,
            ..
        } = *self;
        if let Some(Text(name)) = &self.netns_name {
            let known = names.netns.entry((host, netns));
            known.or_insert_with(|| name.to_string());
        }
        if let Some(Text(name)) = &self.dev {
            let known = names.device.entry((host, netns, ifindex));
            known.or_insert_with(|| name.to_string());
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            point: self.point,
            host: self.host,
            ns: self.ns,
            cpu: self.cpu,
            ifindex: self.ifindex,
            netns: self.netns,
            flags: StampFlags {
                direct: self.direct,
                interrupts_unknown: self.interrupts_unknown,
                underlay_unseen: self.underlay_unseen,
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct DelayLine<'a> {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<DoubtLine<'a>>,
}

impl<'a> DelayLine<'a> {
    fn new(delay: &Delay, names: &'a Names) -> Self {
        Self {
            delay: delay.segment,
            ns: delay.ns,
            lo: delay.bounds.map(|(lo, _)| lo),
            hi: delay.bounds.map(|(_, hi)| hi),
            merged: delay.merged,
            clamped: delay.clamped,
            doubt: delay.doubt.map(|doubt| DoubtLine::new(doubt, names)),
        }
    }
}

impl From<&DelayLine<'_>> for Delay {
    fn from(line: &DelayLine<'_>) -> Self {
        Self {
            segment: line.delay,
            ns: line.ns,
            bounds: line.lo.zip(line.hi),
            merged: line.merged,
            clamped: line.clamped,
            doubt: line.doubt.as_ref().and_then(DoubtLine::doubt),
        }
    }
}

/// A part of the way: both directions together, and each of them where it is known.
#[derive(Serialize, Deserialize)]
struct WayLine {
    #[serde(flatten)]
    of: StretchLine,
    ns: u64,
    base_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<WayTimeLine>,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    back: Option<WayTimeLine>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct WayTimeLine {
    ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lo: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hi: Option<u64>,
}

impl From<WayTime> for WayTimeLine {
    fn from(time: WayTime) -> Self {
        Self {
            ns: time.ns,
            lo: time.bounds.map(|(lo, _)| lo),
            hi: time.bounds.map(|(_, hi)| hi),
        }
    }
}

impl From<WayTimeLine> for WayTime {
    fn from(line: WayTimeLine) -> Self {
        Self {
            ns: line.ns,
            bounds: line.lo.zip(line.hi),
        }
    }
}

impl From<&WayPart> for WayLine {
    fn from(part: &WayPart) -> Self {
        let direction = |k: usize| part.directions[k].map(WayTimeLine::from);
        Self {
            of: part.of.into(),
            ns: part.ns,
            base_ns: part.base_ns,
            out: direction(0),
            back: direction(1),
        }
    }
}

impl From<&WayLine> for WayPart {
    fn from(line: &WayLine) -> Self {
        Self {
            of: line.of.into(),
            ns: line.ns,
            base_ns: line.base_ns,
            directions: [line.out, line.back].map(|time| time.map(WayTime::from)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct VerdictLine<'a> {
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
    #[serde(flatten)]
    at: AtDeviceLine<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_way: Option<StretchLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<DoubtLine<'a>>,
}

impl<'a> VerdictLine<'a> {
    fn new(verdict: &Verdict, names: &'a Names) -> Self {
        let Verdict {
            owner,
            segment,
            excess_ns,
            bounds,
            certainty,
            cpu,
            at,
            on_way,
            doubt,
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
            at: AtDeviceLine::new(at, names),
            on_way: on_way.map(StretchLine::from),
            doubt: doubt.map(|doubt| DoubtLine::new(doubt, names)),
        }
    }
}

impl From<&VerdictLine<'_>> for Verdict {
    fn from(line: &VerdictLine<'_>) -> Self {
        Self {
            owner: line.owner,
            segment: line.segment,
            excess_ns: line.excess_ns,
            bounds: line.lo.zip(line.hi),
            certainty: line.certainty,
            cpu: line.cpu,
            at: line.at.at(),
            on_way: line.on_way.map(Stretch::from),
            doubt: line.doubt.as_ref().and_then(DoubtLine::doubt),
        }
    }
}
