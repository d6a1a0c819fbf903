//! Values as people read them: three significant digits and a unit.

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// A duration, ns.
    Nanoseconds,
    /// Bytes, with binary prefixes.
    Bytes,
    /// Bytes a second, with binary prefixes.
    BytesPerSecond,
    /// A number, with decimal prefixes.
    #[default]
    Count,
}

/// Below this, a count is written with all of its digits.
const EXACT: u64 = 100_000;
/// Parts of a long duration, seconds.
const PARTS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
/// From this many seconds on, a duration is written in minutes, hours and days.
const LONG_S: u64 = 120;
/// Below this number of values, the number is shown instead of a percentage.
pub(crate) const FEW: u64 = 20;

impl Unit {
    /// The names of the unit with its prefixes and how much they stand for, smallest first.
    fn prefixes(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Nanoseconds => &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)],
            Self::Bytes => &[
                ("B", 1.0),
                ("KiB", 1024.0),
                ("MiB", 1_048_576.0),
                ("GiB", 1_073_741_824.0),
                ("TiB", 1_099_511_627_776.0),
                ("PiB", 1_125_899_906_842_624.0),
                ("EiB", 1_152_921_504_606_846_976.0),
            ],
            Self::BytesPerSecond => &[
                ("B/s", 1.0),
                ("KiB/s", 1024.0),
                ("MiB/s", 1_048_576.0),
                ("GiB/s", 1_073_741_824.0),
                ("TiB/s", 1_099_511_627_776.0),
                ("PiB/s", 1_125_899_906_842_624.0),
                ("EiB/s", 1_152_921_504_606_846_976.0),
            ],
            Self::Count => &[
                ("", 1.0),
                ("k", 1e3),
                ("M", 1e6),
                ("G", 1e9),
                ("T", 1e12),
                ("P", 1e15),
                ("E", 1e18),
            ],
        }
    }

    /// The name and the size of the unit in which values up to this one are written alike.
    pub(crate) fn prefix(self, max: f64) -> (&'static str, f64) {
        let prefixes = self.prefixes();
        if self == Self::Count && max < EXACT as f64 {
            return prefixes[0];
        }
        let largest = prefixes.iter().rfind(|(_, size)| *size <= max);
        largest.copied().unwrap_or(prefixes[0])
    }

    /// Whether its prefixes are powers of two.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Self::Bytes | Self::BytesPerSecond)
    }

    /// Three significant digits: `12.4 ms`, `1.50 MiB`, `812 B/s`; counts below 100 000 exactly,
    /// larger ones as `1.23 M`. Where prefixes run out (seconds from 100 000 on) as `1.16e5 s`,
    /// so that no value is long.
    pub fn text(self, value: u64) -> String {
        if self == Self::Count && value < EXACT {
            return value.to_string();
        }
        let (value, prefixes) = (value as f64, self.prefixes());
        let fits = prefixes
            .windows(2)
            .find(|pair| value / pair[0].1 < pair[1].1 / pair[0].1 - 0.5)
            .map(|pair| pair[0]);
        let (unit, size) = fits.unwrap_or(prefixes[prefixes.len() - 1]);
        let value = value / size;
        if value >= 99_999.5 {
            return format!("{value:.2e} {unit}");
        }
        let digits = match value {
            _ if size <= 1.0 => 0,
            v if v >= 99.95 => 0,
            v if v >= 9.995 => 1,
            _ => 2,
        };
        format!("{value:.digits$} {unit}")
    }

    /// As [`Unit::text`], without trailing zeros: for round values (`5 ms`).
    pub fn round_text(self, value: u64) -> String {
        let text = self.text(value);
        let Some((number, unit)) = text.split_once(' ') else {
            return text;
        };
        if !number.contains('.') || number.contains('e') {
            return text;
        }
        let number = number.trim_end_matches('0').trim_end_matches('.');
        format!("{number} {unit}")
    }
}

/// A duration: `812 ns`, `1.23 us`, `12.4 ms`, `10.0 s`, `2 min 5 s`, `7 d 2 h`.
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    if seconds < LONG_S {
        return Unit::Nanoseconds.text(ns);
    }
    let largest = PARTS.iter().position(|(size, _)| seconds >= *size);
    let two = PARTS.iter().skip(largest.unwrap_or(PARTS.len())).take(2);
    let mut rest = seconds;
    let parts = two.filter_map(|(size, name)| {
        let count = rest / size;
        rest %= size;
        (count > 0).then(|| format!("{count} {name}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// A part of a whole: ` (0.30 %)` with this many digits, or ` of 7` if there are too few for a percentage;
/// empty if the whole is 0.
pub fn share(part: u64, whole: u64, digits: usize) -> String {
    match whole {
        1..FEW if part == 0 => String::new(),
        1..FEW => format!(" of {whole}"),
        0 => String::new(),
        _ => format!(" ({:.digits$} %)", 100.0 * part as f64 / whole as f64),
    }
}

/// A size: `812 B`, `1.50 MiB`.
pub fn bytes(bytes: u64) -> String {
    Unit::Bytes.text(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (999_499, "999 us"),
            (999_500, "1.00 ms"),
            (12_449_000, "12.4 ms"),
            (99_960_000, "100 ms"),
            (10_000_000_000, "10.0 s"),
            (119_000_000_000, "119 s"),
            (120_000_000_000, "2 min"),
            (125_000_000_000, "2 min 5 s"),
            (3_600_000_000_000, "1 h"),
            (12_345_000_000_000, "3 h 25 min"),
            (612_000_000_000_000, "7 d 2 h"),
            (u64::MAX, "213503 d 23 h"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
        let round = |ns| Unit::Nanoseconds.round_text(ns);
        assert_eq!(round(5_000_000), "5 ms");
        assert_eq!(round(100), "100 ns");
        assert_eq!(round(u64::MAX), "1.84e10 s");
        assert_eq!(round(1_500_000_000), "1.5 s");
    }

    #[test]
    fn few_are_counted_and_many_are_given_in_percent() {
        assert_eq!(share(2, 3, 2), " of 3");
        assert_eq!(share(19, 19, 2), " of 19");
        assert_eq!(share(0, 19, 2), "");
        assert_eq!(share(0, 20, 2), " (0.00 %)");
        assert_eq!(share(3, 1000, 1), " (0.3 %)");
        assert_eq!(share(0, 0, 2), "");
    }

    #[test]
    fn bytes_have_binary_prefixes() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_572_864, "1.50 MiB"),
            (1_048_575, "1.00 MiB"),
            (1000 << 20, "1000 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(Unit::BytesPerSecond.text(20 << 20), "20.0 MiB/s");
        assert_eq!(Unit::BytesPerSecond.round_text(20 << 20), "20 MiB/s");
    }

    #[test]
    fn counts_are_exact_while_they_are_short() {
        let cases = [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100 k"),
            (1_234_567, "1.23 M"),
            (u64::MAX, "18.4 E"),
        ];
        for (count, text) in cases {
            assert_eq!(Unit::Count.text(count), text);
        }
        assert_eq!(Unit::Count.round_text(2_000_000), "2 M");
    }
}
