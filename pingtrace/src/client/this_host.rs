//! This host, as the core of a client sees it: the kernel's table, the tracing programs, the outputs.

use super::core::{Answered, Moment, Shell};
use super::echo::Echo;
use super::host_names::HostNames;
use super::index::ProbeIndex;
use super::journey::{HostsOnTheWay, Journey, stamp};
use super::slot_stamps::SlotStamps;
use crate::capture::collector::Collector;
use crate::capture::explain;
use crate::capture::moved;
use crate::client::sender::Shared;
use crate::kernel::drops;
use crate::kernel::meter::Meter;
use crate::kernel::tracer::Tracer;
use crate::wire::extension::{About, Extension};
use crate::wire::icmp_error::IcmpError;
use crate::wire::packet::Packet;
use crate::wire::stamp_return::StampReturn;
use report::analysis::blame;
use report::analysis::loss::LossId;
use report::model::{Counters, Direction, Host, Loss, Netns, Point, Probe};
use std::sync::atomic::Ordering;

/// What all targets share on this host.
pub struct ThisHost<'k> {
    /// Absent without BPF.
    pub tracer: Option<Tracer<'k>>,
    /// Namespaces of this kernel that ignore echo requests.
    pub echo: Echo,
    /// Explains slow probes (`--explain`).
    pub explainer: Option<explain::Background>,
    /// For it, on the CPUs that receive.
    pub ticks: explain::Ticks,
    /// Reads counters of this host, beside it.
    pub counters: Option<moved::Sampler>,
    /// The cost of a run with several targets: that of a single one is in its results.
    pub meter: Option<Meter>,
}

/// This host and what belongs to one target: all that its core needs.
pub struct View<'a, 'k> {
    /// What all share.
    pub host: &'a mut ThisHost<'k>,
    /// With the sender.
    pub shared: &'a Shared,
    /// Takes the results.
    pub collector: &'a mut Collector,
    /// What the server calls its namespaces and devices.
    pub names: &'a mut HostNames,
}

impl Shell for View<'_, '_> {
    fn read_slot(&self, index: ProbeIndex, into: &mut SlotStamps) -> bool {
        let Shared { table, session, .. } = self.shared;
        let read = table.read(*session, index.sequence(), |slot| {
            let SlotStamps {
                request,
                reply,
                drop,
                unknown,
            } = into;
            for (direction, stamps) in [(Direction::Request, request), (Direction::Reply, reply)] {
                slot.stamps(direction, |e| match e {
                    Some(e) => stamps.push(stamp(&e)),
                    None => *unknown += 1,
                });
            }
            *drop = slot.dropped().as_ref().map(drops::local);
        });
        read.is_some()
    }

    fn sent_cpu(&self, index: ProbeIndex) -> Option<u16> {
        self.shared.sent_cpu(index)
    }

    fn last_sleep(&mut self, now: u64) -> (Moment, Moment) {
        let Some(tracer) = &mut self.host.tracer else {
            return (None, None);
        };
        let sleep = tracer.last_sleep();
        let valid = |ns: u64, cpu: u32| (ns != 0 && ns <= now).then_some((ns, cpu as u16));
        (
            valid(sleep.woken_ns, sleep.woken_cpu),
            valid(sleep.oncpu_ns, sleep.oncpu_cpu),
        )
    }

    /// Programs see what they are attached to; a driver may give no software time stamp, so without BPF a
    /// point must have been seen once.
    fn sees(&self, point: Point) -> bool {
        match &self.host.tracer {
            Some(tracer) => tracer.points.iter().any(|(seen, _)| *seen == point),
            None => self.collector.has_seen(point),
        }
    }

    fn ignores_echo(&mut self, netns: Netns) -> bool {
        self.host.echo.is_ignored(netns, self.shared.plan.ip)
    }

    fn ask_for(&mut self, way: StampReturn) {
        self.shared.ask_for(way);
    }

    fn keep_cookie(&mut self, cookie: u64) {
        self.shared.cookie.store(cookie, Ordering::Relaxed);
    }

    fn mode(&mut self, way: StampReturn) {
        self.collector.mode(way);
    }

    fn counters(&mut self) -> &mut Counters {
        self.collector.counters()
    }

    fn answered(&mut self, probe: &Probe) {
        self.collector.probe(probe);
    }

    fn lost(&mut self, probe: Probe, loss: Loss) -> LossId {
        self.collector.lost(probe, loss)
    }

    fn found(&mut self, id: LossId, sent_ns: u64) {
        self.collector.found(id, sent_ns);
    }

    fn forgotten(&mut self, probe: Probe) {
        self.collector.forgotten(probe);
    }

    fn duplicate(&mut self, probe: Probe) {
        self.collector.dup(probe);
    }

    fn icmp_error(&mut self, error: &IcmpError) {
        self.collector.icmp_error(error);
    }

    /// The names and the blame that other hosts sent.
    fn extensions(&mut self, packet: &Packet<'_>, hosts: &HostsOnTheWay) {
        if let Some(names) = self.names.take_from(packet, hosts) {
            self.collector.names(names);
        }
        let text = packet.extensions().filter_map(|extension| match extension {
            Extension::Text {
                about: About::Blame,
                text,
                ..
            } => Some(text),
            _ => None,
        });
        let text: String = text.collect();
        if self.host.explainer.is_some() && !text.is_empty() {
            self.collector
                .blame(packet.sequence.0, blame::from_wire(&text));
        }
    }
}

impl View<'_, '_> {
    /// Asks what had this host's CPUs while a probe was slow.
    pub fn explain(&mut self, answered: Answered, now: u64, journey: &Journey) {
        let Some(explainer) = &self.host.explainer else {
            return;
        };
        let Answered { sequence, since_ns } = answered;
        let min_ns = explainer.min_ns();
        if now.saturating_sub(since_ns) < min_ns.max(self.shared.plan.threshold_ns) {
            return;
        }
        let mut path = journey.path(sequence);
        // The CPU of this thread when it had the reply; without a sleep no stamp says it.
        let here = rustix::thread::sched_getcpu() as u16;
        let returned = path.iter_mut().filter(|s| s.point == Point::LRxUser);
        returned.for_each(|stamp| stamp.cpu = Some(here));
        // If both ends are on this kernel, this recorder saw both.
        let hosts = [Host::Client, Host::Server];
        let seen = if journey.is_one_kernel() { 2 } else { 1 };
        let windows = hosts.iter().take(seen);
        let windows = windows.flat_map(|host| blame::windows(&path, *host, min_ns));
        let windows: Vec<_> = windows.collect();
        if !windows.is_empty() {
            self.collector.expect_blame(sequence.0);
            explainer.ask((self.shared.session, sequence), windows);
        }
    }
}

impl ThisHost<'_> {
    /// Follows the CPUs and kernel threads that receive replies, as far as that is wanted.
    pub fn follow_receivers(&mut self) {
        let Some(tracer) = &self.tracer else {
            return;
        };
        tracer.follow_napi_threads();
        if self.explainer.is_some() {
            self.ticks.start(tracer.receiving_cpus());
        }
    }
}
