//! Spans with a known culprit.

use super::*;
use crate::model::{Blame, Class, Host, Ifindex, Netns, Part, Point, Segment, Stamp, StampFlags};
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn span(from: u64, to: u64, class: Class, who: &str, tid: u32) -> Span {
    Span {
        from_ns: from * MS,
        to_ns: to * MS,
        class,
        who: who.to_owned(),
        tid,
        function: None,
    }
}

fn window(from: u64, to: u64) -> Window {
    Window {
        segment: Segment::LRxTaskQueue,
        host: Host::Client,
        cpu: 1,
        from_ns: from * MS,
        to_ns: to * MS,
    }
}

fn parts(blame: &Blame) -> Vec<(Class, &str, u64)> {
    blame
        .parts
        .iter()
        .map(|p| (p.class, p.who.as_str(), p.ns / MS))
        .collect()
}

#[test]
fn a_hog_is_to_blame() {
    let spans = [
        span(0, 12, Class::Cpu, "hog", 9),
        span(12, 20, Class::Own, "pingtrace", 7),
    ];
    let blame = join(&spans, &window(1, 13));
    assert_eq!(
        parts(&blame),
        [(Class::Cpu, "hog", 11), (Class::Own, "pingtrace", 1)]
    );
    assert_eq!(blame.unexplained_ns(), 0);
    assert_eq!(blame.culprit().unwrap().who, "hog");
    assert_eq!(blame.lane, [(0, 11 * MS, 0), (11 * MS, MS, 1)]);
}

#[test]
fn what_is_closer_to_the_hardware_goes_first() {
    let spans = [
        span(0, 20, Class::Cpu, "java", 9),
        span(2, 10, Class::SoftirqRun, "NET_RX", 9),
        span(4, 5, Class::Hardirq, "24:virtio", 9),
    ];
    let blame = join(&spans, &window(0, 10));
    let expected = [
        (Class::SoftirqRun, "NET_RX", 7),
        (Class::Cpu, "java", 2),
        (Class::Hardirq, "24:virtio", 1),
    ];
    assert_eq!(parts(&blame), expected);
}

#[test]
fn idle_and_unseen_time_is_unexplained() {
    let blame = join(&[span(0, 2, Class::Cpu, "x", 9)], &window(0, 10));
    assert_eq!(blame.unexplained_ns(), 8 * MS);
    assert_eq!(blame.culprit(), None);
    let mut tally = BlameTally::default();
    tally.count(&[blame]);
    assert!(
        tally
            .summary()
            .text()
            .contains("   1 of 1 explained probes: nothing"),
        "{}",
        tally.summary().text()
    );
}

#[test]
fn what_a_task_did_counts_together() {
    let spans = [
        span(0, 10, Class::Cpu, "x", 9),
        span(5, 9, Class::Irqoff, "x", 9),
    ];
    let blame = join(&spans, &window(0, 10));
    assert_eq!(
        parts(&blame),
        [(Class::Cpu, "x", 6), (Class::Irqoff, "x", 4)]
    );
    assert_eq!(blame.culprit().unwrap().class, Class::Irqoff);
}

#[test]
fn a_quota_is_nobody_elses_fault() {
    let spans = [
        span(0, 20, Class::Cpu, "x", 9),
        span(1, 9, Class::Quota, "x", 7),
    ];
    let blame = join(&spans, &window(1, 10));
    assert_eq!(blame.culprit().unwrap().class, Class::Quota);
}

#[test]
fn nonsense_from_the_wire_is_nothing() {
    for wire in [
        "",
        "x",
        "total;1;2",
        "r_rx_kern;1;2|cpu;a;1;3;",
        "r_rx_kern;1;2|cpu;%4;1;1;",
    ] {
        assert_eq!(Blame::from_wire(wire), None, "{wire}");
    }
}

#[test]
fn windows_are_of_one_host_and_of_no_wire() {
    let stamp = |point, host, ns: u64, cpu| Stamp {
        point,
        host,
        ns: ns * MS,
        cpu,
        ifindex: Ifindex(0),
        netns: Netns(0),
        flags: StampFlags::default(),
    };
    let (client, server) = (Host::Client, Host::Server);
    let path = [
        stamp(Point::LTxUser, client, 0, None),
        stamp(Point::LTxDevqueue, client, 3, Some(1)),
        stamp(Point::LTxDevout, client, 4, Some(1)),
        stamp(Point::RRxSoftirq, server, 1000, Some(0)),
        stamp(Point::RRxNapi, server, 1005, Some(2)),
        stamp(Point::LRxIprcv, client, 20, Some(0)),
        stamp(Point::LRxWakeup, client, 21, Some(0)),
        stamp(Point::LRxOncpu, client, 29, Some(1)),
        stamp(Point::LRxUser, client, 30, None),
    ];
    let found = |host| -> Vec<_> {
        let windows = windows(&path, host, 2 * MS);
        windows
            .iter()
            .map(|w| (w.segment, w.cpu, (w.to_ns - w.from_ns) / MS))
            .collect()
    };
    let local = [(Segment::LTxKern, 1, 3), (Segment::LRxTaskQueue, 1, 8)];
    assert_eq!(found(client), local);
    assert_eq!(found(server), [(Segment::RRxSoftirq, 2, 5)]);
    // Raised before the request left.
    let path = [
        stamp(Point::LTxDevout, client, 4, Some(1)),
        stamp(Point::LRxSoftirq, client, 1, Some(0)),
        stamp(Point::LRxNapi, client, 9, Some(0)),
    ];
    let found = windows(&path, client, 2 * MS);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].segment, found[0].from_ns),
        (Segment::LRxSoftirq, 4 * MS)
    );
}

proptest! {
    #[test]
    fn the_wire_keeps_everything(who in "\\PC{0,15}", tid: u32, ns in 0..5 * MS, function in proptest::option::of("[a-z_]{1,20}")) {
        let part = Part { class: Class::Irqoff, who, tid, ns, function };
        let blame = Blame { host: Host::Server, ..join(&[], &window(0, 9)) };
        let blame = Blame { parts: vec![part], ..blame };
        let all = vec![blame.clone(), blame];
        prop_assert_eq!(from_wire(&to_wire(&all, 600)), all);
    }

    #[test]
    fn any_text_can_be_read(wire in ".{0,80}") {
        let _ = from_wire(&wire);
    }

    #[test]
    fn no_moment_has_two_owners(all in proptest::collection::vec((0..50_u64, 1..20_u64, 0..3_u32), 0..40)) {
        let class = [Class::Cpu, Class::SoftirqRun, Class::Hardirq];
        let spans: Vec<Span> = all.iter().map(|(from, ns, k)| span(*from, from + ns, class[*k as usize], "x", 1 + k)).collect();
        let blame = join(&spans, &window(5, 45));
        prop_assert!(blame.parts.iter().map(|p| p.ns).sum::<u64>() <= 40 * MS);
        prop_assert!(blame.lane.iter().all(|(at, ns, part)| at + ns <= 40 * MS && *part < blame.parts.len()));
    }
}
