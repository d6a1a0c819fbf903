//! A run as a trace that Perfetto shows (<https://ui.perfetto.dev>): a track for each host and CPU and for each
//! wire, a slice for each segment, and one for each probe.
//!
//! The format is a sequence of protobuf packets, so a trace that was cut off is one up to there. Field numbers are
//! those of `protos/perfetto/trace/` (`trace_packet.proto`, `track_event/*.proto`, `clock_snapshot.proto`) of
//! Perfetto. All times are on the client's `CLOCK_MONOTONIC`: the segments of a probe follow one another from its
//! send on, as they sum to its total, whichever host's clock they were measured with.

use crate::model::{Host, Owner, Probe, ProbeResult, Run, Segment};
use prost::{Message, Oneof};
use std::collections::HashMap;

/// `BUILTIN_CLOCK_REALTIME`, `BUILTIN_CLOCK_MONOTONIC`: `common/builtin_clock.proto`.
const REALTIME: u32 = 1;
const MONOTONIC: u32 = 3;
/// `TrackEvent.Type`.
const SLICE_BEGIN: i32 = 1;
const SLICE_END: i32 = 2;
const INSTANT: i32 = 3;
/// The one sequence of packets that we write.
const SEQUENCE: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Packets {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(message, optional, tag = "6")]
    clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(uint32, optional, tag = "58")]
    timestamp_clock_id: Option<u32>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    clocks: Vec<Clock>,
    #[prost(uint32, optional, tag = "2")]
    primary_trace_clock: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Clock {
    #[prost(uint32, optional, tag = "1")]
    clock_id: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    timestamp: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<Annotation>,
    #[prost(int32, optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(oneof = "Value", tags = "2, 3, 6")]
    value: Option<Value>,
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(uint64, tag = "3")]
    Number(u64),
    #[prost(string, tag = "6")]
    Text(String),
}

fn note(name: &str, value: Value) -> Annotation {
    Annotation {
        name: Some(name.to_owned()),
        value: Some(value),
    }
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// Where slices are shown.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Track {
    /// Those of whole probes.
    Probes,
    /// Those of segments of a host that a CPU is known for, or is not.
    Cpu(Host, Option<u16>),
    /// Those of segments that are no host's.
    Between(Owner),
}

impl Track {
    fn of(segment: Segment, probe: &Probe) -> Self {
        let host = match segment.owner() {
            Owner::Local | Owner::Receiver => Host::Client,
            Owner::Remote => Host::Server,
            owner => return Self::Between(owner),
        };
        Self::Cpu(host, cpu_of(segment, host, probe))
    }

    fn name(self) -> String {
        match self {
            Self::Probes => "probes".to_owned(),
            Self::Cpu(_, Some(cpu)) => format!("CPU {cpu}"),
            Self::Cpu(_, None) => "CPU not known".to_owned(),
            Self::Between(owner) => owner.label().to_owned(),
        }
    }
}

/// CPU of the stamp at which the segment ends; one that ends in user space has none, and ran where it began.
fn cpu_of(segment: Segment, host: Host, probe: &Probe) -> Option<u16> {
    let (start, end) = segment.span()?;
    let cpu_at = |point| {
        let mut stamps = probe.path.iter();
        let stamp = stamps.find(|stamp| stamp.host == host && stamp.point == point)?;
        stamp.cpu
    };
    cpu_at(end).or_else(|| cpu_at(start))
}

/// Slices that overlap are no part of one another, so each is in a lane of its own.
struct Lane {
    uuid: u64,
    free_from_ns: u64,
}

/// Writes a trace.
#[derive(Default)]
pub struct Trace {
    lanes: HashMap<Track, Vec<Lane>>,
    /// Of the hosts.
    parents: HashMap<Host, u64>,
    uuids: u64,
    packets: Packets,
}

impl Trace {
    /// Of this run, which begins it.
    pub fn begin(&mut self, run: &Run) -> Vec<u8> {
        let clock = |clock_id, timestamp| Clock {
            clock_id: Some(clock_id),
            timestamp: Some(timestamp),
        };
        if let Some(start_ns) = run.start_ns {
            let unix_ns = run.start_unix_ns.try_into().unwrap_or(0);
            self.push(Packet {
                clock_snapshot: Some(ClockSnapshot {
                    clocks: vec![clock(REALTIME, unix_ns), clock(MONOTONIC, start_ns)],
                    primary_trace_clock: Some(MONOTONIC),
                }),
                ..Packet::default()
            });
        }
        for (host, end) in [(Host::Client, &run.client), (Host::Server, &run.server)] {
            if !self.parents.contains_key(&host) {
                let name = end.label().unwrap_or_default();
                let uuid = self.describe(format!("{} {name}", host.name()).trim(), None);
                self.parents.insert(host, uuid);
            }
        }
        self.take()
    }

