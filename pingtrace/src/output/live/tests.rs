//! The screens, without a terminal.

use super::draw::draw;
use super::keys::Key;
use super::state::{Asked, Page, View};
use super::target::{Present, Record};
use crate::saved::replay::example::{example_names, example_results, example_run};
use ratatui_core::backend::TestBackend;
use ratatui_core::buffer::Cell;
use ratatui_core::style::Color;
use ratatui_core::terminal::Terminal;
use report::model::{Certainty, Counters, Owner, ProbeResult, Segment, Slow, Target, Verdict};

/// The screen, and whether something on it has a colour.
fn screen(view: &View, width: u16, height: u16) -> (String, bool) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(view, frame.buffer_mut()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let is_coloured = buffer.content().iter().any(|cell| cell.fg != Color::Reset);
    let lines = buffer.content().chunks(usize::from(width).max(1));
    let lines = lines.map(|line| line.iter().map(Cell::symbol).collect::<String>());
    let lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
    (lines.join("\n"), is_coloured)
}

fn text(view: &View) -> String {
    screen(view, 80, 24).0
}

fn results() -> Vec<ProbeResult> {
    let mut results = example_results();
    results[1].verdict = Some(Verdict {
        owner: Owner::Remote,
        segment: Some(Segment::RRxSoftirq),
        excess_ns: 5_020_000,
        bounds: None,
        certainty: Certainty::Sure,
        cpu: Some(0),
        at: None,
        on_way: None,
        doubt: None,
    });
    results
}

fn present(sent: u64, lost: u64) -> Record {
    Record::Present(Box::new(Present {
        time_unix_ns: results()[3].probe.sent_unix_ns,
        elapsed_ns: 200_000_000,
        counters: Counters {
            sent,
            lost,
            replied: sent - lost,
            ..Counters::default()
        },
        clock: None,
        slow: Slow {
            from_ns: Some(500_000),
            learnt: true,
            probes: 0,
        },
    }))
}

/// The example's run, as that of a target if it has a name.
fn feed(view: &mut View, number: u32, name: Option<&str>, lost: u64) {
    let mut run = example_run();
    run.threshold_ns = 0;
    run.target = name.map(|name| Target {
        name: name.to_owned(),
        ..Target::default()
    });
    view.take(number, Record::Run(Box::new(run)));
    view.take(number, Record::Names(Box::new(example_names())));
    for result in results() {
        view.take(number, Record::Probe(Box::new(result)));
    }
    view.take(number, present(4, lost));
}

fn one(color: bool) -> View {
    let mut view = View::new(color, false);
    feed(&mut view, 0, None, 1);
    view
}

#[test]
fn the_path_of_one_target_fits_24_lines() {
    let shown = text(&one(true));
    for words in [
        "sent 4, received 3, lost 1 of 4",
        "slow 1 of the last 3 (500 us or more, learnt)",
        "segment                now     p50     p99     max history",
        "client host      │",
        "╰─▶╮ l_tx_outlink",
        "   │ r_rx_softirq",
        "╭◀─╯ l_rx_inlink",
        "total",
        "server host +5.02 ms: r_rx_softirq",
        "at server reply: QDISC_DROP in __dev_queue_xmi",
        "q quit",
    ] {
        assert!(shown.contains(words), "no '{words}' in:\n{shown}");
    }
    assert_eq!(shown.lines().count(), 24);
    // What was hidden in 24 lines is there in more.
    assert!(shown.contains("segments hidden"), "{shown}");
    let (higher, _) = screen(&one(true), 120, 50);
    assert!(!higher.contains("hidden"), "{higher}");
    assert!(higher.contains("l_rx_task_queue"), "{higher}");
}

#[test]
fn without_colours_nothing_but_the_colours_is_missing() {
    let (with, is_coloured) = screen(&one(true), 80, 24);
    let (without, is_not) = screen(&one(false), 80, 24);
    assert_eq!(with, without);
    assert!(is_coloured && !is_not);
}

#[test]
fn a_small_terminal_says_what_is_needed() {
    let (shown, _) = screen(&one(true), 60, 20);
    assert!(
        shown.starts_with("60x20 is too small:\nthe view needs 80x24"),
        "{shown}"
    );
    for (width, height) in [(1, 1), (0, 0), (79, 24), (80, 23)] {
        assert!(!screen(&one(true), width, height).0.contains("segment"));
    }
}

