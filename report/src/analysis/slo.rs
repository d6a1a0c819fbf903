//! Objectives of a run, such as `p99(total)<500us,loss<0.1%`, and whether it met them.
//!
//! ```text
//! objectives = objective { "," objective }
//! objective  = delay ( "<" | "<=" ) number ( "ns" | "us" | "ms" | "s" )
//!            | share ( "<" | "<=" ) number "%"
//! delay      = statistic "(" ( "total" | segment ) ")" | "jitter(" ( "out" | "in" | "rtt" ) ")"
//! statistic  = "min" | "mean" | "max" | "p" percentile
//! share      = "loss" | "late" | "dup"
//! ```
//!
//! Blanks are allowed anywhere but inside a word. Percentiles are those of the answered probes that
//! have the segment, to three digits; a lost probe has no delay, so set an objective for the loss
//! too. Shares are of the probes sent. The jitter is that of RFC 3550 at the end of the run. An objective
//! without a value (no probe had the segment) counts as missed.

use crate::analysis::quantile::Quantile;
use crate::model::{Judged, Segment, Summary, Trip, Value};
use std::str::FromStr;

/// A mistake in an objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {found}, expected {expected}")]
pub struct Mistake {
    /// Where, from 1, in characters.
    column: usize,
    found: String,
    expected: String,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    /// A statistic of the total (`None`) or of a segment.
    Delay(Statistic, Option<Segment>),
    Jitter(Trip),
    Share(Share),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic {
    Min,
    Mean,
    Max,
    Quantile(Quantile),
}

/// A part of the probes sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    Loss,
    Late,
    Dup,
}

/// One objective.
#[derive(Clone, Debug, PartialEq)]
struct Objective {
    text: String,
    metric: Metric,
    or_equal: bool,
    limit: Value,
}

/// Objectives of a run, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Objectives(Vec<Objective>);

impl Objectives {
    /// Judges a run by its last summary, which has the histograms.
    pub fn judge(&self, summary: &Summary) -> Vec<Judged> {
        self.0.iter().map(|one| one.judge(summary)).collect()
    }
}

impl Objective {
    fn judge(&self, summary: &Summary) -> Judged {
        let measured = self.metric.measure(summary);
        Judged {
            objective: self.text.clone(),
            measured,
            met: measured.is_some_and(|value| {
                let (value, limit) = (value.number(), self.limit.number());
                value < limit || self.or_equal && value <= limit
            }),
        }
    }
}

impl Metric {
    fn measure(self, summary: &Summary) -> Option<Value> {
        match self {
            Self::Delay(statistic, of) => statistic.measure(summary, of).map(Value::Ns),
            Self::Jitter(way) => summary
                .jitter
                .iter()
                .find(|jitter| jitter.direction == way)
                .map(|jitter| Value::Ns(jitter.rfc3550_ns as f64)),
            Self::Share(share) => {
                let counters = &summary.counters;
                let part = match share {
                    // Forgotten probes may have been lost: they meet no objective.
                    Share::Loss => counters.lost + counters.forgotten,
                    Share::Late => counters.late,
                    Share::Dup => counters.dup,
                };
                (counters.sent > 0).then(|| Value::Percent(counters.percent_of_sent(part)))
            }
        }
    }
}

impl Statistic {
    fn measure(self, summary: &Summary, of: Option<Segment>) -> Option<f64> {
        let index = summary.delays.iter().position(|stat| stat.segment == of)?;
        let stat = &summary.delays[index];
        Some(match self {
            Self::Min => stat.min as f64,
            Self::Mean => stat.mean,
            Self::Max => stat.max as f64,
            Self::Quantile(quantile) => {
                let histogram = summary.histograms.get(index)?;
                quantile.value(histogram).clamp(stat.min, stat.max) as f64
            }
        })
    }
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Ns(number) | Self::Percent(number) => number,
        }
    }
}

impl FromStr for Objectives {
    type Err = Mistake;

    fn from_str(text: &str) -> Result<Self, Mistake> {
        let mut reader = Reader { text, at: 0 };
        let mut objectives = Vec::new();
        loop {
            objectives.push(reader.objective()?);
            if reader.rest().is_empty() {
                return Ok(Self(objectives));
            }
            reader.expect(",", "',' or the end")?;
        }
    }
}

const METRICS: &str =
    "min, mean, max, a percentile such as p99.9, or jitter, before '('; or loss, late or dup";
const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];

