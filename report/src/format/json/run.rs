//! The line of a run.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use super::error::VERSION;
use super::value::{Hex, Time, is_default};
use crate::model::{Endpoint, Point, Run, Target};

/// Which part of a run's output a `run` line stands at the head of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first, or the only one; also where the line is repeated as the mode changed.
    First,
    /// A further one: a log file that was begun while the run went on.
    Continued,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RunLine<'a> {
    pub(super) version: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) continued: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    tool: Cow<'a, str>,
    start: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ns: Option<u64>,
    client: EndpointLine<'a>,
    server: EndpointLine<'a>,
    mode: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interval_ns: Option<u64>,
    threshold_ns: u64,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<NonZeroU8>,
    points: Vec<Hook<'a>>,
}

impl<'a> RunLine<'a> {
    pub(super) fn new(run: &'a Run, part: Part) -> Self {
        let labels = run.target.iter().flat_map(|target| &target.labels);
        let labels = labels.map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)));
        Self {
            continued: part == Part::Continued,
            version: VERSION,
            target: run.target.as_ref().map(|t| Cow::Borrowed(&*t.name)),
            labels: labels.collect(),
            tool: concat!("pingtrace ", env!("CARGO_PKG_VERSION")).into(),
            start: Time(run.start_unix_ns),
            start_ns: run.start_ns,
            client: EndpointLine::from(&run.client),
            server: EndpointLine::from(&run.server),
            mode: Cow::Borrowed(&run.mode),
            interval_ns: run.interval_ns,
            threshold_ns: run.threshold_ns,
            size: run.size,
            flows: run.flows,
            points: run
                .points
                .iter()
                .map(|(point, hook)| Hook {
                    point: *point,
                    hook: Cow::Borrowed(hook),
                })
                .collect(),
        }
    }
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
        let labels = line.labels.into_iter();
        let labels = labels.map(|(name, value)| (name.into_owned(), value.into_owned()));
        let labels = labels.collect();
        Self {
            target: line.target.map(|name| Target {
                name: name.into_owned(),
                labels,
            }),
            start_unix_ns: line.start.0,
            start_ns: line.start_ns,
            client: line.client.into(),
            server: line.server.into(),
            mode: line.mode.into_owned(),
            interval_ns: line.interval_ns,
            threshold_ns: line.threshold_ns,
            size: line.size,
            flows: line.flows,
            points: line
                .points
                .into_iter()
                .map(|Hook { point, hook }| (point, hook.into_owned()))
                .collect(),
        }
    }
}
