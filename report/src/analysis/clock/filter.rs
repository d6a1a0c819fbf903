//! The clock model: where the server's clock stands, and so which way a probe was held up.
//!
//! With `F` the request's arrival minus its departure and `B` the reply's, both across the two
//! clocks, `q` the queueing in each direction and `theta` by how much the server's clock is ahead,
//!
//! ```text
//! F = d_out + q_out + theta        R = F + B = R0 + X       R0 = d_out + d_in, the base
//! B = d_in  + q_in  - theta                                 X  = q_out + q_in, the excess
//! ```
//!
//! `R`, and so `X = R - min R`, is free of the clocks' offset and drift. How `X` is shared depends
//! on one number only, the *phase* `phi = theta + (d_out - d_in) / 2`: `q_out = F - R0/2 - phi` and
//! `q_in = B - R0/2 + phi`. The asymmetry of the base path is inside `phi` and does no harm; it is
//! also what nobody can measure.
//!
//! Queueing is never negative, so every probe says `R0/2 - B <= phi <= F - R0/2`: an interval as
//! wide as its excess. A quiet probe pins the phase down to a microsecond, a slow one hardly says
//! anything and cannot pull the estimate. [`ClockModel`] is a Kalman filter of phase and rate
//! whose measurements are such intervals: it predicts, then replaces its normal distribution by
//! the moments of the part inside the interval. An interval that is impossible, 4.5 standard
//! deviations away, cannot be queueing: the clock was slewed or stepped. A round trip that stays
//! above the base for five minutes is a longer path.
//!
//! The intervals are only as good as the base is. Where no probe has both ways at their quickest,
//! `R0` is longer than both bases together, intervals contradict each other by the rest, and
//! the filter, to which they are certain, follows each with a variance that is far too small: it
//! moves the phase by the rest, and the rate by the rest over some milliseconds. What is
//! [reported](Estimate::out_reported) is wider by what such intervals did of late. The rest is what
//! probes are held up by at least, so it is less than what they usually are: a contradiction by no more
//! than that is followed, and doubted, but is no event of the clock.
//!
//! Units: nanoseconds of the client's clock, and nanoseconds per second for rates, in doubles
//! relative to the first probe (integers are subtracted first); times in seconds since then.

use super::base::{BaseRtt, Smallest};
use super::belief::{Belief, Interval};
use super::crossing::Crossing;
use super::estimate::{Estimate, Event, Glitch, Queue};
use crate::model::host_time::ClientNs;
use crate::model::{Counts, State};

/// Noise of a stamp that is taken for nothing, ns; at least three of its standard deviations.
const NOISE_NS: f64 = 1e3;

/// An interval that is further away than this many standard deviations is impossible.
const IMPOSSIBLE: f64 = 4.5;

/// Standard deviations to each side of a reported direction.
const REPORTED: f64 = 4.0;

/// A [`Doubt`] lasts for about this many probes.
const REMEMBERED: f64 = 512.0;

/// Random walk of the rate, ns/s per square root of a second: at first, and its limits.
const WANDER: f64 = 10.0;

const WANDER_MIN: f64 = 1.0;

const WANDER_MAX: f64 = 1e3;

/// How fast the random walk adapts to what the intervals say, per probe.
const WANDER_GAIN: f64 = 0.01;

/// A faster change of the phase is a step, ns/s: 1000 ppm.
const SLEW_MAX: f64 = 1e6;

/// No clock is slewed faster than this, ns/s: 10 %.
const RATE_MAX: f64 = 1e8;

/// Farther than this the phase is found anew instead of widened, ns.
const JUMP_NS: f64 = 20.0 * NOISE_NS;

/// An event at most this many probes after another means that the rate is unknown.
const AGAIN: u64 = 3;

/// Quiet probes after an event until directions are trusted again.
const RELOCK: u8 = 2;

/// Probes until directions are known.
const INIT: u64 = 3;

/// Probes until a single contradiction is doubted first.
const SETTLED: u64 = 8;

/// A round trip under this share of the base is doubted, until there is another like it within
/// [`SHORT_AGAIN`] probes, as long to within [`SHORT_LIKE`].
const SHORT: f64 = 0.8;

const SHORT_AGAIN: u64 = 64;

const SHORT_LIKE: f64 = 0.25;

/// A probe that the server kept for longer teaches nothing about the base, ns.
const KEPT_MAX_NS: f64 = 1e7;

/// All round trips above the base for this many seconds and probes: the path is another one.
const LONGER_S: f64 = 300.0;

const LONGER_PROBES: u64 = 64;

/// Further than any excess, ns: another clock.
const ANOTHER_NS: f64 = 1e15;

