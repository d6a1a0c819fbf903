//! Finds out how this peer's stamps return, and what the probes ask for.

use super::args::Mode;
use crate::client::plan::Plan;
use crate::kernel::host;
use crate::wire::probe::Probe;
use crate::wire::protocol::{INBAND, RECORD, Version};

/// A peer that answers at least this many probes, over at least this time, ns, without stamps counts as
/// one that gives none.
const MISSES: u32 = 3;
const MISS_GRACE_NS: u64 = 100_000_000;

/// What the probes ask of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// Stamps in the reply itself.
    Inband,
    /// Stamps in a stamp packet.
    Compact,
    /// The same, of a version 0 peer.
    V0,
    /// Nothing.
    Plain,
}

impl Format {
    /// In the order of the discriminants.
    pub const ALL: [Self; 4] = [Self::Inband, Self::Compact, Self::V0, Self::Plain];

    /// What a run in this mode begins with.
    pub fn first(mode: Mode) -> Self {
        match mode {
            Mode::Auto | Mode::Inband => Self::Inband,
            Mode::Compact => Self::Compact,
            Mode::Pingpong => Self::Plain,
        }
    }

    /// One probe template for each format, indexed by it.
    pub fn probes(plan: &Plan, session: u32) -> [Probe; 4] {
        Self::ALL.map(|f| {
            let (version, flags) = match f {
                Self::Inband => (Version::V1, INBAND),
                Self::Compact => (Version::V1, RECORD),
                Self::V0 => (Version::V0, 0),
                Self::Plain => (Version::V1, 0),
            };
            Probe::new(plan.family, version, session, plan.size, flags, host::id())
        })
    }
}

/// How this peer's stamps return.
pub struct Negotiation {
    mode: Mode,
    in_use: Option<&'static str>,
    /// Packets in a row that brought stamps another way than the one in use.
    strays: u32,
    misses: u32,
    missing_since_ns: u64,
    /// Both versions were tried in vain.
    local_only: bool,
}

impl Negotiation {
    /// Nothing is known yet.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            in_use: None,
            strays: 0,
            misses: 0,
            missing_since_ns: 0,
            local_only: mode == Mode::Pingpong,
        }
    }

    /// Whether probes wait for their stamps of the server.
    pub fn expects(&self) -> bool {
        !self.local_only
    }

    /// Stamps of the server arrived; true if the mode in use changes. The first one counts at once, a change
    /// only if it lasts, because a server that has just got a device sends stray stamp packets.
    pub fn seen(&mut self, how: &'static str) -> bool {
        self.misses = 0;
        self.local_only = false;
        self.strays = if self.in_use == Some(how) {
            0
        } else {
            self.strays + 1
        };
        let news = match self.in_use {
            None => true,
            Some(_) => self.strays >= MISSES,
        };
        if news {
            log::info!("server stamps: {}", describe(how));
            self.in_use = Some(how);
            self.strays = 0;
        }
        news
    }

    /// A reply without stamps; returns the format to try next, if it is time for that.
    pub fn missed(&mut self, now: u64, current: Format) -> Option<Format> {
        if self.local_only || matches!(self.in_use, Some("compact" | "v0")) && self.misses == 0 {
            // Their stamps always come behind the reply.
            self.misses += u32::from(!self.local_only);
            self.missing_since_ns = now;
            return None;
        }
        if self.misses == 0 {
            self.missing_since_ns = now;
        }
        self.misses += 1;
        if self.misses < MISSES || now - self.missing_since_ns < MISS_GRACE_NS {
            return None;
        }
        self.misses = 0;
        self.give_up_on(current)
    }

    fn give_up_on(&mut self, current: Format) -> Option<Format> {
        let was = self.in_use.take();
        match (self.mode, current) {
            (Mode::Auto, Format::Inband) if was.is_none() => {
                log::debug!("no version 1 stamps in {MISSES} replies; trying version 0");
                return Some(Format::V0);
            }
            (Mode::Auto, Format::V0) => {
                log::warn!(
                    "no pingtrace server answers at the other end: the client's stages and one remote segment only"
                );
                self.local_only = true;
                return Some(Format::Inband);
            }
            _ => {}
        }
        log::warn!(
            "server stamps have stopped: the client's stages and one remote segment until they come back"
        );
        self.local_only = true;
        None
    }
}

fn describe(how: &str) -> &'static str {
    match how {
        "inband" => "in band, in the echo reply itself",
        "compact" => "in stamp packets",
        _ => "in version 0 stamp packets (1 us resolution)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn auto() -> Negotiation {
        Negotiation::new(Mode::Auto)
    }

    /// The next format after this many replies without stamps, 50 ms apart.
    fn miss(n: &mut Negotiation, times: u64, current: Format) -> Option<Format> {
        (0..times).fold(None, |_, k| n.missed(k * 50 * MS, current))
    }

    #[test]
    fn the_first_way_is_news_once() {
        for how in ["inband", "compact", "v0"] {
            let mut n = auto();
            assert_eq!([(); 4].map(|()| n.seen(how)), [true, false, false, false]);
        }
    }

    #[test]
    fn stray_packets_are_no_change() {
        let mut n = auto();
        assert!(n.seen("inband"));
        for _ in 0..10 {
            assert!(!n.seen("compact") && !n.seen("compact") && !n.seen("inband"));
        }
    }

    #[test]
    fn a_change_that_lasts_is_news_and_so_is_the_way_back() {
        let mut n = auto();
        assert!(n.seen("inband"));
        for how in ["compact", "inband"] {
            // Stamp packets follow replies that carry nothing.
            let news = [(); 5].map(|()| {
                n.missed(0, Format::Inband);
                n.seen(how)
            });
            assert_eq!(news, [false, false, true, false, false], "{how}");
        }
    }

    #[test]
    fn strays_of_before_a_pause_do_not_count_behind_it() {
        let mut n = auto();
        assert!(n.seen("inband") && !n.seen("compact") && !n.seen("compact"));
        assert_eq!(miss(&mut n, 4, Format::Inband), None);
        assert!(!n.expects(), "given up");
        assert!(n.seen("inband"), "said again");
        assert!(!n.seen("compact") && !n.seen("compact"));
    }

    #[test]
    fn silence_leads_by_version_0_to_local_stages() {
        let mut n = auto();
        assert_eq!(miss(&mut n, 2, Format::Inband), None, "too few");
        let mut n = auto();
        assert_eq!(miss(&mut n, 3, Format::Inband), Some(Format::V0));
        assert_eq!(miss(&mut n, 3, Format::V0), Some(Format::Inband));
        assert!(!n.expects());
        assert_eq!(miss(&mut n, 9, Format::Inband), None, "said once");
        assert!(n.seen("inband") && n.expects());
    }

    /// Replies in a burst say nothing about a server that is 100 ms away.
    #[test]
    fn misses_within_a_moment_are_not_silence() {
        let mut n = auto();
        for k in 0..99 {
            assert_eq!(n.missed(k * MS, Format::Inband), None);
        }
    }

    #[test]
    fn record_packets_are_always_behind_their_reply() {
        let mut n = auto();
        assert!(n.seen("compact"));
        for k in 0..99 {
            assert_eq!(n.missed(k * 200 * MS, Format::Compact), None);
            assert!(!n.seen("compact"));
        }
    }
}
