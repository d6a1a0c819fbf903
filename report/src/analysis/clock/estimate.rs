//! What the clock model says of a probe.

use crate::model::State;
use crate::units::duration;
use std::fmt;

/// No clock is stepped by as much, ns: a server that starts again tells strangers times from another origin.
const NEW_ORIGIN_NS: f64 = 3.6e12;

/// What the clock or the path did, noticed at a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The server's clock runs at another rate against the client's: it was slewed, or wanders.
    /// By how much it left its prediction so far, ns.
    Rate(f64),
    /// The server's clock was stepped, or the server restarted; by this much, ns.
    Step(f64),
    /// The base path became longer, ns in each direction.
    Path {
        /// Client to server.
        out_ns: f64,
        /// Server to client.
        in_ns: f64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Rate(ns) => {
                let off = signed(ns);
                write!(f, "the server's clock changed its rate ({off} so far)")
            }
            Self::Step(ns) if ns.abs() > NEW_ORIGIN_NS => {
                f.write_str("the server counts from another time, as after a new start")
            }
            Self::Step(ns) => write!(f, "the server's clock stepped by {}", signed(ns)),
            Self::Path { out_ns, in_ns } => write!(
                f,
                "the path became longer: {} out, {} in",
                signed(out_ns),
                signed(in_ns)
            ),
        }
    }
}

fn signed(ns: f64) -> String {
    let sign = if ns < 0.0 { '-' } else { '+' };
    format!("{sign}{}", duration(ns.abs().round() as u64))
}

/// Why a probe taught the model nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Glitch {
    /// Contradicts the clock as it was. The next probe that does not allow both says whether the
    /// clock stepped or the stamps are bad; until then no direction is known.
    Unconfirmed,
    /// A round trip shorter than the path allows: bad stamps, unless a similar one follows.
    TooShort,
    /// Older than a probe that came before it: measured by the clock as known now.
    Old,
}

/// Queueing in one direction, ns above the base path: an estimate and its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queue {
    /// `0 <= ns <= X`; both directions sum to `X`.
    pub ns: f64,
    /// Smallest value that four standard deviations of the phase and the base's margin allow.
    pub lo_ns: f64,
    /// Largest one, up to `X + 2e`.
    pub hi_ns: f64,
}

/// What the model says about one probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Which probe, counted from 0 as they reach the model.
    pub index: u64,
    /// Sum of the clock's unpredicted moves, this probe's event included, ns: bounds the error of two
    /// estimates against each other.
    pub moved_ns: f64,
    /// After this probe. Outside [`State::Lock`], and after a [`Glitch::Unconfirmed`] until it is
    /// decided, the bounds are those that hold for any clock.
    pub state: State,
    /// Base round trip `R0`, ns.
    pub base_ns: f64,
    /// Excess `X` over it, ns: free of the clocks.
    pub excess_ns: f64,
    /// Margin `e` of half the base, ns: the excess is certain to `2e`.
    pub margin_ns: f64,
    /// Client to server.
    pub out: Queue,
    /// What the phase may be off by because of intervals that contradicted the clock of late and
    /// were believed, ns: the bounds of `out` and `back` do not know of it.
    pub doubt_ns: f64,
    /// Server to client.
    pub back: Queue,
    /// The probe was as quick as quick ones are, and so shows the clock.
    pub in_base: bool,
    /// What was noticed at this probe.
    pub event: Option<Event>,
    /// Present if the probe taught the model nothing.
    pub glitch: Option<Glitch>,
}

impl Estimate {
    /// [`Self::out`] with bounds that allow for [`Self::doubt_ns`] too.
    pub fn out_reported(&self) -> Queue {
        let max = self.excess_ns + 2.0 * self.margin_ns;
        Queue {
            lo_ns: (self.out.lo_ns - self.doubt_ns).max(0.0),
            hi_ns: (self.out.hi_ns + self.doubt_ns).min(max),
            ..self.out
        }
    }

    /// With the bounds that hold whatever the clocks do.
    pub(super) fn without_direction(mut self) -> Self {
        for queue in [&mut self.out, &mut self.back] {
            queue.lo_ns = 0.0;
            queue.hi_ns = self.excess_ns + 2.0 * self.margin_ns;
        }
        self
    }
}
