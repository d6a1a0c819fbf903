//! Saved runs from anywhere: what cannot be is refused with one line, what is cut off is read as
//! far as it is whole, and nothing takes memory because a file says so.

mod common;

use std::io::Write as _;
use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use common::mutate::{changed as mutated, changes};
use common::{example_lines, example_names, example_results, example_run, example_summary};
use flate2::{Compression, write::ZlibEncoder};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use proptest::prelude::*;
use report::analysis::confidence::MinEffect;
use report::analysis::diff::Diff;
use report::format::json::{self, Line, Part, interval_line, probe_line, run_line, stat_line};
use report::format::saved;
use report::format::saved::{Probes, Scan};
use report::format::style::Style;
use report::format::text;
use report::model::{Names, Saved};
use serde_json::{Value, json};

/// A whole run.
fn lines() -> Vec<String> {
    let names = example_names();
    let results = example_results();
    let probes = results.iter().map(|record| probe_line(record, &names));
    let mut lines = vec![run_line(&example_run(), Part::First)];
    lines.extend(probes);
    lines.push(stat_line(&example_run(), &example_summary(), &names, 4));
    lines
}

fn scan(text: impl AsRef<[u8]>) -> Result<Scan, String> {
    let mut scan = Scan::default();
    let read = scan.read(text.as_ref());
    read.map(|()| scan).map_err(|error| error.to_string())
}

/// The lines, of which the first of this type was changed.
fn changed(kind: &str, change: impl Fn(&mut Value)) -> String {
    let mut lines = lines();
    let of_kind = format!("{{\"type\":\"{kind}\"");
    let line = lines.iter_mut().find(|line| line.starts_with(&of_kind));
    let line = line.expect("a line of that type");
    let mut value: Value = serde_json::from_str(line).expect("JSON");
    change(&mut value);
    *line = value.to_string();
    lines.join("\n")
}

fn refused(text: impl AsRef<[u8]>, words: &str) {
    let why = scan(text).map(|_| ()).expect_err(words);
    assert!(why.starts_with("line ") && why.contains(words), "{why}");
    assert!(!why.contains('\n') && why.len() < 300, "{why}");
}

/// A histogram whose header claims this, and that has no counts.
fn histogram(digits: u32, low: u64, high: u64) -> String {
    histogram_of(digits, low, high, &[0; 2])
}

fn histogram_of(digits: u32, low: u64, high: u64, counts: &[u8]) -> String {
    let mut plain = Vec::new();
    plain.extend(0x1c84_9313_u32.to_be_bytes());
    plain.extend((counts.len() as u32).to_be_bytes());
    plain.extend(0_u32.to_be_bytes());
    plain.extend(digits.to_be_bytes());
    plain.extend(low.to_be_bytes());
    plain.extend(high.to_be_bytes());
    plain.extend(1_f64.to_be_bytes());
    plain.extend(counts);
    deflated(&plain)
}

fn deflated(plain: &[u8]) -> String {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("a Vec takes everything");
    let body = encoder.finish().expect("a Vec takes everything");
    let mut bytes = 0x1c84_9314_u32.to_be_bytes().to_vec();
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    BASE64_STANDARD.encode(bytes)
}

#[test]
fn a_histogram_takes_no_memory_because_it_says_so() {
    let with = |hdr: String| {
        changed("stat", |stat| {
            stat["delays"][0]["hdr"] = json!(hdr);
        })
    };
    scan(with(histogram(3, 1, 100_000_000_000))).expect("a histogram of ours");
    let greedy = histogram(5, 1, u64::MAX / 2);
    assert!(greedy.len() < 80, "{greedy}");
    for hdr in [
        greedy,
        histogram(5, 1, 100_000_000_000),
        histogram(3, 1, u64::MAX / 2),
        histogram(3, u64::MAX / 2, u64::MAX),
        histogram(300, 1, 1_000),
        histogram_of(3, 1, 1_000_000, &[0xff; 9]),
        deflated(&vec![0; 100_000_000]),
        deflated(b"short"),
        "HISTF".to_owned(),
        String::new(),
    ] {
        refused(with(hdr), "unknown histogram");
    }
    let mut full = Histogram::<u64>::new_with_max(100_000_000_000, 3).expect("bounds");
    full.record_n(1_000, 1 << 62).expect("in bounds");
    let mut bytes = Vec::new();
    let written = V2DeflateSerializer::new().serialize(&full, &mut bytes);
    written.expect("a Vec takes everything");
    refused(with(BASE64_STANDARD.encode(bytes)), "unknown histogram");
}