/// A text, and the number of bytes read so far.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The rest, from its first character that is not blank.
    fn rest(&mut self) -> &'a str {
        let left = self.text[self.at..].trim_start();
        self.at = self.text.len() - left.len();
        left
    }

    /// The characters up to the first that is not `of_word`.
    fn word(&mut self, of_word: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn expect(&mut self, sign: &str, expected: &str) -> Result<(), Mistake> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.mistake(self.at, expected))
    }

    /// Reads this sign if it is next.
    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    /// An error: the text at `at` is not what was expected.
    fn mistake(&self, at: usize, expected: impl Into<String>) -> Mistake {
        let rest = &self.text[at..];
        let end = rest
            .find(|c: char| ",<()".contains(c) || c.is_whitespace())
            .unwrap_or(rest.len());
        let first = rest.chars().next().map_or(0, char::len_utf8);
        Mistake {
            column: self.text[..at].chars().count() + 1,
            found: match &rest[..end.max(first)] {
                "" => "the end".into(),
                word => format!("'{word}'"),
            },
            expected: expected.into(),
        }
    }

    fn objective(&mut self) -> Result<Objective, Mistake> {
        self.rest();
        let start = self.at;
        let metric = self.metric()?;
        self.expect("<", "'<' or '<='")?;
        let or_equal = self.take("=");
        let limit = self.limit(metric)?;
        Ok(Objective {
            text: self.text[start..self.at].to_owned(),
            metric,
            or_equal,
            limit,
        })
    }

    fn metric(&mut self) -> Result<Metric, Mistake> {
        let start = self.at;
        let word = self.word(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        let share = match word {
            "loss" => Some(Share::Loss),
            "late" => Some(Share::Late),
            "dup" => Some(Share::Dup),
            _ => None,
        };
        if let Some(share) = share {
            return Ok(Metric::Share(share));
        }
        if word == "jitter" {
            let names = Trip::ALL.map(Trip::name).join(", ");
            return self.argument(&names, |name| Trip::from_name(name).map(Metric::Jitter));
        }
        let statistic = statistic(word).ok_or_else(|| self.mistake(start, METRICS))?;
        let [response, segments @ ..] = Segment::ALL.map(Segment::name);
        let names = segments.join(", ");
        let expected = format!("total, {response} or a segment ({names})");
        self.argument(&expected, |name| {
            let of = match name {
                "total" => None,
                name => Some(Segment::from_name(name)?),
            };
            Some(Metric::Delay(statistic, of))
        })
    }

    /// A name in parentheses.
    fn argument(
        &mut self,
        expected: &str,
        read: impl Fn(&str) -> Option<Metric>,
    ) -> Result<Metric, Mistake> {
        self.expect("(", &format!("'(' and {expected}"))?;
        self.rest();
        let start = self.at;
        let word = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        let metric = read(word).ok_or_else(|| self.mistake(start, expected))?;
        self.expect(")", "')'")?;
        Ok(metric)
    }

    fn limit(&mut self, metric: Metric) -> Result<Value, Mistake> {
        let is_share = matches!(metric, Metric::Share(_));
        let expected = if is_share {
            "a percentage such as 0.1%"
        } else {
            "a time such as 500us (ns, us, ms or s)"
        };
        self.rest();
        let start = self.at;
        let number = self.word(|c| c.is_ascii_digit() || c == '.');
        let number: f64 = number.parse().map_err(|_| self.mistake(start, expected))?;
        self.rest();
        let unit_at = self.at;
        let unit = self.word(|c| c.is_ascii_alphabetic() || c == '%');
        if is_share && unit == "%" {
            return Ok(Value::Percent(number));
        }
        UNITS
            .iter()
            .find(|(name, _)| *name == unit && !is_share)
            .map(|(_, scale)| Value::Ns(number * scale))
            .ok_or_else(|| self.mistake(unit_at, expected))
    }
}

