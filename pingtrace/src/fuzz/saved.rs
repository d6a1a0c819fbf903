//! Saved runs: lines of JSON, the histograms in them, and files that are compressed.

use super::results::{check_summary, printable};
use crate::saved::files::content;
use report::analysis::confidence::MinEffect;
use report::analysis::diff::Diff;
use report::analysis::stats::Stats;
use report::format::json::{self, Line};
use report::format::saved::{self, Scan};
use report::format::style::Style;
use report::format::text;
use report::model::{Breakdown, Names, Run, Saved};
use std::io::{Read, Write};

/// A file of a run, whole or not.
pub fn check_lines(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(line) = str::from_utf8(line)
            .ok()
            .and_then(|l| json::parse_line(l).ok())
        {
            check_line(line);
        }
    }
    let mut scan = Scan::default();
    if let Err(why) = scan.read(data) {
        let why = why.to_string();
        assert!(why.starts_with("line ") && !why.contains('\n'), "{why}");
        return;
    }
    for lines in &scan.lines {
        let read = saved::results(data, *lines, None).count() as u64;
        assert!(read <= scan.recorded, "{read} of {}", scan.recorded);
    }
    if let Ok(saved) = Saved::try_from(scan) {
        let min = MinEffect::default();
        let diff = Diff::new(("a", &saved), ("b", &saved), min);
        printable(&(diff.text() + &diff.json()));
    }
}

/// All text and JSON that is made of a line.
fn check_line(line: Line) {
    let style = Style::default();
    match line {
        Line::Run(run, part) => {
            printable(&json::run_line(&run, part));
            check_summary(&run, &Stats::new().last_summary(1), &Names::default());
        }
        Line::Probe(read) => {
            let hops = text::hops(&read.result, &read.names);
            let line = text::probe_line(&read.result, &Run::default(), &read.names, &style);
            printable(&(hops + &line + &json::probe_line(&read.result, &read.names)));
        }
        Line::Stat { summary, .. } | Line::Interval { summary, .. } => {
            check_summary(&Run::default(), &summary, &Names::default());
        }
        // What they mean is checked where a whole file is read.
        Line::Shape(_) | Line::Short(_) | Line::Other => {}
    }
}

/// The input as the inflated form of a histogram, in the line of a summary that is else right.
pub fn check_histogram(data: &[u8]) {
    let mut stats = Stats::new();
    stats.counters.sent = 1;
    stats.counters.replied = 1;
    stats.record(&Breakdown {
        total_ns: 1_000,
        ..Breakdown::default()
    });
    let summary = stats.last_summary(1_000);
    let line = json::stat_line(&Run::default(), &summary, &Names::default(), 0);
    let (before, rest) = line.split_once("\"hdr\":\"").expect("a histogram");
    let (_, after) = rest.split_once('"').expect("its end");
    let mut deflated = 0x1c84_9314_u32.to_be_bytes().to_vec();
    deflated.extend([0; 4]);
    let mut encoder = flate2::write::ZlibEncoder::new(deflated, flate2::Compression::fast());
    encoder.write_all(data).expect("a Vec takes everything");
    let deflated = encoder.finish().expect("a Vec takes everything");
    let line = format!("{before}\"hdr\":\"{}\"{after}", base64(&deflated));
    if let Ok(line) = json::parse_line(&line) {
        check_line(line);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| {
        let byte = |k: usize| u32::from(three.get(k).copied().unwrap_or(0));
        let all = byte(0) << 16 | byte(1) << 8 | byte(2);
        (0..4)
            .map(move |k| {
                let digit = char::from(DIGITS[(all >> (18 - 6 * k) & 63) as usize]);
                if k <= three.len() { digit } else { '=' }
            })
            .collect::<String>()
    };
    bytes.chunks(3).map(four).collect()
}

/// A file that may be compressed: its content is limited, and so is the time to read it.
pub fn check_archive(data: &[u8]) {
    let stored = data.len() as u64;
    let mut file = content(data, data, stored);
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0_u64;
    while let Ok(more) = file.read(&mut buffer) {
        if more == 0 {
            break;
        }
        length += more as u64;
    }
    assert!(
        length <= crate::saved::files::limit(stored),
        "{length} of {stored}"
    );
}