#[test]
fn a_probe_is_opened_and_closed() {
    let mut view = one(true);
    // The lost one is the latest, then the late one, then the slow one.
    for key in [Key::Down, Key::Down, Key::Down, Key::Char('\n')] {
        view.press(key);
    }
    assert!(matches!(&view.page, Page::Probe(0, result) if result.probe.seq == 17));
    let shown = text(&view);
    let row = shown
        .lines()
        .find(|l| l.contains("server host      r_rx_softirq"));
    assert!(
        row.is_some_and(|row| row.contains("5.03 ms") && row.contains("██")),
        "{shown}"
    );
    view.press(Key::Escape);
    assert_eq!(view.page, Page::Path(0));
}

#[test]
fn a_paused_view_stands_still_and_the_run_goes_on() {
    let mut view = one(true);
    view.press(Key::Char('p'));
    let before = text(&view);
    assert!(before.contains("PAUSED"), "{before}");
    view.take(0, present(100, 1));
    assert_eq!(text(&view), before);
    view.press(Key::Char(' '));
    assert!(text(&view).contains("sent 100"));
}

#[test]
fn the_worst_of_many_targets_comes_first() {
    let mut view = View::new(true, false);
    for (number, name, lost) in [(0, "fine", 0), (1, "lossy", 2), (2, "dead", 4)] {
        feed(&mut view, number, Some(name), lost);
    }
    let names = |view: &View| -> Vec<String> {
        let rows = view.rows().into_iter();
        rows.map(|(_, target)| target.name()).collect()
    };
    assert_eq!(names(&view), ["dead", "lossy", "fine"]);
    let shown = text(&view);
    assert!(shown.starts_with("3 targets by loss, then p99"), "{shown}");
    assert!(shown.contains("1 x server host"), "{shown}");
    for _ in 0..3 {
        view.press(Key::Char('s'));
    }
    assert_eq!(names(&view), ["dead", "fine", "lossy"]);
    view.press(Key::Down);
    view.press(Key::Char('\n'));
    assert!(text(&view).starts_with("fine: "), "{}", text(&view));
    view.press(Key::Escape);
    assert_eq!(view.page, Page::Table);
    view.take(2, Record::Left);
    assert_eq!(names(&view), ["fine", "lossy"]);
}

#[test]
fn the_threshold_says_what_is_slow() {
    let mut view = one(true);
    for _ in 0..4 {
        view.press(Key::Char('+'));
    }
    // 500 us, 1, 2, 5, 10 ms: now no answered probe is slow, and the lost one is there as ever.
    let shown = text(&view);
    assert!(
        shown.contains("slow 0 of the last 3 (10.0 ms or more)"),
        "{shown}"
    );
    assert!(
        shown.contains("QDISC_DROP") && !shown.contains("+5.02 ms"),
        "{shown}"
    );
    view.press(Key::Char('-'));
    assert!(text(&view).contains("slow 1 of the last 3 (5.00 ms or more)"));
}

#[test]
fn keys_ask_for_the_end_help_and_a_picture() {
    let mut view = one(true);
    assert!(matches!(view.press(Key::Char('q')), Some(Asked::Quit)));
    view.press(Key::Char('?'));
    assert!(text(&view).starts_with("The live view"));
    view.press(Key::Escape);
    assert!(!text(&view).starts_with("The live view"));
    let Some(Asked::Picture(capture)) = view.press(Key::Char('i')) else {
        panic!("no picture");
    };
    assert_eq!(
        (capture.summary.counters.sent, capture.slowest.len()),
        (4, 3)
    );
    assert_eq!(
        capture
            .series
            .1
            .iter()
            .map(|bucket| bucket.lost)
            .sum::<u32>(),
        1
    );
}

#[test]
fn a_saved_run_is_scrolled_through() {
    let mut view = View::new(true, true);
    feed(&mut view, 0, None, 1);
    let end = text(&view);
    let answered = |view: &View| view.target().unwrap().totals().map(|t| t.count);
    assert_eq!(answered(&view), Some(3));
    view.press(Key::Home);
    assert!(answered(&view).is_none_or(|count| count < 3));
    let early = text(&view);
    assert!(!early.contains("QDISC_DROP"), "{early}");
    for _ in 0..10 {
        view.press(Key::PageDown);
    }
    assert_eq!(text(&view), end);
    view.press(Key::Home);
    for _ in 0..100 {
        view.press(Key::Right);
    }
    assert_eq!(text(&view), end);
}
