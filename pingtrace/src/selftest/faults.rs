//! The faults: where each one is, and for how long it held up which probe.
//!
//! Faults that can be tied to a probe are spread over the first part of the run: each hits the probes of
//! its own sequence numbers. The others follow, one in each round: it begins while a request is on the
//! wire, and holds up what arrives at its place until it ends.

use super::inject::burn::{Hits, Long};
use super::inject::load::{CpuHog, Flood, Hog, Ticking, UdpFlood};
use super::outcome::Seen;
use super::plan::{BASE, EACH, MS, Means, Pass, Place, ROUND, Row};
use super::stage::{ABOVE_PROGRAMS, REAL_TIME, Stage};
use crate::kernel::thread::{Priority, prioritise};
use anyhow::{Context, Result};
use netns::{Host, Netlink};
use report::model::{Direction, Segment};
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// Length of a fault that begins while a request is on the wire: the CPU hog, the stopped client and
/// interrupts that are off end before the next probe is due,
const WHILE: Duration = Duration::from_millis(6);
/// and a long softirq, which begins some time later, after it.
const LONG: Duration = Duration::from_millis(12);
/// A fault with less time left does not count, ns.
const LEAST_NS: u64 = 2_000_000;
/// Upper bound on the time from a probe's arrival to the entry of the softirq that receives it, ns.
const LEAD_NS: u64 = 1_000_000;

/// A queue of 25 packets of 1442 bytes, of which two leave at once, takes 13.2 ms to empty.
const BYTES_A_SECOND: u32 = 2_500_000;
const BURST: u32 = 3_000;
const QUEUED: u32 = 25;
const PAYLOAD: u32 = 1_400;
const HEADERS: u32 = 42;

/// What was injected into a segment.
pub struct Fault {
    /// Absent: nothing.
    pub segment: Option<Segment>,
    hold: Hold,
}

enum Hold {
    /// These probes, for this long, ns.
    Probes(Hits, u64),
    /// These, in this direction, for as long as the wire's log says.
    Wire(Hits, Direction),
    /// What arrived at the place during one of these times, until its end; `CLOCK_MONOTONIC` ns.
    /// An arrival up to `lead_ns` earlier belongs to it.
    Spans {
        place: Place,
        spans: Vec<(u64, u64)>,
        lead_ns: u64,
    },
}

impl Fault {
    /// How long it held up this probe, ns; absent if it did not, or not for long.
    pub fn injected_ns(&self, probe: &Seen) -> Option<u64> {
        let seq = &probe.result.probe.seq;
        let hits = |hits: &Hits| hits.sequences().any(|hit| hit == *seq);
        match &self.hold {
            Hold::Probes(of, ns) => hits(of).then_some(*ns),
            Hold::Wire(of, direction) => hits(of).then(|| {
                let entry = match direction {
                    Direction::Request => &probe.out,
                    Direction::Reply => &probe.back,
                };
                entry.injected_ns.saturating_sub(BASE.as_nanos() as u64)
            }),
            Hold::Spans {
                place,
                spans,
                lead_ns,
            } => {
                let came = probe.at(*place)?;
                let held = |(from, to): &&(u64, u64)| {
                    (from - lead_ns..to.saturating_sub(LEAST_NS)).contains(&came)
                };
                let (from, to) = spans.iter().find(held)?;
                Some(to - came.max(*from))
            }
        }
    }
}

/// Injects the faults of a pass, one after the other.
pub fn inject(stage: &mut Stage<'_>, pass: &Pass) -> Result<Vec<Fault>> {
    prioritise(REAL_TIME).context("run at real-time priority")?;
    let mut faults = by_sequence(stage, pass)?;
    for row in pass.in_rounds() {
        faults.push(in_rounds(stage, row, pass.rounds())?);
    }
    prioritise(Priority::Normal).context("run at ordinary priority")?;
    Ok(faults)
}

/// Waits until the faults that are tied to probes are over.
fn by_sequence(stage: &mut Stage<'_>, pass: &Pass) -> Result<Vec<Fault>> {
    if pass.by_sequence().next().is_some() {
        log::info!("selftest: what is tied to probes");
    }
    stage.follow(pass)?;
    stage.wait_for_request(u64::from(pass.end_of_sequences()))?;
    let fault = |((segment, means), hits): (Row, Hits)| Fault {
        segment,
        hold: match means {
            Means::Wire(direction) => Hold::Wire(hits, direction),
            Means::Nothing => Hold::Probes(hits, 0),
            _ => Hold::Probes(hits, EACH.as_nanos() as u64),
        },
    };
    Ok(pass.by_sequence().map(fault).collect())
}

