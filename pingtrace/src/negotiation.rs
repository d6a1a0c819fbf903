//! Which way of getting remote stamps works with this peer, and what the probes ask for.

use crate::cli::Mode;
use crate::host;
use crate::packet::{INBAND, Probe, RECORD, Version};
use crate::plan::Plan;

/// A peer that answers at least this many probes, over at least this time, without stamps is
/// taken not to give any.
const MISSES: u32 = 3;
const MISS_GRACE_NS: u64 = 100_000_000;

/// What the probes ask of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    /// Stamps in the reply itself.
    Inband,
    /// Stamps in a record packet.
    Compact,
    /// The same, of a version 0 peer.
    V0,
    /// Nothing.
    Plain,
}

impl Format {
    /// In the order of the discriminants.
    pub const ALL: [Self; 4] = [Self::Inband, Self::Compact, Self::V0, Self::Plain];

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

/// Which way of getting remote stamps works with this peer.
pub struct Negotiation {
    mode: Mode,
    in_use: Option<&'static str>,
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
            misses: 0,
            missing_since_ns: 0,
            local_only: mode == Mode::Pingpong,
        }
    }

    /// Whether a probe is worth holding back until its remote stamps are there.
    pub fn expects(&self) -> bool {
        !self.local_only
    }

    /// Remote stamps arrived; true when that is news.
    pub fn seen(&mut self, how: &'static str) -> bool {
        self.misses = 0;
        self.local_only = false;
        let news = self.in_use != Some(how);
        if news {
            log::info!("remote stamps: {}", describe(how));
            self.in_use = Some(how);
        }
        news
    }

    /// A reply without stamps; the format to try next, if it is time for that.
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
                    "no pingtrace server answers at the other end: local stages and one remote segment only"
                );
                self.local_only = true;
                return Some(Format::Inband);
            }
            _ => {}
        }
        log::warn!(
            "remote stamps have stopped; local stages and one remote segment until they come back"
        );
        self.local_only = true;
        None
    }
}

fn describe(how: &str) -> &'static str {
    match how {
        "inband" => "in band, in the echo reply itself",
        "compact" => "in record packets",
        _ => "in version 0 record packets (1 us resolution)",
    }
}
