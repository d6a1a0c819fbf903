//! Softirq and NAPI, taken out of the span that crosses to their host.

use super::chain::Softirq;
use crate::analysis::clock::Leg;
use crate::model::host_time::HostTime;
use crate::model::{Delay, Doubt, Segment};

/// Upper bound on what the base of a crossing has of the softirq and poll of an ordinary packet, nanoseconds.
const ORDINARY_NS: u64 = 100_000;

/// A segment taken out of a crossing.
#[derive(Clone, Copy)]
pub struct Part {
    ns: u64,
    bounds: Option<(u64, u64)>,
    /// Its two sides are not told apart.
    pub merged: bool,
    clamped: bool,
    /// It began before the packet can have arrived, whatever the clocks.
    pub early: bool,
}

impl Part {
    pub fn delay(self, segment: Segment, doubt: Option<Doubt>) -> Delay {
        let Self {
            ns,
            bounds,
            merged,
            clamped,
            ..
        } = self;
        Delay {
            segment,
            ns,
            bounds,
            merged,
            clamped,
            doubt,
        }
    }
}

/// What the receiving host's softirq takes of a crossing.
#[derive(Clone, Copy, Default)]
pub struct Carved {
    pub softirq: Option<Part>,
    pub napi: Option<Part>,
}

impl Carved {
    /// Nanoseconds: as estimated, and where the crossing took as little or as much as it can have.
    pub fn total(&self) -> [u64; 3] {
        let parts = [self.softirq, self.napi].into_iter().flatten();
        parts.fold([0; 3], |[ns, lo, hi], part| {
            let (part_lo, part_hi) = part.bounds.unwrap_or((part.ns, part.ns));
            [ns + part.ns, lo + part_lo, hi + part_hi]
        })
    }
}

/// Takes NAPI and softirq out of a crossing that ends at `end`. Without an entry stamp both are
/// one span, named by its end.
pub fn carve<T: HostTime>(softirq: Softirq<T>, end: T, leg: &Leg, departure: Option<T>) -> Carved {
    let (lo, hi) = leg.bounds.unwrap_or((leg.ns, leg.ns));
    let ordinary_ns = leg.base_ns.min(ORDINARY_NS);
    let mut budgets = [leg.ns, lo, hi].map(|ns| ns.saturating_sub(leg.base_ns));
    let mut take = |from: T, to: T, merged: bool| {
        let span = to.since(from);
        let certain = departure.is_some_and(|departure| departure <= from);
        let [ns, lo, hi] = budgets.map(|left| if certain { span } else { span.min(left) });
        for (left, taken) in budgets.iter_mut().zip([ns, lo, hi]) {
            *left = left.saturating_sub(taken);
        }
        Part {
            ns,
            bounds: (lo < hi).then_some((lo, hi)),
            merged,
            clamped: ns < span,
            early: hi + ordinary_ns < span,
        }
    };
    match (softirq.raise, softirq.entry) {
        (Some(raise), Some(entry)) => {
            let napi = take(entry, end, false);
            let softirq = take(raise, entry, false);
            Carved {
                softirq: Some(softirq),
                napi: Some(napi),
            }
        }
        (None, Some(entry)) => Carved {
            softirq: None,
            napi: Some(take(entry, end, false)),
        },
        (Some(raise), None) => Carved {
            softirq: None,
            napi: Some(take(raise, end, true)),
        },
        (None, None) => Carved::default(),
    }
}
