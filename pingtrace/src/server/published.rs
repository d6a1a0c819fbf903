//! What the server tells the metrics, once a second.

use super::inband::Inband;
use super::stamp_sender::StampSender;
use crate::output::metrics::Board;
use report::format::metrics::{ArmingView, ServerView};
use std::sync::Arc;

/// Time between two copies, ns.
const INTERVAL_NS: u64 = 1_000_000_000;

/// Where the numbers go, if metrics are wanted.
pub struct Published<'a> {
    board: Option<&'a Arc<Board>>,
    next_ns: u64,
}

impl<'a> Published<'a> {
    /// Nothing published yet.
    pub fn new(board: Option<&'a Arc<Board>>) -> Self {
        Self { board, next_ns: 0 }
    }

    /// When the next copy is due, `CLOCK_MONOTONIC` ns, if one ever is.
    pub fn wake_at(&self) -> Option<u64> {
        self.board.map(|_| self.next_ns)
    }

    /// Publishes a copy if one is due at `now`.
    pub fn publish(&mut self, now: u64, view: impl FnOnce() -> ServerView) {
        if let Some(board) = self.board.filter(|_| now >= self.next_ns) {
            board.publish_server(view());
            self.next_ns = now + INTERVAL_NS;
        }
    }
}

/// The numbers; `lost`: what was lost or refused.
pub fn view(
    inband: Option<&Inband<'_>>,
    sender: &StampSender,
    lost: impl Iterator<Item = (&'static str, u64)>,
    arming: ArmingView,
) -> ServerView {
    let written = inband.map_or(0, |inband| inband.counts().0);
    let withheld = sender.withheld.all();
    let withheld = withheld.map(|(why, count)| (why.describe(), count));
    ServerView {
        stamps: vec![("inband", written), ("packet", sender.sent)],
        withheld: withheld.filter(|(_, count)| *count > 0).collect(),
        lost: lost.filter(|(_, count)| *count > 0).collect(),
        clients: sender.clients.count_served() as u64,
        arming,
    }
}