/// A probe in the filter's terms.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Middle of departure and return, s.
    at_s: f64,
    /// Request, across the clocks, ns.
    out_ns: f64,
    /// Reply, across the clocks, ns.
    back_ns: f64,
    /// At the server, ns.
    kept_ns: f64,
}

impl Measured {
    fn round_ns(&self) -> f64 {
        self.out_ns + self.back_ns
    }
}

/// A probe contradicted the clock, and none has said yet who was right. A slow one that allows both
/// says nothing: counted as a denial, it would have each quick probe among slow ones thrown
/// away, and the clock never found again.
#[derive(Clone, Copy, Debug)]
struct Unconfirmed {
    /// By how much the clock would have moved, ns.
    beyond: f64,
    /// When it was not contradicted yet, s.
    since_s: f64,
}

/// What intervals did that contradicted the belief and were believed: the clock may as well be
/// where it was thought to be before.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// The largest recent contradiction: the phase may be this far outside of an interval, ns.
    outside: f64,
    /// What the phase may be off by, ns.
    phase: f64,
    /// What the rate may be off by, ns/s, and for how many seconds it has been.
    rate: f64,
    rate_since: f64,
}

impl Doubt {
    /// One probe and `dt` seconds later.
    fn age(&mut self, dt: f64) {
        let left = 1.0 - 1.0 / REMEMBERED;
        self.phase = left * self.phase + self.rate * dt;
        self.outside *= left;
        self.rate *= left;
        self.rate_since += dt;
    }

    /// The phase was believed to be in an interval as wide as this.
    fn confine(&mut self, width: f64) {
        let max = width + self.outside;
        self.phase = self.phase.min(max);
        self.rate = self.rate.min(max / self.rate_since);
    }

    /// An interval contradicted by `beyond`, ns, and changed the rate by `rate`, ns/s.
    fn add(&mut self, beyond: f64, rate: f64) {
        self.outside = self.outside.max(beyond);
        self.phase = self.phase.max(beyond);
        if rate > self.rate {
            (self.rate, self.rate_since) = (rate, 0.0);
        }
    }
}

/// Probes since the last quiet one: perhaps the path is another.
#[derive(Clone, Copy, Debug, Default)]
struct Elevated {
    since_s: f64,
    probes: u64,
    out_min: f64,
    back_min: f64,
    shortest: Smallest,
}

impl Elevated {
    fn since(at_s: f64) -> Self {
        Self {
            since_s: at_s,
            out_min: f64::INFINITY,
            back_min: f64::INFINITY,
            ..Self::default()
        }
    }
}

/// The probe before.
#[derive(Clone, Copy, Debug, Default)]
struct Previous {
    excess: f64,
    out: f64,
    back: f64,
}

/// The first probe: everything is relative to it.
#[derive(Clone, Copy, Debug)]
struct Origin {
    left: ClientNs,
    /// [`Crossing::forth_ns`].
    forth_ns: u64,
}

/// Estimates how the excess of each probe is shared by the two directions. One per client, server
/// and path; constant time and memory per probe.
///
/// Probes should come in the order in which they were sent. One that is older than the one
/// before (overtaken, or late) is measured, and may lower the base, but does not move the clock.
#[derive(Clone, Debug, Default)]
pub struct ClockModel {
    origin: Option<Origin>,
    base: BaseRtt,
    belief: Belief,
    /// Random walk of the rate, ns/s per square root of a second.
    wander: f64,
    /// Time of `belief`, s.
    at_s: f64,
    /// Probes that reached the model, and those that taught it.
    seen: u64,
    learnt: u64,
    moved_ns: f64,
    last_event: Option<u64>,
    /// Number and round trip of the last doubted short one.
    last_short: Option<(u64, f64)>,
    unconfirmed: Option<Unconfirmed>,
    distrust: Doubt,
    relock: u8,
    /// Baseline of the excess, ns.
    baseline: f64,
    previous: Previous,
    elevated: Elevated,
    counts: Counts,
    /// When the last quiet probe came back.
    in_base: Option<ClientNs>,
}

