//! The JSON lines: they match the schema, the schema refuses broken ones, and they read back.

mod common;

use common::{
    example_doubt, example_hops, example_names, example_results, example_run, example_summary,
};
use report::format::json::{
    Line, Part, ProbeRead, Shapes, Shorts, cost_line, hops_line, interval_line, of_target,
    parse_line, probe_line, run_line, stat_line, target_of,
};
use report::model::{
    Certainty, Doubt, Host, KernelDrop, Owner, Place, Point, ProbeResult, Run, Segment, StampFlags,
    State, Status, Stretch, Summary, Target, Unseen, Verdict, WayPart, WayTime,
};
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../schema/pingtrace.schema.json");

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(SCHEMA).expect("schema is JSON");
    jsonschema::meta::validate(&schema).expect("schema is a schema");
    jsonschema::validator_for(&schema).expect("schema")
}

/// A wire whose directions are estimates, a host that did not stamp the reply, and what is behind it.
fn example_way() -> Vec<WayPart> {
    let host = Host::Transit(2);
    let time = |ns, bounds| Some(WayTime { ns, bounds });
    let part = |of, ns, directions| WayPart {
        of,
        ns,
        base_ns: 800,
        directions,
    };
    let wire = [time(400, Some((390, 420))), time(500, Some((480, 510)))];
    vec![
        part(Stretch::Between(Host::Client, host), 900, wire),
        part(Stretch::Within(host), 850, [time(850, None), None]),
        part(Stretch::Behind(host), 1_000, [None; 2]),
    ]
}

/// A record with a verdict.
fn judged(result: &ProbeResult) -> ProbeResult {
    let verdict = Verdict {
        owner: Owner::Remote,
        segment: Some(Segment::RRxSoftirq),
        excess_ns: 4_000,
        bounds: Some((3_900, 4_100)),
        certainty: Certainty::Provisional,
        cpu: Some(3),
        at: None,
        on_way: Some(Stretch::Behind(Host::Transit(2))),
        doubt: Some(example_doubt()),
    };
    let mut judged = ProbeResult {
        verdict: Some(verdict),
        ..result.clone()
    };
    let delays = judged.breakdown.iter_mut().flat_map(|b| &mut b.delays);
    for (delay, unseen) in delays.zip([Unseen::Underlay, Unseen::Interrupts]) {
        delay.doubt = Some(Doubt {
            unseen,
            ..example_doubt()
        });
    }
    if let Some(breakdown) = &mut judged.breakdown {
        breakdown.way = example_way();
    }
    for stamp in &mut judged.probe.path {
        stamp.flags = StampFlags {
            direct: stamp.point == Point::LRxIprcv,
            interrupts_unknown: stamp.point == Point::RRxDevrcv,
            underlay_unseen: stamp.point == Point::LTxDevout,
        };
    }
    judged
}

/// One line of every kind, and probes of every status.
fn lines() -> Vec<String> {
    let names = example_names();
    let interval = Summary {
        slo: Vec::new(),
        histograms: Vec::new(),
        clock: None,
        ..example_summary()
    };
    let mut lines = vec![
        run_line(&example_run(), Part::First),
        run_line(&example_run(), Part::Continued),
        stat_line(
            &example_run(),
            &example_summary(),
            &names,
            1_767_225_660_000_000_000,
        ),
        interval_line(&interval, &names, 1_767_225_660_000_000_000),
        hops_line(&example_hops(), &names),
    ];
    for result in example_results() {
        lines.push(probe_line(&result, &names));
        lines.push(probe_line(&judged(&result), &names));
    }
    // The same of one of several targets.
    let mut all = vec![run_line(&one_of_several(), Part::First)];
    let others = lines.iter().skip(2);
    all.extend(others.map(|line| of_target(line, "web1 [size=\"256\"]")));
    lines.append(&mut all);
    let own = example_summary().own.expect("a cost");
    // The last one is a target's.
    lines.insert(1, cost_line(&own, 1_000_000_000, 1_767_225_660_000_000_000));
    lines
}

fn one_of_several() -> Run {
    Run {
        target: Some(Target {
            name: "web1".to_owned(),
            labels: [("rack".to_owned(), "r1".to_owned())].into(),
        }),
        ..example_run()
    }
}

#[test]
fn a_line_says_whose_it_is() {
    let lines = lines();
    assert_eq!(target_of(&lines[0]), None);
    let last = lines.last().expect("a line");
    assert_eq!(target_of(last).as_deref(), Some("web1 [size=\"256\"]"));
    let run = run_line(&one_of_several(), Part::First);
    let Ok(Line::Run(read, Part::First)) = parse_line(&run) else {
        panic!("{run}");
    };
    assert_eq!(read, one_of_several());
}

