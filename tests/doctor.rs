//! `pingtrace doctor` names what is wrong on this host, with a remedy that helps; changes nothing and leaves nothing.

use super::harness::{Finished, Server, alone, finish, kill, program, refused, sh, start, until};
use super::kit::hold::{Hold, Means, Side, redirect};
use super::refuse::{self, Refuse};
use kit_bpf::hold::HoldSkelBuilder;
use libbpf_rs::query::ProgInfoIter;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{AsRawLibbpf, Link, ProgramAttachType, libbpf_sys};
use netns::{Lab, Namespace, Netlink};
use report::model::Direction;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr::NonNull;

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
/// `BPF_ENABLE_STATS` of `enum bpf_cmd`.
const BPF_ENABLE_STATS: u64 = 32;

/// A report, as the schema says, and the exit status that belongs to it.
struct Report {
    value: Value,
    run: Finished,
}

impl Report {
    #[track_caller]
    fn new(run: Finished) -> Self {
        let value: Value =
            serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run:#?}"));
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let schema = jsonschema::validator_for(&schema).unwrap();
        let faults: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(faults.is_empty(), "{faults:#?}: {value:#}");
        let status = i32::from(value["worst"] == "fault");
        assert_eq!(run.status, status, "{run:#?}");
        Self { value, run }
    }

    /// As root in this namespace.
    #[track_caller]
    fn of(ns: &Namespace, args: &str) -> Self {
        Self::new(finish(start(ns, &mut command(args))))
    }

    fn findings(&self, check: &str) -> impl Iterator<Item = &Value> {
        let all = self.value["findings"].as_array().unwrap().iter();
        all.filter(move |finding| finding["check"] == check)
    }

    /// The finding on this subject, or without one.
    #[track_caller]
    fn find(&self, check: &str, subject: &str) -> &Value {
        let mut of = self.findings(check);
        let found = of.find(|f| {
            f["subject"]
                .as_str()
                .unwrap_or_default()
                .starts_with(subject)
        });
        found.unwrap_or_else(|| panic!("no {check} {subject}: {:#}", self.value))
    }

    /// Its level and these words.
    #[track_caller]
    fn says(&self, (check, subject): (&str, &str), level: &str, words: &[&str]) -> &Value {
        let found = self.find(check, subject);
        assert_eq!(found["level"], level, "{found:#}");
        for word in words {
            assert!(found.to_string().contains(word), "no '{word}' in {found:#}");
        }
        found
    }

    fn hooks(&self, user: &str) -> Vec<&Value> {
        let all = self.value["hooks"].as_array().unwrap().iter();
        all.filter(|hook| hook["user"] == user).collect()
    }

    /// How often the hook of a point ran.
    fn runs(&self, point: &str) -> Option<u64> {
        let mut hooks = self.value["hooks"].as_array().unwrap().iter();
        hooks.find(|hook| hook["point"] == point)?["runs"].as_u64()
    }
}

fn command(args: &str) -> Command {
    let mut command = program();
    command
        .args(["doctor", "-o", "json"])
        .args(args.split_whitespace());
    command
}

/// With these arguments of setpriv(1).
fn with(ns: &Namespace, setpriv: &str, args: &str) -> Report {
    let mut command = Command::new("setpriv");
    command.args(setpriv.split_whitespace());
    command.arg(program().get_program());
    command
        .args(["doctor", "-o", "json"])
        .args(args.split_whitespace());
    Report::new(finish(start(ns, &mut command)))
}

const CLIENT: [&str; 7] = [
    "l_tx_devqueue",
    "l_tx_devout",
    "l_rx_softirq",
    "l_rx_napi",
    "l_rx_iprcv",
    "l_rx_skdataready",
    "l_rx_wakeup",
];
const SERVER: [&str; 6] = [
    "r_rx_softirq",
    "r_rx_napi",
    "r_rx_devrcv",
    "r_rx_icmprcv",
    "r_tx_devqueue",
    "r_tx_devout",
];
const COMPANIONS: [&str; 5] = ["irqoff", "nosched", "runqlat", "memleak", "iofsstat"];

