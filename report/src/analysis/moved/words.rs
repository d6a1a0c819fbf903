//! Counters that moved, in words.

use std::fmt::Write as _;

use crate::model::{CounterSource, Host, KernelCounter, Moved, MovedCounter};
use crate::printable::printable;
use crate::units::duration;

/// Counters in text.
const SHOWN: usize = 8;

impl KernelCounter {
    /// `eth0 rx_missed_errors`, `eth0 qdisc tbf drops`, `softnet time_squeeze`, `UdpInErrors`.
    pub fn words(&self) -> String {
        let device = self.device.iter().map(|device| printable(device));
        let source = match self.source {
            CounterSource::Qdisc => Some("qdisc".into()),
            CounterSource::Softnet => Some("softnet".into()),
            CounterSource::Link | CounterSource::Ethtool | CounterSource::Protocol => None,
        };
        let name = Some(printable(&self.counter));
        let words: Vec<_> = device.chain(source).chain(name).collect();
        words.join(" ")
    }
}

impl MovedCounter {
    /// `eth0 rx_missed_errors +412 in 3 slow windows, 0 outside`.
    pub fn words(&self) -> String {
        let Self {
            counter,
            inside,
            windows,
            outside,
        } = self;
        let windows = count(*windows);
        format!(
            "{} +{inside} in {windows}, {outside} outside",
            counter.words()
        )
    }
}

impl Moved {
    /// As lines of text; none if there were no windows.
    pub fn text(&self) -> String {
        if self.windows == 0 {
            return String::new();
        }
        let whose = match self.host {
            Host::Client => "client",
            Host::Server => "server",
            Host::Transit(_) => "other",
        };
        let (windows, inside) = (count(self.windows), duration(self.inside_ns));
        let mut text = if self.outside_ns == 0 {
            format!(
                "counters of the {whose} host: all the time was slow or lossy, so no usual rate is known\n"
            )
        } else if self.counters.is_empty() {
            format!("counters of the {whose} host: none moved in {windows} ({inside})\n")
        } else {
            format!(
                "counters of the {whose} host that moved in {windows} ({inside} of {}):\n",
                duration(self.inside_ns.saturating_add(self.outside_ns))
            )
        };
        let shown = self.counters.iter().take(SHOWN);
        for counter in shown {
            let _ = writeln!(text, "    {}", counter.words());
        }
        let more = self.counters.len().saturating_sub(SHOWN) as u64 + self.unlisted;
        if more > 0 {
            let _ = writeln!(text, "    {more} more");
        }
        for (what, n) in [
            (
                "counters that fell, so that what they did is not known",
                self.fallen,
            ),
            (
                "slow or lost probes without readings of the counters",
                self.missed,
            ),
        ] {
            if n > 0 {
                let _ = writeln!(text, "    {what}: {n}");
            }
        }
        text
    }
}

fn count(windows: u64) -> String {
    format!(
        "{windows} slow window{}",
        if windows == 1 { "" } else { "s" }
    )
}
