//! Metrics: what a scrape says is what the run says, to those who may ask, and a probe waits for none of it.

use super::harness::{Client, Finished, Server, client, finish, program, refused, start, until};
use netns::{Lab, Namespace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tempfile::TempDir;

/// What curl says, in a namespace.
fn curl(ns: &Namespace, args: &str) -> Output {
    let mut command = Command::new("curl");
    command
        .args(["-s", "--max-time", "20"])
        .args(args.split(' '));
    start(ns, &mut command).wait_with_output().unwrap()
}

fn body(ns: &Namespace, args: &str) -> String {
    String::from_utf8(curl(ns, args).stdout).unwrap()
}

/// The series of a page in text, and their values.
fn series(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect(line);
        (name, value.parse().expect(line))
    });
    series.collect()
}

/// The series of a family whose labels have these words, added up.
fn sum(page: &str, family: &str, words: &str) -> u64 {
    let all = series(page).into_iter();
    let of = all.filter(|(name, _)| name.split('{').next() == Some(family) && name.contains(words));
    of.map(|(_, value)| value as u64).sum()
}

#[test]
fn the_file_says_what_the_run_says() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pingtrace.prom");
    let args = format!(
        "-c 10.77.0.2 --nslocal -i 2ms -C 100 -m 1us -o json --metrics-file {}",
        path.display()
    );
    let run = client(&lab.client.ns, &args);
    assert_eq!(run.status, 0, "{run:#?}");
    let (stat, page) = (run.stat(), fs::read_to_string(&path).unwrap());
    let counts = |key: &str| stat[key].as_u64().unwrap();
    let probes = |result: &str| sum(&page, "pingtrace_probes_total", &format!("\"{result}\""));
    assert_eq!(probes("ok") + probes("late"), counts("replied"), "{page}");
    assert_eq!(probes("lost"), counts("lost") + counts("amended"));
    let rtt = |what| sum(&page, &format!("pingtrace_rtt_seconds_{what}"), "10.77.0.2");
    assert_eq!(rtt("count"), counts("replied"));
    let slow = stat["slow"]["probes"].as_u64().unwrap();
    assert_eq!(
        sum(&page, "pingtrace_slow_probes_total", ""),
        slow,
        "{page}"
    );
    // The mean of each segment is the summary's.
    let all = series(&page);
    for delay in stat["delays"].as_array().unwrap() {
        let Some(name) = delay["delay"]
            .as_str()
            .filter(|n| *n != "total" && *n != "response")
        else {
            continue;
        };
        let of = |what: &str| {
            let prefix = format!("pingtrace_segment_seconds_{what}{{segment=\"{name}\"");
            let mut found = all.iter().filter(|(series, _)| series.starts_with(&prefix));
            *found
                .next()
                .unwrap_or_else(|| panic!("no {name} in {page}"))
                .1
        };
        assert_eq!(
            of("count") as u64,
            delay["count"].as_u64().unwrap(),
            "{name}"
        );
        let mean_ns = of("sum") * 1e9 / of("count");
        let exact = delay["mean"].as_f64().unwrap();
        assert!(
            (mean_ns - exact).abs() <= 1.0 + exact * 1e-6,
            "{name}: {mean_ns} for {exact}"
        );
    }
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
}

#[test]
fn a_scrape_is_answered_in_the_format_that_it_asks_for() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = "-c 10.77.0.2 --nslocal -i 2ms -m 1us -o json --metrics 9500";
    let run = Client::start(&lab.client.ns, args);
    let ns = &lab.client.ns;
    let url = "http://127.0.0.1:9500/metrics";
    until("probes are counted", || {
        sum(&body(ns, url), "pingtrace_probes_total", "\"ok\"") >= 10
    });
    let first = body(ns, url);
    // 80 series and two lines more for each histogram: text has no native ones.
    let histograms = series(&first)
        .keys()
        .filter(|name| name.contains("_bucket{"))
        .count();
    assert!(series(&first).len() - 2 * histograms <= 80, "{first}");
    let open = body(ns, &format!("-H Accept:application/openmetrics-text {url}"));
    assert!(open.ends_with("# EOF\n"), "{open}");
    let slow = open
        .lines()
        .find(|l| l.starts_with("pingtrace_slow_probes_total{"))
        .unwrap();
    assert!(
        slow.contains(" # {session=\"") && slow.contains("sequence=\""),
        "{slow}"
    );
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let protobuf = curl(ns, &format!("-i -H Accept:{accept} {url}")).stdout;
    let text = String::from_utf8_lossy(&protobuf);
    assert!(
        text.contains("Content-Type: application/vnd.google.protobuf;"),
        "{text}"
    );
    assert!(text.contains("pingtrace_rtt_seconds"), "{text}");
    assert!(body(ns, "-i http://127.0.0.1:9500/x").starts_with("HTTP/1.1 404"));
    assert!(body(ns, &format!("-i -X POST {url}")).starts_with("HTTP/1.1 405"));
    // Counters only grow.
    let (before, last) = (series(&first), body(ns, url));
    let after = series(&last);
    for (name, value) in before.iter().filter(|(name, _)| name.contains("_total{")) {
        assert!(after[name] >= *value, "{name}");
    }
    let end = run.stop();
    let replied = end.stat()["replied"].as_u64().unwrap();
    let ok = sum(&last, "pingtrace_probes_total", "\"ok\"");
    assert!(ok > 0 && ok <= replied, "{ok} of {replied}");
}

