//! How targets join a run, and leave it.

use super::args::Args;
use super::plan::Plan;
use super::sender::{Change, Shared};
use super::target::Target;
use super::target_list::{Update, Updates};
use super::this_host::ThisHost;
use super::warm_up::{Few, WarmUp};
use crate::capture::collector::Collector;
use crate::control::Control;
use crate::kernel::meter::Meter;
use crate::kernel::targets::Targets;
use crate::output::metrics;
use crate::output::run::Outputs;
use crate::units::monotonic_ns;
use crate::wire::socket::ProbeSocket;
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

/// The first probe is due this long after everything is ready, ns.
const LEAD_NS: u64 = 20_000_000;

/// Gives a target its place among the metrics, where they are wanted.
pub type Board<'a> = &'a dyn Fn() -> Option<metrics::Target>;

/// What a target that joins gets its share of.
pub struct Joining<'a> {
    /// The options of the run.
    pub args: &'a Args,
    /// Ends the warm-up.
    pub control: &'a Control,
    /// Where metrics are wanted.
    pub board: Board<'a>,
    /// Writes the results.
    pub outputs: &'a Outputs,
    /// One for each address family.
    pub sockets: Vec<Arc<ProbeSocket>>,
    /// Sessions and slots.
    pub targets: Targets,
    /// To the sender; absent if the receiver sends (`-A`), or if nobody can join any more.
    pub changes: Option<Sender<Change>>,
    /// Of a list that changes.
    pub updates: Option<Updates>,
    /// Targets that are to join, and names of those that are to leave.
    pub waiting: VecDeque<Plan>,
    /// See there.
    pub leaving: Vec<String>,
    /// What the run costs, if it has one target.
    pub meter: Option<Meter>,
    /// When the first probe of the first target is due, `CLOCK_MONOTONIC` ns; before there is one, the start.
    pub begin_ns: u64,
    /// Targets so far.
    pub count: u32,
    /// Those for which there was no room.
    pub refused: u64,
}

impl Joining<'_> {
    /// Takes what has changed in the list.
    pub fn take_updates(&mut self) {
        while let Some(Update { join, leave }) = self.updates.as_ref().and_then(Updates::next) {
            log::info!("targets: {} join, {} leave", join.len(), leave.len());
            let is_gone = |plan: &Plan| plan.name.as_ref().is_some_and(|n| leave.contains(&n.name));
            self.waiting.retain(|plan| !is_gone(plan));
            self.leaving.extend(leave);
            self.waiting.extend(join);
        }
    }

    /// The next one that joins, if any waits.
    pub fn next(&mut self, host: &ThisHost<'_>) -> Option<Target> {
        loop {
            let plan = self.waiting.pop_front()?;
            let name = plan.name.clone();
            match self.join(plan, host) {
                Ok(target) => return Some(target),
                Err(e) => {
                    self.refused += 1;
                    let name = name.map(|n| n.name).unwrap_or_default();
                    log::error!("{name} is not probed: {e:#}");
                }
            }
        }
    }

    fn join(&mut self, mut plan: Plan, host: &ThisHost<'_>) -> Result<Target> {
        let socket = self.sockets.iter().find(|s| s.family() == plan.family);
        let socket = Arc::clone(socket.context("no socket of its address family")?);
        let slots = self.targets.add(plan.slots())?;
        let slots = slots.context("no room for so many targets; a new start makes some")?;
        let warm_up = match plan.name {
            None => WarmUp::run(&plan, &socket, slots.session, self.control),
            Some(_) => WarmUp::default(),
        };
        // So that the start of the threads does not count as lateness.
        let lead_ns = plan.interval_ns.map_or(0, |_| LEAD_NS) + Few::new(&plan).duration_ns();
        let start_ns = monotonic_ns() + lead_ns;
        if self.count == 0 {
            self.begin_ns = start_ns;
        }
        let start_ns = start_ns + phase_ns(self.count, plan.interval_ns.unwrap_or(0));
        if let Some(time_ns) = plan.time_ns {
            // All end at the same time.
            plan.time_ns = Some((self.begin_ns + time_ns).saturating_sub(start_ns));
        }
        let mut collector = Collector::new(
            &self.args.results,
            plan.describe(),
            self.outputs.way(self.count),
        );
        self.count += 1;
        if let Some(place) = (self.board)() {
            let named = plan.name.clone().unwrap_or_else(|| report::model::Target {
                name: plan.host.clone(),
                ..report::model::Target::default()
            });
            collector.publish(place, named.name, named.labels);
        }
        collector.session(slots.session);
        collector.report_outages(plan.timeout_ns);
        let shared = Arc::new(Shared::new(plan, slots, socket, start_ns));
        shared.cookie.store(warm_up.cookie, Ordering::Relaxed);
        shared.warm_up.store(warm_up.sent.into(), Ordering::Relaxed);
        collector.begin(start_ns, host.tracer.as_ref(), self.meter.take());
        collector.explain(host.explainer.is_some());
        if let Some(error) = &warm_up.refused {
            collector.icmp_error(error);
        }
        if let Some(changes) = &self.changes {
            let _ = changes.send(Change::Join(Arc::clone(&shared)));
        }
        Ok(Target::new(shared, collector, host))
    }

    /// Whether this target is to leave; then it is sent no further probe.
    pub fn is_leaving(&mut self, target: &Target) -> bool {
        let name = target.shared.plan.name.as_ref();
        let place = self
            .leaving
            .iter()
            .position(|n| name.is_some_and(|name| name.name == *n));
        let Some(place) = place else { return false };
        self.leaving.swap_remove(place);
        if let Some(changes) = &self.changes {
            let _ = changes.send(Change::Leave(target.shared.session));
        }
        true
    }

    /// Its place is free.
    pub fn left(&mut self, target: &Target) {
        self.targets
            .remove(target.shared.session, &target.shared.table);
    }
}

/// How much later than the first target this one begins, ns: they are spread over the interval, evenly for any
/// number of them (multiples of the golden ratio, modulo 1).
fn phase_ns(number: u32, interval_ns: u64) -> u64 {
    /// 2^64 / 1.618...
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let part = u128::from(u64::from(number).wrapping_mul(STEP));
    ((part * u128::from(interval_ns)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_spread_evenly() {
        assert_eq!(phase_ns(0, 1000), 0);
        for count in [10, 100, 1000] {
            let mut phases: Vec<u64> = (0..count).map(|k| phase_ns(k, 1_000_000)).collect();
            phases.sort_unstable();
            let gaps = phases.windows(2).map(|pair| pair[1] - pair[0]);
            let even = 1_000_000 / u64::from(count);
            assert!(gaps.max() < Some(even * 2), "{count}");
        }
    }
}
