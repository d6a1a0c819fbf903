//! Panels that are easy to get wrong: every pixel and every number of them.

use super::chart::share;
use super::height::{HEADING, Height};
use super::histogram;
use crate::analysis::quantile::Quantile;
use crate::companion::{Bar, Bars, Chart, Histogram, Mark, Panel, Series, Stacked, Timeline, Unit};
use crate::draw::layout::{NOTES_TOP, PANELS_TOP, WIDTH};
use crate::draw::tests::decode;
use crate::draw::{Format, Picture, palette, render};

const START_UNIX_NS: i64 = 1_793_668_447_250_000_000;
const SECOND: u64 = 1_000_000_000;

fn chart(panels: Vec<Panel>) -> Chart {
    Chart {
        title: "irqoff on web1".to_owned(),
        headline: "CPU 3 held interrupts off for 10.4 ms".to_owned(),
        second: "7 events".to_owned(),
        panels,
        notes: "Nothing was lost.".to_owned(),
    }
}

fn mark(lane: usize, class: usize, at_ns: u64, ns: u64) -> Mark {
    Mark {
        lane,
        class,
        at_ns,
        ns,
        text: "swapper/3".to_owned(),
    }
}

/// A minute with this many lanes.
fn timeline(lanes: usize, marks: Vec<Mark>) -> Timeline {
    Timeline {
        heading: "Interrupts held off".to_owned(),
        start_unix_ns: START_UNIX_NS,
        span_ns: 60 * SECOND,
        lanes: (0..lanes).map(|k| format!("CPU {k}")).collect(),
        classes: ["irqoff", "hardirq"].map(str::to_owned).into(),
        marks,
        empty: "No event took longer than 200 us.".to_owned(),
    }
}

fn histogram(buckets: &[(u64, u64, u64)]) -> Histogram {
    Histogram {
        heading: "Lateness".to_owned(),
        unit: Unit::Nanoseconds,
        buckets: buckets.to_vec(),
        empty: String::new(),
    }
}

fn stacked(series: &[&[f64]]) -> Stacked {
    let named = |(k, values): (usize, &&[f64])| Series {
        name: format!("series{k}"),
        values: values.to_vec(),
    };
    Stacked {
        heading: "Written".to_owned(),
        unit: Unit::BytesPerSecond,
        start_unix_ns: START_UNIX_NS,
        step_ns: SECOND,
        series: series.iter().enumerate().map(named).collect(),
        empty: String::new(),
    }
}

fn bars(values: &[u64]) -> Bars {
    let named = |(k, value): (usize, &u64)| Bar {
        name: format!("file{k}"),
        value: *value,
        text: "postgres/2201".to_owned(),
    };
    Bars {
        heading: "Files".to_owned(),
        unit: Unit::Bytes,
        bars: values.iter().enumerate().map(named).collect(),
        empty: String::new(),
    }
}

fn many_marks() -> Vec<Mark> {
    let many = 0..10_000;
    many.map(|k: u64| mark(k as usize % 7, k as usize % 2, k * 6_000_000, k * k + 1))
        .collect()
}

/// A chart whose texts and numbers are as long and as hostile as they get.
fn hostile() -> Chart {
    let text = "</text><script>alert('&\"')</script>\u{1}\n".repeat(30);
    let mut timeline = timeline(3, vec![mark(usize::MAX, usize::MAX, u64::MAX, u64::MAX)]);
    timeline.marks[0].text.clone_from(&text);
    timeline.marks.push(mark(0, 0, 0, 0));
    timeline.heading.clone_from(&text);
    timeline.lanes[2].clone_from(&text);
    timeline.start_unix_ns = i64::MAX;
    timeline.classes = vec![text.clone(); 2];
    let mut bars = bars(&[u64::MAX, u64::MAX, 0]);
    for bar in &mut bars.bars {
        bar.name.clone_from(&text);
        bar.text.clone_from(&text);
    }
    let values = [f64::NAN, f64::INFINITY, -1.0, f64::NEG_INFINITY];
    let mut stacked = stacked(&[&values, &[1.0]]);
    stacked.step_ns = u64::MAX;
    stacked.series[0].name.clone_from(&text);
    let buckets = [(0, 1, u64::MAX), (1, 2, u64::MAX), (2, u64::MAX, 1)];
    Chart {
        title: text.clone(),
        headline: text.clone(),
        second: text.clone(),
        notes: text,
        panels: vec![
            Panel::Timeline(timeline),
            Panel::Histogram(histogram(&buckets)),
            Panel::Stacked(stacked),
            Panel::Bars(bars),
        ],
    }
}