#[test]
fn every_line_matches_the_schema() {
    let schema = schema();
    for line in lines() {
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).expect("JSON");
        let errors: Vec<String> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{line}\n{errors:#?}");
    }
}

#[test]
fn broken_lines_do_not_match_the_schema() {
    let schema = schema();
    let names = example_names();
    let result = &example_results()[0];
    let good: Value = serde_json::from_str(&probe_line(&judged(result), &names)).expect("JSON");
    assert!(schema.is_valid(&good));
    let broken = [
        ("/type", json!("pong")),
        ("/total_ns", json!(-1)),
        ("/total_ns", json!(1.5)),
        ("/time", json!("2026-01-01 00:00:00")),
        ("/status", json!("okay")),
        ("/points/0/point", json!("l_tx_users")),
        ("/points/0/host", json!("transit")),
        ("/points/0/ns", Value::Null),
        ("/delays/0/delay", json!("total")),
        (
            "/delays/0",
            json!({"delay": "l_tx_kern", "ns": 1, "merged": false}),
        ),
        (
            "/delays/2",
            json!({"delay": "l_tx_outlink", "ns": 1, "lo": 1}),
        ),
        (
            "/verdict",
            json!({"segment": "remote", "owner": "me", "excess_ns": 1, "certainty": "sure", "sure": true}),
        ),
    ];
    for (pointer, value) in broken {
        let mut line = good.clone();
        *line
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = value;
        assert!(!schema.is_valid(&line), "{pointer} should be refused");
    }
    for (key, value) in [("rtt", json!(1)), ("Total_ns", json!(1))] {
        let mut line = good.clone();
        line[key] = value;
        assert!(!schema.is_valid(&line), "{key} should be refused");
    }
    for key in ["seq", "peer", "status", "clock", "points", "time", "type"] {
        let mut line = good.clone();
        line.as_object_mut().expect("object").remove(key);
        assert!(
            !schema.is_valid(&line),
            "without {key} it should be refused"
        );
    }
}

/// The schema lists names that the model defines: neither may know one more than the other.
#[test]
fn the_schema_knows_every_name() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let listed = |pointer: &str| -> Vec<String> {
        serde_json::from_value(schema.pointer(pointer).expect("enum").clone()).expect("strings")
    };
    assert_eq!(listed("/$defs/point/enum"), Point::ALL.map(Point::name));
    assert_eq!(
        listed("/$defs/segment/enum"),
        Segment::ALL.map(Segment::name)
    );
    assert_eq!(
        listed("/$defs/delay_stat/properties/delay/enum")[1..],
        Segment::ALL.map(Segment::name)
    );
    assert_eq!(listed("/$defs/owner/enum"), Owner::ALL.map(Owner::name));
    assert_eq!(listed("/$defs/place/enum"), Place::ALL.map(Place::name));
    assert_eq!(listed("/$defs/way/enum"), ["out", "in", "unknown"]);
    assert_eq!(
        listed("/$defs/certainty/enum"),
        Certainty::ALL.map(Certainty::name)
    );
    assert_eq!(
        listed("/$defs/probe/properties/status/enum"),
        Status::ALL.map(Status::name)
    );
    assert_eq!(
        listed("/$defs/clock/properties/state/enum"),
        State::ALL.map(State::name)
    );
}

#[test]
fn probes_read_back_as_they_were() {
    let mut names = example_names();
    for result in example_results() {
        let drop = result.loss.as_ref().and_then(|loss| loss.drop.as_ref());
        names.add(drop.map(KernelDrop::names).unwrap_or_default());
        for result in [judged(&result), result] {
            let line = probe_line(&result, &names);
            let Line::Probe(read) = parse_line(&line).expect("line") else {
                panic!("{line}")
            };
            let ProbeRead {
                result: read_result,
                names: read_names,
            } = *read;
            let mut written = result.clone();
            if let Some(breakdown) = &mut written.breakdown {
                // The clock model says it again when the probes are replayed.
                breakdown.wire = None;
            }
            assert_eq!(read_result, written);
            for (key, name) in &read_names.netns {
                assert_eq!(names.netns.get(key), Some(name));
            }
            assert_eq!(probe_line(&read_result, &read_names), line);
        }
    }
}

/// As read back from its whole line.
fn read_back(line: &str) -> ProbeResult {
    let Line::Probe(read) = parse_line(line).expect("line") else {
        panic!("{line}")
    };
    read.result
}