impl ClockModel {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns from a probe, and says what it can of it.
    pub fn update(&mut self, crossing: &Crossing) -> Estimate {
        self.seen += 1;
        let Some(probe) = self.measure(crossing) else {
            return self.doubt(Measured::NOTHING, Glitch::TooShort);
        };
        if self.is_too_short(&probe) {
            return self.doubt(probe, Glitch::TooShort);
        }
        self.learn_base(&probe);
        if self.learnt == 0 {
            self.start(&probe);
        }
        let dt = probe.at_s - self.at_s;
        if dt < 0.0 {
            let past = self.belief.after(dt, self.wander);
            let mut estimate = self.estimate(&probe, &past);
            estimate.glitch = Some(Glitch::Old);
            return estimate;
        }
        self.distrust.age(dt);
        let mut belief = self.belief.after(dt, self.wander);
        let interval = self.interval(&probe);
        let beyond = interval.beyond(belief.phase);
        let sigmas = beyond.abs() / belief.phase_var.sqrt();
        let mut event = None;
        let impossible = sigmas > IMPOSSIBLE && beyond.abs() > NOISE_NS;
        if impossible && beyond.abs() > self.baseline {
            let since_s = self.unconfirmed.map_or(self.at_s, |first| first.since_s);
            let slewed = SLEW_MAX * (probe.at_s - since_s);
            let step = beyond.abs() > slewed + 4.0 * NOISE_NS;
            if step && self.unconfirmed.is_none() && self.learnt >= SETTLED {
                self.unconfirmed = Some(Unconfirmed { beyond, since_s });
                let mut estimate = self.estimate(&probe, &belief).without_direction();
                estimate.glitch = Some(Glitch::Unconfirmed);
                return estimate;
            }
            self.unconfirmed = None;
            event = self.moved(&mut belief, interval, beyond, dt, step);
        } else {
            let denies =
                |first: Unconfirmed| interval.beyond(belief.phase + first.beyond).abs() > NOISE_NS;
            if self.unconfirmed.is_some_and(denies) {
                self.unconfirmed = None;
                self.counts.glitches += 1;
            }
            if impossible {
                self.follow(&mut belief, interval, beyond);
            } else {
                self.confine(&mut belief, interval);
            }
        }
        self.commit(belief, probe.at_s);
        self.look_back(&probe, crossing.back, event)
    }

    /// A model of another clock, of which nothing is known yet, in place of this one: it counts on,
    /// and has moved by more than any excess.
    #[must_use]
    pub fn of_another(&self) -> Self {
        Self {
            seen: self.seen,
            moved_ns: self.moved_ns + ANOTHER_NS,
            counts: self.counts,
            ..Self::default()
        }
    }

    /// How well the clock is known now.
    pub fn state(&self) -> State {
        if self.learnt < INIT {
            State::Init
        } else if self.relock > 0 {
            State::Relock
        } else {
            State::Lock
        }
    }

    /// Sum of the clock's unpredicted moves, ns.
    pub fn moved_ns(&self) -> f64 {
        self.moved_ns
    }

    /// Events and doubts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// By how much the server's clock runs faster than the client's, parts per million.
    pub fn rate_ppm(&self) -> f64 {
        self.belief.rate * 1e-3
    }

    /// Standard deviation of [`ClockModel::rate_ppm`].
    pub fn rate_sd_ppm(&self) -> f64 {
        self.belief.rate_var.max(0.0).sqrt() * 1e-3
    }

    /// The phase at the last probe, ns relative to the first one's arrival minus departure.
    pub fn phase_ns(&self) -> f64 {
        self.belief.phase
    }

    /// Standard deviation of [`ClockModel::phase_ns`].
    pub fn phase_sd_ns(&self) -> f64 {
        self.belief.phase_var.sqrt()
    }

    /// When the last quiet probe came back, client's clock, ns. What the clock did since is a guess:
    /// a slew of 500 ppm adds 500 us in each second.
    pub fn in_base(&self) -> Option<ClientNs> {
        self.in_base
    }
}

impl Measured {
    /// Of stamps that contradict each other.
    const NOTHING: Self = Self {
        at_s: 0.0,
        out_ns: 0.0,
        back_ns: 0.0,
        kept_ns: 0.0,
    };
}

impl ClockModel {
    /// Both directions at the middle of the server's stay, at the server's present rate.
    fn measure(&mut self, crossing: &Crossing) -> Option<Measured> {
        let round = crossing.round_ns().filter(|&round| round > 0)?;
        let forth = crossing.forth_ns();
        let origin = *self.origin.get_or_insert(Origin {
            left: crossing.left,
            forth_ns: forth,
        });
        let since = |at: ClientNs| at.0.wrapping_sub(origin.left.0).cast_signed() as f64;
        let kept_ns = crossing.returned.since(crossing.arrived) as f64;
        let drift = 0.5 * self.belief.rate * kept_ns * 1e-9;
        let forth = forth.wrapping_sub(origin.forth_ns).cast_signed();
        let back = i128::from(round) - i128::from(forth);
        Some(Measured {
            at_s: (since(crossing.left) + since(crossing.back)) * 0.5e-9,
            out_ns: forth as f64 + drift,
            back_ns: back as f64 + drift,
            kept_ns,
        })
        .filter(|probe| probe.round_ns() > 0.0)
    }

