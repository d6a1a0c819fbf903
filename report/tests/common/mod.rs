//! What several test binaries share: probes written as text, and a small deterministic PRNG.

#![allow(dead_code)]

pub mod mutate;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use report::analysis::breakdown::breakdown;
use report::analysis::clock::WireSplit;
use report::analysis::hops::HopStats;
use report::analysis::loss::{Evidence, autopsy};
use report::analysis::slo::Objectives;
use report::analysis::stats::Stats;
use report::analysis::verdict::{Baselines, ClockTrust, judge};
use report::format::json::{Part, hops_line, interval_line, probe_line, run_line, stat_line};
use report::model::{
    Blame, Class, ClockRelation, ClockSummary, CounterSource, Counts, Device, Direction, Doubt,
    Endpoint, Host, Ifindex, KernelCounter, KernelDrop, Moved, MovedCounter, Names, Netns, OwnCost,
    Part as BlamedPart, Point, Probe, ProbeResult, ProgramCost, Run, Segment, Stamp, StampFlags,
    State, Status, Summary, Symbol, Unseen,
};

/// A folder of test data.
pub fn data(folder: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", folder]
        .iter()
        .collect()
}

/// A probe without stamps.
pub fn probe(seq: u32, clock: ClockRelation) -> Probe {
    Probe {
        seq,
        sent_unix_ns: 1_767_225_600_123_456_000,
        peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        flow: 0,
        ttl: [None; 2],
        status: Status::Ok,
        clock,
        path: Vec::new(),
    }
}

/// A stamp without device.
pub fn stamp(point: Point, host: Host, ns: u64) -> Stamp {
    Stamp {
        point,
        host,
        ns,
        cpu: None,
        ifindex: Ifindex(0),
        netns: Netns(0),
        flags: StampFlags::default(),
    }
}

/// Reads `client l_tx_devout 1200 dev=1:4 cpu=1 flags=direct`: host, point, ns, and optionally namespace
/// and device, CPU, and a flag.
pub fn parse_stamp(line: &str) -> Stamp {
    let mut words = line.split_whitespace();
    let host = words.next().and_then(Host::from_name).expect("host");
    let point = words.next().and_then(Point::from_name).expect("point");
    let ns = number(words.next().expect("ns"));
    let mut stamp = stamp(point, host, ns);
    for word in words {
        match word.split_once('=').expect("key=value") {
            ("dev", value) => {
                let (netns, ifindex) = value.split_once(':').expect("netns:ifindex");
                stamp.netns = Netns(netns.parse().expect("netns"));
                stamp.ifindex = Ifindex(ifindex.parse().expect("ifindex"));
            }
            ("flags", "direct") => stamp.flags.direct = true,
            ("flags", "interrupts_unknown") => stamp.flags.interrupts_unknown = true,
            ("flags", "underlay_unseen") => stamp.flags.underlay_unseen = true,
            ("cpu", value) => stamp.cpu = Some(value.parse().expect("cpu")),
            (key, _) => panic!("unknown key {key}"),
        }
    }
    stamp
}

/// A number that may contain underscores.
pub fn number(word: &str) -> u64 {
    word.replace('_', "").parse().expect("number")
}

/// xorshift64*: small, deterministic, good enough to choose stamps.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }
}

/// A request and its reply between two containers' hosts, two clocks; `slow_ns` of it spent waiting
/// for the server's softirq.
fn example_path(start: u64, slow_ns: u64) -> Vec<Stamp> {
    let server = start + 5_000_000_000;
    let after = server + slow_ns;
    let back = start + slow_ns;
    let text = format!(
        "client l_tx_user {start}
        client l_tx_devqueue {} dev=4026532000:2 cpu=1
        client l_tx_devout {} dev=4026532000:2 cpu=1
        client m_rx_devecho {} dev=4026531840:9 cpu=1
        client l_tx_devqueue {} dev=4026531840:4 cpu=1
        client l_tx_devout {} dev=4026531840:4 cpu=1
        server r_rx_softirq {} cpu=0
        server r_rx_napi {} cpu=0
        server r_rx_devrcv {} dev=4026531841:2 cpu=0
        server r_rx_icmprcv {} cpu=0
        server r_tx_devqueue {} dev=4026531841:2 cpu=0
        server r_tx_devout {} dev=4026531841:2 cpu=0
        client l_rx_softirq {} cpu=1
        client l_rx_napi {} cpu=1
        client l_rx_iprcv {} dev=4026531840:4 cpu=1
        client l_rx_skdataready {} cpu=1
        client l_rx_wakeup {} cpu=1
        client l_rx_oncpu {} cpu=0
        client l_rx_user {}",
        start + 2_100,
        start + 2_900,
        start + 3_300,
        start + 4_000,
        start + 4_812,
        server + 31_000,
        after + 32_000,
        after + 34_500,
        after + 35_900,
        after + 37_000,
        after + 38_200,
        back + 61_000,
        back + 62_000,
        back + 64_000,
        back + 66_000,
        back + 66_700,
        back + 71_000,
        back + 75_000,
    );
    text.lines().map(parse_stamp).collect()
}

