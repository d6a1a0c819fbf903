//! The table of the parts of the way, where hosts on it stamp probes too.

use crate::analysis::way::{WayStat, WayStats};
use crate::model::{DelayStat, Stretch};
use crate::units::duration;
use std::fmt::Write as _;

/// A row a part, in path order; nothing where no host on the way stamps.
pub fn way_table(way: &WayStats) -> String {
    let parts = way.parts();
    let mut text = String::new();
    if parts.is_empty() {
        return text;
    }
    let _ = write!(text, "\n{:<32}", "way");
    for direction in ["both", "out", "in"] {
        let p50 = format!("{direction} p50");
        let _ = write!(text, " {p50:>9} {:>8}", "max");
    }
    text.push('\n');
    for part in &parts {
        push_part(&mut text, part);
    }
    let estimated = |part: &WayStat| is_estimated(part.of) && part.times[1].is_some();
    if parts.iter().any(estimated) {
        text += "~ estimate, as the hosts have a clock each; both directions together are exact\n";
    }
    text
}

fn push_part(text: &mut String, part: &WayStat) {
    let _ = write!(text, "{:<32}", part.of.words());
    let mut row = String::new();
    for (column, stat) in part.times.iter().enumerate() {
        let mark = if column > 0 && is_estimated(part.of) {
            "~"
        } else {
            ""
        };
        let shown = |ns: fn(&DelayStat) -> u64| {
            let stat = stat.as_ref();
            stat.map_or_else(|| "-".into(), |s| format!("{mark}{}", duration(ns(s))))
        };
        let (p50, max) = (shown(|s| s.p50), shown(|s| s.max));
        let _ = write!(row, " {p50:>9} {max:>8}");
    }
    text.push_str(&row);
    text.push('\n');
}

/// Between two hosts the directions are known by their clocks only.
fn is_estimated(of: Stretch) -> bool {
    matches!(of, Stretch::Between(..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Host, WayPart, WayTime};

    #[test]
    fn each_host_has_its_part_of_the_time() {
        let host = Host::Transit(2);
        let time = |ns| Some(WayTime { ns, bounds: None });
        let part = |of, ns, directions| WayPart {
            of,
            ns,
            base_ns: 0,
            directions,
        };
        let mut way = WayStats::default();
        assert_eq!(way_table(&way), "");
        way.record(&[
            part(
                Stretch::Between(Host::Client, host),
                23_000,
                [time(12_000), time(11_000)],
            ),
            part(Stretch::Within(host), 900, [time(500), time(400)]),
            part(Stretch::Behind(host), 5_000_000, [None; 2]),
        ]);
        let expected = "\n\
way                               both p50      max   out p50      max    in p50      max
between client and transit2        23.0 us  23.0 us  ~12.0 us ~12.0 us  ~11.0 us ~11.0 us
in transit2                         900 ns   900 ns    500 ns   500 ns    400 ns   400 ns
behind transit2                    5.00 ms  5.00 ms         -        -         -        -
~ estimate, as the hosts have a clock each; both directions together are exact\n";
        assert_eq!(way_table(&way), expected);
    }
}