fn statistic(word: &str) -> Option<Statistic> {
    Some(match word {
        "min" => Statistic::Min,
        "mean" => Statistic::Mean,
        "max" => Statistic::Max,
        _ => {
            let percent = word.strip_prefix('p')?;
            Statistic::Quantile(percent.parse().ok()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stats::Stats;
    use crate::model::{Breakdown, Delay};

    fn objectives(text: &str) -> Objectives {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// 1000 probes of 1 to 1000 us, all of it `l_tx_qdisc`; 5 lost.
    fn summary() -> Summary {
        let mut stats = Stats::new();
        for k in 1..=1_000 {
            let delay = Delay {
                segment: Segment::LTxQdisc,
                ns: k * 1_000,
                bounds: None,
                merged: false,
                clamped: false,
                doubt: None,
            };
            stats.record(&Breakdown {
                total_ns: delay.ns,
                delays: vec![delay],
                ..Breakdown::default()
            });
        }
        (stats.counters.sent, stats.counters.lost) = (1_005, 5);
        stats.last_summary(1)
    }

    #[test]
    fn objectives_are_judged_by_what_was_measured() {
        let cases = [
            ("p50(total)<500.5us", true),
            ("p50(total)<499us", false),
            ("p99(l_tx_qdisc) <= 991 us", true),
            ("p99(l_tx_qdisc) < 0.989ms", false),
            ("p99.99(total)<0.00101s", true),
            ("p0.1(total)<2us", true),
            ("min(total)<1us", false),
            ("min(total)<=1us", true),
            ("max(total)<=1000000ns", true),
            ("mean(total)<=500.5us", true),
            ("mean(total)<500.5us", false),
            ("loss<0.5%", true),
            ("loss < 0.49 %", false),
            ("late<=0%", true),
            ("dup<0%", false),
        ];
        let summary = summary();
        for (text, met) in cases {
            let judged = objectives(text).judge(&summary);
            assert_eq!((judged.len(), judged[0].met), (1, met), "{judged:?}");
            assert!(judged[0].measured.is_some());
        }
        let all = cases.map(|(text, _)| text).join(" , ");
        let judged = objectives(&all).judge(&summary);
        let found: Vec<_> = judged
            .iter()
            .map(|j| (j.objective.as_str(), j.met))
            .collect();
        assert_eq!(found, cases);
        assert_eq!(judged[10].to_string(), "mean(total)<500.5us: 500 us");
        assert_eq!(judged[12].to_string(), "loss < 0.49 %: 0.4975 %");
    }

    /// Of 1000 values `percent / 100.0` took the largest for the 99.9th percentile.
    #[test]
    fn a_percentile_is_the_one_that_the_table_shows() {
        let summary = summary();
        let total = &summary.delays[0];
        for (order, shown) in [
            ("p50", total.p50),
            ("p90", total.p90),
            ("p99", total.p99),
            ("p99.9", total.p999),
        ] {
            let judged = objectives(&format!("{order}(total)<1s")).judge(&summary);
            assert_eq!(judged[0].measured, Some(Value::Ns(shown as f64)), "{order}");
        }
        assert!(total.p999 < total.max);
    }

    #[test]
    fn what_no_probe_had_is_missed_and_says_so() {
        for text in ["p99(r_rx_softirq)<1s", "min(remote)<1s", "jitter(out)<1s"] {
            let judged = &objectives(text).judge(&summary())[0];
            assert!(!judged.met);
            assert_eq!(judged.to_string(), format!("{text}: not measured"));
        }
        assert!(!objectives("loss<100%").judge(&Summary::default())[0].met);
    }

    #[test]
    fn a_mistake_says_where_and_what_was_expected() {
        let cases = [
            ("", 1, "the end", "min, mean, max"),
            ("p99(total)", 11, "the end", "'<' or '<='"),
            ("p99(total)>5us", 11, "'>5us'", "'<' or '<='"),
            ("p99(total)<5", 13, "the end", "ns, us, ms or s"),
            ("p99(total)<5m", 13, "'m'", "ns, us, ms or s"),
            ("p99(total)<5%", 13, "'%'", "a time such as 500us"),
            ("p99(total)<-5us", 12, "'-5us'", "a time such as 500us"),
            ("p99(total)<1.2.3us", 12, "'1.2.3us'", "a time"),
            ("loss<5", 7, "the end", "a percentage such as 0.1%"),
            ("loss<5us", 7, "'us'", "a percentage"),
            ("loss<5%;late<1%", 8, "';late'", "',' or the end"),
            ("loss<5%,", 9, "the end", "min, mean, max"),
            ("p100(total)<5us", 1, "'p100'", "percentile such as p99.9"),
            ("p-1(total)<5us", 1, "'p-1'", "percentile"),
            ("p1e1(total)<5us", 1, "'p1e1'", "percentile"),
            ("p0(total)<5us", 1, "'p0'", "percentile"),
            ("pinf(total)<5us", 1, "'pinf'", "percentile"),
            (
                "p99(tot)<5us",
                5,
                "'tot'",
                "total, response or a segment (l_tx_late, ",
            ),
            (
                "p99 total<5us",
                5,
                "'total'",
                "'(' and total, response or a segment",
            ),
            ("p99(total<5us", 10, "'<'", "')'"),
            ("jitter(up)<5us", 8, "'up'", "out, in, rtt"),
            ("loss<1%, \u{e9}9(total)<1s", 10, "'\u{e9}9'", "percentile"),
            ("p9\u{e9}(total)<1s", 3, "'\u{e9}'", "'(' and total"),
        ];
        for (text, column, found, expected) in cases {
            let mistake = text.parse::<Objectives>().expect_err(text);
            let said = mistake.to_string();
            assert_eq!(
                (mistake.column, mistake.found.as_str()),
                (column, found),
                "{text}: {said}"
            );
            assert!(said.starts_with(&format!("column {column}: {found}, expected ")));
            assert!(mistake.expected.contains(expected), "{text}: {said}");
        }
    }
}
