//! Every format is drawn for runs that are easy to get wrong.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use plotters::backend::BitMapBackend;

use super::canvas::{Canvas, Ink};
use super::layout::{HEIGHT, WIDTH};
use super::*;
use crate::analysis::headline::Headline;
use crate::format::style::Style;
use crate::format::text;
use crate::model::{
    Breakdown, Bucket, Capture, Cause, ClockRelation, CounterSource, Counters, Delay, DelayStat,
    Endpoint, Host, KernelCounter, Mark, Moved, MovedCounter, Names, Owner, Probe, ProbeResult,
    Run, Segment, Status, Summary,
};

fn cause(owner: Owner, count: u64) -> Cause {
    Cause {
        owner,
        segment: None,
        count,
        sure: count / 2,
        excess_ns: count.saturating_mul(20_000),
        min_ns: 10_000,
        p50_ns: 20_000,
        max_ns: u64::MAX,
        cpu: Some((3, count)),
        at: None,
        on_way: None,
        doubt: None,
    }
}

const SEGMENTS: [Segment; 18] = [
    Segment::LTxKern,
    Segment::LTxQdisc,
    Segment::LTxPath,
    Segment::LTxOutlink,
    Segment::RRxSoftirq,
    Segment::RRxNapi,
    Segment::RRxKern,
    Segment::RTxKern,
    Segment::RTxQdisc,
    Segment::LRxInlink,
    Segment::LRxSoftirq,
    Segment::LRxNapi,
    Segment::LRxKern,
    Segment::LRxTaskWaking,
    Segment::LRxTaskQueue,
    Segment::LRxTaskRun,
    Segment::Remote,
    Segment::Unattributed,
];

/// A probe that spent its total evenly in all segments; lost without a total.
fn result(seq: u32, total_ns: Option<u64>) -> ProbeResult {
    let delays = |total: u64| {
        let each = total / SEGMENTS.len() as u64;
        let rest = total - each * SEGMENTS.len() as u64;
        let of = |(k, segment): (usize, &Segment)| Delay {
            segment: *segment,
            ns: if k == 0 { each + rest } else { each },
            bounds: (*segment == Segment::LTxOutlink).then_some((each / 2, each.saturating_mul(2))),
            merged: k == 1,
            clamped: k == 4,
            doubt: None,
        };
        SEGMENTS.iter().enumerate().map(of).collect()
    };
    let breakdown = total_ns.map(|total| Breakdown {
        total_ns: total,
        delays: delays(total),
        unordered: 0,
        wire: None,
        way: Vec::new(),
    });
    let probe = Probe {
        seq,
        sent_unix_ns: 1_793_668_447_250_000_000 + i64::from(seq) * 1_000_000,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        status: if total_ns.is_some() {
            Status::Ok
        } else {
            Status::Lost
        },
        flow: 0,
        ttl: [None; 2],
        clock: ClockRelation::Separate,
        path: Vec::new(),
    };
    ProbeResult {
        probe,
        breakdown,
        verdict: None,
        loss: None,
        blame: Vec::new(),
    }
}

fn stat(segment: Option<Segment>, totals: &[u64], part: u64) -> DelayStat {
    let at = |k: usize| totals[k.min(totals.len() - 1)] / part;
    DelayStat {
        segment,
        count: totals.len() as u64,
        min: at(0),
        mean: totals.iter().map(|total| *total as f64).sum::<f64>() / totals.len() as f64,
        p50: at(totals.len() / 2),
        p90: at(totals.len() * 9 / 10),
        p99: at(totals.len() * 99 / 100),
        p999: at(totals.len() * 999 / 1000),
        max: at(usize::MAX),
    }
}

fn run() -> Run {
    Run {
        target: None,
        start_unix_ns: 1_793_668_447_250_000_000,
        start_ns: None,
        client: Endpoint::default(),
        server: Endpoint::default(),
        mode: "inband".to_owned(),
        interval_ns: None,
        threshold_ns: 0,
        size: 556,
        flows: None,
        points: Vec::new(),
    }
}

