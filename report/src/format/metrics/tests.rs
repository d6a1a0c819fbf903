use std::collections::BTreeMap;

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as proto;
use strum::VariantArray as _;

use super::*;
use crate::analysis::target_counts::Example;
use crate::model::{
    Breakdown, Certainty, ClockSummary, Counters, Counts, Delay, LossCount, Owner, Place, Segment,
    State, Symbol,
};

const MS: u64 = 1_000_000;

fn breakdown(delays: &[(Segment, u64)]) -> Breakdown {
    let delay = |&(segment, ns)| Delay {
        segment,
        ns,
        bounds: None,
        merged: false,
        clamped: false,
        doubt: None,
    };
    Breakdown {
        total_ns: delays.iter().map(|(_, ns)| ns).sum(),
        delays: delays.iter().map(delay).collect(),
        ..Breakdown::default()
    }
}

fn slow(target: &mut TargetView, owner: Owner, segment: Segment, certainty: Certainty) {
    let example = Example {
        seq: 17,
        sent_unix_ns: 1_700_000_000_250_000_000,
        verdict: "remote r_rx_softirq 812 us, sure".to_owned(),
    };
    let slow = &mut target.counts.slow;
    slow.entry((owner, Some(segment), certainty))
        .or_insert((0, example))
        .0 += 3;
}

fn lost(target: &mut TargetView, place: Place, reason: Option<&str>) {
    target.losses.push(LossCount {
        place,
        reason: reason.map(Symbol::named),
        location: None,
        device: None,
        count: 2,
    });
}

/// A target that answered 7 of 10 probes, 2 of them late.
fn target(name: &str) -> TargetView {
    let mut target = TargetView {
        name: name.to_owned(),
        session: 0xabc,
        counters: Counters {
            sent: 10,
            replied: 7,
            late: 2,
            amended: 1,
            lost: 3,
            ..Counters::default()
        },
        ..TargetView::default()
    };
    for ms in [0, 1, 2, 3, 5, 8, 13] {
        let both = [(Segment::LTxKern, ms * MS), (Segment::RRxSoftirq, 1000)];
        target.counts.answered(&breakdown(&both));
    }
    target
}

pub(super) fn families(
    targets: &[TargetView],
    server: Option<&ServerView>,
    room: &mut Room,
) -> Vec<Family> {
    let mut totals = NodeTotals::default();
    for target in targets {
        totals.count(&target.counts);
        totals.add(target);
    }
    let node = NodeView {
        version: "0.1.0",
        kernel: "6.18",
        process: Process {
            cpu_ns: 1_500 * MS,
            resident_bytes: 1 << 20,
            start_s: 1.5e9,
        },
        targets: &targets.iter().collect::<Vec<_>>(),
        totals: &totals,
        server,
    };
    page(&node, room)
}

fn series(families: &[Family]) -> usize {
    families.iter().map(|family| family.samples.len()).sum()
}

fn text(targets: &[TargetView], form: Form, classic: bool) -> String {
    let families = families(targets, None, &mut Room::default());
    String::from_utf8(encode(families, form, classic)).unwrap()
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
}

