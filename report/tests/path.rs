//! The table of the path against what is written elsewhere: the kernel's programs, and the documentation.

use report::format::glossary;
use report::model::{Point, Segment};
use std::{env, fs};

/// The numbers of `enum pt_point` in bpf/include/probe.h.
#[test]
fn programs_and_the_table_number_points_alike() {
    let header = include_str!("../../bpf/include/probe.h");
    let (_, points) = header
        .split_once("enum pt_point {")
        .expect("the enumeration");
    let (points, _) = points.split_once('}').expect("its end");
    let numbers = points.lines().filter_map(|line| line.split_once('='));
    let mut found = Vec::new();
    for (name, number) in numbers {
        let (number, _) = number.split_once(',').expect("a number");
        let number: u16 = number.trim().parse().expect("a number");
        let point = Point::from_wire(number).expect("a point of this number");
        assert_eq!(name.trim(), format!("PT_{}", point.name().to_uppercase()));
        found.push(point);
    }
    found.sort();
    // A time of the schedule is no stamp of a program.
    let stamped = Point::ALL
        .into_iter()
        .filter(|point| *point != Point::LTxDue);
    assert_eq!(found, stamped.collect::<Vec<_>>());
}

/// Each segment begins at a point of the path and ends at a later one; together they leave no gap.
#[test]
fn segments_follow_the_path() {
    let at = |point| Point::PATH.iter().position(|p| *p == point);
    for segment in Segment::ALL {
        if let Some((from, to)) = segment.span() {
            let (from, to) = (at(from).expect("on the path"), at(to).expect("on the path"));
            assert!(from < to, "{}", segment.name());
        }
    }
    for pair in Point::PATH.windows(2) {
        let joins = |segment: &Segment| segment.span() == Some((pair[0], pair[1]));
        let end = pair[1].name();
        assert!(Segment::ALL.iter().any(joins), "no segment ends at {end}");
    }
}

/// `UPDATE_SNAPSHOTS=1 cargo test -p report --test path` writes it.
#[test]
fn documentation_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/segments.md");
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(path, glossary::markdown()).expect("write docs/segments.md");
    }
    let written = fs::read_to_string(path).expect("docs/segments.md");
    let is_current = written == glossary::markdown();
    assert!(
        is_current,
        "docs/segments.md is old: UPDATE_SNAPSHOTS=1 writes it"
    );
}
