//! Finds out how this peer's stamps return, and what the probes ask for.

use super::args::Mode;
use crate::wire::stamp_return::StampReturn;

/// A peer that answers at least this many probes, over at least this time, ns, without stamps counts as
/// one that gives none.
const MISSES: u32 = 3;
const MISS_GRACE_NS: u64 = 100_000_000;

/// How this peer's stamps return.
pub struct Negotiation {
    mode: Mode,
    /// How long a probe waits for its stamps.
    timeout_ns: u64,
    in_use: Option<StampReturn>,
    /// Packets in a row that brought stamps another way than the one in use.
    strays: u32,
    misses: u32,
    missing_since_ns: u64,
    /// Both versions were tried in vain.
    local_only: bool,
}

impl Negotiation {
    /// Nothing is known yet.
    pub fn new(mode: Mode, timeout_ns: u64) -> Self {
        Self {
            mode,
            timeout_ns,
            in_use: None,
            strays: 0,
            misses: 0,
            missing_since_ns: 0,
            local_only: mode == Mode::Only(StampReturn::Pingpong),
        }
    }

    /// Whether probes wait for their stamps of the server.
    pub fn expects(&self) -> bool {
        !self.local_only
    }

    /// Stamps of the server arrived; true if the mode in use changes. The first one counts at once, a change
    /// only if it lasts, because a server that has just got a device sends stray stamp packets.
    pub fn seen(&mut self, way: StampReturn) -> bool {
        self.misses = 0;
        self.local_only = false;
        self.strays = if self.in_use == Some(way) {
            0
        } else {
            self.strays + 1
        };
        let news = match self.in_use {
            None => true,
            Some(_) => self.strays >= MISSES,
        };
        if news {
            log::info!("server stamps: {}", way.describe());
            self.in_use = Some(way);
            self.strays = 0;
        }
        news
    }

    /// A reply without stamps; returns what to ask for next, if it is time for that.
    pub fn missed(&mut self, now: u64, current: StampReturn) -> Option<StampReturn> {
        if self.local_only
            || self.in_use.is_some_and(StampReturn::is_behind_reply) && self.misses == 0
        {
            // Their stamps always come behind the reply.
            self.misses += u32::from(!self.local_only);
            self.missing_since_ns = now;
            return None;
        }
        if self.misses == 0 {
            self.missing_since_ns = now;
        }
        self.misses += 1;
        if self.misses < MISSES || now - self.missing_since_ns < self.grace_ns() {
            return None;
        }
        self.misses = 0;
        self.give_up_on(current)
    }

    /// Stamp packets come when the server's process has a CPU: as late as a probe waits for them.
    fn grace_ns(&self) -> u64 {
        let way = match (self.in_use, self.mode) {
            (Some(way), _) | (None, Mode::Only(way)) => way,
            (None, Mode::Auto) => StampReturn::Inband,
        };
        if way.is_behind_reply() {
            self.timeout_ns.max(MISS_GRACE_NS)
        } else {
            MISS_GRACE_NS
        }
    }

    fn give_up_on(&mut self, current: StampReturn) -> Option<StampReturn> {
        let was = self.in_use.take();
        match (self.mode, current) {
            (Mode::Auto, StampReturn::Inband) if was.is_none() => {
                log::debug!("no version 1 stamps in {MISSES} replies; trying version 0");
                return Some(StampReturn::V0);
            }
            (Mode::Auto, StampReturn::V0) => {
                log::warn!(
                    "no pingtrace server answers at the other end, or one that wants a key (--key-file): only the client's stages, and both wires and the server as one segment (remote)"
                );
                self.local_only = true;
                return Some(StampReturn::Inband);
            }
            _ => {}
        }
        log::warn!(
            "server stamps have stopped: only the client's stages, and both wires and the server as one segment (remote), until they return"
        );
        self.local_only = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::StampReturn::{Compact, Inband, V0};
    use super::*;

    const MS: u64 = 1_000_000;

    fn auto() -> Negotiation {
        Negotiation::new(Mode::Auto, 1_000 * MS)
    }

    /// What is asked for after this many replies without stamps, 50 ms apart.
    fn miss(n: &mut Negotiation, times: u64, current: StampReturn) -> Option<StampReturn> {
        (0..times).fold(None, |_, k| n.missed(k * 50 * MS, current))
    }

    #[test]
    fn the_first_way_is_news_once() {
        for way in [Inband, Compact, V0] {
            let mut n = auto();
            assert_eq!([(); 4].map(|()| n.seen(way)), [true, false, false, false]);
        }
    }

    #[test]
    fn stray_packets_are_no_change() {
        let mut n = auto();
        assert!(n.seen(Inband));
        for _ in 0..10 {
            assert!(!n.seen(Compact) && !n.seen(Compact) && !n.seen(Inband));
        }
    }

    #[test]
    fn a_change_that_lasts_is_news_and_so_is_the_way_back() {
        let mut n = auto();
        assert!(n.seen(Inband));
        for way in [Compact, Inband] {
            // Stamp packets follow replies that carry nothing.
            let news = [(); 5].map(|()| {
                n.missed(0, Inband);
                n.seen(way)
            });
            assert_eq!(news, [false, false, true, false, false], "{way}");
        }
    }

    #[test]
    fn strays_of_before_a_pause_do_not_count_behind_it() {
        let mut n = auto();
        assert!(n.seen(Inband) && !n.seen(Compact) && !n.seen(Compact));
        assert_eq!(miss(&mut n, 4, Inband), None);
        assert!(!n.expects(), "given up");
        assert!(n.seen(Inband), "said again");
        assert!(!n.seen(Compact) && !n.seen(Compact));
    }

    #[test]
    fn silence_leads_by_version_0_to_local_stages() {
        let mut n = auto();
        assert_eq!(miss(&mut n, 2, Inband), None, "too few");
        let mut n = auto();
        assert_eq!(miss(&mut n, 3, Inband), Some(V0));
        assert_eq!(miss(&mut n, 3, V0), Some(Inband));
        assert!(!n.expects());
        assert_eq!(miss(&mut n, 9, Inband), None, "said once");
        assert!(n.seen(Inband) && n.expects());
    }

    /// Replies in a burst say nothing about a server that is 100 ms away.
    #[test]
    fn misses_within_a_moment_are_not_silence() {
        let mut n = auto();
        for k in 0..99 {
            assert_eq!(n.missed(k * MS, Inband), None);
        }
    }

    #[test]
    fn record_packets_are_always_behind_their_reply() {
        let mut n = auto();
        assert!(n.seen(Compact));
        for k in 0..99 {
            assert_eq!(n.missed(k * 200 * MS, Compact), None);
            assert!(!n.seen(Compact));
        }
    }

    #[test]
    fn record_packets_of_a_busy_server_are_awaited_for_the_timeout() {
        let mut used = auto();
        assert!(used.seen(Compact));
        let asked = Negotiation::new(Mode::Only(Compact), 1_000 * MS);
        for mut n in [used, asked] {
            assert_eq!(miss(&mut n, 20, Compact), None);
            assert!(n.expects(), "950 ms");
            assert_eq!(miss(&mut n, 22, Compact), None);
            assert!(!n.expects(), "1050 ms");
        }
    }
}