/// The client's device did not say that it handed the request over.
pub fn example_doubt() -> Doubt {
    Doubt {
        unseen: Unseen::Stamp(Point::LTxDevout),
        at: Device {
            host: Host::Client,
            netns: Netns(4_026_532_000),
            ifindex: Ifindex(2),
        },
    }
}

/// The server's queueing discipline drops the reply.
pub fn example_drop() -> KernelDrop {
    KernelDrop {
        host: Host::Server,
        direction: Direction::Reply,
        ns: 5_000_000_040_000,
        netns: Netns(4_026_531_841),
        ifindex: Ifindex(2),
        reason: Symbol::named("QDISC_DROP"),
        location: Symbol::named("__dev_queue_xmit"),
        device: Some("eth0".into()),
        netns_name: Some("web".into()),
        mtu: None,
    }
}

/// A quick probe, a slow one, a late one without server stamps and a lost one, with breakdowns.
pub fn example_results() -> Vec<ProbeResult> {
    let mut wire = WireSplit::new();
    let mut probes: Vec<Probe> = Vec::new();
    for (seq, slow_ns) in [(16, 0), (17, 5_030_000), (18, 0), (19, 0)] {
        let mut probe = probe(seq, ClockRelation::Separate);
        let sent_ns = u64::from(seq) * 10_000_000;
        probe.sent_unix_ns += sent_ns as i64;
        probe.path = example_path(7_000_000_000_000 + sent_ns, slow_ns);
        probes.push(probe);
    }
    probes[2].status = Status::Late;
    probes[2].path.retain(|stamp| stamp.host == Host::Client);
    probes[3].status = Status::Lost;
    probes[3].path.truncate(6);
    let result = |probe: Probe| {
        let breakdown = breakdown(&probe, &mut wire);
        let autopsy = || autopsy(&probe, Some(example_drop()), Evidence::default());
        ProbeResult {
            loss: (probe.status == Status::Lost).then(autopsy),
            probe,
            breakdown,
            verdict: None,
            blame: Vec::new(),
        }
    };
    probes.into_iter().map(result).collect()
}

/// Names for the example's namespaces and devices, some of them.
pub fn example_names() -> Names {
    let mut names = Names::default();
    names
        .netns
        .insert((Host::Client, Netns(4_026_532_000)), "web".into());
    names
        .netns
        .insert((Host::Client, Netns(4_026_531_840)), "host".into());
    names.device.insert(
        (Host::Client, Netns(4_026_532_000), Ifindex(2)),
        "eth0".into(),
    );
    names.device.insert(
        (Host::Client, Netns(4_026_531_840), Ifindex(9)),
        "veth3f2a".into(),
    );
    names.device.insert(
        (Host::Client, Netns(4_026_531_840), Ifindex(4)),
        "enp3s0".into(),
    );
    names
}

/// The example's run as it is saved; with blame and hops.
pub fn example_lines() -> Vec<String> {
    let names = example_names();
    let run = Run {
        start_ns: Some(7_000_000_000_000),
        threshold_ns: 0,
        ..example_run()
    };
    let mut lines = vec![run_line(&run, Part::First)];
    for mut result in example_results() {
        let task = ("kworker", 17_u32);
        result.blame = vec![Blame {
            segment: Segment::LTxQdisc,
            host: Host::Client,
            cpu: 1,
            window_ns: 5_000_000,
            parts: vec![BlamedPart {
                class: Class::Cpu,
                who: task.0.into(),
                tid: task.1,
                ns: 4_000_000,
                function: Some("do_work".into()),
            }],
            lane: vec![(0, 4_000_000, 0)],
        }];
        lines.push(probe_line(&result, &names));
    }
    let mut summary = example_summary();
    let interval = Summary {
        histograms: Vec::new(),
        ..summary.clone()
    };
    lines.push(interval_line(
        &interval,
        &example_names(),
        1_767_225_610_000_000_000,
    ));
    summary.counters.replied = 3;
    lines.push(stat_line(
        &example_run(),
        &summary,
        &example_names(),
        1_767_225_610_000_000_000,
    ));
    lines.push(hops_line(&example_hops(), &names));
    lines
}

