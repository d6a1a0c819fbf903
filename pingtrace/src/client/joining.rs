//! How targets join a run, and leave it.

use super::args::Args;
use super::due::{Due, Phases};
use super::plan::{Plan, TargetId};
use super::sender::{Change, Shared};
use super::target::Target;
use super::target_list::{Update, Updates};
use super::this_host::ThisHost;
use super::warm_up::{Few, WarmUp};
use crate::capture::collector::Collector;
use crate::control::Control;
use crate::kernel::meter::Meter;
use crate::kernel::targets::{TargetSlots, Targets};
use crate::output::metrics;
use crate::output::run::Outputs;
use crate::units::monotonic_ns;
use crate::wire::number::SessionId;
use crate::wire::socket::ProbeSocket;
use anyhow::{Context, Result};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

/// The first probe is due this long after everything is ready, ns.
const LEAD_NS: u64 = 20_000_000;
/// Upper bound on the targets that are named at the end because they were not probed.
const TOLD_REFUSED: usize = 8;

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
    /// Targets that are to join.
    pub waiting: VecDeque<Plan>,
    /// Those for which there was no room.
    pub refused: VecDeque<Plan>,
    /// How many of those are to be tried again.
    pub retries: usize,
    /// Targets that are to leave.
    pub leaving: HashSet<TargetId>,
    /// What the run costs, if it has one target.
    pub meter: Option<Meter>,
    /// When the first probe of the first target is due, `CLOCK_MONOTONIC` ns; before there is one, the start.
    pub begin_ns: u64,
    /// When they begin.
    pub phases: Phases,
    /// Targets so far.
    pub count: u32,
}

/// What a target has before it joins.
type Place = (Arc<ProbeSocket>, TargetSlots);

impl Joining<'_> {
    /// Takes what has changed in the list.
    pub fn take_updates(&mut self) {
        while let Some(Update { join, leave }) = self.updates.as_ref().and_then(Updates::next) {
            log::info!("targets: {} join, {} leave", join.len(), leave.len());
            let stays = |plan: &Plan| !leave.contains(&plan.id);
            self.waiting.retain(stays);
            self.refused.retain(stays);
            self.retries = self.retries.min(self.refused.len());
            self.leaving.extend(leave);
            self.waiting.extend(join);
        }
    }

    /// The next one that joins, if any waits and there is room for it.
    pub fn next(&mut self, host: &ThisHost<'_>) -> Option<Target> {
        loop {
            let (plan, is_new) = self.next_plan()?;
            match self.place(&plan) {
                Ok(place) => return Some(self.join(plan, place, host)),
                Err(e) if is_new => log::error!("{} is not probed: {e:#}", plan.target_name()),
                Err(_) => {}
            }
            self.refused.push_back(plan);
        }
    }

    /// And whether it is tried for the first time.
    fn next_plan(&mut self) -> Option<(Plan, bool)> {
        if let Some(plan) = self.waiting.pop_front() {
            return Some((plan, true));
        }
        self.retries = self.retries.checked_sub(1)?;
        Some((self.refused.pop_front()?, false))
    }

    fn place(&mut self, plan: &Plan) -> Result<Place> {
        let socket = self.sockets.iter().find(|s| s.family() == plan.family);
        let socket = Arc::clone(socket.context("no socket of its address family")?);
        let slots = self.targets.add(plan.slots())?;
        let slots = slots.context(
            "no room for so many targets: it is when others leave, and a new start makes some",
        )?;
        Ok((socket, slots))
    }

    fn join(&mut self, mut plan: Plan, (socket, slots): Place, host: &ThisHost<'_>) -> Target {
        let warm_up = match plan.name {
            None => WarmUp::run(&plan, &socket, slots.session, self.control),
            Some(_) => WarmUp::default(),
        };
        let due = self.due(&plan);
        // All end at the same time.
        let end_ns = plan.time_ns.map(|time_ns| self.begin_ns + time_ns);
        plan.time_ns = end_ns.map(|end_ns| end_ns.saturating_sub(due.start_ns));
        let mut collector = self.collector(&plan, slots.session);
        self.count += 1;
        let shared = Arc::new(Shared::new(plan, slots, socket, due));
        shared.cookie.store(warm_up.cookie, Ordering::Relaxed);
        shared.warm_up.store(warm_up.sent.into(), Ordering::Relaxed);
        collector.begin(due.start_ns, host.tracer.as_ref(), self.meter.take());
        collector.explain(host.explainer.is_some());
        if let Some(counters) = &host.counters {
            collector.count_moved(counters.of_target(self.count));
        }
        if let Some(error) = &warm_up.refused {
            collector.icmp_error(error);
        }
        if let Some(changes) = &self.changes {
            let _ = changes.send(Change::Join(Arc::clone(&shared)));
        }
        Target::new(shared, collector, host)
    }

    fn due(&mut self, plan: &Plan) -> Due {
        // So that the start of the threads does not count as lateness.
        let lead_ns = plan.interval_ns.map_or(0, |_| LEAD_NS) + Few::new(plan).duration_ns();
        let ready_ns = monotonic_ns() + lead_ns;
        if self.count == 0 {
            self.begin_ns = ready_ns;
        }
        self.phases.next(ready_ns, plan.interval_ns.unwrap_or(0))
    }

    fn collector(&self, plan: &Plan, session: SessionId) -> Collector {
        let way = self.outputs.way(self.count);
        let mut collector = Collector::new(&self.args.results, plan.describe(), way);
        if let Some(place) = (self.board)() {
            let named = plan.name.clone().unwrap_or_else(|| report::model::Target {
                name: plan.host.clone(),
                ..report::model::Target::default()
            });
            collector.publish(place, named.name, named.labels);
        }
        collector.session(session);
        collector.report_outages(plan.timeout_ns);
        collector
    }

    /// If the target is to leave, it is sent no further probe.
    pub fn dismiss(&self, target: &Target) -> bool {
        let Shared { plan, session, .. } = &*target.shared;
        let leaves = self.leaving.contains(&plan.id);
        if leaves && let Some(changes) = &self.changes {
            let _ = changes.send(Change::Leave(*session));
        }
        leaves
    }

    /// Its place is free: those for which there was none are tried again.
    pub fn left(&mut self, target: &Target) {
        self.targets
            .remove(target.shared.session, &target.shared.table);
        self.retries = self.refused.len();
    }

    /// Says, at the end, who was never probed.
    pub fn report_refused(&self) {
        let names = self.refused.iter().map(Plan::target_name);
        let names: Vec<&str> = names.take(TOLD_REFUSED).collect();
        if !names.is_empty() {
            let (count, names) = (self.refused.len(), names.join(", "));
            log::error!("{count} targets were not probed, as there was no room: {names}");
        }
    }
}
