//! Autopsies from files in `data/loss`: stamps in path order, drops, the server's status, and after
//! `=>` the place, the last point, and whether a drop is believed.

mod common;

use common::{data, example_drop, number, parse_stamp, probe};
use report::analysis::loss::{Evidence, ServerStatus, Silent, autopsy};
use report::model::{ClockRelation, Direction, Host, KernelDrop, Point, Status};
use std::fs;

fn status(name: &str) -> ServerStatus {
    match name {
        "unseen" => ServerStatus::Unseen,
        "arrived" => ServerStatus::Arrived,
        "delivered" => ServerStatus::Delivered,
        "replied" => ServerStatus::Replied,
        "left" => ServerStatus::Left,
        "reply_dropped" => ServerStatus::ReplyDropped,
        "forgotten" => ServerStatus::Forgotten,
        _ => panic!("unknown status {name}"),
    }
}

fn check(case: &str) -> Result<(), String> {
    let mut lost = probe(7, ClockRelation::Separate);
    lost.status = Status::Lost;
    let mut drops = Vec::new();
    let mut evidence = Evidence {
        sees_queue: true,
        sees_driver: true,
        ..Evidence::default()
    };
    let mut expected = "";
    for line in case.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["=>", ..] => expected = line,
            ["status", name] => evidence.status = Some(status(name)),
            ["blind"] => (evidence.sees_queue, evidence.sees_driver) = (false, false),
            ["full"] => evidence.silent = Some(Silent::SocketFull),
            ["ignored"] => evidence.silent = Some(Silent::EchoIgnored),
            ["drop", host, way, ns] => drops.push(KernelDrop {
                host: Host::from_name(host).expect("host"),
                direction: Direction::from_name(way).expect("direction"),
                ns: number(ns),
                ..example_drop()
            }),
            _ => lost.path.push(parse_stamp(line)),
        }
    }
    let found = autopsy(&lost, drops, evidence);
    let found = format!(
        "=> {} {} {}",
        found.place.name(),
        found.last.map_or("-", Point::name),
        if found.drop.is_some() { "drop" } else { "-" }
    );
    (found == expected).then_some(()).ok_or(found)
}

#[test]
fn every_case() {
    let mut cases = 0;
    for entry in fs::read_dir(data("loss")).expect("data/loss") {
        let path = entry.expect("entry").path();
        let case = fs::read_to_string(&path).expect("case");
        if let Err(found) = check(&case) {
            panic!("{}: found {found}\n{case}", path.display());
        }
        cases += 1;
    }
    assert!(cases > 15);
}
