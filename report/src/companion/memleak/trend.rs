//! Whether a quantity rises, from a few values with outliers among them.
//!
//! The slope is that of Theil and Sen: the median of the slopes between all pairs of values, which
//! up to 29 % of wild values cannot move. How surely it rises is the test of Mann and Kendall: how
//! many pairs rise beside how many would by chance. Kendall, Rank Correlation Methods, 1975.

use crate::analysis::clock::below;

/// Fewer values than this have no trend.
pub const ENOUGH: usize = 5;

/// How a quantity moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// The median slope, a second.
    pub per_s: f64,
    /// Probability that it rises and does not only scatter.
    pub rising: f64,
    /// The last value less the first.
    pub grown: i64,
    /// From the first to the last value, s.
    pub span_s: f64,
    /// Of all pairs, a second; in order.
    slopes: Vec<f64>,
}

impl Trend {
    /// Of values over time in ns, in order; `None` of fewer than [`ENOUGH`].
    pub fn new(values: &[(u64, u64)]) -> Option<Self> {
        let (first, last) = (values.first()?, values.last()?);
        if values.len() < ENOUGH || last.0 <= first.0 {
            return None;
        }
        let mut slopes = slopes(values);
        slopes.sort_by(f64::total_cmp);
        Some(Self {
            per_s: median(&slopes)?,
            rising: rising(values),
            grown: last.1.cast_signed() - first.1.cast_signed(),
            span_s: (last.0 - first.0) as f64 / 1e9,
            slopes,
        })
    }

    /// Share of the slopes that amount to less than this over the whole time: the confidence that the
    /// growth is below it.
    pub fn surely_below(&self, grown: u64) -> f64 {
        let limit = grown as f64 / self.span_s;
        let count = self.slopes.partition_point(|slope| *slope < limit);
        count as f64 / self.slopes.len() as f64
    }
}

fn pairs(values: &[(u64, u64)]) -> impl Iterator<Item = (f64, f64)> {
    let after = move |k: usize| values[k + 1..].iter().map(move |b| (values[k], *b));
    let difference =
        |(a, b): ((u64, u64), (u64, u64))| ((b.0 - a.0) as f64 / 1e9, b.1 as f64 - a.1 as f64);
    (0..values.len()).flat_map(after).map(difference)
}

fn slopes(values: &[(u64, u64)]) -> Vec<f64> {
    let rising_time = pairs(values).filter(|(time, _)| *time > 0.0);
    rising_time.map(|(time, value)| value / time).collect()
}

fn median(sorted: &[f64]) -> Option<f64> {
    let high = *sorted.get(sorted.len() / 2)?;
    let low = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(low, high))
}

/// The test of Mann and Kendall, by its normal approximation with ties.
fn rising(values: &[(u64, u64)]) -> f64 {
    let sign = |v: f64| f64::from(i8::from(v > 0.0) - i8::from(v < 0.0));
    let score: f64 = pairs(values).map(|(_, value)| sign(value)).sum();
    let mut sorted: Vec<u64> = values.iter().map(|v| v.1).collect();
    sorted.sort_unstable();
    let ties = sorted.chunk_by(|a, b| a == b).map(<[u64]>::len);
    let spread = |n: usize| (n * (n - 1) * (2 * n + 5)) as f64 / 18.0;
    let variance = spread(values.len()) - ties.map(spread).sum::<f64>();
    if variance <= 0.0 {
        return 0.5;
    }
    // The score is an integer, hence the correction by one.
    below((score - sign(score)) / variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_second(values: &[u64]) -> Option<Trend> {
        let at = |(k, v): (usize, &u64)| (k as u64 * 1_000_000_000, *v);
        Trend::new(&values.iter().enumerate().map(at).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_has_its_slope_and_surely_rises() {
        let trend = every_second(&[100, 110, 120, 130, 140]).unwrap();
        assert!((trend.per_s - 10.0).abs() < 1e-9, "{trend:?}");
        assert!(trend.rising > 0.98, "{trend:?}");
        assert_eq!(trend.grown, 40);
    }

    #[test]
    fn an_outlier_does_not_move_the_slope() {
        let trend = every_second(&[100, 110, 9000, 130, 140, 150, 160]).unwrap();
        assert!((trend.per_s - 10.0).abs() < 1e-9, "{trend:?}");
    }

    #[test]
    fn what_stays_or_scatters_does_not_rise() {
        let flat = every_second(&[7; 6]).unwrap();
        assert!(flat.per_s.abs() < 1e-9 && flat.rising < 0.51, "{flat:?}");
        let noise = every_second(&[50, 20, 60, 10, 55, 30, 40]).unwrap();
        assert!(noise.rising < 0.7, "{noise:?}");
        let falling = every_second(&[50, 40, 30, 20, 10]).unwrap();
        assert!(falling.rising < 0.05, "{falling:?}");
    }

    #[test]
    fn too_few_values_have_no_trend() {
        assert_eq!(every_second(&[1, 2, 3, 4]), None);
        assert_eq!(Trend::new(&[]), None);
    }

    #[test]
    fn how_surely_it_stays_below_is_a_share_of_pairs() {
        let trend = every_second(&[0, 10, 20, 30, 40]).unwrap();
        assert!(trend.surely_below(1000) > 0.99);
        assert!(trend.surely_below(20) < 0.01);
    }
}
