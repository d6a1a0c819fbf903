//! A part of a run's time, as a user says it.

use crate::units;
use anyhow::{Result, bail};
use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use report::units::duration;
use std::str::FromStr;
use std::time::Duration;

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Moment {
    /// This long after its start.
    Since(Duration),
    /// This time of the local day, the first one that is not before its start.
    Time(NaiveTime),
    /// This local time.
    Local(NaiveDateTime),
    /// Nanoseconds since the Unix epoch.
    Unix(i64),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| {
            let parse = |format| NaiveTime::parse_from_str(text, format).ok();
            ["%H:%M:%S%.f", "%H:%M"].into_iter().find_map(parse)
        };
        let date = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
        let unix = DateTime::parse_from_rfc3339(text).ok();
        if let Some(ns) = unix.and_then(|time| time.timestamp_nanos_opt()) {
            return Ok(Self::Unix(ns));
        }
        if let Some(time) = time(text) {
            return Ok(Self::Time(time));
        }
        if let Some((day, at)) = text.split_once([' ', 'T'])
            && let (Some(day), Some(at)) = (date(day), time(at))
        {
            return Ok(Self::Local(day.and_time(at)));
        }
        if let Some(day) = date(text) {
            return Ok(Self::Local(day.and_time(NaiveTime::MIN)));
        }
        units::seconds(text).map(Self::Since).map_err(|_| {
            "neither a time (14:05, '2026-11-28 14:05:30', 2026-11-28T14:05:30Z) nor one since the start of \
             the run (90s, 5m)"
                .to_owned()
        })
    }
}

impl Moment {
    /// Nanoseconds since the Unix epoch, in a run that began at `start`, likewise.
    fn unix_ns(self, start: i64) -> Option<i64> {
        let local = |time: NaiveDateTime| {
            let time = time.and_local_timezone(Local).earliest()?;
            time.timestamp_nanos_opt()
        };
        match self {
            Self::Since(since) => start.checked_add(since.as_nanos().try_into().ok()?),
            Self::Unix(ns) => Some(ns),
            Self::Local(time) => local(time),
            Self::Time(time) => {
                let begin = DateTime::from_timestamp_nanos(start).with_timezone(&Local);
                let today = begin.date_naive();
                let at = local(today.and_time(time))?;
                // The start is rarely on a whole second, and nobody types its fraction.
                let is_over = at < start - start.rem_euclid(60_000_000_000);
                let next = today.checked_add_signed(TimeDelta::days(1))?;
                if is_over {
                    local(next.and_time(time))
                } else {
                    Some(at)
                }
            }
        }
    }
}

// The part of a run that counts. A doc comment would be the help.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Bounds {
    /// Only probes sent from then on: a time (14:05, '2026-11-28 14:05:30', 2026-11-28T14:05:30Z), or one
    /// since the start of the run (90s, 5m)
    #[arg(long, value_name = "TIME")]
    pub from: Option<Moment>,

    /// Only probes sent before then, likewise
    #[arg(long, value_name = "TIME")]
    pub to: Option<Moment>,
}

/// What was asked for, nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: i64,
    pub to: i64,
}

impl Span {
    /// In a run that began at `start`; absent if all of it is asked for.
    pub fn new(asked: Bounds, start: i64) -> Result<Option<Self>> {
        let Bounds { from, to } = asked;
        if from.is_none() && to.is_none() {
            return Ok(None);
        }
        let at = |moment: Option<Moment>, default| {
            moment.map_or(Some(default), |moment| moment.unix_ns(start))
        };
        let (Some(from), Some(to)) = (at(from, start), at(to, i64::MAX)) else {
            bail!("no such time on this host's clock (--from, --to)");
        };
        if from >= to {
            let by = duration(from.abs_diff(to));
            bail!("--from is {by} behind --to: nothing lies between");
        }
        Ok(Some(Self { from, to }))
    }

    /// Whether a probe that was sent then counts.
    pub fn has(self, sent_unix_ns: i64) -> bool {
        (self.from..self.to).contains(&sent_unix_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_795_874_730_250_000_000;

    fn local(unix_ns: i64) -> NaiveDateTime {
        DateTime::from_timestamp_nanos(unix_ns)
            .with_timezone(&Local)
            .naive_local()
    }

    fn of(text: &str) -> Option<i64> {
        text.parse::<Moment>().unwrap().unix_ns(START)
    }

    #[test]
    fn moments_are_said_in_many_ways() {
        assert_eq!(of("90s"), Some(START + 90_000_000_000));
        assert_eq!(
            of("2026-11-28T14:05:30.5Z"),
            Some(1_795_874_730_500_000_000)
        );
        assert_eq!(
            of("2026-11-28T14:05:30+01:00"),
            Some(1_795_871_130_000_000_000)
        );
        let written = local(START).format("%Y-%m-%d %H:%M:%S").to_string();
        assert_eq!(of(&written), Some(START - 250_000_000));
        assert_eq!(of(&written.replace(' ', "T")), Some(START - 250_000_000));
        for wrong in ["", "yesterday", "25:00", "2026-13-01", "-5s"] {
            let said = wrong.parse::<Moment>().unwrap_err();
            assert!(said.contains("14:05"), "{said}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_first_one_of_the_run() {
        let minute = START - START.rem_euclid(60_000_000_000);
        let text = |ns: i64| local(ns).format("%H:%M").to_string();
        assert_eq!(of(&text(minute)), Some(minute));
        let later = minute + 120_000_000_000;
        assert_eq!(of(&text(later)), Some(later));
        // A minute earlier is one of the next day; a day of a change of the clocks has another length.
        let before = of(&text(minute - 60_000_000_000)).unwrap();
        let hours = (before - START) / 3_600_000_000_000;
        assert!((22..=25).contains(&hours), "{hours}");
    }

    #[test]
    fn a_span_without_time_is_refused() {
        let asked = |from: &str, to: &str| Bounds {
            from: Some(from.parse().unwrap()),
            to: Some(to.parse().unwrap()),
        };
        let span = Span::new(asked("1s", "2s"), START).unwrap().unwrap();
        assert!(span.has(START + 1_000_000_000) && !span.has(START + 2_000_000_000));
        let said = Span::new(asked("2s", "1s"), START).unwrap_err().to_string();
        assert!(said.contains("nothing lies between"), "{said}");
        assert_eq!(Span::new(Bounds::default(), START).unwrap(), None);
    }
}
