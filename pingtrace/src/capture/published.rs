//! What a capture tells the metrics: counts, which go to the board once a second.

use crate::output::metrics::Target;
use crate::output::run::Message;
use report::analysis::target_counts::TargetCounts;
use report::format::metrics::TargetView;
use report::model::{ClockSummary, Counters, ProgramCost};
use std::collections::BTreeMap;

/// Time between two, ns.
const INTERVAL_NS: u64 = 1_000_000_000;

/// The counts of a capture, and where they go.
pub struct Published {
    target: Target,
    name: String,
    labels: BTreeMap<String, String>,
    /// The session of the probes.
    pub session: u32,
    /// The probes since they last went there.
    pub counts: TargetCounts,
    next_ns: u64,
    /// Its place is free at the end.
    pub retires: bool,
}

impl Published {
    /// Nothing counted yet.
    pub fn new(target: Target, name: String, labels: BTreeMap<String, String>) -> Self {
        Self {
            target,
            name,
            labels,
            session: 0,
            counts: TargetCounts::default(),
            next_ns: 0,
            retires: false,
        }
    }

    /// Whether they are due at `now`, ns; the next one is a second later.
    pub fn is_due(&mut self, now: u64) -> bool {
        let due = now >= self.next_ns;
        if due {
            self.next_ns = now + INTERVAL_NS;
        }
        due
    }

    /// What is said behind the last of them.
    pub fn last(&self) -> Option<Message> {
        self.retires.then(|| Message::Retire(self.target.clone()))
    }

    /// What was counted, for the output thread: the board adds it to what it has.
    pub fn hand_over(
        &mut self,
        counters: &Counters,
        clock: Option<ClockSummary>,
        programs: Vec<ProgramCost>,
    ) -> Message {
        let view = TargetView {
            name: self.name.clone(),
            labels: self.labels.clone(),
            session: self.session,
            losses: self.counts.losses(),
            counts: self.counts.hand_over(),
            counters: *counters,
            clock,
            programs,
        };
        Message::Metrics(self.target.clone(), Box::new(view))
    }
}
