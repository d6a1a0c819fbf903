//! What is known of each target, as pages say it.

use crate::units::process_cpu_ns;
use report::format::metrics::{
    Form, NodeTotals, NodeView, Process, Room, ServerView, TargetView, encode, page,
};
use rustix::param::page_size;
use rustix::system::uname;
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The targets, and the server if this process is one.
#[derive(Debug)]
pub struct Board {
    classic: bool,
    kernel: String,
    start_s: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    targets: BTreeMap<u64, TargetView>,
    /// What was counted of all targets together, and what those had that are no more: of a thousand, each would
    /// take kilobytes more.
    totals: NodeTotals,
    server: Option<ServerView>,
    room: Room,
}

/// A target's place on the board. What was published last stays until [`Target::retire`], so the last page has
/// it, too.
#[derive(Clone, Debug)]
pub struct Target {
    board: Arc<Board>,
    id: u64,
}

impl Board {
    /// Without targets; `classic`: histograms have classic buckets, too.
    pub fn new(classic: bool) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            classic,
            kernel: uname().release().to_string_lossy().into_owned(),
            start_s: now.map_or(0.0, |now| now.as_secs_f64()),
            state: Mutex::default(),
        }
    }

    /// A place for a target. It has no metrics before something is published.
    pub fn target(self: &Arc<Self>) -> Target {
        let mut state = self.state();
        state.next += 1;
        Target {
            board: Arc::clone(self),
            id: state.next,
        }
    }

    /// Puts the server's numbers on the board.
    pub fn publish_server(&self, server: ServerView) {
        self.state().server = Some(server);
    }

    /// The page, in a format.
    pub fn page(&self, form: Form) -> Vec<u8> {
        let process = self.process();
        let mut state = self.state();
        let State {
            targets,
            totals,
            server,
            room,
            ..
        } = &mut *state;
        let mut totals = totals.clone();
        for target in targets.values() {
            totals.add(target);
        }
        let node = NodeView {
            version: env!("CARGO_PKG_VERSION"),
            kernel: &self.kernel,
            process,
            targets: &targets.values().collect::<Vec<_>>(),
            totals: &totals,
            server: server.as_ref(),
        };
        let families = page(&node, room);
        drop(state);
        encode(families, form, self.classic)
    }

    fn process(&self) -> Process {
        // Size and resident pages, among others.
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        Process {
            cpu_ns: process_cpu_ns(),
            resident_bytes: pages.unwrap_or(0) * page_size() as u64,
            start_s: self.start_s,
        }
    }

    /// What panicked while it was locked left nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target {
    /// Puts the target's numbers on the board. What was counted since it last did is added to the rest.
    pub fn publish(&self, view: TargetView) {
        let mut state = self.board.state();
        state.totals.count(&view.counts);
        let on_board = state.targets.entry(self.id).or_default();
        let mut counts = std::mem::take(&mut on_board.counts);
        counts.add(&view.counts);
        *on_board = TargetView { counts, ..view };
    }

    /// Takes the target off the board: it is probed no more. The sums over all targets keep what it had.
    pub fn retire(&self) {
        let mut state = self.board.state();
        if let Some(view) = state.targets.remove(&self.id) {
            state.totals.add(&view);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Counters;

    #[test]
    fn a_target_that_is_no_more_still_counts_in_the_sums() {
        let board = Arc::new(Board::new(false));
        let target = board.target();
        target.publish(TargetView {
            name: "web1".to_owned(),
            counters: Counters {
                dup: 3,
                ..Counters::default()
            },
            ..TargetView::default()
        });
        let other = board.target();
        other.publish(TargetView {
            name: "web2".to_owned(),
            ..TargetView::default()
        });
        let dups = r#"pingtrace_irregularities_total{kind="dup"} 3"#;
        let page = |board: &Board| String::from_utf8(board.page(Form::Text)).unwrap();
        assert!(page(&board).contains(dups) && page(&board).contains("web1"));
        target.retire();
        assert!(page(&board).contains(dups) && !page(&board).contains("web1"));
    }
}
