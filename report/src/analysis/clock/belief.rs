//! What is believed of the clock: a normal distribution of its phase and rate, in nanoseconds and
//! nanoseconds per second; and what a probe allows for.

use super::gaussian::truncated;

/// White noise of the phase, ns^2 per second.
const WHITE: f64 = 100.0;

/// Standard deviation of the rate before anything is known, ns/s: 100 ppm.
const COLD_RATE: f64 = 1e5;

/// Phase and rate as a normal distribution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Belief {
    pub phase: f64,
    pub rate: f64,
    pub phase_var: f64,
    pub covariance: f64,
    pub rate_var: f64,
}

impl Default for Belief {
    fn default() -> Self {
        Self {
            phase: 0.0,
            rate: 0.0,
            phase_var: 0.0,
            covariance: 0.0,
            rate_var: COLD_RATE * COLD_RATE,
        }
    }
}

impl Belief {
    /// The same `dt` seconds later, or earlier, with a rate that wanders.
    pub(super) fn after(&self, dt: f64, wander: f64) -> Self {
        let walk = wander * wander * dt.abs();
        Self {
            phase: self.phase + self.rate * dt,
            rate: self.rate,
            phase_var: self.phase_var
                + 2.0 * dt * self.covariance
                + dt * dt * self.rate_var
                + walk * dt * dt / 3.0
                + WHITE * dt.abs(),
            covariance: self.covariance + dt * self.rate_var + walk * dt / 2.0,
            rate_var: self.rate_var + walk,
        }
    }

    /// Widens it until a phase that is off by this much, ns, is two standard deviations away.
    pub(super) fn allow_for(&mut self, beyond: f64) {
        let factor = 0.25 * beyond * beyond / self.phase_var;
        self.phase_var *= factor;
        self.covariance *= factor;
        self.rate_var *= factor;
    }

    /// Learns that the phase lies in an interval. Returns how surprising that was: 1 on average if
    /// the variance is honest.
    pub(super) fn confine(&mut self, interval: Interval) -> f64 {
        let sd = self.phase_var.sqrt();
        let inside = truncated(
            (interval.low - self.phase) / sd,
            (interval.high - self.phase) / sd,
        );
        let gain = self.covariance / self.phase_var;
        let moved = inside.mean * sd;
        self.phase += moved;
        self.rate += gain * moved;
        let known = self.phase_var * (1.0 - inside.variance);
        self.phase_var -= known;
        self.covariance -= gain * known;
        self.rate_var -= gain * gain * known;
        inside.mean * inside.mean + inside.variance
    }
}

/// Where a probe allows the phase to be, ns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    pub(super) fn width(self) -> f64 {
        self.high - self.low
    }

    pub(super) fn middle(self) -> f64 {
        0.5 * (self.low + self.high)
    }

    /// How far a phase is outside, ns: positive if the interval is above it.
    pub(super) fn beyond(self, phase: f64) -> f64 {
        if self.low > phase {
            self.low - phase
        } else {
            (self.high - phase).min(0.0)
        }
    }
}