/// Clients that send nothing, half a request, or read nothing keep nobody from an answer.
#[test]
fn slow_readers_keep_nobody_waiting() {
    let lab = Lab::veth_pair().unwrap();
    let args = "-c 10.77.0.2 -i 10ms -m 1s -o json --metrics 9500";
    let mut run = Client::start(&lab.client.ns, args);
    run.hear("http://127.0.0.1:9500/metrics");
    let ns = &lab.client.ns;
    let connect = || {
        ns.run(|| TcpStream::connect("127.0.0.1:9500").unwrap())
            .unwrap()
    };
    let idle: Vec<_> = (0..10).map(|_| connect()).collect();
    let mut half = connect();
    half.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
    let url = "http://127.0.0.1:9500/metrics";
    assert!(body(ns, url).contains("pingtrace_build_info{"));
    // Those that are too many are closed, and are not answered later either.
    let many: Vec<_> = (0..10).map(|_| connect()).collect();
    let mut last = connect();
    assert_eq!(last.read(&mut [0; 10]).unwrap_or(0), 0, "closed at once");
    drop((idle, half, many));
    until("there is room again", || {
        sum(&body(ns, url), "pingtrace_probes_total", "\"ok\"") > 0
    });
    let end = run.stop();
    assert_eq!(end.status, 0, "{end:#?}");
}

/// Threads that answer come and go while all threads are confined.
#[test]
fn scrapes_while_a_run_starts_do_not_end_it() {
    let lab = Lab::veth_pair().unwrap();
    let ns = &lab.client.ns;
    for _ in 0..3 {
        let ready = AtomicBool::new(false);
        let ask = || {
            while !ready.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect("127.0.0.1:9500") else {
                    continue;
                };
                let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
                let _ = stream.read(&mut [0; 100]);
            }
        };
        let run = thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| ns.run(ask).unwrap());
            }
            let args = "-c 10.77.0.2 -i 10ms -C 1 -o json --metrics 9500";
            let run = client(ns, args);
            ready.store(true, Ordering::Relaxed);
            run
        });
        assert_eq!(run.stat()["sent"], 1, "{run:#?}");
    }
}

/// A certificate of 127.0.0.1 that vouches for itself, and its key: `a.crt`, `a.key`.
pub(super) fn openssl(directory: &TempDir) {
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(' '),
        )
        .args("-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE".split(' '))
        .args(["-keyout", "a.key", "-out", "a.crt"])
        .current_dir(directory.path())
        .output();
    let made = made.expect("openssl");
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn tls_and_passwords_are_asked_for_and_read_again() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    openssl(&directory);
    let web = directory.path().join("web.yml");
    let tls = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";
    let users = |password| {
        let hash = bcrypt::hash(password, 4).unwrap();
        format!("{tls}basic_auth_users:\n  alice: {hash}\n")
    };
    fs::write(&web, users("one")).unwrap();
    let server = Server::start(
        &lab.server.ns,
        &format!("--nslocal --metrics 9500 --web-config {}", web.display()),
    );
    let ns = &lab.server.ns;
    let trust = format!("--cacert {}/a.crt", directory.path().display());
    let url = "https://127.0.0.1:9500/metrics";
    assert!(body(ns, &format!("{trust} -u alice:one {url}")).contains("pingtrace_build_info{"));
    for refused in [
        url.to_owned(),
        format!("-u alice:two {url}"),
        format!("-u bob:one {url}"),
    ] {
        let said = body(ns, &format!("-i {trust} {refused}"));
        assert!(said.starts_with("HTTP/1.1 401"), "{said}");
        assert!(!said.contains("pingtrace_"), "{said}");
    }
    let plain = curl(ns, "http://127.0.0.1:9500/metrics");
    assert!(!String::from_utf8_lossy(&plain.stdout).contains("pingtrace_"));
    fs::write(&web, users("two")).unwrap();
    assert!(body(ns, &format!("{trust} -u alice:two {url}")).contains("pingtrace_build_info{"));
    assert!(body(ns, &format!("-i {trust} -u alice:one {url}")).contains("401"));
    let (_, story) = server.stop(libc::SIGTERM);
    let again = story.iter().filter(|line| line.contains("web.yml again"));
    assert_eq!(again.count(), 1, "{story:#?}");
}

