//! The text formats, compared with the files in `data/text`. After a wanted change, look at what
//! `UPDATE_SNAPSHOTS=1 cargo test -p report --test text` writes there.

mod common;

use std::env;
use std::fs;

use chrono::{FixedOffset, TimeZone, Utc};
use common::{
    data, example_doubt, example_hops, example_names, example_results, example_run, example_summary,
};
use report::analysis::stats::Stats;
use report::format::style::Style;
use report::format::text::{hop_table, hops, interval_line_in, probe_line, probe_line_in, summary};
use report::model::Marks;
use report::model::{Certainty, Delay, Owner, ProbeResult, Run, Segment, Summary, Verdict};

fn compare(name: &str, found: &str) {
    let path = data("text").join(name);
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, found).expect("write snapshot");
    }
    let expected = fs::read_to_string(&path).expect("snapshot");
    assert!(
        found == expected,
        "{}\nexpected:\n{expected}\nfound:\n{found}",
        path.display()
    );
    for line in found.lines() {
        assert_eq!(line, line.trim_end());
    }
}

#[test]
fn probe_lines() {
    let verdict = |segment: Option<Segment>, excess_ns, certainty| Verdict {
        owner: segment.map_or(Owner::Wire, Segment::owner),
        segment,
        excess_ns,
        bounds: None,
        certainty,
        cpu: None,
        at: None,
        on_way: None,
        doubt: None,
    };
    let verdicts = [
        None,
        Some(verdict(
            Some(Segment::RRxSoftirq),
            5_029_000,
            Certainty::Sure,
        )),
        Some(verdict(
            Some(Segment::LRxInlink),
            800,
            Certainty::Provisional,
        )),
        Some(verdict(None, 800, Certainty::Sure)),
        Some(verdict(None, 800, Certainty::Undecided)),
        Some(Verdict {
            doubt: Some(example_doubt()),
            ..verdict(Some(Segment::LTxOutlink), 800, Certainty::Likely)
        }),
    ];
    let mut text = String::new();
    for result in example_results() {
        for verdict in verdicts {
            let result = ProbeResult {
                verdict,
                ..result.clone()
            };
            let names = example_names();
            text += &probe_line_in(&result, &example_run(), &names, &Style::default(), &Utc);
            text += "\n";
        }
    }
    compare("probe_lines.txt", &text);
}

#[test]
fn the_time_is_that_of_the_zone() {
    let (result, run, style) = (&example_results()[0], example_run(), Style::default());
    let zone = FixedOffset::east_opt(3_600).expect("zone");
    let names = example_names();
    assert!(probe_line_in(result, &run, &names, &style, &zone).starts_with("01:00:00.283"));
    let local = chrono::Local
        .timestamp_nanos(result.probe.sent_unix_ns)
        .format("%H:%M:%S%.3f");
    assert!(probe_line(result, &run, &names, &style).starts_with(&local.to_string()));
}

#[test]
fn hops_of_a_probe() {
    compare("hops.txt", &hops(&example_results()[1], &example_names()));
}

#[test]
fn hops_of_a_run() {
    compare(
        "hop_table.txt",
        &hop_table(&example_hops(), &example_names(), &Style::default()),
    );
}

fn summary_is_narrow(run: &Run, numbers: &Summary) -> String {
    let text = summary(run, numbers, &example_names(), &Style::default());
    for line in text.lines() {
        assert!(line.len() <= 110, "{} columns: {line}", line.len());
    }
    text
}

#[test]
fn summary_of_a_run() {
    let numbers = example_summary();
    compare("summary.txt", &summary_is_narrow(&example_run(), &numbers));
}

#[test]
fn an_interval_is_a_line() {
    let numbers = example_summary();
    let time = example_results()[0].probe.sent_unix_ns;
    assert_eq!(
        interval_line_in(&numbers, time, &example_run(), &Utc),
        "00:00:00.283 last 10.0 s: sent 1000, lost 3 (0.30 %); \
         total p50 75.0 us, p99 75.0 us, max 5.11 ms; l_tx_outlink p50 27.7 us, p99 27.7 us, max 27.7 us"
    );
    let nothing = Summary {
        elapsed_ns: 1_000_000_000,
        ..Summary::default()
    };
    assert_eq!(
        interval_line_in(&nothing, time, &example_run(), &Utc),
        "00:00:00.283 last 1.00 s: sent 0, lost 0"
    );
}

#[test]
fn summary_of_nothing() {
    let mut run = example_run();
    run.points.clear();
    run.interval_ns = None;
    run.threshold_ns = 0;
    let text = summary_is_narrow(&run, &Stats::new().summary(0));
    compare("summary_empty.txt", &text);
}

#[test]
fn only_marks_that_were_used_are_explained() {
    let run = example_run();
    let explained = |marks| {
        let numbers = Summary {
            marks,
            ..Stats::new().summary(0)
        };
        let text = summary_is_narrow(&run, &numbers);
        ['~', '*', '!'].map(|mark| text.lines().any(|line| line.starts_with(mark)))
    };
    let mut delay = Delay {
        segment: Segment::LTxOutlink,
        ns: 1,
        bounds: None,
        merged: false,
        clamped: false,
        doubt: None,
    };
    let mut marks = Marks::default();
    marks.note(&delay);
    assert_eq!(explained(marks), [false, false, false]);
    delay.merged = true;
    marks.note(&delay);
    assert_eq!(explained(marks), [false, true, false]);
    (delay.bounds, delay.clamped) = (Some((0, 2)), true);
    marks.note(&delay);
    assert_eq!(explained(marks), [true, true, true]);
}

#[test]
fn the_date_is_there_when_it_is_another_one() {
    let (result, style) = (&example_results()[0], Style::default());
    let mut run = example_run();
    let line = |run: &Run| probe_line_in(result, run, &example_names(), &style, &Utc);
    assert!(line(&run).starts_with("00:00:00.283 "), "{}", line(&run));
    run.start_unix_ns -= 86_400_000_000_000;
    assert!(
        line(&run).starts_with("2026-01-01 00:00:00.283 "),
        "{}",
        line(&run)
    );
    let interval = interval_line_in(&Summary::default(), result.probe.sent_unix_ns, &run, &Utc);
    assert!(
        interval.starts_with("2026-01-01 00:00:00.283 last"),
        "{interval}"
    );
}

#[test]
fn all_text_fits_the_terminal() {
    let (run, names) = (example_run(), example_names());
    let numbers = example_summary();
    for width in 40..130 {
        let style = Style {
            width: Some(width),
            color: false,
        };
        let lines = example_results();
        let lines = lines
            .iter()
            .map(|r| probe_line_in(r, &run, &example_names(), &style, &Utc) + "\n");
        let mut text: String = lines.collect();
        text += &summary(&run, &numbers, &example_names(), &style);
        text += &hop_table(&example_hops(), &names, &style);
        for line in style.render(&text).lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        if width >= 110 {
            continue;
        }
        // The table has fewer columns, and not two lines a row.
        let rows = text
            .lines()
            .filter(|line| line.starts_with("l_rx_task_run "));
        for row in rows {
            assert!(width < 54 || row.len() <= width, "{width}: {row}");
            assert!(row.ends_with("4.00 us"), "{row}");
        }
    }
}