#[test]
fn root_can_do_all_and_every_hook_is_measured() {
    let _alone = alone();
    let ns = Namespace::anonymous().unwrap();
    let report = Report::of(&ns, "");
    assert_eq!(report.run.stderr, "", "{:#?}", report.run);
    report.says(("client", ""), "ok", &["can run"]);
    report.says(("server", ""), "ok", &["can run", "(tcx)"]);
    let probes = &report.value["probes"];
    assert_eq!(
        (&probes["sent"], &probes["answered"]),
        (&200.into(), &200.into())
    );
    // Some run on other CPUs, or where no program runs.
    for point in CLIENT.iter().chain(&SERVER) {
        let runs = report.runs(point);
        assert!(
            runs.is_some_and(|runs| runs >= 100),
            "{point} {runs:?}: {:#}",
            report.value
        );
    }
    assert_eq!(report.runs("l_tx_user"), Some(1000));
    let inband = report
        .hooks("server")
        .into_iter()
        .find(|hook| hook["hook"] == "tcx/egress");
    let inband = inband.unwrap_or_else(|| panic!("{:#}", report.value));
    assert!(inband["runs"].as_u64() >= Some(200), "{inband:#}");
    for companion in COMPANIONS {
        report.find("companion", companion);
        let hooks = report.hooks(companion);
        let measured = hooks
            .iter()
            .filter(|hook| hook["mean_ns"].as_u64() > Some(0));
        assert!(measured.count() > 0, "{companion}: {hooks:#?}");
    }
    let switch = report.hooks("runqlat").into_iter().next().unwrap();
    assert_eq!(switch["hook"], "tp_btf/sched_switch");
}

/// Settings and devices of a namespace, and the programs at its loopback.
fn state(ns: &Namespace) -> String {
    let read = || {
        let mut all = String::new();
        for folder in ["net/ipv4", "net/ipv6"] {
            settings(&Path::new("/proc/sys").join(folder), &mut all);
        }
        let mut netlink = Netlink::open().unwrap();
        let (links, qdiscs) = (netlink.links().unwrap(), netlink.all_qdiscs().unwrap());
        let stats = fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").unwrap();
        format!("{all}{links:#?}{qdiscs:#?}{stats}")
    };
    ns.run(read).unwrap()
}

/// The settings in a folder and below.
fn settings(folder: &Path, all: &mut String) {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut entries: Vec<_> = entries.map(|entry| entry.path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            settings(&entry, all);
        } else {
            let value = fs::read_to_string(&entry).unwrap_or_default();
            let _ = write!(all, "{}: {value}", entry.display());
        }
    }
}

#[test]
fn nothing_is_changed_and_nothing_is_left() {
    let lab = Lab::veth_pair().unwrap();
    let before = state(&lab.client.ns);
    let report = Report::of(&lab.client.ns, "");
    assert_eq!(report.find("tcx", "lo")["found"], "none");
    assert_eq!(state(&lab.client.ns), before);
    // A second look finds nothing of the first.
    let again = Report::of(&lab.client.ns, "");
    for check in ["tcx", "tc_filter", "xdp", "qdisc"] {
        let found = |report: &Report| report.findings(check).cloned().collect::<Vec<_>>();
        assert_eq!(found(&again), found(&report));
    }
}

/// Numbers of the BPF programs that a process holds.
fn programs_of(pid: u32) -> BTreeSet<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten();
    let files = files
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok());
    let number = |text: String| {
        let number = text
            .lines()
            .find_map(|line| line.strip_prefix("prog_id:"))?;
        number.trim().parse().ok()
    };
    files.filter_map(number).collect()
}

#[test]
fn killed_it_leaves_no_program() {
    let ns = Namespace::anonymous().unwrap();
    let mut child = start(&ns, &mut command(""));
    until("its programs", || programs_of(child.id()).len() >= 10);
    let programs = programs_of(child.id());
    kill(child.id(), libc::SIGKILL);
    child.wait().unwrap();
    until("no program of it", || {
        ProgInfoIter::default().all(|program| !programs.contains(&program.id))
    });
}

const USER: &str = "--reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all";

#[test]
fn an_ordinary_user_is_told_what_is_missing() {
    let lab = Lab::veth_pair().unwrap();
    let ns = &lab.client.ns;
    let report = with(ns, USER, "");
    report.says(
        ("client", ""),
        "fault",
        &["CAP_NET_RAW", "ping_group_range="],
    );
    report.says(("server", ""), "fault", &["CAP_BPF and CAP_PERFMON"]);
    report.says(("cost", ""), "note", &["unknown", "CAP_SYS_ADMIN"]);
    report.says(("tcx", "eth0"), "note", &["unknown", "CAP_NET_ADMIN"]);
    for companion in COMPANIONS {
        report.says(
            ("companion", companion),
            "warning",
            &["cannot run", "CAP_BPF"],
        );
    }
    for capability in [
        "CAP_NET_RAW",
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_NET_ADMIN",
        "CAP_SYS_ADMIN",
    ] {
        report.says(("capability", capability), "note", &["missing"]);
    }
    assert!(report.value.get("probes").is_none(), "{:#}", report.value);
    assert_eq!(report.run.status, 1);
    // The remedy, and the one role that it helps.
    sh(ns, "sysctl -qw net.ipv4.ping_group_range='0 2147483647'");
    let report = with(ns, USER, "--role client");
    report.says(("client", ""), "warning", &["ping socket"]);
    assert_eq!(report.findings("server").count(), 0);
    assert_eq!(report.run.status, 0);
}

