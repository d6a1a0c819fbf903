//! What `pingtrace doctor` found, as text (compared with `data/text/doctor.txt`) and as JSON. After a wanted
//! change, look at what `UPDATE_SNAPSHOTS=1 cargo test -p report --test doctor` writes there.

use std::{env, fs};

use report::format::json::doctor_line;
use report::format::{doctor, style::Style};
use report::model::{Check, Finding, Hook, HookUser, HostReport, Level, Measured, Point};
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../schema/pingtrace.schema.json");
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/text/doctor.txt");

fn hook(user: HookUser, point: Option<Point>, hook: &str, cost: Option<(u64, u64)>) -> Hook {
    Hook {
        user,
        point,
        hook: hook.into(),
        program: Some(format!("on_{}", hook.rsplit('/').next().unwrap())),
        cost: cost.map(|(runs, mean_ns)| Measured { runs, mean_ns }),
    }
}

/// A host with findings of every level, and hooks that ran and that did not.
fn example() -> HostReport {
    let tcx = |device: &str| Finding::ok(Check::Tcx, "none").of(device);
    let closed = |k| {
        let finding = Finding::note(
            Check::Namespaces,
            "cannot be entered: operation not permitted",
        );
        finding
            .of(format!("web{k}"))
            .remedy("CAP_SYS_ADMIN and CAP_SYS_PTRACE")
    };
    let mut findings = vec![
        tcx("lo"),
        tcx("eth0"),
        Finding::warning(
            Check::ClockSource,
            "hpet, 1.20 us a reading: each stamp takes that long",
        )
        .remedy("echo tsc >/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        Finding::fault(Check::Echo, "all echo requests are ignored")
            .of("IPv4")
            .remedy("sysctl -w net.ipv4.icmp_echo_ignore_all=0"),
        Finding::unknown(Check::Lockdown, "permission denied"),
        Finding::ok(Check::Client, "can run, with 9 points in the kernel"),
    ];
    findings.extend((0..12).map(closed));
    // Each has the remedy for its device, which the text gives once.
    findings.extend(["eth0", "eth1"].map(|device| {
        let finding = Finding::note(Check::Offload, "LRO is on").of(device);
        finding.remedy(format!("ethtool -K {device} lro off"))
    }));
    HostReport {
        host: Some("web1\u{1b}".into()),
        kernel: "6.12.0".into(),
        time_unix_ns: 1_767_225_660_000_000_000,
        probes: Some((200, 199)),
        findings,
        hooks: vec![
            hook(
                HookUser::Client,
                Some(Point::LTxDevqueue),
                "tp_btf/net_dev_queue",
                Some((516, 285)),
            ),
            hook(HookUser::Client, None, "tp_btf/kfree_skb", None),
            hook(
                HookUser::Server,
                Some(Point::RRxIcmprcv),
                "fentry",
                Some((220, 202)),
            ),
            hook(
                HookUser::Irqoff,
                None,
                "tp_btf/sched_switch",
                Some((900, 304)),
            ),
            hook(HookUser::Irqoff, None, "raw_tp/hrtimer_expire_entry", None),
        ],
    }
}

#[test]
fn text() {
    let found = doctor::text(&example());
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(SNAPSHOT, &found).expect("write the snapshot");
    }
    let expected = fs::read_to_string(SNAPSHOT).expect("the snapshot");
    assert!(found == expected, "expected:\n{expected}\nfound:\n{found}");
    for line in found.lines() {
        assert_eq!(line, line.trim_end());
    }
}

#[test]
fn text_fits_the_terminal() {
    for width in 75..130 {
        let style = Style {
            width: Some(width),
            color: false,
        };
        for line in style.render(&doctor::text(&example())).lines() {
            let is_word = !line.trim().contains(' ');
            assert!(is_word || line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn a_host_without_findings_is_well() {
    let report = HostReport {
        findings: vec![Finding::ok(Check::Kernel, "6.12.0")],
        hooks: Vec::new(),
        host: None,
        ..example()
    };
    assert_eq!(report.worst(), Level::Ok);
    let text = doctor::text(&report);
    assert_eq!(
        text,
        "this host, Linux 6.12.0: all is well\n\nok       kernel: 6.12.0\n"
    );
}

fn schema() -> (Value, jsonschema::Validator) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("schema");
    (schema, validator)
}

#[test]
fn the_line_matches_the_schema_and_broken_ones_do_not() {
    let (_, schema) = schema();
    let line = doctor_line(&example());
    assert!(!line.contains('\n') && !line.contains('\u{1b}'));
    let good: Value = serde_json::from_str(&line).expect("JSON");
    let errors: Vec<String> = schema.iter_errors(&good).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{line}\n{errors:#?}");
    assert_eq!(good["worst"], "fault");
    assert_eq!(good["findings"][0]["check"], "client");
    for (pointer, value) in [
        ("/worst", json!("bad")),
        ("/findings/0/check", json!("moon")),
        ("/findings/0/level", json!("error")),
        ("/findings/0/found", json!(1)),
        ("/hooks/0/user", json!("ping")),
        ("/hooks/0/point", json!("l_tx_users")),
        ("/hooks/0/runs", json!(0)),
        ("/probes", json!({"sent": 200})),
    ] {
        let mut broken = good.clone();
        *broken.pointer_mut(pointer).expect(pointer) = value;
        assert!(!schema.is_valid(&broken), "{pointer} should be refused");
    }
    let mut broken = good.clone();
    broken["hooks"][0]
        .as_object_mut()
        .unwrap()
        .remove("mean_ns");
    assert!(
        !schema.is_valid(&broken),
        "runs without mean_ns should be refused"
    );
}

/// The schema lists names that the model defines: neither may know one more than the other.
#[test]
fn the_schema_knows_every_name() {
    let (schema, _) = schema();
    let listed = |pointer: &str| -> Vec<String> {
        serde_json::from_value(schema.pointer(pointer).expect("enum").clone()).expect("strings")
    };
    let checks: Vec<_> = Check::ALL.iter().map(|check| check.name()).collect();
    assert_eq!(listed("/$defs/finding/properties/check/enum"), checks);
    let levels: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
    assert_eq!(listed("/$defs/level/enum"), levels);
    let users: Vec<_> = HookUser::ALL.iter().map(|user| user.name()).collect();
    assert_eq!(listed("/$defs/hook/properties/user/enum"), users);
}