#[test]
fn what_cannot_be_served_is_said_before_the_first_probe() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let web = directory.path().join("web.yml");
    fs::write(&web, "tls_config: {}").unwrap();
    let mut first = Client::start(&lab.client.ns, "-c 10.77.0.2 -m 1s -o json --metrics 9500");
    first.hear("http://127.0.0.1:9500/metrics");
    let web = format!("--metrics 9501 --web-config {}", web.display());
    for (args, status, words) in [
        (
            "--metrics 9500",
            1,
            &["127.0.0.1:9500", "address already in use", "free port"][..],
        ),
        (
            "--metrics 10.1.2.3:9500",
            1,
            &["10.1.2.3:9500", "an address of this host"],
        ),
        (
            "--metrics :9500",
            2,
            &["127.0.0.1:9500 is for this host alone"],
        ),
        (&web, 1, &["line 1", "`tls_config`", "tls_server_config"]),
        (
            "--metrics-file /nonexistent/x",
            1,
            &["--metrics-file", "/nonexistent/x"],
        ),
    ] {
        let done = client(&lab.client.ns, &format!("-c 10.77.0.2 -C 1 {args}"));
        refused(&done, status, words);
    }
}

/// A client in a mount namespace of its own, in which this directory is at `place`.
fn with_mount(lab: &Lab, directory: &TempDir, place: &str, args: &str) -> Finished {
    let directory = directory.path().display();
    let script = format!("mount --bind {directory} {place} && exec \"$0\" {args}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command.arg(program().get_program());
    finish(start(&lab.client.ns, &mut command))
}

#[test]
fn lost_probes_are_events_in_the_journal() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let args = "-c 10.77.0.9 -i 10ms -W 50ms -C 3 -o journald";
    let run = with_mount(&lab, &directory, "/run", args);
    refused(
        &run,
        1,
        &["/run/systemd/journal/socket", "systemd-journald must run"],
    );
    let socket = directory.path().join("systemd/journal/socket");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let journal = UnixDatagram::bind(socket).unwrap();
    let run = with_mount(&lab, &directory, "/run", args);
    assert_eq!((run.status, run.stdout.as_str()), (3, ""), "{run:#?}");
    let mut buffer = vec![0; 65_536];
    for sequence in 0..3 {
        let length = journal.recv(&mut buffer).unwrap();
        let event = String::from_utf8_lossy(&buffer[..length]);
        for field in [
            "PINGTRACE_EVENT=lost\n",
            "PINGTRACE_TARGET=10.77.0.9\n",
            "PRIORITY=4\n",
            &format!("PINGTRACE_SEQUENCE={sequence}\n"),
        ] {
            assert!(event.contains(field), "no {field} in {event}");
        }
        let line = event
            .lines()
            .find_map(|l| l.strip_prefix("MESSAGE="))
            .unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["type"], &line["seq"]),
            (&"probe".into(), &sequence.into())
        );
    }
    journal.set_nonblocking(true).unwrap();
    assert!(journal.recv(&mut buffer).is_err(), "three events");
}

#[test]
fn slow_and_lost_probes_are_lines_in_syslog() {
    let lab = Lab::veth_pair().unwrap();
    let directory = TempDir::new().unwrap();
    let args = "-c 10.77.0.2 -c 10.77.0.9 -i 10ms -W 50ms -m 1 -C 3 -o syslog";
    let run = with_mount(&lab, &directory, "/dev", args);
    refused(&run, 1, &["/dev/log", "a syslog daemon", "must run"]);
    let log = UnixDatagram::bind(directory.path().join("log")).unwrap();
    let run = with_mount(&lab, &directory, "/dev", args);
    assert_eq!((run.status, run.stdout.as_str()), (0, ""), "{run:#?}");
    log.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 65_536];
    let mut seen = Vec::new();
    while let Ok(length) = log.recv(&mut buffer) {
        let line = std::str::from_utf8(&buffer[..length]).unwrap();
        let (head, event) = line.split_once(": ").expect("a tag");
        assert!(head.contains(" pingtrace["), "{line}");
        let event: Value = serde_json::from_str(event).unwrap();
        let target = event["target"].as_str().unwrap().to_owned();
        let priority = head.split_once('>').unwrap().0.to_owned();
        seen.push((target, event["seq"].as_u64().unwrap(), priority));
    }
    seen.sort();
    // Of daemons: notices and warnings.
    let wanted = [("10.77.0.2", "<29"), ("10.77.0.9", "<28")].map(|(target, priority)| {
        [0, 1, 2].map(|sequence| (target.to_owned(), sequence, priority.to_owned()))
    });
    assert_eq!(seen, wanted.concat());
}
