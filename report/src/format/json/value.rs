//! What several lines have in common: values that are written as strings, places, distributions.

use super::hdr::{Hdr, MAX_PROBES};
use crate::analysis::headline::About;
use crate::model::{
    AtDevice, Certainty, ClockRelation, DelayStat, Device, Direction, Doubt, Host, Ifindex, Names,
    Netns, Owner, Place as LostAt, Point, Segment, State, Status, Stretch, Symbol, Trip, Unseen,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// The name of the total among the delays of a `stat` line.
const TOTAL: &str = "total";

/// [`ClockRelation`] by name.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Clock {
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

/// A text that is read without a copy, unless it has escapes. (serde copies every bare `Cow`.)
#[derive(Serialize, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
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
                let Text(text) = Text::deserialize(deserializer)?;
                let read: fn(&str) -> Option<Self> = $read;
                read(&text).ok_or_else(|| D::Error::custom(format!("unknown {} {text:?}", $what)))
            }
        }
    )* };
}

/// Nanoseconds since the Unix epoch, written with microseconds.
pub(super) struct Time(pub(super) i64);

/// A number in hexadecimal digits.
pub(super) struct Hex(pub(super) u64);

/// The direction in which a probe was lost, if it is known.
#[derive(Clone, Copy)]
pub(super) struct LostOn(pub(super) Option<Direction>);

impl LostOn {
    const ALL: [Self; 3] = [
        Self(Some(Direction::Request)),
        Self(Some(Direction::Reply)),
        Self(None),
    ];

    const fn name(self) -> &'static str {
        match self.0 {
            Some(Direction::Request) => "out",
            Some(Direction::Reply) => "in",
            None => "unknown",
        }
    }
}

/// A segment, or the total.
pub(super) struct TotalOr(pub(super) Option<Segment>);

as_string! {
    Point: "point", |point| point.name().into(), Self::from_name;
    Segment: "segment", |segment| segment.name().into(), Self::from_name;
    Trip: "direction", |trip| trip.name().into(), Self::from_name;
    Hdr: "histogram", |hdr| hdr.encode().into(), Self::decode;
    Owner: "owner", |owner| owner.name().into(), Self::from_name;
    Unseen: "thing that was not seen", |unseen| unseen.name().into(), Self::from_name;
    Certainty: "certainty", |certainty| certainty.name().into(), Self::from_name;
    Status: "status", |status| status.name().into(), Self::from_name;
    State: "state", |state| state.name().into(), Self::from_name;
    Host: "host", |host| host.name(), Self::from_name;
    About: "subject", |about| about.name().into(), |text| Self::ALL
        .into_iter()
        .find(|about| about.name() == text);
    LostAt: "place", |place| place.name().into(), Self::from_name;
    LostOn: "direction", |on| on.name().into(),
        |text| Self::ALL.into_iter().find(|on| on.name() == text);
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

/// What is written as a plain number.
macro_rules! as_number {
    ($($kind:ident),*) => { $(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                u32::deserialize(deserializer).map($kind)
            }
        }
    )* };
}

as_number!(Ifindex, Netns);

/// Whether a value is the one that an absent field stands for.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A device and its namespace.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Place<'a> {
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) ifindex: Ifindex,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dev: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) netns: Netns,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) netns_name: Option<Cow<'a, str>>,
}

impl<'a> Place<'a> {
    pub(super) fn new(host: Host, netns: Netns, ifindex: Ifindex, names: &'a Names) -> Self {
        Self {
            ifindex,
            dev: names.device_of(host, netns, ifindex).map(Cow::Borrowed),
            netns,
            netns_name: names.netns_of(host, netns).map(Cow::Borrowed),
        }
    }
}

/// A device of a host; nothing where there is none.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct DeviceLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Host>,
    #[serde(flatten)]
    place: Place<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

