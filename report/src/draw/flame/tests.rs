use super::*;
use crate::companion::profile::{Context, Flame, Measure, Node, Profile, Stack};
use crate::draw::{Format, Picture, render};

fn stack(comm: &str, count: u64, user: &[&str], kernel: &[&str]) -> Stack {
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
    Stack {
        companion: "profile",
        comm: comm.to_owned(),
        pid: 1,
        context: Context::Task,
        count,
        ns: count,
        share: 0.0,
        kernel: names(kernel),
        user: names(user),
    }
}

fn flame(stacks: &[Stack]) -> Flame {
    let profile = Profile::new(Measure::Samples, stacks.iter().cloned());
    Flame {
        title: "profile on web1".to_owned(),
        headline: profile.headline(),
        notes: "3.6 % without a stack".to_owned(),
        measure: profile.measure,
        root: Node::new(&profile),
    }
}

fn sample() -> Flame {
    flame(&[
        stack("spin", 700, &["burn<&str>", "main"], &[]),
        stack("spin", 200, &["read", "main"], &["vfs_read", "sys_read"]),
        stack("other", 100, &["[unknown]"], &[]),
    ])
}

/// The values of an attribute of all frames that are drawn.
fn attributes<'a>(svg: &'a str, name: &str) -> Vec<&'a str> {
    let before = format!(" {name}=\"");
    let frames = svg
        .lines()
        .filter(|line| line.starts_with("<g class=\"f\""));
    let value = |line: &'a str| {
        let rest = line.split_once(&before).expect(line).1;
        rest.split_once('"').expect(rest).0
    };
    frames.map(value).collect()
}

#[test]
fn each_frame_stands_under_its_caller_and_is_as_wide_as_its_weight() {
    let flame = sample();
    let svg = svg(&flame);
    let column = |name| attributes(&svg, name);
    let numbers = |name| -> Vec<u64> { column(name).iter().map(|v| v.parse().unwrap()).collect() };
    let names = column("data-n");
    let (starts, values, levels) = (numbers("data-s"), numbers("data-v"), numbers("data-l"));
    let placed = |name: &str| {
        let at = names.iter().position(|n| *n == name).expect(name);
        (levels[at], starts[at], values[at])
    };
    assert_eq!(placed("all"), (0, 0, 1000));
    assert_eq!(placed("spin"), (1, 100, 900));
    assert_eq!(placed("main"), (2, 100, 900));
    assert_eq!(placed("burn&lt;&amp;str&gt;"), (3, 100, 700));
    assert_eq!(placed("vfs_read"), (5, 800, 200));
    assert_eq!(names.len(), 9);
    assert!(svg.contains("<title>vfs_read: 200 samples (20.00 %)</title>"));
}

#[test]
fn the_page_stands_alone() {
    let flame = sample();
    for format in [Format::Svg, Format::Html] {
        let page = render(Picture::Flame(&flame), format).unwrap();
        let page = String::from_utf8(page).unwrap();
        let urls = page.matches("http").count();
        // The name of SVG's namespace, which nothing is fetched from.
        let names = page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!((urls, names), (1, 1), "{format:?}");
        for foreign in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(foreign), "{format:?} {foreign}");
        }
        assert!(page.contains("prefers-color-scheme:dark"));
        assert!(page.contains("3.6 % without a stack"));
        // The drawing's, and the page's.
        let scripts = if format == Format::Html { 2 } else { 1 };
        assert_eq!(page.matches("<script>").count(), scripts);
    }
}

#[test]
fn names_do_not_act_in_the_page() {
    let evil = "</title><script>alert(1)</script>\u{1b}]]>";
    let flame = flame(&[stack(evil, 1, &[evil], &[])]);
    let page = String::from_utf8(render(Picture::Flame(&flame), Format::Html).unwrap()).unwrap();
    assert!(!page.contains("<script>alert"));
    assert!(!page.contains('\u{1b}'));
    assert_eq!(page.matches("]]>").count(), 1, "the end of the script");
}

#[test]
fn an_empty_one_and_a_deep_one_are_drawn() {
    let names: Vec<String> = (0..250).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for stacks in [vec![], vec![stack("deep", 1, &names, &names)]] {
        let flame = flame(&stacks);
        for format in [Format::Png, Format::Svg, Format::Html] {
            assert!(!render(Picture::Flame(&flame), format).unwrap().is_empty());
        }
    }
}
