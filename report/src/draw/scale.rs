//! Axes and their ticks.

use chrono::{DateTime, Local, Offset as _};

use crate::units::Unit;

/// A value axis, mapped to pixels; of nanoseconds unless [`Scale::with_unit`] says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    lo: f64,
    hi: f64,
    log: bool,
    unit: Unit,
    from: i32,
    to: i32,
}

impl Scale {
    /// From 0 to `max` at the pixels `from` and `to`.
    pub fn linear(max: u64, from: i32, to: i32) -> Self {
        Self {
            lo: 0.0,
            hi: max.max(1) as f64,
            log: false,
            unit: Unit::Nanoseconds,
            from,
            to,
        }
    }

    /// From at most `min` to at least `max`, both rounded to 1, 2 or 5 times a power of ten.
    pub fn log(min: u64, max: u64, from: i32, to: i32) -> Self {
        let lo = step_below(min.max(1) as f64);
        let hi = step_above(max.max(1) as f64).max(lo * 10.0);
        Self {
            lo,
            hi,
            log: true,
            unit: Unit::Nanoseconds,
            from,
            to,
        }
    }

    /// Linear from 0, or logarithmic where the values span more than a factor of 20.
    pub fn auto(min: u64, max: u64, from: i32, to: i32) -> Self {
        if max as f64 > 20.0 * min.max(1) as f64 {
            Self::log(min, max, from, to)
        } else {
            Self::linear(max.saturating_add(max / 12), from, to)
        }
    }

    /// The same axis for values of this unit.
    pub fn with_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// Whether equal factors have equal lengths.
    pub fn is_log(&self) -> bool {
        self.log
    }

    /// The pixel of a value; values off the axis sit at its ends.
    pub fn at(&self, value: f64) -> i32 {
        let part = if self.log {
            (value.max(1.0) / self.lo).ln() / (self.hi / self.lo).ln()
        } else {
            (value - self.lo) / (self.hi - self.lo)
        };
        self.from + (part.clamp(0.0, 1.0) * f64::from(self.to - self.from)).round() as i32
    }

    /// Round values on the axis with their labels, about `want` of them.
    pub fn ticks(&self, want: usize) -> Vec<(u64, String)> {
        if self.log && self.unit.is_binary() {
            self.binary_ticks(want)
        } else if self.log {
            self.log_ticks(want)
        } else {
            self.linear_ticks(want)
        }
    }

    fn linear_ticks(&self, want: usize) -> Vec<(u64, String)> {
        let (unit, size) = self.unit.prefix(self.hi);
        let step = (size * step_above(self.hi / want.max(1) as f64 / size)).max(1.0);
        let digits = (size / step).log10().ceil().max(0.0) as usize;
        let label = |at: u64| match at as f64 / size {
            0.0 => "0".to_owned(),
            value if value >= 1e5 => self.unit.text(at),
            value => format!("{value:.digits$} {unit}").trim_end().to_owned(),
        };
        let count = (self.hi / step * 1.000_001) as u64;
        let values = (0..=count).map(|k| (k as f64 * step).round() as u64);
        values.map(|at| (at, label(at))).collect()
    }

    fn log_ticks(&self, want: usize) -> Vec<(u64, String)> {
        let decades = (self.hi / self.lo).log10();
        let (first, last) = (
            self.lo.log10().floor() as i32,
            self.hi.log10().ceil() as i32,
        );
        let every = ((decades / want.max(1) as f64).ceil() as i32).max(1);
        let factors: &[f64] = if decades * 3.0 <= want as f64 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        (first..=last)
            .filter(|power| power.rem_euclid(every) == 0)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
            .filter(|value| *value >= self.lo * 0.999 && *value <= self.hi * 1.001)
            .map(|value| value.round() as u64)
            .map(|value| (value, self.unit.round_text(value)))
            .collect()
    }

    /// Powers of two: with binary prefixes, powers of ten are not round.
    fn binary_ticks(&self, want: usize) -> Vec<(u64, String)> {
        let (first, last) = (self.lo.log2().ceil() as i32, self.hi.log2().floor() as i32);
        let every = [1, 2, 3, 5, 10]
            .into_iter()
            .find(|every| (last - first) / every <= want.max(1) as i32)
            .unwrap_or(20);
        (first..=last)
            .filter(|power| power.rem_euclid(every) == 0)
            .map(|power| 2f64.powi(power) as u64)
            .map(|value| (value, self.unit.round_text(value)))
            .collect()
    }
}

/// The largest of 1, 2, 5 times a power of ten that is at most `value` (at least 1).
fn step_below(value: f64) -> f64 {
    let power = 10f64.powf((value * 1.000_001).log10().floor());
    let factor = [5.0, 2.0]
        .into_iter()
        .find(|factor| factor * power <= value * 1.000_001);
    factor.unwrap_or(1.0) * power
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `value`, which is above 0.
fn step_above(value: f64) -> f64 {
    let power = 10f64.powf((value * 0.999_999).log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= value * 0.999_999);
    factor.unwrap_or(10.0) * power
}

/// A wall-clock time, nanoseconds since the Unix epoch, in the local time zone.
pub(super) fn local(unix_ns: i64) -> DateTime<Local> {
    DateTime::from_timestamp_nanos(unix_ns).with_timezone(&Local)
}

/// The local time `since_ns` nanoseconds after a wall-clock time.
pub(super) fn since(start_unix_ns: i64, since_ns: u64) -> DateTime<Local> {
    local(start_unix_ns.saturating_add(i64::try_from(since_ns).unwrap_or(i64::MAX)))
}

const SECOND: u64 = 1_000_000_000;
/// Steps of a wall-clock axis, seconds.
const CLOCK_STEPS: [u64; 21] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400,
    172_800, 604_800, 2_592_000,
];