fn charts() -> Vec<(&'static str, Chart)> {
    let crowd = || {
        vec![
            Panel::Timeline(timeline(64, many_marks())),
            Panel::Bars(bars(&[1; 40])),
            Panel::Stacked(stacked(&[[1.0].as_slice(); 12])),
        ]
    };
    let empty = vec![
        Panel::Timeline(timeline(8, Vec::new())),
        Panel::Histogram(histogram(&[(0, 1, 0)])),
        Panel::Stacked(stacked(&[&[], &[]])),
        Panel::Bars(bars(&[])),
    ];
    let ones = vec![
        Panel::Timeline(timeline(1, vec![mark(0, 0, 30 * SECOND, 10_000_000)])),
        Panel::Histogram(histogram(&[(1024, 2048, 1)])),
        Panel::Stacked(stacked(&[&[0.0]])),
        Panel::Bars(bars(&[0])),
    ];
    let mut no_lanes = timeline(0, many_marks());
    no_lanes.span_ns = 0;
    let more = (0..12).flat_map(|_| crowd()).collect();
    vec![
        ("no panel", Chart::default()),
        ("empty", chart(empty)),
        ("one value", chart(ones)),
        ("no lanes", chart(vec![Panel::Timeline(no_lanes)])),
        ("a crowd", chart(crowd())),
        ("too many panels", chart(more)),
        (
            "many lanes",
            chart(vec![Panel::Timeline(timeline(1000, many_marks()))]),
        ),
        ("hostile", hostile()),
    ]
}

fn png(panels: Vec<Panel>) -> Vec<u8> {
    let chart = chart(panels);
    decode(&render(Picture::Companion(&chart), Format::Png).expect("drawn")).2
}

fn text(chart: &Chart, format: Format) -> String {
    let file = render(Picture::Companion(chart), format).expect("drawn");
    String::from_utf8(file).expect("text")
}

/// Pixels of this very colour, by column and row.
fn pixels(picture: &[u8], color: plotters_backend::BackendColor) -> Vec<(i32, i32)> {
    let (r, g, b) = color.rgb;
    let same = |(_, pixel): &(usize, &[u8])| *pixel == [r, g, b];
    let all = picture.chunks(3).enumerate();
    all.filter(same)
        .map(|(k, _)| (k as i32 % WIDTH, k as i32 / WIDTH))
        .collect()
}

/// Of a panel: below the headlines, above the notes.
fn panel_pixels(picture: &[u8], color: plotters_backend::BackendColor) -> Vec<(i32, i32)> {
    let mut found = pixels(picture, color);
    found.retain(|(_, y)| (PANELS_TOP + HEADING..NOTES_TOP - 16).contains(y));
    found
}

fn width(pixels: &[(i32, i32)]) -> i32 {
    let columns = || pixels.iter().map(|(x, _)| *x);
    columns().max().unwrap_or(0) - columns().min().unwrap_or(0) + 1
}

fn height(pixels: &[(i32, i32)]) -> i32 {
    let rows = || pixels.iter().map(|(_, y)| *y);
    rows().max().unwrap_or(0) - rows().min().unwrap_or(0) + 1
}

#[test]
fn margins_stay_white_and_the_picture_is_deterministic() {
    for (name, chart) in charts() {
        let file = render(Picture::Companion(&chart), Format::Png).expect(name);
        let again = render(Picture::Companion(&chart), Format::Png).expect(name);
        assert_eq!(file, again, "{name}");
        let (width, height, pixels) = decode(&file);
        let white = |x: u32, y: u32| {
            let at = 3 * (y * width + x) as usize;
            pixels[at..at + 3].iter().all(|c| *c == u8::MAX)
        };
        let sides = (0..height).all(|y| white(6, y) && white(width - 12, y));
        assert!(sides, "{name}: something was drawn in a margin");
        let gap = (NOTES_TOP - 12) as u32;
        let between = (0..width).all(|x| white(x, 2) && white(x, gap));
        assert!(between, "{name}: a panel leaves its place");
    }
}

#[test]
fn svg_and_html_are_escaped_and_no_number_is_odd() {
    for (name, chart) in charts() {
        let (svg, html) = (text(&chart, Format::Svg), text(&chart, Format::Html));
        assert!(html.contains(&svg), "{name}");
        assert_eq!(html.matches("<script").count(), 1, "{name}: the page's own");
        assert!(!html.chars().any(|c| c.is_control() && c != '\n'), "{name}");
        assert!(!html.contains("NaN") && !html.contains("inf "), "{name}");
        assert!(svg.len() < 4_000_000, "{name}: {} bytes", svg.len());
        assert!(!svg.contains("=\"-"), "{name}: drawn outside");
    }
}

#[test]
fn a_long_mark_is_higher_than_a_short_one_and_stands_in_its_lane() {
    let marks = vec![
        mark(0, 0, 15 * SECOND, 10_000_000),
        mark(1, 1, 45 * SECOND, 300_000),
    ];
    let picture = png(vec![Panel::Timeline(timeline(2, marks))]);
    let long = panel_pixels(&picture, palette::class(0));
    let short = panel_pixels(&picture, palette::class(1));
    assert!(width(&long) == 3 && width(&short) == 3);
    assert!(
        height(&long) > 4 * height(&short),
        "{} {}",
        height(&long),
        height(&short)
    );
    assert!(height(&short) >= 3);
    let lowest = long.iter().map(|(_, y)| y).max();
    assert!(lowest < short.iter().map(|(_, y)| y).min());
    // Half of the minute lies between them.
    let apart = short[0].0 - long[0].0;
    assert!((500..700).contains(&apart), "{apart}");
}