/// A run with these totals, in any order, and some losses.
fn capture(totals: &[u64], lost: u32) -> Capture {
    let mut sorted = totals.to_vec();
    sorted.sort_unstable();
    let answered = sorted
        .iter()
        .rev()
        .zip(0..)
        .map(|(total, seq)| result(seq, Some(*total)));
    let slowest = answered
        .chain((0..lost).map(|seq| result(1000 + seq, None)))
        .take(10)
        .collect();
    let mut delays = Vec::new();
    if !sorted.is_empty() {
        delays.push(stat(None, &sorted, 1));
        let part = SEGMENTS.len() as u64;
        delays.extend(
            SEGMENTS
                .iter()
                .map(|segment| stat(Some(*segment), &sorted, part)),
        );
    }
    let counters = Counters {
        sent: totals.len() as u64 + u64::from(lost),
        replied: totals.len() as u64,
        lost: u64::from(lost),
        ..Counters::default()
    };
    let answered = totals.iter().map(|total| Bucket {
        count: 1,
        lost: 0,
        min: *total,
        mean: *total as f64,
        max: *total,
    });
    let missing = (0..lost).map(|_| Bucket {
        lost: 1,
        ..Bucket::default()
    });
    Capture {
        run: run(),
        slowest,
        summary: Summary {
            elapsed_ns: 1,
            counters,
            delays,
            causes: vec![cause(Owner::Remote, 37), cause(Owner::Local, 4)],
            ..Summary::default()
        },
        series: (1_000_000, answered.chain(missing).collect()),
        names: Names::default(),
    }
}

fn sample() -> Capture {
    let totals: Vec<u64> = (0..1000)
        .map(|k| 80_000 + 1_000 * (k % 17) + if k % 97 == 0 { 9_000_000 } else { 0 })
        .collect();
    capture(&totals, 3)
}

/// A run whose names and numbers are as long and as hostile as they get.
fn hostile() -> Capture {
    let mut hostile = capture(&[u64::MAX / 4, 1, 0], 1);
    let host = "</text><script>alert('&\"')</script>\u{1}\n".repeat(30);
    hostile.run.client.host = Some(host.clone());
    hostile.run.server.host = Some("host-with-a-very-long-name.".repeat(20));
    hostile.run.mode = host;
    hostile.run.start_unix_ns = i64::MAX;
    hostile.run.threshold_ns = u64::MAX;
    hostile.series.0 = u64::MAX;
    hostile.summary.causes = vec![cause(Owner::WireOrRemote, u64::MAX / 2)];
    hostile.summary.moved = vec![Moved {
        host: Host::Client,
        windows: u64::MAX,
        inside_ns: u64::MAX,
        outside_ns: u64::MAX,
        counters: vec![MovedCounter {
            counter: KernelCounter {
                source: CounterSource::Link,
                device: hostile.run.client.host.clone(),
                counter: "</text><script>".repeat(40),
            },
            inside: u64::MAX,
            windows: u64::MAX,
            outside: u64::MAX,
        }],
        unlisted: u64::MAX,
        fallen: u64::MAX,
        missed: u64::MAX,
    }];
    for result in &mut hostile.slowest {
        result.probe.seq = u32::MAX;
        result.probe.sent_unix_ns = i64::MIN;
        result.probe.status = Status::Late;
    }
    hostile
}

fn captures() -> Vec<(&'static str, Capture)> {
    let mut no_records = sample();
    no_records.slowest.clear();
    no_records.run.threshold_ns = 50_000_000;
    let mut no_width = sample();
    no_width.series.0 = 0;
    vec![
        ("sample", sample()),
        ("empty", capture(&[], 0)),
        ("one probe", capture(&[83_000], 0)),
        ("huge", capture(&[10_000_000_000, 9_000_000_000], 0)),
        ("tiny", capture(&[1_000, 1], 0)),
        ("all lost", capture(&[], 12)),
        ("no records", no_records),
        ("buckets of no width", no_width),
        ("hostile", hostile()),
    ]
}

/// Width, height and pixels.
pub(super) fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(file).read_info().expect("a PNG header");
    let mut pixels = vec![0; reader.output_buffer_size()];
    let info = reader.next_frame(&mut pixels).expect("PNG data");
    (info.width, info.height, pixels)
}

#[test]
fn png_decodes_and_is_not_blank() {
    for (name, capture) in captures() {
        let file = render(Picture::Run(&capture), Format::Png).expect(name);
        let (width, height, pixels) = decode(&file);
        assert_eq!((width, height), (WIDTH as u32, HEIGHT as u32), "{name}");
        let dark = pixels
            .chunks(3)
            .filter(|pixel| pixel.iter().all(|c| *c < 128))
            .count();
        assert!(dark > 500, "{name}: {dark} dark pixels");
    }
}

