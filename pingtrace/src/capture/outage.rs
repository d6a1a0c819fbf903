//! Outages: reports, during a run, that replies have stopped and that they have come back.

use crate::units::Time;
use chrono::{DateTime, Local};
use report::units::duration;

/// Probes without a reply from which on replies have stopped.
const PROBES: u64 = 3;

/// Detects when replies stop and when they come back.
#[derive(Clone, Debug)]
pub struct Outage {
    patience_ns: u64,
    replied: u64,
    /// When the last reply arrived or the run began, and the probes sent until then.
    since: (Time, u64),
    reported: bool,
}

impl Outage {
    /// For a run that begins now, with replies that take no longer than this.
    pub fn new(now: Time, patience_ns: u64) -> Self {
        Self {
            patience_ns,
            replied: 0,
            since: (now, 0),
            reported: false,
        }
    }

    /// A message, once at the beginning and once at the end of an outage.
    pub fn observe(&mut self, now: Time, sent: u64, replied: u64) -> Option<String> {
        let (start, before) = self.since;
        let (silent_ns, unanswered) =
            (now.ns.saturating_sub(start.ns), sent.saturating_sub(before));
        if replied != self.replied {
            self.replied = replied;
            self.since = (now, sent);
            let over = std::mem::take(&mut self.reported);
            return over.then(|| {
                let silent = duration(silent_ns);
                format!(
                    "replies again after {silent} without any, in which {unanswered} probes left"
                )
            });
        }
        if self.reported || unanswered < PROBES || silent_ns < self.patience_ns {
            return None;
        }
        self.reported = true;
        let since = DateTime::from_timestamp_nanos(start.unix_ns).with_timezone(&Local);
        Some(format!(
            "no reply since {}: {unanswered} probes sent in {} are unanswered",
            since.format("%H:%M:%S%.3f"),
            duration(silent_ns)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Time {
        let ns = ms * MS;
        Time {
            ns,
            unix_ns: ns.cast_signed(),
        }
    }

    #[test]
    fn an_outage_is_told_once_at_either_end() {
        let mut outage = Outage::new(at(0), 1000 * MS);
        assert_eq!(outage.observe(at(100), 10, 9), None);
        assert_eq!(outage.observe(at(1000), 100, 9), None, "it may yet come");
        let began = outage.observe(at(1100), 110, 9).unwrap();
        assert!(began.contains("100 probes sent in 1.00 s"), "{began}");
        assert_eq!(outage.observe(at(9000), 900, 9), None);
        let over = outage.observe(at(9100), 910, 10).unwrap();
        assert!(
            over.contains("after 9.00 s") && over.contains("900 probes"),
            "{over}"
        );
        assert_eq!(outage.observe(at(9200), 920, 11), None);
    }

    #[test]
    fn few_probes_or_a_short_time_are_no_outage() {
        let mut slow = Outage::new(at(0), 1000 * MS);
        assert_eq!(slow.observe(at(60_000), 2, 0), None);
        let mut fast = Outage::new(at(0), 1000 * MS);
        assert_eq!(fast.observe(at(999), 10_000, 0), None);
    }
}
