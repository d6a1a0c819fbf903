//! Saved runs are read back and compared.

mod common;

use common::{example_names, example_results, example_run, example_summary};
use report::analysis::confidence::MinEffect;
use report::analysis::diff::Diff;
use report::analysis::stats::Stats;
use report::format::json::{Part, interval_line, probe_line, run_line, stat_line};
use report::format::saved;
use report::format::saved::Error;
use report::model::{Breakdown, Delay, Saved, Segment, Summary};
use serde_json::Value;

const SCHEMA: &str = include_str!("../schema/pingtrace.schema.json");

/// 2000 probes of these segments, nanoseconds; each probe 1 % longer than the one before, over and
/// over.
fn run(segments: &[(Segment, u64)]) -> Saved {
    let mut stats = Stats::new();
    for k in 0..2_000 {
        let delay = |(segment, ns): &(Segment, u64)| Delay {
            segment: *segment,
            ns: ns + ns / 100 * (k % 10),
            bounds: None,
            merged: false,
            clamped: false,
            doubt: None,
        };
        let delays: Vec<_> = segments.iter().map(delay).collect();
        stats.counters.sent += 1;
        stats.counters.replied += 1;
        stats.record(&Breakdown {
            total_ns: delays.iter().map(|delay| delay.ns).sum(),
            delays,
            ..Breakdown::default()
        });
    }
    Saved {
        run: Some(example_run()),
        summary: stats.last_summary(1_000_000_000),
        earlier: 0,
    }
}

fn answer(a: &Saved, b: &Saved) -> String {
    let text = Diff::new(("a", a), ("b", b), MinEffect::default()).text();
    text.lines().next().expect("an answer").to_owned()
}

#[test]
fn what_moved_is_named_by_size() {
    use Segment::{LTxKern, LTxQdisc, RRxKern};
    let before = run(&[(LTxKern, 2_000), (LTxQdisc, 1_000_000), (RRxKern, 3_000)]);
    assert_eq!(answer(&before, &before), "no segment moved");
    let slow = run(&[(LTxKern, 2_000), (LTxQdisc, 4_000_000), (RRxKern, 3_000)]);
    let said = answer(&before, &slow);
    assert!(said.starts_with("l_tx_qdisc moved: p"), "{said}");
    assert!(said.ends_with(" ms; no other segment moved"), "{said}");
    let both = run(&[(LTxKern, 9_000), (LTxQdisc, 200_000), (RRxKern, 3_000)]);
    let said = answer(&before, &both);
    assert!(
        said.starts_with("l_tx_qdisc moved most: p99 -872 ["),
        "{said}"
    );
    assert!(said.contains("; less: l_tx_kern p99 +7.6 ["), "{said}");
}

#[test]
fn what_only_one_run_has_is_not_compared() {
    use Segment::{LTxKern, RRxKern, Remote};
    let seen = run(&[(LTxKern, 2_000), (RRxKern, 3_000)]);
    let unseen = run(&[(LTxKern, 2_000), (Remote, 3_000)]);
    let diff = Diff::new(("a", &seen), ("b", &unseen), MinEffect::default());
    let text = diff.text();
    assert!(
        text.contains("only in A: r_rx_kern\nonly in B: remote\n"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&diff.json()).expect("JSON");
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    assert!(jsonschema::is_valid(&schema, &json), "{json:#}");
    let alone = &json["delays"][2];
    assert_eq!(
        (&alone["delay"], &alone["b"], &alone["p50"]),
        (&"r_rx_kern".into(), &Value::Null, &Value::Null)
    );
}

#[test]
fn the_last_run_of_a_file_is_read() {
    let summary = example_summary();
    let mut first = example_run();
    first.start_unix_ns -= 1_000;
    let part = Summary {
        histograms: Vec::new(),
        ..summary.clone()
    };
    let names = example_names();
    let mut lines = vec![
        run_line(&first, Part::First),
        stat_line(&example_run(), &part, &names, 1),
        stat_line(&example_run(), &part, &names, 2),
        run_line(&example_run(), Part::First),
        probe_line(&example_results()[0], &names),
        run_line(&example_run(), Part::First),
        interval_line(&part, &names, 3),
        stat_line(&example_run(), &part, &names, 3),
    ];
    let read = |lines: &[String]| saved::read(lines.join("\n").as_bytes());
    assert!(matches!(read(&lines), Err(Error::NoEnd("last "))));
    assert!(matches!(read(&lines[..3]), Err(Error::NoEnd(""))));
    lines.push(stat_line(&example_run(), &summary, &names, 4));
    let saved = read(&lines).expect("a run");
    assert_eq!((saved.earlier, saved.run), (1, Some(example_run())));
    assert_eq!(saved.summary.histograms, summary.histograms);
    // Rotation can take the run's line away.
    let saved = read(&lines[8..]).expect("a run");
    assert_eq!((saved.earlier, saved.run), (0, None));
    lines.push(r#"{"type":"run","version":7,"all":"different"}"#.into());
    let why = read(&lines).expect_err("a later version").to_string();
    assert_eq!(
        why,
        "line 10: read JSON line: format version 7, this reads up to 1"
    );
}