    fn is_too_short(&mut self, probe: &Measured) -> bool {
        let round = probe.round_ns();
        if self.learnt < SETTLED || round >= SHORT * self.base.rtt_ns - 4.0 * NOISE_NS {
            return false;
        }
        let alike = |(number, before): (u64, f64)| {
            self.learnt - number <= SHORT_AGAIN
                && (round - before).abs() <= SHORT_LIKE * round.max(before) + 4.0 * NOISE_NS
        };
        let confirmed = self.last_short.is_some_and(alike);
        self.last_short = Some((self.learnt, round));
        !confirmed
    }

    fn doubt(&mut self, probe: Measured, glitch: Glitch) -> Estimate {
        self.counts.glitches += 1;
        let mut estimate = self.estimate(&probe, &self.belief).without_direction();
        estimate.glitch = Some(glitch);
        estimate
    }

    fn learn_base(&mut self, probe: &Measured) {
        if self.learnt > 0 && probe.kept_ns > KEPT_MAX_NS {
            return;
        }
        let before = self.base.rtt_ns;
        self.base.push(probe.at_s, probe.round_ns());
        if self.learnt > 0 && self.base.rtt_ns < before {
            // Earlier intervals were too narrow.
            self.belief.phase_var += (before - self.base.rtt_ns).powi(2);
        }
    }

    fn start(&mut self, probe: &Measured) {
        self.belief = Belief {
            phase: self.interval(probe).middle(),
            phase_var: (5.0 * NOISE_NS + 0.1 * probe.round_ns()).powi(2),
            ..Belief::default()
        };
        self.wander = WANDER;
        self.at_s = probe.at_s;
        self.elevated = Elevated::since(probe.at_s);
    }

    fn interval(&self, probe: &Measured) -> Interval {
        let half = 0.5 * self.base.rtt_ns;
        Interval {
            low: half - probe.back_ns - self.base.margin_ns,
            high: probe.out_ns - half + self.base.margin_ns,
        }
    }

    /// The clock cannot be where it was predicted: widens the belief, or finds the phase anew. No
    /// event if it was hardly known: the first probes may all have been slow ones.
    fn moved(
        &mut self,
        belief: &mut Belief,
        interval: Interval,
        beyond: f64,
        dt: f64,
        step: bool,
    ) -> Option<Event> {
        let again = self
            .last_event
            .is_some_and(|last| self.learnt - last <= AGAIN);
        self.last_event = Some(self.learnt);
        self.relock = RELOCK;
        if !step {
            self.wander = (2.0 * self.wander).min(WANDER_MAX);
        }
        if step || again || beyond.abs() > JUMP_NS {
            self.find_anew(belief, interval);
            if again {
                let slope = (beyond.abs() / dt.max(1e-3)).min(RATE_MAX);
                belief.rate_var = belief.rate_var.max(slope * slope);
            }
        } else {
            belief.allow_for(beyond);
            self.confine(belief, interval);
        }
        self.moved_ns += beyond.abs();
        if self.learnt < SETTLED {
            return None;
        }
        Some(if step {
            self.counts.step += 1;
            Event::Step(beyond)
        } else {
            self.counts.rate += 1;
            Event::Rate(beyond)
        })
    }

    /// Rather than the clock it is the base that is wrong; but perhaps the clock.
    fn follow(&mut self, belief: &mut Belief, interval: Interval, beyond: f64) {
        let rate = belief.rate;
        belief.allow_for(beyond);
        self.confine(belief, interval);
        self.distrust.add(beyond.abs(), (belief.rate - rate).abs());
        self.moved_ns += beyond.abs();
    }

    /// Of a phase that can be anywhere in the interval, takes the one that leaves the shorter queue
    /// as short as it was, if the probe before was slow too; else the middle.
    fn find_anew(&self, belief: &mut Belief, interval: Interval) {
        let width = interval.width();
        let Previous { excess, out, back } = self.previous;
        let sd = if excess >= 0.3 * width {
            let short = out.min(back).min(0.5 * width);
            belief.phase = if back <= out {
                interval.low + short
            } else {
                interval.high - short
            };
            0.05 * width + short + NOISE_NS
        } else {
            belief.phase = interval.middle();
            0.5 * width + NOISE_NS
        };
        belief.phase_var = sd * sd;
        belief.covariance = 0.0;
    }