/// The run of the example.
pub fn example_run() -> Run {
    let missing = [Point::RRxIcmprcv, Point::LRxWakeup];
    let points = Point::PATH
        .into_iter()
        .filter(|point| !missing.contains(point));
    Run {
        target: None,
        start_unix_ns: 1_767_225_600_000_001_000,
        start_ns: Some(31_337_000_000_007),
        client: Endpoint {
            host: Some("box".into()),
            ..Endpoint::default()
        },
        server: Endpoint {
            host: Some("srv1".into()),
            addr: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))),
            dev: Some("eth0".into()),
            host_id: Some(u64::MAX - 1),
        },
        mode: "inband".into(),
        interval_ns: Some(10_000_000),
        threshold_ns: 1_000_000,
        size: 556,
        flows: None,
        points: points.map(|point| (point, "tp_btf".into())).collect(),
    }
}

/// Counters of the example's client that moved.
fn example_moved() -> Moved {
    let moved =
        |source, device: Option<&str>, counter: &str, inside, windows, outside| MovedCounter {
            counter: KernelCounter {
                source,
                device: device.map(str::to_owned),
                counter: counter.into(),
            },
            inside,
            windows,
            outside,
        };
    Moved {
        host: Host::Client,
        windows: 3,
        inside_ns: 612_000_000,
        outside_ns: 9_300_000_000,
        counters: vec![
            moved(
                CounterSource::Link,
                Some("eth0"),
                "rx_missed_errors",
                412,
                3,
                0,
            ),
            moved(
                CounterSource::Qdisc,
                Some("eth0"),
                "fq_codel drops",
                3,
                1,
                0,
            ),
            moved(CounterSource::Softnet, None, "time_squeeze", 17, 2, 4),
        ],
        unlisted: 2,
        fallen: 1,
        missed: 1,
    }
}

/// Statistics of the example's probes, recorded many times.
pub fn example_summary() -> Summary {
    let mut stats = Stats::new();
    let mut baselines = Baselines::default();
    let results = example_results();
    for k in 0..1_000_u64 {
        let result = &results[if k % 100 == 99 {
            1 + (k / 100 % 3) as usize
        } else {
            0
        }];
        stats.counters.sent += 1;
        stats.slip(k * 37 % 4_000);
        let Some(breakdown) = &result.breakdown else {
            stats.lost(result.loss.as_ref().expect("lost"));
            continue;
        };
        stats.counters.replied += 1;
        stats.record(breakdown);
        let probe = Probe {
            seq: k as u32,
            ..result.probe.clone()
        };
        stats.vary(&probe);
        baselines.learn(breakdown, k * 10_000_000);
        if let Some(verdict) = judge(breakdown, &baselines, ClockTrust::Bounded) {
            stats.counters.recorded += 1;
            stats.slow(Some(&verdict));
        }
    }
    stats.counters.late = 3;
    stats.counters.late_in = 2;
    stats.counters.no_remote = 3;
    let mut summary = stats.last_summary(10_000_000_000);
    summary.moved = vec![example_moved()];
    summary.clock = Some(example_clock());
    let objectives = "p99.9(total)<1ms, loss<=0.3%, max(l_rx_kern)<2us, p50(l_tx_qdisc)<1ms";
    let objectives: Objectives = objectives.parse().expect("objectives");
    summary.slo = objectives.judge(&summary);
    let program = |(program, runs, ns): (&str, u64, u64)| ProgramCost {
        program: program.into(),
        runs,
        ns,
    };
    let programs = [
        ("on_net_dev_queue", 2_000, 310_000),
        ("client_socket", 0, 0),
    ];
    summary.own = Some(OwnCost {
        cpu_ns: 130_000_000,
        records: 512,
        most_in_use: 7,
        evicted: 0,
        programs: programs.map(program).to_vec(),
    });
    summary
}

/// The example's server was stepped once.
fn example_clock() -> ClockSummary {
    ClockSummary {
        state: State::Lock,
        rate_ppm: 12.3457,
        rate_sd_ppm: 0.4321,
        counts: Counts {
            step: 1,
            ..Counts::default()
        },
        in_base_age_ns: Some(10_200_000),
    }
}

/// Hops of the example's probes.
pub fn example_hops() -> HopStats {
    let mut hops = HopStats::new();
    for result in example_results() {
        hops.record(&result.probe);
    }
    hops
}