#[test]
fn only_lanes_with_marks_are_shown_where_there_are_too_many() {
    let marks = vec![mark(7, 0, 0, SECOND), mark(999, 0, 0, 2 * SECOND)];
    let svg = text(
        &chart(vec![Panel::Timeline(timeline(1000, marks))]),
        Format::Svg,
    );
    assert!(svg.contains("998 lanes without an event are left out"));
    assert!(svg.contains("CPU 7\n") && svg.contains("CPU 999\n"));
    assert!(!svg.contains("CPU 8\n"));
}

#[test]
fn neighbours_are_joined_where_all_of_too_many_lanes_have_marks() {
    let marks = (0..128).map(|lane| mark(lane, 0, 0, SECOND)).collect();
    let svg = text(
        &chart(vec![Panel::Timeline(timeline(128, marks))]),
        Format::Svg,
    );
    assert!(svg.contains("CPU 0..1\n") && svg.contains("CPU 126..127\n"));
}

#[test]
fn percentiles_are_upper_bounds_of_buckets() {
    let buckets = [(0, 1, 50), (1, 2, 49), (2, 4, 0), (4, 8, 1), (8, 16, 0)];
    let bound = |percent: &str| histogram::bound(&buckets, percent.parse().unwrap());
    assert_eq!((bound("50"), bound("51"), bound("99")), (1, 2, 2));
    assert_eq!(histogram::bound(&buckets, Quantile::MAX), 8);
    assert_eq!(histogram::percent(&buckets, 1), (49.0, 99.0));
    assert_eq!(histogram::bound(&[], Quantile::P50), 0);
    let svg = text(
        &chart(vec![Panel::Histogram(histogram(&buckets))]),
        Format::Svg,
    );
    assert!(
        svg.contains("p50 &lt; 1 ns") || svg.contains("p50 < 1 ns"),
        "{svg}"
    );
    assert!(svg.contains("upper bounds"));
}

#[test]
fn the_largest_series_is_on_top_and_the_rest_is_joined() {
    let values: Vec<[f64; 4]> = (0..10).map(|k| [f64::from(k + 1) * 1e6; 4]).collect();
    let series: Vec<&[f64]> = values.iter().map(<[f64; 4]>::as_slice).collect();
    let panel = Panel::Stacked(stacked(&series));
    let picture = png(vec![panel.clone()]);
    let top = |color| {
        let rows = panel_pixels(&picture, color)
            .into_iter()
            .filter(|(x, _)| *x < 900);
        rows.map(|(_, y)| y).min().expect("it is drawn")
    };
    let tops: Vec<i32> = palette::CLASSES.into_iter().map(top).collect();
    assert!(tops.is_sorted(), "{tops:?}");
    assert!(top(palette::OTHER) > tops[7]);
    let svg = text(&chart(vec![panel]), Format::Svg);
    assert!(svg.contains("2 others") && svg.contains("9.54 MiB/s"));
}

#[test]
fn bars_are_as_long_as_their_values_and_none_is_forgotten() {
    let lengths = |values: &[u64]| {
        let picture = png(vec![Panel::Bars(bars(values))]);
        let mut rows = std::collections::BTreeMap::<i32, i32>::new();
        for (_, y) in panel_pixels(&picture, palette::class(0)) {
            *rows.entry(y).or_default() += 1;
        }
        let mut lengths: Vec<i32> = rows.into_values().collect();
        lengths.dedup();
        lengths
    };
    let lengths = lengths(&[1 << 30, 1 << 29, 1]);
    assert_eq!(lengths.len(), 3);
    assert!((lengths[0] - 2 * lengths[1]).abs() <= 1);
    assert_eq!(lengths[2], 1);
    let svg = text(
        &chart(vec![Panel::Bars(bars(&[1 << 20; 100]))]),
        Format::Svg,
    );
    let names = svg.lines().filter(|line| line.starts_with("file")).count();
    let rest = 100 - names;
    assert!(
        svg.contains(&format!("{rest} more, together {rest}.0 MiB")),
        "{names}"
    );
}

#[test]
fn the_page_has_the_numbers() {
    let html = text(
        &chart(vec![Panel::Timeline(timeline(7, many_marks()))]),
        Format::Html,
    );
    assert!(html.contains("the longest 200 of 10000"));
    assert_eq!(html.matches("<pre>swapper/3</pre>").count(), 200);
    let (_, empty) = charts().swap_remove(1);
    let html = text(&empty, Format::Html);
    assert!(html.contains("No event took longer than 200 us.") && !html.contains("<table>"));
}

#[test]
fn room_is_shared_without_loss() {
    let wish = |min, enough, grows| Height { min, enough, grows };
    let wishes = [wish(100, 200, true), wish(50, 60, false)];
    assert_eq!(share(&wishes, 500), [440, 60]);
    assert_eq!(share(&wishes, 260), [200, 60]);
    assert_eq!(share(&wishes, 150), [100, 50]);
    assert_eq!(share(&wishes, 75), [50, 25]);
    assert!(share(&[], 100).is_empty());
}