impl<'a> DeviceLine<'a> {
    pub(super) fn new(device: Option<Device>, names: &'a Names) -> Self {
        let line = |device: Device| {
            let Device {
                host,
                netns,
                ifindex,
            } = device;
            Self {
                host: Some(host),
                place: Place::new(host, netns, ifindex, names),
                mtu: names.mtu.get(&(host, netns, ifindex)).copied(),
            }
        };
        device.map_or_else(Self::default, line)
    }

    pub(super) fn device(&self) -> Option<Device> {
        self.host.map(|host| Device {
            host,
            netns: self.place.netns,
            ifindex: self.place.ifindex,
        })
    }
}

/// What was not seen, and where.
#[derive(Serialize, Deserialize)]
pub(super) struct DoubtLine<'a> {
    unseen: Unseen,
    #[serde(flatten)]
    device: DeviceLine<'a>,
}

impl<'a> DoubtLine<'a> {
    pub(super) fn new(doubt: Doubt, names: &'a Names) -> Self {
        Self {
            unseen: doubt.unseen,
            device: DeviceLine::new(Some(doubt.at), names),
        }
    }

    pub(super) fn doubt(&self) -> Option<Doubt> {
        let unseen = self.unseen;
        self.device.device().map(|at| Doubt { unseen, at })
    }
}

/// A device at which a probe was; nothing where there is none.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct AtDeviceLine<'a> {
    #[serde(flatten)]
    device: DeviceLine<'a>,
    /// In its queueing discipline.
    #[serde(default, skip_serializing_if = "is_default")]
    queue: bool,
}

impl<'a> AtDeviceLine<'a> {
    pub(super) fn new(at: Option<AtDevice>, names: &'a Names) -> Self {
        Self {
            device: DeviceLine::new(at.map(|at| at.device), names),
            queue: at.is_some_and(|at| at.queue),
        }
    }

    pub(super) fn at(&self) -> Option<AtDevice> {
        let queue = self.queue;
        let device = self.device.device();
        device.map(|device| AtDevice { device, queue })
    }
}

/// A part of the way: a host, if it begins and ends there; all behind, if it has no end.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct StretchLine {
    from: Host,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Host>,
}

impl From<Stretch> for StretchLine {
    fn from(stretch: Stretch) -> Self {
        let (from, to) = match stretch {
            Stretch::Within(host) => (host, Some(host)),
            Stretch::Between(near, far) => (near, Some(far)),
            Stretch::Behind(host) => (host, None),
        };
        Self { from, to }
    }
}

impl From<StretchLine> for Stretch {
    fn from(StretchLine { from, to }: StretchLine) -> Self {
        match to {
            Some(to) if to == from => Self::Within(from),
            Some(to) => Self::Between(from, to),
            None => Self::Behind(from),
        }
    }
}

/// A name, else the number; absent if neither is known.
pub(super) fn symbol(symbol: &Symbol) -> Option<Cow<'_, str>> {
    (!symbol.is_unknown()).then(|| match &symbol.name {
        Some(name) => Cow::Borrowed(name.as_str()),
        None => Cow::Owned(symbol.to_string()),
    })
}

pub(super) fn read_symbol(name: Option<Cow<'_, str>>) -> Symbol {
    Symbol {
        number: 0,
        name: name.map(Cow::into_owned),
    }
}

/// Checks that a run can have this many.
pub(super) fn count(what: &str, count: u64) -> Result<(), String> {
    let why = || format!("{count} {what}: a run has at most {MAX_PROBES}");
    (count <= MAX_PROBES).then_some(()).ok_or_else(why)
}

#[derive(Serialize, Deserialize)]
pub(super) struct Numbers {
    count: u64,
    min: u64,
    mean: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
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
    pub(super) fn plausible(&self) -> Result<(), String> {
        count("values", self.count)?;
        let ordered = [self.p50, self.p90, self.p99, self.p999];
        if ordered.iter().any(|ns| !(self.min..=self.max).contains(ns)) {
            return Err("a percentile that is not between minimum and maximum".to_owned());
        }
        Ok(())
    }

    pub(super) fn into_stat(self, segment: Option<Segment>) -> DelayStat {
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