#[test]
fn margins_stay_white() {
    for (name, capture) in captures() {
        let (width, _, pixels) = decode(&render(Picture::Run(&capture), Format::Png).expect(name));
        let white = |x: u32, y: u32| {
            let at = 3 * (y * width + x) as usize;
            pixels[at..at + 3].iter().all(|c| *c == u8::MAX)
        };
        let edge = WIDTH as u32 - 12;
        let stray = (0..HEIGHT as u32)
            .filter(|y| !(white(6, *y) && white(edge, *y)))
            .count();
        assert_eq!(stray, 0, "{name}: something was drawn in a margin");
    }
}

#[test]
fn svg_and_html_are_escaped_and_self_contained() {
    for (name, capture) in captures() {
        let svg = String::from_utf8(render(Picture::Run(&capture), Format::Svg).expect(name))
            .expect(name);
        let html = String::from_utf8(render(Picture::Run(&capture), Format::Html).expect(name))
            .expect(name);
        assert!(
            svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"),
            "{name}"
        );
        assert!(html.contains(&svg), "{name}");
        // One script, of the page itself: nothing of a run begins or ends one.
        for tag in ["<script>", "</script>"] {
            assert_eq!(html.matches(tag).count(), 1, "{name}: {tag}");
        }
        assert!(!html.contains("src=") && !html.contains("href="), "{name}");
        assert!(!html.chars().any(|c| c.is_control() && c != '\n'), "{name}");
        for text in [&svg, &html] {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
        }
    }
}

/// The text that is drawn largest, and the one below it.
fn title_and_subtitle(capture: &Capture) -> (String, String) {
    let svg = render(Picture::Run(capture), Format::Svg).expect("a picture");
    let svg = String::from_utf8(svg).expect("text");
    let text = |y: i32| {
        let at = svg.find(&format!("y=\"{y}\"")).unwrap_or_default();
        let text = svg[at..].split_once('>').map_or("", |(_, text)| text);
        text.split('<').next().unwrap_or_default().trim().to_owned()
    };
    (text(60), text(94))
}

#[test]
fn title_and_subtitle_are_the_headline() {
    let mut capture = sample();
    let headline = Headline::new(&capture.run, &capture.summary, &capture.names);
    assert_eq!(
        title_and_subtitle(&capture),
        (headline.title.clone(), headline.detail)
    );
    assert!(
        headline.title.starts_with("37 of 41 slow"),
        "{}",
        headline.title
    );
    // The slowest probe alone says nothing of what the run is about.
    capture.slowest.reverse();
    assert_eq!(title_and_subtitle(&capture).0, headline.title);
}