    fn confine(&mut self, belief: &mut Belief, interval: Interval) {
        let beyond = interval.beyond(belief.phase).abs();
        let rate = belief.rate;
        // One that the variance allows for needs no more; nor does a phase just found anew.
        let contradicts = beyond * beyond >= belief.phase_var && beyond <= JUMP_NS;
        self.learn_wander(belief.confine(interval));
        self.distrust.confine(interval.width());
        if contradicts && self.learnt >= SETTLED {
            self.distrust.add(beyond, (belief.rate - rate).abs());
        }
    }

    fn learn_wander(&mut self, surprise: f64) {
        let factor = (WANDER_GAIN * (surprise - 1.0).min(4.0)).exp();
        self.wander = (self.wander * factor).clamp(WANDER_MIN, WANDER_MAX);
    }

    fn commit(&mut self, belief: Belief, at_s: f64) {
        self.belief = Belief {
            rate: belief.rate.clamp(-RATE_MAX, RATE_MAX),
            rate_var: belief.rate_var.max(1e-4),
            ..belief
        };
        self.at_s = at_s;
        self.learnt += 1;
    }

    /// The probe as the clock is known now; what it says about the baseline of the excess and the path.
    fn look_back(&mut self, probe: &Measured, came: ClientNs, event: Option<Event>) -> Estimate {
        let found = self.estimate(probe, &self.belief);
        let (excess, out, back) = (found.excess_ns, found.out.ns, found.back.ns);
        self.previous = Previous { excess, out, back };
        let weight = (1.0 / 512.0_f64).max(1.0 / self.learnt as f64);
        let limited = excess.min(8.0 * self.baseline + 10.0 * NOISE_NS);
        self.baseline += weight * (limited - self.baseline);
        let in_base = excess <= (4.0 * NOISE_NS).max(0.5 * self.baseline);
        let mut event = event;
        if in_base {
            self.elevated = Elevated::since(probe.at_s);
            self.in_base = Some(came);
            self.relock = self.relock.saturating_sub(1);
        } else if let Some(longer) = self.longer_path(probe, out, back) {
            event = Some(longer);
        }
        Estimate {
            in_base,
            event,
            ..self.estimate(probe, &self.belief)
        }
    }

    /// Takes the shortest round trips for the base if none has been near the base for long.
    fn longer_path(&mut self, probe: &Measured, out: f64, back: f64) -> Option<Event> {
        let elevated = &mut self.elevated;
        elevated.probes += 1;
        elevated.out_min = elevated.out_min.min(out);
        elevated.back_min = elevated.back_min.min(back);
        elevated.shortest.push(probe.round_ns());
        if elevated.probes < LONGER_PROBES || probe.at_s - elevated.since_s <= LONGER_S {
            return None;
        }
        let longer = elevated.shortest.as_slice()[0] - self.base.rtt_ns;
        let sum = elevated.out_min + elevated.back_min;
        let share = if sum > 0.0 {
            elevated.out_min / sum
        } else {
            0.5
        };
        let (out_ns, in_ns) = (longer * share, longer * (1.0 - share));
        self.belief.phase += 0.5 * (out_ns - in_ns);
        self.base.replace(elevated.shortest);
        self.elevated = Elevated::since(probe.at_s);
        self.counts.path += 1;
        Some(Event::Path { out_ns, in_ns })
    }

    /// How this belief shares the excess of a probe, and between which bounds.
    fn estimate(&self, probe: &Measured, belief: &Belief) -> Estimate {
        let BaseRtt {
            rtt_ns, margin_ns, ..
        } = self.base;
        let excess_ns = (probe.round_ns() - rtt_ns).max(0.0);
        let max = excess_ns + 2.0 * margin_ns;
        let error = REPORTED * belief.phase_var.max(0.0).sqrt() + margin_ns + 0.1 * NOISE_NS;
        let queue = |ns: f64| Queue {
            ns: ns.clamp(0.0, excess_ns),
            lo_ns: (ns - error).clamp(0.0, max),
            hi_ns: (ns + error).clamp(0.0, max),
        };
        let half = 0.5 * rtt_ns;
        let state = self.state();
        let estimate = Estimate {
            index: self.seen - 1,
            moved_ns: self.moved_ns,
            state,
            base_ns: rtt_ns,
            excess_ns,
            margin_ns,
            out: queue(probe.out_ns - half - belief.phase),
            back: queue(probe.back_ns - half + belief.phase),
            doubt_ns: self.distrust.phase,
            in_base: false,
            event: None,
            glitch: None,
        };
        if state == State::Lock && self.unconfirmed.is_none() {
            estimate
        } else {
            estimate.without_direction()
        }
    }
}