/// Check and subject, level, words.
type Says<'a> = ((&'a str, &'a str), &'a str, &'a [&'a str]);

#[test]
fn each_capability_that_is_taken_away_is_missed() {
    let ns = Namespace::anonymous().unwrap();
    let cases: [(&str, &[Says<'_>]); 5] = [
        (
            "net_raw",
            &[
                (("client", ""), "fault", &["CAP_NET_RAW"]),
                (("server", ""), "ok", &["(tcx)"]),
            ],
        ),
        (
            "bpf,-sys_admin",
            &[
                (("server", ""), "fault", &["CAP_BPF missing"]),
                (
                    ("client", ""),
                    "warning",
                    &["SO_TIMESTAMPING", "CAP_BPF missing"],
                ),
            ],
        ),
        (
            "net_admin",
            &[
                (("inband", ""), "warning", &["CAP_NET_ADMIN"]),
                (("server", ""), "ok", &["can run"]),
                (("tcx", "lo"), "ok", &[]),
            ],
        ),
        (
            "sys_admin",
            &[
                (("cost", ""), "note", &["unknown", "CAP_SYS_ADMIN"]),
                (("inband", ""), "note", &["unknown", "not tried"]),
                (("client", ""), "ok", &["can run"]),
            ],
        ),
        ("syslog", &[(("symbols", ""), "warning", &["CAP_SYSLOG"])]),
    ];
    sh(&ns, "ip link set lo up");
    for (without, expected) in cases {
        let setpriv = format!("--bounding-set=-{without} --inh-caps=-{without}");
        let report = with(&ns, &setpriv, "");
        for (about, level, words) in expected {
            report.says(*about, level, words);
        }
        for name in without.split(",-") {
            let capability = format!("CAP_{}", name.to_uppercase());
            report.says(("capability", &capability), "note", &["missing"]);
        }
    }
}

/// Settings that keep probes from being answered are named, and the remedy helps.
#[test]
fn settings_are_named_with_a_remedy_that_helps() {
    let lab = Lab::veth_pair().unwrap();
    let ns = &lab.server.ns;
    // Another device, by which an answer could leave.
    sh(ns, "ip link add br0 type bridge; ip link set br0 up");
    let cases = [
        ("net.ipv4.icmp_echo_ignore_all=1", ("echo", "IPv4"), "fault"),
        ("net.ipv6.icmp.echo_ignore_all=1", ("echo", "IPv6"), "fault"),
        (
            "net.ipv4.icmp_ratemask=6169",
            ("echo_rate", "IPv4"),
            "warning",
        ),
        (
            "net.ipv6.icmp.ratemask=129",
            ("echo_rate", "IPv6"),
            "warning",
        ),
        (
            "net.ipv4.conf.all.rp_filter=1",
            ("rp_filter", "eth0"),
            "warning",
        ),
    ];
    let fine = Report::of(ns, "");
    for (_, (check, subject), _) in cases {
        let mut of = fine.findings(check);
        let found = of.find(|f| {
            f["subject"]
                .as_str()
                .unwrap_or_default()
                .starts_with(subject)
        });
        assert!(found.is_none_or(|f| f["level"] == "ok"), "{found:#?}");
    }
    for (setting, ..) in cases {
        sh(ns, &format!("sysctl -qw {setting}"));
    }
    let report = Report::of(ns, "");
    for (setting, about, level) in cases {
        let found = report.says(about, level, &[]);
        let remedy = found["remedy"]
            .as_str()
            .unwrap_or_else(|| panic!("{found:#}"));
        let remedy: Vec<_> = remedy.split([',', ' ']).collect();
        assert_eq!(remedy[..2], ["sysctl", "-w"], "{setting}: {found:#}");
        sh(ns, &format!("sysctl -qw {}", remedy[2]));
    }
    let healed = Report::of(ns, "");
    assert_ne!(healed.value["worst"], "fault", "{:#}", healed.value);
    for (_, about, _) in cases {
        let left = healed.findings(about.0).filter(|f| f["level"] != "ok");
        assert_eq!(left.count(), 0, "{about:?}: {:#}", healed.value);
    }
    // The limit itself is said, and that there is none; a client does not answer.
    sh(
        ns,
        "sysctl -qw net.ipv4.icmp_ratelimit=400 net.ipv4.icmp_ratemask=6169",
    );
    let limited = Report::of(ns, "--role server");
    limited.says(("echo_rate", "IPv4"), "warning", &["400 ms", "-i 400ms"]);
    sh(
        ns,
        "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_echo_ignore_all=1",
    );
    let client = Report::of(ns, "--role client");
    client.says(
        ("error_rate", ""),
        "note",
        &["not limited", "icmp_ratelimit=1000"],
    );
    assert_eq!((client.run.status, client.findings("echo").count()), (0, 0));
}

/// Attaches a program of the tests at TCX of a device of the thread's namespace.
fn tcx(ifindex: u32) -> Link {
    let mut storage = MaybeUninit::uninit();
    let mut open = HoldSkelBuilder::default().open(&mut storage).unwrap();
    for mut program in open.open_object_mut().progs_mut() {
        let wanted = program.name() == "burn_time";
        program.set_autoload(wanted);
        program.set_attach_type(ProgramAttachType::TcxEgress);
    }
    let skel = open.load().unwrap();
    let program = skel.progs.burn_time.as_libbpf_object();
    // SAFETY: the program is loaded; null options are allowed; a link that nobody else owns.
    unsafe {
        let link = libbpf_sys::bpf_program__attach_tcx(
            program.as_ptr(),
            ifindex.cast_signed(),
            std::ptr::null(),
        );
        Link::from_ptr(NonNull::new(link).expect("a TCX link"))
    }
}

#[test]
fn other_peoples_programs_are_named() {
    let lab = Lab::veth_pair().unwrap();
    let (ns, dev) = (&lab.server.ns, lab.server.dev.as_str());
    let checks = ["tcx", "tc_filter", "xdp", "qdisc"];
    let fine = Report::of(ns, "");
    for check in checks {
        fine.says((check, dev), "ok", &[]);
    }
    // pingtrace's own is not another's.
    let server = Server::start(ns, "--nslocal");
    let beside = Report::of(ns, "");
    beside.says(("tcx", dev), "ok", &["pingtrace's own"]);
    drop(server);
    let hold = Hold {
        ns,
        dev,
        side: Side::Ingress,
        direction: Direction::Request,
        means: Means::Drop,
        l3: 14,
        chosen: &[],
    };
    hold.attach();
    let _links = {
        let _guard = ns.enter().unwrap();
        (tcx(lab.server.ifindex), redirect("xdp_pass", dev, dev))
    };
    sh(
        ns,
        &format!("tc qdisc add dev {dev} root tbf rate 1gbit burst 100k limit 1m"),
    );
    let report = Report::of(ns, "");
    report.says(
        ("tcx", dev),
        "note",
        &[
            "burn_time",
            "egress",
            &format!("bpftool net show dev {dev}"),
        ],
    );
    report.says(
        ("tc_filter", dev),
        "note",
        &["drop", "ingress", &format!("tc filter show dev {dev}")],
    );
    report.says(
        ("xdp", dev),
        "note",
        &["xdp_pass", "native", &format!("bpftool net show dev {dev}")],
    );
    report.says(("qdisc", dev), "note", &["tbf", "l_tx_qdisc"]);
    assert_eq!(report.run.status, 0, "{:#?}", report.run);
}

#[test]
fn tunnels_are_followed_or_not() {
    let lab = Lab::veth_pair().unwrap();
    let _overlay = lab.vxlan(false).unwrap();
    let ns = &lab.client.ns;
    sh(ns, "ip tuntap add dev vpn0 mode tun; ip link set vpn0 up");
    let report = Report::of(ns, "");
    report.says(("tunnel", "vx0"), "ok", &["vxlan", "4789"]);
    report.says(("tunnel", "vpn0"), "note", &["tun", "not followed"]);
}

/// Namespaces of others are named: those that cannot be entered, and those that may not even be looked at.
#[test]
fn namespaces_that_are_closed_are_said() {
    let (ns, other) = (
        Namespace::anonymous().unwrap(),
        Namespace::anonymous().unwrap(),
    );
    let mut resident = start(&other, Command::new("sleep").arg("100"));
    let name = format!("sleep/{}", resident.id());
    let open = Report::of(&ns, "--role client");
    let closed = |report: &Report| report.findings("namespaces").any(|f| f["subject"] == *name);
    assert!(!closed(&open), "{:#}", open.value);
    let without = |what: &str| {
        with(
            &ns,
            &format!("--bounding-set=-{what} --inh-caps=-{what}"),
            "--role client",
        )
    };
    let report = without("sys_admin");
    report.says(
        ("namespaces", &name),
        "note",
        &["cannot be entered", "CAP_SYS_ADMIN"],
    );
    // Of another user, as all of root's are to an ordinary one.
    let report = with(&ns, USER, "--role client");
    report.says(
        ("namespaces", ""),
        "note",
        &["may not be looked at", "CAP_SYS_PTRACE"],
    );
    kill(resident.id(), libc::SIGKILL);
    resident.wait().unwrap();
}

/// What the other role needs is not reported.
#[test]
fn a_role_has_its_own_findings_and_hooks() {
    let ns = Namespace::anonymous().unwrap();
    for (role, other, points) in [
        ("client", "server", &CLIENT[..]),
        ("server", "client", &SERVER),
    ] {
        let report = Report::of(&ns, &format!("--role {role}"));
        assert_eq!(report.findings(other).count(), 0, "{:#}", report.value);
        assert_eq!(report.hooks(other), Vec::<&Value>::new());
        for point in points {
            assert!(report.runs(point).is_some(), "{point}: {:#}", report.value);
        }
    }
}

/// A kernel that refuses a program, or its accounting, is said where that matters.
#[test]
fn what_the_kernel_refuses_is_said() {
    let ns = Namespace::anonymous().unwrap();
    let run = |refuse| {
        let spawn = || {
            let mut command = command("");
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            refuse::spawn(&mut command, refuse)
        };
        Report::new(finish(ns.run(spawn).unwrap()))
    };
    let report = run(Refuse::Program("on_sched_wakeup"));
    report.says(("point", "l_rx_wakeup"), "warning", &["sched_wakeup"]);
    assert_eq!(report.runs("l_rx_wakeup"), None);
    assert!(report.runs("l_rx_iprcv").is_some());
    let report = run(Refuse::Command(BPF_ENABLE_STATS));
    report.says(("cost", ""), "note", &["unknown", "not permitted"]);
    report.says(("client", ""), "ok", &["can run"]);
    let measured = report.value["hooks"].as_array().unwrap().iter();
    let measured =
        measured.filter(|hook| hook.get("runs").is_some() && hook.get("program").is_some());
    assert_eq!(measured.count(), 0, "{:#}", report.value);
}

#[test]
fn text_has_the_worst_first() {
    let lab = Lab::veth_pair().unwrap();
    let ns = &lab.server.ns;
    sh(
        ns,
        "sysctl -qw net.ipv4.icmp_echo_ignore_all=1 net.ipv4.icmp_ratemask=6169",
    );
    let run = finish(start(ns, program().arg("doctor")));
    assert_eq!(run.status, 1, "{run:#?}");
    assert!(
        run.stderr.ends_with("doctor: faults found: 1\n"),
        "{run:#?}"
    );
    let place = |words: &str| {
        let found = run.stdout.find(words);
        found.unwrap_or_else(|| panic!("no '{words}' in {}", run.stdout))
    };
    let parts = [
        ": 1 fault, 1 warning",
        "FAULT    echo IPv4",
        "-> sysctl -w net.ipv4.icmp_echo_ignore_all=0",
        "WARNING  echo rate IPv4",
        "note ",
        "\nok ",
        "point            role    hook",
        "l_tx_devqueue    client  tp_btf/net_dev_queue",
        "companion hooks",
        "\nirqoff ",
    ];
    assert!(parts.map(place).is_sorted(), "{}", run.stdout);
}

#[test]
fn a_wrong_command_line_is_refused() {
    let ns = Namespace::anonymous().unwrap();
    for (args, words) in [
        ("doctor web1", &["the host that it runs on", "'web1'"][..]),
        ("doctor --role none", &["'none'", "client, server, both"]),
        ("doctor -o csv", &["'csv'", "text, json"]),
        ("doctor -c web1", &["'-c'"]),
        ("doctor --fix", &["'--fix'"]),
    ] {
        let run = finish(start(&ns, program().args(args.split(' '))));
        assert_eq!(
            (run.status, run.stdout.as_str()),
            (2, ""),
            "{args}: {run:#?}"
        );
        for word in words {
            assert!(
                run.stderr.contains(word),
                "{args}: no '{word}' in {}",
                run.stderr
            );
        }
    }
    let run = finish(start(&ns, program().args(["doctor", "web1"])));
    refused(&run, 2, &["so run it on web1"]);
}