#[test]
fn what_no_run_has_is_refused() {
    const MANY: u64 = 1 << 62;
    refused(
        changed("run", |run| run["interval_ns"] = json!(0)),
        "an interval of 0 ns",
    );
    for key in ["sent", "replied", "lost", "dup", "lost_stamps"] {
        let text = changed("stat", |stat| stat[key] = json!(MANY));
        refused(text, "at most 1099511627776");
    }
    let delay = |key: &'static str, value: u64| {
        changed("stat", move |stat| {
            stat["delays"][1][key] = json!(value);
        })
    };
    refused(delay("count", MANY), "at most 1099511627776");
    refused(delay("min", MANY), "between minimum and maximum");
    refused(delay("p999", MANY), "between minimum and maximum");
    refused(
        changed("probe", |probe| {
            let stamp = probe["points"][0].clone();
            probe["points"] = vec![stamp; 513].into();
        }),
        "513 stamps",
    );
    refused(
        changed("probe", |probe| {
            probe["delays"][0]["lo"] = json!(2);
            probe["delays"][0]["hi"] = json!(1);
        }),
        "a bound (lo) above",
    );
    refused(
        changed("probe", |probe| {
            probe["delays"][0]["ns"] = json!(u64::MAX);
            probe["delays"][1]["ns"] = json!(u64::MAX);
        }),
        "longer than 584 years",
    );
    let long = format!("{{\"type\":\"{}\"}}", "x".repeat(5 << 20));
    refused(long, "line 1 is longer than 4 MiB");
    refused("{\"type\":\"\u{0}\"}\n", "control character");
    refused(b"{\"type\":\"\xff\"}\n", "utf-8");
}

#[test]
fn what_is_cut_off_is_read_as_far_as_it_is_whole() {
    let lines = lines();
    let text = lines.join("\n") + "\n";
    let whole = scan(&text).expect("whole");
    assert_eq!(whole.cut, None);
    assert_eq!(whole.recorded as usize, lines.len() - 2);
    let last = lines.len();
    let ends = text.trim_end().rfind('\n').expect("several lines") + 1;
    for length in ends + 1..text.len() - 1 {
        let cut = scan(&text[..length]).expect("cut off");
        assert_eq!(cut.cut, Some((0, last)), "{}", &text[ends..length]);
        assert_eq!((cut.recorded, cut.stat), (whole.recorded, None));
    }
    // Zeros behind a power failure; a line that was never ended, and others behind it; empty ones.
    for (text, cut) in [
        (format!("{text}{}", "\0".repeat(4096)), Some((0, last + 1))),
        (format!("{{\"type\":\"probe\",\"s\n\n{text}"), Some((0, 1))),
        (format!("\n{text}\n \n"), None),
        (text.trim_end().to_owned(), None),
    ] {
        let scan = scan(&text).expect("cut off");
        assert_eq!((scan.cut, scan.recorded), (cut, whole.recorded));
        let [lines] = scan.lines[..] else {
            panic!("one file")
        };
        let results = saved::results(text.as_bytes(), lines, None);
        assert_eq!(results.flatten().count() as u64, whole.recorded);
        assert!(Saved::try_from(scan).is_ok());
    }
}

#[test]
fn fields_are_read_in_any_order() {
    let sorted = lines().into_iter().map(|line| {
        let value: Value = serde_json::from_str(&line).expect("JSON");
        let Value::Object(fields) = value else {
            panic!("{line}")
        };
        let mut fields: Vec<_> = fields
            .iter()
            .map(|(key, v)| format!("\"{key}\":{v}"))
            .collect();
        fields.sort_by_key(|field| field.starts_with("\"type\""));
        format!("{{{}}}", fields.join(","))
    });
    for (sorted, written) in sorted.zip(lines()) {
        assert!(!sorted.starts_with("{\"type\""), "{sorted}");
        let [sorted, written] =
            [sorted, written].map(|line| json::parse_line(&line).expect("a line"));
        assert_eq!(sorted, written);
    }
}

#[test]
fn probes_behind_the_first_are_passed_over_where_they_are_not_needed() {
    let mut lines = lines();
    let whole = scan(lines.join("\n")).expect("whole");
    lines[2].insert_str(20, "no JSON ");
    let text = lines.join("\n") + "\n";
    refused(&text, "line 3");
    let read = |text: &str| {
        let mut scan = Scan::of_target(None, Probes::First);
        scan.read(text.as_bytes()).map(|()| scan)
    };
    let ends = read(&text).expect("probes are passed over");
    assert!(ends.recorded == 1 && ends.cut.is_none());
    assert_eq!((&ends.run, &ends.stat), (&whole.run, &whole.stat));
    assert_eq!(ends.lines, whole.lines);
    // Also of a run before the last one, and where the file ends in a probe.
    let twice = lines.join("\n").replace("2026-", "2025-") + "\n" + &text;
    assert_eq!(read(&twice).expect("two runs").earlier, 1);
    let cut = format!("{text}{}", &lines[1][..50]);
    assert_eq!(read(&cut).expect("cut off").cut, Some((0, lines.len() + 1)));
}

