//! The faults: where each one is, and for how long it held up which probe.
//!
//! Faults that can be tied to a probe are spread over the first part of the run: each hits the probes of
//! its own sequence numbers. The others follow, one in each round: it begins while a request is on the
//! wire, and holds up what arrives at its place until it ends.

use super::inject::burn::{self, Hits, Softirq};
use super::inject::load::{CpuHog, Flood, Hog, Ticking, UdpFlood};
use super::outcome::Seen;
use super::plan::{BASE, EACH, MS, Means, ON_ANOTHER_CPU, Place, RECEIVERS, ROUND};
use super::stage::Stage;
use crate::kernel::thread::Priority;
use anyhow::{Context, Result};
use netns::{Host, Netlink};
use report::analysis::confusion::Topology;
use report::model::{Direction, Segment};
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// Length of a fault that begins while a request is on the wire: the CPU hog and the stopped client
/// end before the next probe is due,
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

/// Segments without a fault, and why.
type Omitted = Vec<(Segment, &'static str)>;

/// Injects all faults, one after the other. Returns those injected, in path order, and those that
/// could not be.
pub fn inject(stage: &mut Stage<'_>) -> Result<(Vec<Fault>, Omitted)> {
    let mut omitted = Vec::new();
    let mut faults = faults_by_sequence(stage)?;
    faults.extend(full_queues(stage)?);
    if stage.test.topology == Topology::Cable {
        only_on_a_cable(stage, &mut faults, &mut omitted)?;
    }
    faults.sort_by_key(|fault| (fault.segment.is_none(), fault.segment));
    Ok((faults, omitted))
}

/// Waits until the faults that are tied to probes are over.
fn faults_by_sequence(stage: &mut Stage<'_>) -> Result<Vec<Fault>> {
    let test = stage.test;
    log::info!("selftest: baselines, and what is tied to probes");
    stage.wait_for_request(u64::from(test.end_of_sequences()))?;
    let fault = |(fault, (segment, means)): (usize, &(_, Means))| Fault {
        segment: *segment,
        hold: match means {
            Means::Wire(direction) => Hold::Wire(test.hits(fault), *direction),
            Means::Burn(_) => Hold::Probes(test.hits(fault), EACH.as_nanos() as u64),
            Means::Nothing => Hold::Probes(test.hits(fault), 0),
        },
    };
    let faults = test.by_sequence().iter().enumerate();
    Ok(faults.map(fault).collect())
}

/// The faults inside the hosts, which other topologies do not change.
fn only_on_a_cable(
    stage: &mut Stage<'_>,
    faults: &mut Vec<Fault>,
    omitted: &mut Omitted,
) -> Result<()> {
    if !burn::can_delay_wake_ups() {
        faults.retain(|fault| fault.segment != Some(Segment::LRxTaskWaking));
        omitted.push((Segment::LRxTaskWaking, "no sk_data_ready tracepoint"));
    }
    match stage.cpus.other {
        Some(cpu) => faults.extend(long_softirqs(stage, cpu)?),
        None => omitted.extend(ON_ANOTHER_CPU.map(|(segment, ..)| (segment, "needs two CPUs"))),
    }
    faults.extend(slow_receivers(stage)?);
    Ok(())
}

/// Calls `act` in each round, as soon as a request is on the wire.
fn rounds<T>(
    stage: &mut Stage<'_>,
    mut act: impl FnMut(&mut Stage<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut done = Vec::new();
    for _ in 0..stage.test.rounds() {
        stage.wait_for_request(stage.requests() + ROUND)?;
        done.push(act(stage)?);
    }
    stage.wait_for_request(stage.requests() + ROUND)?;
    Ok(done)
}

/// Packets before the probes in the queue of a slow device.
fn full_queues(stage: &mut Stage<'_>) -> Result<Vec<Fault>> {
    log::info!("selftest: full queues");
    let mut faults = Vec::new();
    for queue in &*Rc::clone(&stage.queues) {
        let (ns, ifindex) = (&queue.ns, queue.ifindex);
        ns.run(|| Netlink::open()?.tbf(ifindex, BYTES_A_SECOND, BURST, 1_000_000))??;
        let cpu = stage.cpus.home;
        let spans = rounds(stage, |_| {
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
        faults.push(Fault::spans(queue.segment, queue.place, spans, 0));
    }
    Ok(faults)
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

/// Softirqs that take long on the CPU that receives.
fn long_softirqs(stage: &mut Stage<'_>, cpu: usize) -> Result<Vec<Fault>> {
    log::info!("selftest: long softirqs on CPU {cpu}, which receives");
    let ticking = Ticking::start(cpu, Duration::from_secs(60));
    let _ticking = ticking.context("keep a CPU busy")?;
    let mut faults = Vec::new();
    for (segment, place, softirq) in ON_ANOTHER_CPU {
        receiver(stage, place).receive_on(Some(cpu))?;
        let (takes, lead_ns) = match softirq {
            Softirq::Other => (LONG, 0),
            Softirq::NetRx => (EACH, LEAD_NS),
        };
        stage.burn.attach_softirq(softirq, cpu, takes)?;
        rounds(stage, |stage| {
            stage.burn.arm();
            Ok(())
        })?;
        let spans = stage.burn.detach_softirq();
        receiver(stage, place).receive_on(None)?;
        faults.push(Fault::spans(segment, place, spans, lead_ns));
    }
    Ok(faults)
}

fn receiver<'s>(stage: &'s Stage<'_>, place: Place) -> &'s Host {
    match place {
        Place::ServerReceives => &stage.lab.server,
        _ => &stage.lab.client,
    }
}

/// A thread of higher priority on the client's CPU; and a client that is stopped.
fn slow_receivers(stage: &mut Stage<'_>) -> Result<[Fault; RECEIVERS]> {
    log::info!("selftest: a busy CPU, a stopped client");
    let hog = Hog {
        cpu: stage.cpus.home,
        priority: Priority::Fifo(1),
        limit: WHILE,
        burst: None,
    };
    let busy = rounds(stage, |_| {
        let hog = CpuHog::start(hog).context("keep the client's CPU busy")?;
        thread::sleep(WHILE + MS);
        Ok(hog.stop())
    })?;
    let stopped = rounds(stage, |stage| stage.freeze_client(WHILE))?;
    let place = Place::ClientReceives;
    Ok([
        Fault::spans(Segment::LRxTaskQueue, place, busy.concat(), 0),
        Fault::spans(Segment::LRxTaskRun, place, stopped, 0),
    ])
}

impl Fault {
    fn spans(segment: Segment, place: Place, spans: Vec<(u64, u64)>, lead_ns: u64) -> Self {
        Self {
            segment: Some(segment),
            hold: Hold::Spans {
                place,
                spans,
                lead_ns,
            },
        }
    }
}