#[test]
fn format_follows_the_ending() {
    let format = |name: &str| Format::from_path(Path::new(name));
    assert_eq!(format("a.png").ok(), Some(Format::Png));
    assert_eq!(format("a").ok(), Some(Format::Png));
    assert_eq!(format("a.b/c.SVG").ok(), Some(Format::Svg));
    assert_eq!(format("a.html").ok(), Some(Format::Html));
    let error = format("a.jpg").expect_err("no such format").to_string();
    assert!(error.contains("a.jpg") && error.contains(".svg"), "{error}");
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("draw-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("create a directory for the test");
        Self(path)
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("list the directory");
        entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn write_replaces_a_picture_in_one_step() {
    let directory = Directory::new();
    let path = directory.0.join("a.svg");
    fs::write(&path, "old").expect("write the old picture");
    write(Picture::Run(&sample()), &path).expect("write the new picture");
    assert!(
        fs::read_to_string(&path)
            .expect("read it")
            .starts_with("<svg ")
    );
    assert_eq!(directory.entries(), ["a.svg"]);
}

#[test]
fn a_directory_in_the_way_is_an_error_and_leaves_nothing() {
    let directory = Directory::new();
    fs::create_dir(directory.0.join("a.png")).expect("create a directory");
    let error =
        write(Picture::Run(&sample()), &directory.0.join("a.png")).expect_err("it is a directory");
    assert!(matches!(error, Error::NotAFile { .. }), "{error}");
    assert_eq!(directory.entries(), ["a.png"]);
}

#[test]
fn a_missing_directory_is_an_error_with_a_remedy() {
    let directory = Directory::new();
    let error = write(Picture::Run(&sample()), &directory.0.join("no/a.png"))
        .expect_err("no such directory");
    let text = error.to_string();
    assert!(
        text.contains("no/a.png") && text.contains("create the directory"),
        "{text}"
    );
    assert!(directory.entries().is_empty());
}

#[test]
fn a_failed_rename_removes_the_temporary_file() {
    let directory = Directory::new();
    let (target, temporary) = (directory.0.join("a.png"), directory.0.join("a.png.tmp"));
    fs::create_dir(&target).expect("create a directory");
    fs::write(target.join("kept"), "old").expect("write into it");
    let error = save::replace(&target, &temporary, b"new").expect_err("it is a directory");
    assert!(
        matches!(
            error,
            Error::Write {
                action: "rename",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(directory.entries(), ["a.png"]);
    assert_eq!(
        fs::read_to_string(target.join("kept")).expect("read it"),
        "old"
    );
}

#[test]
fn an_existing_picture_survives_a_failed_write() {
    let directory = Directory::new();
    let path = directory.0.join("a.png");
    fs::write(&path, "old").expect("write the old picture");
    // The temporary file's name is taken by a directory, so the new picture cannot be written.
    let temporary = directory.0.join("a.png.tmp");
    fs::create_dir(&temporary).expect("create a directory");
    save::replace(&path, &temporary, b"new").expect_err("the name is taken");
    assert_eq!(fs::read_to_string(&path).expect("read it"), "old");
    assert!(temporary.is_dir());
}

#[test]
fn long_text_is_cut_to_fit() {
    let mut pixels = vec![0; 3 * 10 * 10];
    let mut backend = BitMapBackend::with_buffer(&mut pixels, (10, 10));
    let canvas = Canvas::new(&mut backend).expect("the font is embedded");
    let ink = Ink::new(14.0, palette::INK);
    for room in [0, 5, 40, 200] {
        assert!(canvas.width(&canvas.fit(&"wide ".repeat(100), ink, room), ink) <= room);
    }
    assert_eq!(canvas.fit("µs → ≥", ink, 200), "µs → ≥");
}

/// The words of an SVG, in one line.
fn words_of(capture: &Capture) -> String {
    let svg = render(Picture::Run(capture), Format::Svg).expect("a picture");
    let svg = String::from_utf8(svg).expect("UTF-8");
    svg.split(['<', '>']).collect::<Vec<_>>().join(" ")
}

#[test]
fn bars_say_the_day_where_a_probe_is_of_another_one() {
    let mut capture = sample();
    let words = |capture: &Capture, result: &ProbeResult| {
        let day = scale::local(result.probe.sent_unix_ns);
        words_of(capture).contains(&day.format("\n%m-%d %H:%M:").to_string())
    };
    assert!(!words(&capture, &capture.slowest[0]));
    capture.slowest[0].probe.sent_unix_ns += 2 * 86_400_000_000_000;
    for k in [0, 1] {
        assert!(
            words(&capture, &capture.slowest[k]),
            "{}",
            words_of(&capture)
        );
    }
}

/// Marks are of all probes of the run, not only of the slowest, which the picture shows.
#[test]
fn text_picture_and_page_have_one_voice() {
    let mut capture = sample();
    let clamped = Delay {
        segment: SEGMENTS[0],
        ns: 1,
        bounds: None,
        merged: false,
        clamped: true,
        doubt: None,
    };
    capture.summary.marks.note(&clamped);
    capture.summary.counters.icmp_unrelated = 7;
    let style = Style::default();
    let text = text::summary(&capture.run, &capture.summary, &capture.names, &style);
    let page = render(Picture::Run(&capture), Format::Html).expect("a page");
    let page = String::from_utf8(page).expect("UTF-8");
    let headline = Headline::new(&capture.run, &capture.summary, &capture.names);
    for words in [
        &*headline.title,
        &*format!("{}!", SEGMENTS[0].name()),
        Mark::Clamped.meaning(),
        "ICMP errors about no probe in flight",
    ] {
        let escaped = words.replace('\'', "&#39;");
        assert!(text.contains(words), "{words}: {text}");
        for (what, shown) in [("picture", &words_of(&capture)), ("page", &page)] {
            let found = shown.contains(words) || shown.contains(&escaped);
            assert!(found, "{words}: not in the {what}");
        }
    }
}
