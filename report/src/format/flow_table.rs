//! The flows of a run as a table of text.

use crate::analysis::flows::Different;
use crate::model::FlowStat;
use crate::units::{duration, share};

/// A line a flow, with how it differs from the others; nothing if all probes are one flow.
pub(super) fn flow_table(flows: &[FlowStat]) -> String {
    if flows.is_empty() {
        return String::new();
    }
    let different = Different::new(flows);
    let mut lines = vec![format!(
        "{:<6} {:>9} {:>9} {:>10} {:>8} {:>8} {:>8}",
        "flow", "replied", "lost", "", "p50", "p99", "max"
    )];
    lines.extend(flows.iter().map(|flow| line(flow, &different)));
    lines.join("\n") + "\n\n"
}

fn line(stat: &FlowStat, different: &Different) -> String {
    let FlowStat {
        flow,
        replied,
        lost,
        ..
    } = *stat;
    let of_flow = match lost {
        0 => String::new(),
        lost => share(lost, stat.sent(), 2),
    };
    let times = stat.total.as_ref();
    let times = times.map(|total| [total.p50, total.p99, total.max].map(duration));
    let [p50, p99, max] = times.unwrap_or_default();
    let unlike = [
        (&different.losing, "loses more"),
        (&different.slower, "slower"),
        (&different.slower_at_times, "slower at times"),
    ];
    let unlike = unlike
        .into_iter()
        .filter(|(which, _)| which.contains(&flow));
    let unlike: Vec<&str> = unlike.map(|(_, how)| how).collect();
    let line = format!(
        "{flow:<6} {replied:>9} {lost:>9}{of_flow:>11} {p50:>8} {p99:>8} {max:>8}  {}",
        unlike.join(", ")
    );
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::flows::tests::flow;

    #[test]
    fn the_table_says_what_differs() {
        let mut flows: Vec<FlowStat> = (0..6).map(|number| flow(number, 0, 40_000)).collect();
        flows[1] = flow(1, 250, 0);
        flows[4] = flow(4, 0, 5_040_000);
        let expected = "\
flow     replied      lost                 p50      p99      max
0            250         0             40.0 us  40.0 us  40.0 us
1              0       250 (100.00 %)                             loses more
2            250         0             40.0 us  40.0 us  40.0 us
3            250         0             40.0 us  40.0 us  40.0 us
4            250         0             5.04 ms  5.04 ms  5.04 ms  slower
5            250         0             40.0 us  40.0 us  40.0 us

";
        assert_eq!(flow_table(&flows), expected);
        assert_eq!(flow_table(&[]), "");
    }
}