/// Injects a fault in each of so many rounds.
fn in_rounds(stage: &mut Stage<'_>, (segment, means): Row, rounds: u32) -> Result<Fault> {
    let (place, lead_ns, spans) = match means {
        Means::Cpu(place, long) => {
            let (takes, lead_ns) = match long {
                Long::Softirq => (LONG, 0),
                Long::NetRx => (EACH, LEAD_NS),
                Long::IrqsOff => (WHILE, 0),
            };
            (
                place,
                lead_ns,
                busy_cpu(stage, (place, long), takes, rounds)?,
            )
        }
        Means::Hog => (Place::ClientReceives, 0, hog(stage, rounds)?),
        Means::Freeze => (Place::ClientReceives, 0, stopped(stage, rounds)?),
        _ => {
            let (place, spans) = full_queue(stage, segment, rounds)?;
            (place, 0, spans)
        }
    };
    Ok(Fault {
        segment,
        hold: Hold::Spans {
            place,
            spans,
            lead_ns,
        },
    })
}

/// Begin and end of each fault, `CLOCK_MONOTONIC` ns.
type Spans = Vec<(u64, u64)>;

/// Calls `act` in each round, as soon as a request is on the wire.
fn each_round<T>(
    stage: &mut Stage<'_>,
    rounds: u32,
    mut act: impl FnMut(&mut Stage<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut done = Vec::new();
    for _ in 0..rounds {
        stage.wait_for_request(stage.requests() + u64::from(ROUND))?;
        done.push(act(stage)?);
    }
    stage.wait_for_request(stage.requests() + u64::from(ROUND))?;
    Ok(done)
}

/// Packets before the probes in the queue of a slow device.
fn full_queue(
    stage: &mut Stage<'_>,
    segment: Option<Segment>,
    rounds: u32,
) -> Result<(Place, Spans)> {
    let queues = Rc::clone(&stage.queues);
    let queue = queues.iter().find(|queue| Some(queue.segment) == segment);
    let queue = queue.context("no such queue")?;
    log::info!("selftest: a full queue ({})", queue.segment.name());
    let (ns, ifindex) = (&queue.ns, queue.ifindex);
    ns.run(|| Netlink::open()?.tbf(ifindex, BYTES_A_SECOND, BURST, 1_000_000))??;
    let cpu = stage.cpus.home;
    let spans = each_round(stage, rounds, |_| {
        let ns = queue.from.try_clone()?;
        // The thread stays there until its end.
        let enter = move || {
            let entered = ns.enter().map(std::mem::forget);
            entered.map_err(std::io::Error::other)
        };
        let flood = UdpFlood::start(enter, flood(queue.to.into(), cpu));
        let done = flood.context("send packets into the queue")?.wait();
        Ok((done.end_ns, done.start_ns + drained_ns()))
    })?;
    ns.run(|| Netlink::open()?.remove_root_qdisc(ifindex))??;
    Ok((queue.place, spans))
}

fn flood(to: std::net::IpAddr, cpu: usize) -> Flood {
    const DISCARD: u16 = 9;
    Flood {
        dst: SocketAddr::new(to, DISCARD),
        size: PAYLOAD as usize,
        cpu: Some(cpu),
        rate: None,
        count: u64::from(QUEUED),
        limit: WHILE,
    }
}

fn drained_ns() -> u64 {
    let bytes = u64::from(QUEUED * (PAYLOAD + HEADERS) - BURST);
    bytes * 1_000_000_000 / u64::from(BYTES_A_SECOND)
}

/// The CPU that receives at this place does something else for long.
fn busy_cpu(
    stage: &mut Stage<'_>,
    (place, long): (Place, Long),
    takes: Duration,
    rounds: u32,
) -> Result<Spans> {
    let cpu = stage.cpus.other.context("needs two CPUs")?;
    log::info!(
        "selftest: {} on CPU {cpu}, which receives",
        long.description()
    );
    let ticking = Ticking::start(cpu, Duration::from_secs(60));
    let _ticking = ticking.context("keep a CPU busy")?;
    receiver(stage, place).receive_on(Some(cpu))?;
    stage.burn.attach_long(long, cpu, takes)?;
    each_round(stage, rounds, |stage| match long {
        Long::IrqsOff => stage.burn.arm_in_thread(cpu).context("turn interrupts off"),
        Long::Softirq | Long::NetRx => {
            stage.burn.arm();
            Ok(())
        }
    })?;
    let spans = stage.burn.detach_long();
    receiver(stage, place).receive_on(None)?;
    Ok(spans)
}

fn receiver<'s>(stage: &'s Stage<'_>, place: Place) -> &'s Host {
    match place {
        Place::ServerReceives => &stage.lab.server,
        _ => &stage.lab.client,
    }
}

/// A thread of higher priority on the client's CPU.
fn hog(stage: &mut Stage<'_>, rounds: u32) -> Result<Spans> {
    log::info!("selftest: a busy CPU");
    let hog = Hog {
        cpu: stage.cpus.home,
        priority: ABOVE_PROGRAMS,
        limit: WHILE,
        burst: None,
    };
    let spans = each_round(stage, rounds, |_| {
        let hog = CpuHog::start(hog).context("keep the client's CPU busy")?;
        thread::sleep(WHILE + MS);
        Ok(hog.stop())
    })?;
    Ok(spans.concat())
}

/// The client is stopped.
fn stopped(stage: &mut Stage<'_>, rounds: u32) -> Result<Spans> {
    log::info!("selftest: a stopped client");
    each_round(stage, rounds, |stage| stage.freeze_client(WHILE))
}