#[test]
fn probes_in_short_are_the_same_probes() {
    let (schema, names) = (schema(), example_names());
    let (mut shorts, mut shapes) = (Shorts::default(), Shapes::default());
    let (mut short_lines, mut others) = (0, 0);
    for round in 0..3 {
        for result in example_results() {
            for mut result in [judged(&result), result] {
                result.probe.seq += round;
                for stamp in &mut result.probe.path {
                    stamp.ns += u64::from(round) * 1_000_000;
                }
                for line in shorts.lines(&result, &names, None).lines() {
                    let value: Value = serde_json::from_str(line).expect("JSON");
                    assert!(schema.is_valid(&value), "{line}");
                    let read = match parse_line(line).expect("line") {
                        Line::Shape(shape) => {
                            assert_eq!(round, 0, "known: {line}");
                            shapes.learn(&shape);
                            continue;
                        }
                        Line::Short(short) => {
                            short_lines += 1;
                            shapes.whole(&short).expect("numbers of its shape")
                        }
                        Line::Probe(read) => {
                            others += 1;
                            read.result
                        }
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(
                        probe_line(&read, &names),
                        probe_line(&read_back(&probe_line(&result, &names)), &names)
                    );
                }
            }
        }
    }
    assert!(short_lines >= 9 && others >= 3, "{short_lines} {others}");
}

#[test]
fn numbers_that_are_not_those_of_a_shape_are_refused() {
    let (mut shorts, mut shapes) = (Shorts::default(), Shapes::default());
    let results = example_results();
    let answered = results.iter().find(|result| result.breakdown.is_some());
    let lines = shorts.lines(answered.expect("one"), &example_names(), None);
    let (shape, short) = lines.split_once('\n').expect("two lines");
    let Ok(Line::Shape(shape)) = parse_line(shape) else {
        panic!("{lines}")
    };
    let numbers = |line: &str| match parse_line(line) {
        Ok(Line::Short(short)) => short,
        other => panic!("{other:?}"),
    };
    assert!(shapes.whole(&numbers(short)).is_err(), "no shape yet");
    shapes.learn(&shape);
    assert!(shapes.whole(&numbers(short)).is_ok());
    for wrong in [
        short.replacen("\"n\":[", "\"n\":[0,", 1),
        short.replacen(']', ",0]", 1),
        short.replacen("\"n\":[", "\"n\":[-1,", 1),
        short.replacen("\"shape\":0", "\"shape\":1", 1),
        r#"{"type":"short","shape":0,"n":[]}"#.to_owned(),
    ] {
        assert!(shapes.whole(&numbers(&wrong)).is_err(), "{wrong}");
    }
    let far = lines.replacen("\"shape\":0", "\"shape\":1024", 1);
    assert!(parse_line(far.lines().next().expect("a line")).is_err());
}

#[test]
fn runs_and_summaries_read_back() {
    let run = example_run();
    for part in [Part::First, Part::Continued] {
        let line = run_line(&run, part);
        let read = parse_line(&line).expect("line");
        assert_eq!(read, Line::Run(run.clone(), part));
    }
    let mut summary = example_summary();
    let line = stat_line(&example_run(), &summary, &example_names(), 5_000);
    assert_eq!(summary.histograms.len(), summary.delays.len());
    assert_eq!(summary.slo.iter().filter(|judged| judged.met).count(), 1);
    let jitter = summary.jitter.iter_mut().map(|jitter| &mut jitter.ipdv);
    for stat in summary
        .delays
        .iter_mut()
        .chain(&mut summary.send_slip)
        .chain(jitter)
    {
        stat.mean = stat.mean.round();
    }
    let interval = interval_line(&summary, &example_names(), 5_000);
    assert_eq!(
        parse_line(&interval).expect("line"),
        Line::Interval {
            time_unix_ns: 5_000,
            summary: summary.clone()
        }
    );
    assert_eq!(
        parse_line(&line).expect("line"),
        Line::Stat {
            time_unix_ns: 5_000,
            summary
        }
    );
}

#[test]
fn lines_of_others_are_told_apart_from_broken_ones() {
    let other = r#"{"type":"event","companion":"irqoff","lat_ns":5}"#;
    assert_eq!(parse_line(other).expect("line"), Line::Other);
    let stat = stat_line(&example_run(), &example_summary(), &example_names(), 0);
    let torn = stat.replacen("HISTF", "TSIHF", 1);
    assert!(torn != stat && parse_line(&torn).is_err());
    for broken in [
        "",
        "{}",
        r#"{"type":"probe"}"#,
        r#"{"type":"probe","seq":-1}"#,
        "[1]",
    ] {
        assert!(parse_line(broken).is_err(), "{broken}");
    }
    let later = run_line(&example_run(), Part::First).replace(r#""version":1"#, r#""version":2"#);
    let error = parse_line(&later).expect_err("later version").to_string();
    assert_eq!(
        error,
        "read JSON line: format version 2, this reads up to 1"
    );
}
