//! Which devices and rows are shown.

use super::diskstats::Rates;

/// A device is shown in cycles in which it reached any of these; always if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Utilisation, percent.
    pub util_percent: Option<f64>,
    /// Bytes read and written a second.
    pub bytes: Option<u64>,
    /// Reads and writes completed a second.
    pub iops: Option<u64>,
}

impl Thresholds {
    /// Whether a device that did this is shown.
    pub fn reached(&self, rates: &Rates) -> bool {
        let any = [
            self.util_percent.map(|min| rates.util_percent >= min),
            self.bytes
                .map(|min| rates.r_bps + rates.w_bps >= min as f64),
            self.iops
                .map(|min| rates.r_iops + rates.w_iops >= min as f64),
        ];
        let mut given = any.into_iter().flatten().peekable();
        given.peek().is_none() || given.any(|reached| reached)
    }
}

/// The `most` largest, the largest first; equal ones in their order.
pub fn top<T>(mut rows: Vec<T>, max: Option<usize>, size: impl Fn(&T) -> u64) -> Vec<T> {
    rows.sort_by_key(|row| std::cmp::Reverse(size(row)));
    rows.truncate(max.unwrap_or(usize::MAX));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_threshold_that_is_reached_shows_a_device() {
        let busy = Rates {
            util_percent: 60.0,
            w_bps: 1000.0,
            r_iops: 5.0,
            ..Rates::default()
        };
        let given = |util_percent, bytes, iops| Thresholds {
            util_percent,
            bytes,
            iops,
        };
        for (thresholds, shown) in [
            (given(None, None, None), true),
            (given(Some(60.0), None, None), true),
            (given(Some(60.1), None, None), false),
            (given(Some(99.0), Some(1000), None), true),
            (given(Some(99.0), Some(1001), None), false),
            (given(None, None, Some(5)), true),
            (given(None, None, Some(6)), false),
        ] {
            assert_eq!(thresholds.reached(&busy), shown, "{thresholds:?}");
        }
    }

    #[test]
    fn the_largest_come_first() {
        let rows = vec![("a", 1), ("b", 9), ("c", 9), ("d", 3)];
        let names = |max| {
            let rows = top(rows.clone(), max, |row| row.1);
            rows.iter().map(|row| row.0).collect::<String>()
        };
        assert_eq!(names(None), "bcda");
        assert_eq!(names(Some(2)), "bc");
    }
}