/// Round times from `start_unix_ns` on for `span_ns`, at most about `want` of them: nanoseconds
/// since the start, and a label. Wall-clock time from five seconds on, time since the start below.
pub(super) fn time_ticks(start_unix_ns: i64, span_ns: u64, want: usize) -> Vec<(u64, String)> {
    if span_ns < 5 * SECOND {
        return Scale::linear(span_ns, 0, 1).ticks(want);
    }
    let wanted = span_ns / SECOND / want.max(1) as u64;
    let longest = CLOCK_STEPS[CLOCK_STEPS.len() - 1];
    let step = CLOCK_STEPS
        .into_iter()
        .find(|step| *step > wanted)
        .unwrap_or(longest * (wanted / longest + 1));
    let step_ns = i128::from(step * SECOND);
    let offset_ns =
        i128::from(local(start_unix_ns).offset().fix().local_minus_utc()) * i128::from(SECOND);
    let start = i128::from(start_unix_ns) + offset_ns;
    let first = (-start).rem_euclid(step_ns);
    let format = if span_ns / SECOND < 86_400 {
        "%H:%M:%S"
    } else {
        "%m-%d %H:%M"
    };
    let count = (i128::from(span_ns) - first).div_euclid(step_ns) + 1;
    (0..count)
        .map(|k| first + k * step_ns)
        .map(|at| at as u64)
        .map(|at| (at, since(start_unix_ns, at).format(format).to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_share_a_unit() {
        let labels = |max| {
            Scale::linear(max, 0, 100)
                .ticks(6)
                .into_iter()
                .map(|t| t.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(12_400_000), ["0", "5 ms", "10 ms"]);
        assert_eq!(labels(1_500_000), ["0", "0.5 ms", "1.0 ms", "1.5 ms"]);
        assert_eq!(labels(3), ["0", "1 ns", "2 ns", "3 ns"]);
        assert_eq!(labels(1), ["0", "1 ns"]);
    }

    #[test]
    fn log_ticks_are_decades_or_finer() {
        let labels = |lo, hi| {
            Scale::log(lo, hi, 0, 100)
                .ticks(6)
                .into_iter()
                .map(|t| t.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            labels(900, 12_000_000),
            ["1 us", "10 us", "100 us", "1 ms", "10 ms"]
        );
        assert_eq!(
            labels(1_000, 70_000),
            ["1 us", "2 us", "5 us", "10 us", "20 us", "50 us", "100 us"]
        );
        assert_eq!(labels(7, 7), ["5 ns", "10 ns", "20 ns", "50 ns"]);
        assert!(labels(1, u64::MAX).len() <= 12);
    }

    #[test]
    fn ticks_of_other_units_are_round_in_them() {
        let labels = |scale: Scale, unit| {
            let ticks = scale.with_unit(unit).ticks(4);
            ticks.into_iter().map(|tick| tick.1).collect::<Vec<_>>()
        };
        let linear = |max| Scale::linear(max, 0, 100);
        assert_eq!(
            labels(linear(20 << 20), Unit::BytesPerSecond),
            ["0", "5 MiB/s", "10 MiB/s", "15 MiB/s", "20 MiB/s"]
        );
        assert_eq!(
            labels(linear(1 << 20), Unit::Bytes),
            ["0", "0.5 MiB", "1.0 MiB"]
        );
        assert_eq!(labels(linear(7), Unit::Count), ["0", "2", "4", "6"]);
        assert_eq!(labels(linear(9_000), Unit::Count), ["0", "5000"]);
        assert_eq!(
            labels(Scale::log(4096, 1 << 20, 0, 100), Unit::Bytes),
            ["4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB"]
        );
        assert_eq!(
            labels(Scale::log(1, 2_000, 0, 100), Unit::Count),
            ["1", "10", "100", "1000"]
        );
    }

    #[test]
    fn scales_keep_to_their_pixels() {
        for scale in [
            Scale::log(1, u64::MAX, 10, 90),
            Scale::linear(0, 90, 10),
            Scale::auto(0, 0, 0, 5),
        ] {
            for ns in [0.0, 1.0, 1e9, 1e30] {
                assert!((0..=90).contains(&scale.at(ns)));
            }
        }
    }

    #[test]
    fn time_ticks_are_round_and_few() {
        for span in [
            1,
            4_000_000_000,
            7_000_000_000,
            3_600_000_000_000,
            86_400_000_000_000,
            31_536_000_000_000_000,
        ] {
            let ticks = time_ticks(1_793_000_000_123_000_000, span, 6);
            assert!(ticks.len() <= 8, "{span}: {ticks:?}");
            assert!(ticks.iter().all(|(since, _)| *since <= span));
        }
        assert!(
            time_ticks(1_793_000_000_123_000_000, 60_000_000_000, 6)[0]
                .1
                .ends_with('0')
        );
    }
}