#[test]
fn each_probe_has_one_result_and_none_is_taken_back() {
    let text = text(&[target("web1")], Form::Text, false);
    for (result, count) in [("ok", 5), ("late", 1), ("lost", 4)] {
        has(
            &text,
            &format!(r#"pingtrace_probes_total{{target="web1",result="{result}"}} {count}"#),
        );
    }
    assert!(!text.contains(r#"result="forgotten""#), "{text}");
    has(&text, r#"pingtrace_irregularities_total{kind="amended"} 1"#);
}

#[test]
fn a_histogram_in_text_is_its_sum_and_count() {
    let text = text(&[target("web1")], Form::Text, false);
    has(&text, r#"pingtrace_rtt_seconds_count{target="web1"} 7"#);
    has(
        &text,
        r#"pingtrace_rtt_seconds_sum{target="web1"} 0.032007"#,
    );
    let rtt = text
        .lines()
        .filter(|l| l.starts_with("pingtrace_rtt_seconds_bucket"));
    assert_eq!(rtt.count(), 1, "{text}");
}

#[test]
fn classic_buckets_are_cumulative_and_exact() {
    let text = text(&[target("web1")], Form::OpenMetrics, true);
    let buckets = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("pingtrace_rtt_seconds_bucket{le=\"")?;
        let (bound, rest) = rest.split_once('"')?;
        let count: u64 = rest.split(' ').nth(1)?.parse().ok()?;
        Some((bound.parse::<f64>().ok()?, count))
    });
    let buckets: Vec<_> = buckets.collect();
    assert_eq!(buckets.len(), 19, "{text}");
    for (bound, count) in buckets {
        let values = [0.0, 0.001, 0.002, 0.003, 0.005, 0.008, 0.013];
        let exact = values.iter().filter(|s| **s + 1e-6 <= bound).count();
        assert_eq!(count, exact as u64, "{bound}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn an_exemplar_says_which_probe_it_was_within_the_limit() {
    let mut web = target("web1");
    slow(
        &mut web,
        Owner::Remote,
        Segment::RRxSoftirq,
        Certainty::Sure,
    );
    let open = text(&[web.clone()], Form::OpenMetrics, false);
    let line = open
        .lines()
        .find(|l| l.starts_with("pingtrace_slow_probes_total"))
        .unwrap();
    assert_eq!(
        line,
        r#"pingtrace_slow_probes_total{target="web1",owner="remote",segment="r_rx_softirq",certainty="sure"} 3 # {session="00000abc",sequence="17",verdict="remote r_rx_softirq 812 us, sure"} 1.0 1700000000.25"#
    );
    // Names and values of an exemplar have at most 128 characters.
    let families = families(&[web.clone()], None, &mut Room::default());
    let samples = families.iter().flat_map(|family| &family.samples);
    let exemplars = samples.filter_map(|sample| match &sample.value {
        Value::Count(_, exemplar) => exemplar.as_ref(),
        _ => None,
    });
    for exemplar in exemplars {
        let length = |(name, value): &(&str, String)| name.len() + value.chars().count();
        assert!(exemplar.labels.iter().map(length).sum::<usize>() <= 128);
    }
    // The textfile collector reads no exemplars.
    assert!(!text(&[web], Form::Text, false).contains(" # {"));
}

#[test]
fn the_users_labels_are_on_the_targets_series_and_take_no_others_place() {
    let mut web = target("web1");
    let labels = [("rack", "r7"), ("result", "mine"), ("__meta_x", "y")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    web.labels = BTreeMap::from(labels);
    let text = text(&[web], Form::Text, false);
    has(
        &text,
        r#"pingtrace_probes_total{target="web1",result="ok",rack="r7",exported_result="mine"} 5"#,
    );
    assert!(!text.contains("__meta"));
}

/// Prometheus refuses the whole page otherwise.
#[test]
fn no_series_has_a_label_twice() {
    let mut web = target("web1");
    let labels = [
        ("result", "a"),
        ("exported_result", "b"),
        ("exported_le", "c"),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    web.labels = BTreeMap::from(labels);
    has(
        &text(&[web], Form::Text, false),
        r#"pingtrace_probes_total{target="web1",result="ok",exported_le="c",exported_result="b",exported_exported_result="a"} 5"#,
    );
}

/// Everything that can go wrong does, at every target.
pub(super) fn worst(peers: usize) -> Vec<TargetView> {
    let worst = |peer: usize| {
        let mut target = target(&format!("10.0.0.{peer}"));
        for segment in Segment::VARIANTS
            .iter()
            .filter(|s| **s != Segment::Response)
        {
            target.counts.answered(&breakdown(&[(*segment, 1000)]));
            for certainty in Certainty::ALL {
                slow(&mut target, segment.owner(), *segment, certainty);
            }
        }
        for place in Place::ALL {
            lost(&mut target, place, None);
            lost(&mut target, place, Some("NETFILTER_DROP"));
        }
        target.counters.forgotten = 4;
        target.counters.dup = 1;
        target.counters.reordered = 1;
        target.counters.lost_stamps = 1;
        target.clock = Some(ClockSummary {
            state: State::ALL[peer % 3],
            rate_ppm: 0.0,
            rate_sd_ppm: 0.0,
            counts: Counts {
                rate: 1,
                step: 1,
                path: 1,
                glitches: 1,
            },
            in_base_age_ns: None,
        });
        target
    };
    (0..peers).map(worst).collect()
}

#[test]
fn a_server_says_when_it_is_armed() {
    let server = ServerView {
        arming: ArmingView {
            is_armed: true,
            times: 2,
            ns: 1_500 * MS,
            unseen: 3,
        },
        ..ServerView::default()
    };
    let families = families(&[], Some(&server), &mut Room::default());
    let text = String::from_utf8(encode(families, Form::Text, false)).unwrap();
    has(&text, "pingtrace_server_armed 1.0");
    has(&text, "pingtrace_server_armed_time_seconds_total 1.5");
    has(&text, "pingtrace_server_armings_total 2");
    has(&text, "pingtrace_server_unarmed_requests_total 3");
}

#[test]
fn how_late_probes_left_and_what_no_result_counts_are_of_all_targets() {
    let mut both = [target("web1"), target("web2")];
    for target in &mut both {
        target.counts.slip.record(2 * MS);
        target.counters.warm_up = 3;
    }
    let text = text(&both, Form::Text, false);
    has(&text, "pingtrace_send_slip_seconds_count 2");
    has(&text, "pingtrace_send_slip_seconds_sum 0.004");
    has(&text, "pingtrace_uncounted_probes_total 6");
}

#[test]
fn ten_peers_have_eighty_series_whatever_goes_wrong() {
    let server = ServerView {
        stamps: vec![("inband", 1), ("packet", 1)],
        withheld: vec![("rate", 1), ("budget", 2)],
        lost: vec![("evicted", 1)],
        clients: 3,
        arming: ArmingView::default(),
    };
    for peers in [1, 10, 100] {
        for server in [None, Some(&server)] {
            let mut room = Room::default();
            let families = families(&worst(peers), server, &mut room);
            let series = series(&families);
            assert!(series <= Room::series(peers), "{series} for {peers}");
        }
    }
    assert_eq!(Room::series(10), 80);
}

#[test]
fn what_finds_no_room_is_counted_together_and_what_was_shown_stays() {
    let slow_probes = |families: &[Family]| {
        let family = families.iter().find(|f| f.name == "pingtrace_slow_probes");
        let samples = family
            .map(|family| family.samples.clone())
            .unwrap_or_default();
        let count = |sample: &Sample| match sample.value {
            Value::Count(count, _) => (format!("{:?}", sample.labels), count),
            _ => panic!("{sample:?}"),
        };
        samples.iter().map(count).collect::<BTreeMap<_, _>>()
    };
    let mut room = Room::default();
    let mut few = worst(10);
    for target in &mut few {
        target
            .counts
            .slow
            .retain(|(_, segment, _), _| *segment == Some(Segment::LTxKern));
        target.losses.clear();
    }
    let first = slow_probes(&families(&few, None, &mut room));
    let second = slow_probes(&families(&worst(10), None, &mut room));
    for (labels, count) in &first {
        assert!(second[labels] >= *count, "{labels}");
    }
    let all: u64 = worst(10)
        .iter()
        .flat_map(|t| t.counts.slow.values())
        .map(|(n, _)| n)
        .sum();
    assert_eq!(second.values().sum::<u64>(), all);
    let other = second.keys().filter(|labels| labels.contains("other"));
    assert_eq!(other.count(), 1);
}

/// What a protobuf page says, read back.
fn decoded(page: &[u8]) -> Vec<proto::MetricFamily> {
    use prost::Message as _;
    let mut rest = page;
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(proto::MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    families
}

/// The native buckets of a histogram: their indices and counts.
fn native(histogram: &proto::Histogram) -> Vec<(i32, u64)> {
    let mut buckets = Vec::new();
    let (mut index, mut count) = (0, 0);
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            if count > 0 {
                buckets.push((index, count.cast_unsigned()));
            }
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    buckets
}

#[test]
fn native_histograms_come_through_protobuf_as_they_were_counted() {
    let targets = [target("web1")];
    let page = families(&targets, None, &mut Room::default());
    let families = decoded(&encode(page, Form::Protobuf, false));
    let rtt = families
        .iter()
        .find(|f| f.name == "pingtrace_rtt_seconds")
        .unwrap();
    let histogram = rtt.metric[0].histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema), (7, 3));
    assert!(
        histogram.bucket.is_empty(),
        "classic ones were not asked for"
    );
    let exact: Vec<_> = targets[0].counts.rtt.buckets().collect();
    assert_eq!(native(histogram), exact);
    let kernel = families
        .iter()
        .find(|f| f.name == "pingtrace_segment_seconds")
        .unwrap();
    let kernel = kernel.metric[0].histogram.as_ref().unwrap();
    assert_eq!((kernel.zero_count, kernel.sample_count), (1, 7));
}
