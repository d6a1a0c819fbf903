//! Rows of memleak: the verdict, then the sites that hold memory.

use serde::{Serialize, Serializer};

use super::allocator::Allocator;
use super::leak::Leak;
use crate::companion::event::Frame;
use crate::companion::time::Time;
use crate::printable::printable;

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Always `memleak`.
    pub companion: &'static str,
    /// When it was given.
    pub time: Time,
    /// Whether it leaks.
    pub leak: Leak,
    /// Confidence, 0 to 1; absent for an unknown verdict.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "two_digits")]
    pub confidence: Option<f64>,
    /// It may be cache.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_be_cache: bool,
    /// Of what, and why.
    pub what: String,
}

#[expect(clippy::ref_option, reason = "serde asks for this signature")]
fn two_digits<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value
        .map(|value| (value * 100.0).round() / 100.0)
        .serialize(serializer)
}

/// Objects of one age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cohort {
    /// They are at most this old, ns.
    pub age_ns: u64,
    /// Objects allocated.
    pub came: u64,
    /// Of these, live objects.
    pub live: u64,
}

/// A site that holds memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// Always `memleak`.
    pub companion: &'static str,
    /// The allocator.
    pub alloc: Allocator,
    /// The cache, by its name in /proc/slabinfo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// The function that allocated it, `function+0x12`.
    pub site: Frame,
    /// Allocated since the start, and not known to be freed.
    pub live: u64,
    /// Of these.
    pub bytes: u64,
    /// Allocated since the start.
    pub allocs: u64,
    /// Addresses allocated again although no free was seen.
    pub reused: u64,
    /// The oldest of these is at most this old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_max_ns: Option<u64>,
    /// Theil-Sen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slope_bytes_per_s: Option<i64>,
    /// By age, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cohorts: Vec<Cohort>,
    /// A stack that led there, the innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<Frame>,
    /// Number of live objects with this stack, of those whose stack was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_live: Option<u64>,
}

/// Header of the text, with its newlines: a verdict, and below it sites.
pub fn memleak_header() -> String {
    format!(
        "{:<26} {:<8} CONFIDENCE WHAT\n  {}\n",
        "TIME(memleak)",
        "VERDICT",
        columns(
            "ALLOC",
            "CACHE",
            ["LIVE", "BYTES", "AGE(s)", "FREED%", "SLOPE(B/s)"],
            "SITE"
        )
    )
}

fn columns(alloc: &str, cache: &str, numbers: [&str; 5], site: &str) -> String {
    let [live, bytes, age, freed, slope] = numbers;
    format!("{alloc:<7} {cache:<20} {live:>8} {bytes:>11} {age:>7} {freed:>6} {slope:>11} {site}")
}

impl Verdict {
    pub(in crate::companion) fn text(&self) -> String {
        let confidence = self.confidence.map(|c| format!("{c:.2}"));
        format!(
            "{:<26} {:<8} {:>10} {}\n",
            self.time.text(),
            self.leak.words(),
            confidence.as_deref().unwrap_or("-"),
            printable(&self.what)
        )
    }
}

impl Site {
    pub(in crate::companion) fn text(&self) -> String {
        let unknown = || "-".to_owned();
        let age = self.age_max_ns;
        let age = age.map_or_else(unknown, |ns| format!("{:.1}", ns as f64 / 1e9));
        let slope = self.slope_bytes_per_s;
        let slope = slope.map_or_else(unknown, |s| s.to_string());
        let freed = self.allocs.saturating_sub(self.live) as f64 / self.allocs.max(1) as f64;
        let freed = format!("{:.0}", 100.0 * freed);
        let name = self.site.name.clone();
        let name = name.unwrap_or_else(|| format!("{:#x}", self.site.address));
        let numbers = [
            &*self.live.to_string(),
            &self.bytes.to_string(),
            &age,
            &freed,
            &slope,
        ];
        let cache = printable(self.cache.as_deref().unwrap_or("-"));
        let row = columns(self.alloc.name(), &cache, numbers, &printable(&name));
        format!("  {row}\n{}", Frame::lines(&self.stack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::companion::Row;

    fn site() -> Site {
        let frame = |address, name: &str| Frame {
            address,
            name: Some(name.to_owned()),
        };
        Site {
            companion: "memleak",
            alloc: Allocator::Slab,
            cache: Some("eventfd_ctx".to_owned()),
            site: frame(0x10, "do_eventfd+0x2a"),
            live: 5000,
            bytes: 320_000,
            allocs: 10_000,
            reused: 0,
            age_max_ns: Some(2_500_000_000),
            slope_bytes_per_s: Some(128_000),
            cohorts: vec![Cohort {
                age_ns: 2_500_000_000,
                came: 10_000,
                live: 5000,
            }],
            stack: vec![frame(0x10, "do_eventfd+0x2a")],
            stack_live: Some(300),
        }
    }

    #[test]
    fn a_site_is_a_line_under_its_header_and_its_stack() {
        let (header, text) = (memleak_header(), Row::Site(Box::new(site())).text());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        let (below, row) = (header.lines().nth(1).unwrap(), lines[0]);
        assert_eq!(below.find("SITE"), row.find("do_eventfd"), "{header}{text}");
        assert!(row.contains(" 50 "), "half was freed: {row}");
        let unknown = Site {
            age_max_ns: None,
            cache: None,
            stack: Vec::new(),
            ..site()
        };
        assert!(Row::Site(Box::new(unknown)).text().contains(" - "));
    }

    #[test]
    fn a_verdict_has_two_digits_of_confidence() {
        let verdict = Verdict {
            companion: "memleak",
            time: Time(0),
            leak: Leak::Yes,
            confidence: Some(0.934_567),
            may_be_cache: false,
            what: "slab cache x".to_owned(),
        };
        let json = Row::Verdict(verdict.clone()).json();
        assert_eq!(
            json,
            r#"{"type":"verdict","companion":"memleak","time":"1970-01-01T00:00:00.000000Z","leak":"yes","confidence":0.93,"what":"slab cache x"}"#
        );
        let text = Row::Verdict(verdict).text();
        assert!(text.contains(" leak ") && text.contains("0.93"), "{text}");
    }

    #[test]
    fn a_verdict_that_is_unknown_has_no_confidence() {
        let verdict = Verdict {
            companion: "memleak",
            time: Time(0),
            leak: Leak::Unknown,
            confidence: None,
            may_be_cache: false,
            what: "2 looks".to_owned(),
        };
        let json = Row::Verdict(verdict.clone()).json();
        assert!(
            json.ends_with(r#""leak":"unknown","what":"2 looks"}"#),
            "{json}"
        );
        let text = Row::Verdict(verdict).text();
        assert!(
            text.contains(" unknown ") && text.contains(" - 2 looks"),
            "{text}"
        );
    }
}