#[test]
fn a_part_of_a_run_stands_alone_and_is_not_its_beginning() {
    let lines = lines();
    let continued = run_line(&example_run(), Part::Continued);
    let [first, second, third] = [&lines[..2], &lines[2..4], &lines[4..]].map(|l| l.join("\n"));
    let parts = [
        first,
        format!("{continued}\n{second}"),
        format!("{continued}\n{third}"),
    ];
    for (part, from_the_start) in parts.iter().zip([true, false, false]) {
        let alone = scan(part).expect("a run");
        assert_eq!(alone.run, Some(example_run()));
        assert_eq!(alone.from_the_start, from_the_start);
    }
    let mut all = Scan::default();
    for part in &parts {
        all.read(part.as_bytes()).expect("a part");
    }
    let whole = scan(lines.join("\n")).expect("a run");
    assert!(all.from_the_start && all.earlier == 0);
    assert_eq!((all.recorded, all.stat), (whole.recorded, whole.stat));
}

/// All text and JSON that is made of a line.
fn shown(line: Line) -> String {
    let style = Style::default();
    match line {
        Line::Run(run, part) => {
            text::summary(&run, &example_summary(), &example_names(), &style)
                + &run_line(&run, part)
        }
        Line::Probe(read) => {
            let hops = text::hops(&read.result, &read.names);
            text::probe_line(&read.result, &example_run(), &read.names, &style)
                + &hops
                + &probe_line(&read.result, &read.names)
        }
        Line::Stat { summary, .. } | Line::Interval { summary, .. } => {
            let (run, names) = (example_run(), example_names());
            let lines = text::summary(&run, &summary, &names, &style);
            let json = [
                stat_line(&run, &summary, &names, 0),
                interval_line(&summary, &names, 0),
            ];
            lines + &text::interval(&summary, 0, &example_run()) + &json.concat()
        }
        Line::Shape(_) | Line::Short(_) | Line::Other => String::new(),
    }
}

fn acts(c: char) -> bool {
    c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c)
}

#[test]
fn no_name_acts_on_a_terminal() {
    let evil = "\u{1b}[31m\u{9b}2J\u{202e}\r";
    let mut names = Names::default();
    let mut seen = 0;
    for line in example_lines() {
        let value: Value = serde_json::from_str(&line).expect("JSON");
        for key in [
            "host",
            "dev",
            "netns_name",
            "mode",
            "comm",
            "function",
            "reason",
            "program",
        ] {
            let evil_line = with_each(&value, key, evil).to_string();
            let Ok(read) = json::parse_line(&evil_line) else {
                continue;
            };
            if let Line::Probe(probe) = &read {
                names.add(probe.names.clone());
            }
            let shown = shown(read);
            assert!(!shown.contains(acts), "{key}: {shown:?}");
            seen += usize::from(shown.contains("\\x1b[31m\\x9b2J\\u{202e}\\x0d"));
        }
    }
    let hops = text::hop_table(&common::example_hops(), &names, &Style::default());
    assert!(
        seen > 8 && hops.contains("\\x1b[31m") && !hops.contains(acts),
        "{seen}: {hops}"
    );
}

/// The value with this text for each such key that has one.
fn with_each(value: &Value, key: &str, text: &str) -> Value {
    match value {
        Value::Object(all) => all
            .iter()
            .map(|(of, value)| match value {
                Value::String(_) if of == key => (of.clone(), json!(text)),
                value => (of.clone(), with_each(value, key, text)),
            })
            .collect(),
        Value::Array(all) => all
            .iter()
            .map(|value| with_each(value, key, text))
            .collect(),
        value => value.clone(),
    }
}

static LINES: LazyLock<Vec<String>> = LazyLock::new(example_lines);

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed in a saved run, it is read and shown, or refused with one line.
    #[test]
    fn any_file_is_read_or_refused(changes in changes()) {
        let text = mutated(&LINES, &changes);
        for line in text.split(|byte| *byte == b'\n') {
            let read = str::from_utf8(line).ok().and_then(|line| json::parse_line(line).ok());
            let shown = read.map(shown).unwrap_or_default();
            prop_assert!(!shown.contains(acts), "{shown:?}");
        }
        let scan = match scan(&text) {
            Ok(scan) => scan,
            Err(why) => {
                prop_assert!(why.starts_with("line ") && !why.contains('\n'), "{why}");
                return Ok(());
            }
        };
        if let Ok(saved) = Saved::try_from(scan) {
            let good = saved::read(LINES.join("\n").as_bytes()).expect("a run");
            for (a, b) in [(&saved, &good), (&good, &saved)] {
                let diff = Diff::new(("a", a), ("b", b), MinEffect::default());
                let shown = diff.text() + &diff.json();
                prop_assert!(!shown.contains(acts), "{shown:?}");
            }
        }
    }
}
