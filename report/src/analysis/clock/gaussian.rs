//! A normal variable that is known to lie in an interval.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Below this probability the interval is so far out that the formulas lose their digits.
const LEAST_MASS: f64 = 1e-10;
/// Smallest variance that is left, of 1: one interval is never believed to the last digit.
const LEAST_VARIANCE: f64 = 1e-3;

/// The first two moments of a distribution, in standard deviations of the variable before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moments {
    pub mean: f64,
    pub variance: f64,
}

/// Moments of a standard normal variable given that it lies between `low` and `high`, `low <=
/// high`. Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions 1, section 10.1.
pub(super) fn truncated(low: f64, high: f64) -> Moments {
    let mass = if low > 0.0 {
        below(-low) - below(-high)
    } else {
        below(high) - below(low)
    };
    if mass <= LEAST_MASS {
        return Moments {
            mean: if low > 0.0 { low } else { high },
            variance: 1e-2,
        };
    }
    let (at_low, at_high) = (density(low), density(high));
    let mean = (at_low - at_high) / mass;
    let variance = 1.0 + (low * at_low - high * at_high) / mass - mean * mean;
    Moments {
        mean,
        variance: variance.clamp(LEAST_VARIANCE, 1.0),
    }
}

/// Probability of a standard normal variable to be below `x`; exact in the lower tail.
pub(crate) fn below(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// Density of a standard normal variable; 0 where a double has no number for it, so that a product
/// with an infinite bound is 0 too.
fn density(x: f64) -> f64 {
    if x.abs() < 38.0 {
        (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(low: f64, high: f64, mean: f64, variance: f64) {
        let found = truncated(low, high);
        assert!((found.mean - mean).abs() < 1e-9, "{low} {high}: {found:?}");
        assert!(
            (found.variance - variance).abs() < 1e-9,
            "{low} {high}: {found:?}"
        );
    }

    #[test]
    fn moments_are_those_of_the_tables() {
        check(-60.0, 60.0, 0.0, 1.0);
        // Half-normal: mean sqrt(2/pi), variance 1 - 2/pi.
        check(0.0, 60.0, (2.0 / PI).sqrt(), 1.0 - 2.0 / PI);
        check(-60.0, 0.0, -(2.0 / PI).sqrt(), 1.0 - 2.0 / PI);
        // From the density at 1 and the probability of one standard deviation to each side.
        check(
            -1.0,
            1.0,
            0.0,
            1.0 - 2.0 * 0.241_970_724_519 / 0.682_689_492_137,
        );
    }

    #[test]
    fn far_out_the_nearest_bound_counts() {
        for (low, high, nearest) in [(7.0, 9.0, 7.0), (-9.0, -7.0, -7.0)] {
            let found = truncated(low, high);
            assert_eq!((found.mean, found.variance), (nearest, 1e-2));
        }
    }
}
