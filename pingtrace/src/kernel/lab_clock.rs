//! A server's clock that is wrong by a known amount, so that one kernel can represent two hosts with a
//! clock each. For laboratories: the programs falsify their stamps where they take them.

use crate::units;
use std::str::FromStr;

/// 2^32 over a million: a rate of one part per million in the programs' unit.
const PPM: f64 = 4_294.967_296;

/// Added to `CLOCK_MONOTONIC` at time `t`: `offset`, `drift * (t - epoch)`, `step` from its time
/// on, and `slew * (t - its start)` until its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabClock {
    /// When it was made; what is typed is relative to it. `CLOCK_MONOTONIC`, like all times here.
    pub epoch_ns: u64,
    pub(crate) offset_ns: i64,
    /// Nanoseconds gained in 2^32 ns.
    pub(crate) drift: i64,
    pub(crate) step_at_ns: u64,
    pub(crate) step_ns: i64,
    pub(crate) slew_from_ns: u64,
    pub(crate) slew_until_ns: u64,
    pub(crate) slew: i64,
}

impl FromStr for LabClock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let epoch_ns = units::monotonic_ns();
        let mut clock = Self {
            epoch_ns,
            ..Self::default()
        };
        for part in text.split(',') {
            let (what, how) = part.split_once('=').ok_or_else(|| usage(part))?;
            let values: Vec<&str> = how.split(':').collect();
            match (what, values.as_slice()) {
                ("offset", [ns]) => clock.offset_ns = signed(ns)?,
                ("drift", [ppm]) => clock.drift = rate(ppm)?,
                ("step", [at, ns]) => {
                    clock.step_at_ns = epoch_ns + time(at)?;
                    clock.step_ns = signed(ns)?;
                }
                ("slew", [at, span, ppm]) => {
                    clock.slew_from_ns = epoch_ns + time(at)?;
                    clock.slew_until_ns = clock.slew_from_ns + time(span)?;
                    clock.slew = rate(ppm)?;
                }
                _ => return Err(usage(part)),
            }
        }
        Ok(clock)
    }
}

fn usage(part: &str) -> String {
    format!(
        "'{part}' is not one of offset=TIME, drift=PPM, step=AT:TIME, slew=AT:FOR:PPM (comma between them)"
    )
}

fn time(text: &str) -> Result<u64, String> {
    Ok(units::seconds(text)?.as_nanos() as u64)
}

fn signed(text: &str) -> Result<i64, String> {
    let ns = time(text.strip_prefix('-').unwrap_or(text))?.cast_signed();
    Ok(if text.starts_with('-') { -ns } else { ns })
}

fn rate(text: &str) -> Result<i64, String> {
    let ppm: f64 = text
        .parse()
        .map_err(|_| format!("'{text}' is not a number of ppm"))?;
    if !(-100_000.0..=100_000.0).contains(&ppm) {
        return Err(format!("{text} ppm is out of range: 100000 at most"));
    }
    Ok((ppm * PPM).round() as i64)
}

impl LabClock {
    /// Moves all its times, so that it begins at `epoch_ns`.
    pub fn move_to(&mut self, epoch_ns: u64) {
        for at in [
            &mut self.step_at_ns,
            &mut self.slew_from_ns,
            &mut self.slew_until_ns,
        ] {
            *at = at.wrapping_sub(self.epoch_ns).wrapping_add(epoch_ns);
        }
        self.epoch_ns = epoch_ns;
    }

    /// What this clock shows at a time of `CLOCK_MONOTONIC`, both in ns, as the programs compute it.
    pub fn shown(&self, now: u64) -> u64 {
        let drift = |from: u64, to: u64, rate: i64| {
            let span = (to.saturating_sub(from) >> 8).cast_signed();
            (span * rate) >> 24
        };
        let step = if now >= self.step_at_ns {
            self.step_ns
        } else {
            0
        };
        let wrong = self.offset_ns
            + drift(self.epoch_ns, now, self.drift)
            + step
            + drift(self.slew_from_ns, now.min(self.slew_until_ns), self.slew);
        now.wrapping_add_signed(wrong)
    }
}

/// Sets the constant in an object that is about to be loaded; each object has its own type for it.
macro_rules! set {
    ($constant:expr, $clock:expr) => {{
        let (constant, clock) = (&mut $constant, $clock);
        constant.epoch_ns = clock.epoch_ns;
        constant.offset_ns = clock.offset_ns;
        constant.rate = clock.drift;
        constant.step_at_ns = clock.step_at_ns;
        constant.step_ns = clock.step_ns;
        constant.slew_from_ns = clock.slew_from_ns;
        constant.slew_until_ns = clock.slew_until_ns;
        constant.slew_rate = clock.slew;
    }};
}
pub(crate) use set;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_moves_the_clock_as_it_says() {
        let text = "offset=-3s,drift=100,step=20s:7ms,slew=30s:5s:-500";
        let clock: LabClock = text.parse().unwrap();
        let wrong = |s: u64| {
            let now = clock.epoch_ns + s * units::SECOND;
            clock.shown(now).cast_signed() - now.cast_signed()
        };
        for (s, us) in [
            (0, -3_000_000),
            (10, -2_999_000),
            (19, -2_998_100),
            (20, -2_991_000),
            (32, -2_990_800),
            (40, -2_991_500),
        ] {
            let off = wrong(s) - us * 1_000;
            assert!(off.abs() < 200, "{off} ns off at {s} s");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for bad in [
            "",
            "drift",
            "drift=x",
            "drift=nan",
            "step=1s",
            "offset=1y",
            "slew=1s:1s:1e9",
        ] {
            assert!(bad.parse::<LabClock>().is_err(), "{bad}");
        }
    }
}