    /// A probe with its segments; a lost one is a mark at its send.
    pub fn probe(&mut self, result: &ProbeResult) -> Vec<u8> {
        let Some(sent_ns) = result.probe.sent_ns() else {
            return Vec::new();
        };
        let about = annotations(result);
        match &result.breakdown {
            None => {
                let track = self.lane(Track::Probes, sent_ns, sent_ns);
                let place = result.loss.as_ref().map(|loss| loss.place.name());
                let name = [result.probe.status.name()].into_iter().chain(place);
                let name = name.collect::<Vec<_>>().join(": ");
                self.event(INSTANT, track, sent_ns, Some(("probe", name)), about);
            }
            Some(breakdown) => {
                let name = match &result.verdict {
                    Some(verdict) => format!("slow: {}", verdict.owner.label()),
                    None => result.probe.status.name().to_owned(),
                };
                let whole = (sent_ns, breakdown.total_ns);
                self.slice(Track::Probes, whole, ("probe", name), about);
                let late_ns = breakdown.late_ns().unwrap_or(0);
                let mut at_ns = sent_ns.saturating_sub(late_ns);
                for delay in &breakdown.delays {
                    let track = Track::of(delay.segment, &result.probe);
                    let seq = note("seq", Value::Number(result.probe.seq.into()));
                    let is_estimate = delay.bounds.is_some();
                    let estimate = is_estimate.then(|| note("estimate", Value::Bool(true)));
                    let about = [seq].into_iter().chain(estimate).collect();
                    let name = delay.segment.name().to_owned();
                    self.slice(track, (at_ns, delay.ns), ("segment", name), about);
                    at_ns = at_ns.saturating_add(delay.ns);
                }
            }
        }
        self.take()
    }

    fn slice(
        &mut self,
        track: Track,
        (start_ns, ns): (u64, u64),
        named: (&str, String),
        about: Vec<Annotation>,
    ) {
        let end_ns = start_ns.saturating_add(ns);
        let lane = self.lane(track, start_ns, end_ns);
        self.event(SLICE_BEGIN, lane, start_ns, Some(named), about);
        self.event(SLICE_END, lane, end_ns, None, Vec::new());
    }

    fn event(
        &mut self,
        kind: i32,
        track: u64,
        ns: u64,
        named: Option<(&str, String)>,
        about: Vec<Annotation>,
    ) {
        let (category, name) = named.unzip();
        let event = TrackEvent {
            debug_annotations: about,
            r#type: Some(kind),
            track_uuid: Some(track),
            categories: category.into_iter().map(str::to_owned).collect(),
            name,
        };
        self.push(Packet {
            timestamp: Some(ns),
            timestamp_clock_id: Some(MONOTONIC),
            track_event: Some(event),
            ..Packet::default()
        });
    }

    /// A lane of the track that is free from `start_ns` on, taken until `end_ns`.
    fn lane(&mut self, track: Track, start_ns: u64, end_ns: u64) -> u64 {
        let lanes = self.lanes.entry(track).or_default();
        if let Some(lane) = lanes.iter_mut().find(|lane| lane.free_from_ns <= start_ns) {
            lane.free_from_ns = end_ns;
            return lane.uuid;
        }
        let parent = match track {
            Track::Cpu(host, _) => self.parents.get(&host).copied(),
            Track::Probes | Track::Between(_) => None,
        };
        let uuid = self.describe(&track.name(), parent);
        let lane = Lane {
            uuid,
            free_from_ns: end_ns,
        };
        self.lanes.entry(track).or_default().push(lane);
        uuid
    }

    fn describe(&mut self, name: &str, parent_uuid: Option<u64>) -> u64 {
        // 0 is the track of the whole trace.
        self.uuids += 1;
        let uuid = self.uuids;
        self.push(Packet {
            track_descriptor: Some(TrackDescriptor {
                uuid: Some(uuid),
                name: Some(name.to_owned()),
                parent_uuid,
            }),
            ..Packet::default()
        });
        uuid
    }

    fn push(&mut self, packet: Packet) {
        self.packets.packet.push(Packet {
            trusted_packet_sequence_id: Some(SEQUENCE),
            ..packet
        });
    }

    /// What is new; a trace is all of it, one behind the other.
    fn take(&mut self) -> Vec<u8> {
        let bytes = self.packets.encode_to_vec();
        self.packets.packet.clear();
        bytes
    }
}

/// What is said of a probe.
fn annotations(result: &ProbeResult) -> Vec<Annotation> {
    let probe = &result.probe;
    let mut all = vec![
        note("seq", Value::Number(probe.seq.into())),
        note("status", text(probe.status.name())),
        note("peer", text(probe.peer.to_string())),
    ];
    if let Some(verdict) = &result.verdict {
        all.push(note("owner", text(verdict.owner.name())));
        all.extend(verdict.segment.map(|s| note("segment", text(s.name()))));
        all.push(note("certainty", text(verdict.certainty.name())));
        all.push(note("excess_ns", Value::Number(verdict.excess_ns)));
    }
    all
}
