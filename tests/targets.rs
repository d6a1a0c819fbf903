//! Several hosts that one client probes.

use super::harness::{
    Client, Finished, Server, client, delay, kill, page, refused, sh, status, until,
};
use netns::Lab;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Two hosts; the server has this many more addresses, from 10.77.0.10 on.
fn lab(more: usize) -> Lab {
    let lab = Lab::veth_pair().unwrap();
    let dev = &lab.server.dev;
    let add = |k| format!("ip address add 10.77.0.{}/24 dev {dev}; ", 10 + k);
    sh(&lab.server.ns, &(0..more).map(add).collect::<String>());
    lab
}

fn address(k: usize) -> String {
    format!("10.77.0.{}", 10 + k)
}

/// A list of targets in a file.
struct List {
    directory: TempDir,
}

impl List {
    fn new(groups: &Value) -> Self {
        let list = Self {
            directory: TempDir::new().unwrap(),
        };
        list.write(&groups.to_string());
        list
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("targets.json")
    }

    /// In place of the old one, as who deploys it does.
    fn write(&self, text: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn option(&self) -> String {
        format!("--targets {}", self.path().display())
    }
}

/// The last statistics of each target.
fn by_target(run: &Finished) -> BTreeMap<String, Value> {
    let name = |line: &Value| line["target"].as_str().expect("a target").to_owned();
    run.lines("stat")
        .into_iter()
        .map(|line| (name(&line), line))
        .collect()
}

/// Sent, answered, lost.
fn books(stat: &Value) -> [u64; 3] {
    ["sent", "replied", "lost"].map(|key| stat[key].as_u64().unwrap())
}

#[test]
fn each_target_has_its_books_and_a_dead_one_costs_the_others_nothing() {
    let lab = lab(2);
    let _server = Server::start(&lab.server.ns, "");
    let (a, b) = (address(0), address(1));
    let run = client(
        &lab.client.ns,
        &format!("-c {a} -c 10.77.0.99 -c {b} -C 40 -i 20ms -W 200ms -o json"),
    );
    assert_eq!(run.status, 0, "{run:#?}");
    let all = by_target(&run);
    for target in [&a, &b] {
        assert_eq!(books(&all[target]), [40, 40, 0], "{target}");
        let mine = run
            .probes()
            .into_iter()
            .filter(|probe| probe["target"] == **target);
        let mine: Vec<Value> = mine.collect();
        assert!(mine.len() == 40 && mine.iter().all(|probe| probe["peer"] == **target));
        // Both ends stamped each.
        assert!(
            mine.iter()
                .all(|p| status(p) == "ok" && delay(p, "r_rx_kern") > 0)
        );
    }
    let [sent, replied, _] = books(&all["10.77.0.99"]);
    assert_eq!((sent, replied), (40, 0));
    // The cost is that of all together.
    let [cost] = &run.lines("cost")[..] else {
        panic!("{run:#?}")
    };
    assert!(cost["self"]["cpu_ns"].as_u64().unwrap() > 0, "{cost}");
    assert!(cost["self"]["most_in_use"].as_u64().unwrap() > 0, "{cost}");
    assert!(all.values().all(|stat| stat.get("self").is_none()));
}

#[test]
fn two_hundred_targets_are_probed_by_one_process() {
    let lab = lab(200);
    let _server = Server::start(&lab.server.ns, "");
    let hosts: Vec<String> = (0..200).map(address).collect();
    let list = List::new(&json!([{ "targets": hosts }]));
    let run = client(
        &lab.client.ns,
        &format!("{} -C 3 -i 500ms -o json", list.option()),
    );
    assert_eq!(run.status, 0, "{}", run.stderr);
    let all = by_target(&run);
    assert_eq!(all.len(), 200);
    for (target, stat) in &all {
        assert_eq!(books(stat), [3, 3, 0], "{target}");
        assert_eq!(stat["no_remote"].as_u64().unwrap_or(0), 0, "{target}");
    }
}

#[test]
fn labels_say_how_a_target_is_probed() {
    let lab = lab(1);
    sh(
        &lab.client.ns,
        &format!("ip address add 10.77.0.200/24 dev {}", lab.client.dev),
    );
    let server = Server::start(&lab.server.ns, "");
    let host = address(0);
    let list = List::new(&json!([
        {"targets": [format!("{host}:9100")], "labels": {"rack": "r1"}},
        {"targets": [host], "labels": {
            "rack": "r2", "__pingtrace_interval": "5ms", "__pingtrace_size": "256",
            "__pingtrace_dscp": "46", "__pingtrace_source": "10.77.0.200", "__meta_zone": "x",
        }},
    ]));
    let run = client(
        &lab.client.ns,
        &format!("{} -C 20 -i 50ms -o json", list.option()),
    );
    assert_eq!(run.status, 0, "{run:#?}");
    let own = format!("{host} [interval=5ms,size=256,tos=184,source=10.77.0.200]");
    let all = by_target(&run);
    assert_eq!(all.keys().collect::<Vec<_>>(), [&host, &own]);
    for (target, stat) in &all {
        assert_eq!(books(stat), [20, 20, 0], "{target}");
    }
    let runs = run.lines("run");
    let of = |name: &str| runs.iter().rfind(|run| run["target"] == *name).unwrap();
    assert_eq!(of(&host)["labels"], json!({"rack": "r1"}));
    assert_eq!(of(&own)["labels"], json!({"rack": "r2"}));
    assert_eq!(
        (&of(&own)["size"], &of(&own)["interval_ns"]),
        (&json!(256), &json!(5_000_000))
    );
    assert_eq!(of(&own)["client"]["addr"], "10.77.0.200");
    // The server saw it: a session of each address.
    kill(server.pid(), libc::SIGUSR1);
    let (_, said) = server.stop(libc::SIGINT);
    let from = |address: &str| said.iter().any(|line| line.contains(address));
    assert!(from("10.77.0.200") && from("10.77.0.1"), "{said:#?}");
}

#[test]
fn a_list_is_followed_and_a_broken_one_changes_nothing() {
    let lab = lab(3);
    let _server = Server::start(&lab.server.ns, "");
    let [a, b, c] = [0, 1, 2].map(address);
    let list = List::new(&json!([{ "targets": [a, b] }]));
    let mut run = Client::start(
        &lab.client.ns,
        &format!("{} -i 10ms -o json", list.option()),
    );
    run.hear(&format!("{b}: server stamps"));
    list.write(&json!([{ "targets": [a, c] }]).to_string());
    run.hear("targets: 1 join, 1 leave");
    run.hear(&format!("{c}: server stamps"));
    list.write("[{\"targets\": [\n\"http://x/\"]}]");
    run.hear("line 2: 'http://x/' is a URL");
    kill(run.pid(), libc::SIGHUP);
    run.hear("the targets stay as they are");
    list.write(&json!([{ "targets": [a], "labels": {"ra-ck": "r1"} }]).to_string());
    run.hear("line 1: 'ra-ck' is no name of a label: letters, digits and _, no digit first; the targets stay as they are");
    list.write(&json!([{ "targets": [a, b, c] }]).to_string());
    run.hear("targets: 1 join, 0 leave");
    run.hear(&format!("{b}: server stamps"));
    let done = run.stop();
    assert_eq!(done.status, 0, "{}", done.stderr);
    let ends = done.lines("stat");
    let of = |target: &str| {
        ends.iter()
            .filter(|end| end["target"] == *target)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of(&a).len(), of(&b).len(), of(&c).len()),
        (1, 2, 1),
        "{}",
        done.stderr
    );
    for end in &ends {
        let [out, back, gone] = books(end);
        let in_flight = end["in_flight"].as_u64().unwrap_or(0);
        assert!(back > 0 && out == back + gone + in_flight, "{end}");
    }
}

/// As two that are written within a tick of the kernel's clock.
#[test]
fn a_list_that_has_the_time_of_the_last_one_is_read() {
    let lab = lab(2);
    let _server = Server::start(&lab.server.ns, "");
    let [a, b] = [0, 1].map(address);
    let time = SystemTime::now() + Duration::from_secs(3600);
    let list = List::new(&json!([{ "targets": [a] }]));
    let write = |targets: &[&str]| {
        let new = list.directory.path().join("other");
        fs::write(&new, json!([{ "targets": targets }]).to_string()).unwrap();
        let file = File::options().write(true).open(&new).unwrap();
        file.set_modified(time).unwrap();
        fs::rename(new, list.path()).unwrap();
    };
    write(&[&a]);
    let options = format!("{} -i 10ms -o json", list.option());
    let mut run = Client::start(&lab.client.ns, &options);
    run.hear(&format!("{a}: server stamps"));
    write(&[&a, &b]);
    run.hear(&format!("{b}: server stamps"));
    assert_eq!(run.stop().status, 0);
}

#[test]
fn a_target_that_joins_sends_its_first_probe_at_once() {
    let lab = lab(2);
    let _server = Server::start(&lab.server.ns, "");
    let [a, b] = [0, 1].map(address);
    let list = List::new(&json!([{ "targets": [a] }]));
    let options = format!("{} -i 1h -o json", list.option());
    let mut run = Client::start(&lab.client.ns, &options);
    run.hear(&format!("{a}: server stamps"));
    list.write(&json!([{ "targets": [a, b] }]).to_string());
    run.hear(&format!("{b}: server stamps"));
    let done = run.stop();
    assert_eq!(done.status, 0, "{}", done.stderr);
    let all = by_target(&done);
    for target in [&a, &b] {
        assert_eq!(books(&all[target]), [1, 1, 0], "{target}");
    }
    // It left ahead of its schedule, and so not late.
    let probes = done.probes();
    let of_b = probes.iter().find(|probe| probe["target"] == *b).unwrap();
    assert_eq!(delay(of_b, "l_tx_late"), 0, "{of_b:#}");
}

#[test]
fn what_many_have_so_far_is_one_table() {
    let lab = lab(10);
    let _server = Server::start(&lab.server.ns, "");
    let dead = "10.77.0.99".to_owned();
    let hosts: Vec<String> = (0..10).map(address).chain([dead]).collect();
    let list = List::new(&json!([{ "targets": hosts }]));
    let options = format!("{} -i 50ms -W 50ms -o json", list.option());
    let mut run = Client::start(&lab.client.ns, &options);
    for _ in 0..10 {
        run.hear(": server stamps");
    }
    kill(run.pid(), libc::SIGUSR1);
    run.hear("most often slow because of");
    // The worst first, and then the others in any order.
    run.hear("10.77.0.99 ");
    let done = run.stop();
    let said: Vec<&str> = done.stderr.lines().collect();
    let begin = said.iter().position(|line| line.starts_with("target "));
    let rows = &said[begin.expect("a table") + 1..][..hosts.len()];
    let mut named: Vec<&str> = rows
        .iter()
        .map(|row| row.split(' ').next().unwrap())
        .collect();
    assert_eq!(named[0], "10.77.0.99", "{rows:#?}");
    named.sort_unstable();
    let mut wanted: Vec<&str> = hosts.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    assert_eq!(named, wanted, "{rows:#?}");
    // No summary of each.
    assert!(!done.stderr.contains("\nsent "), "{}", done.stderr);
}

#[test]
fn the_exit_status_is_that_of_the_best_but_an_objective_counts_for_each() {
    let lab = lab(2);
    let _server = Server::start(&lab.server.ns, "");
    let [a, b] = [0, 1].map(address);
    let dead = ["10.77.0.98", "10.77.0.99"];
    let run = |hosts: &str, more: &str| {
        let args = format!("{hosts} -C 5 -i 20ms -W 100ms -m 1s -o json {more}");
        client(&lab.client.ns, &args)
    };
    let living = format!("-c {a} -c {b}");
    let one_dead = format!("-c {a} -c {}", dead[0]);
    let all_dead = format!("-c {} -c {}", dead[0], dead[1]);
    for (hosts, more, status, words) in [
        (&living, "--slo loss<=0%", 0, ""),
        (&one_dead, "", 0, ""),
        (
            &one_dead,
            "--slo loss<=0%",
            4,
            "10.77.0.98: objective missed",
        ),
        (&living, "--slo max(total)<1ns", 4, "objective missed"),
        (&all_dead, "", 3, ""),
        // Nothing is known of the objective but that nobody answered.
        (&all_dead, "--slo loss<=0%", 3, "objective missed"),
        (
            &format!("{living} --source-that-is-none"),
            "",
            2,
            "--source-that-is-none",
        ),
    ] {
        let done = run(hosts, more);
        assert_eq!(done.status, status, "{hosts} {more}: {done:#?}");
        assert!(done.stderr.contains(words), "{hosts} {more}: {done:#?}");
    }
    let nowhere = run("-c fe80::1%none0 -c fe80::2%none0", "");
    assert_eq!(nowhere.status, 1, "{nowhere:#?}");
    assert!(
        nowhere.stderr.contains("no target can be probed"),
        "{nowhere:#?}"
    );
    let half = run(&format!("-c {a} -c fe80::1%none0"), "");
    assert_eq!(half.status, 0, "{half:#?}");
    assert!(half.stderr.contains("fe80::1%none0"), "{half:#?}");
    assert!(half.stderr.contains("not probed"), "{half:#?}");
}

/// Three hosts of the same name, one after the other: the labels differ, and none answers.
#[test]
fn a_target_that_changes_while_it_leaves_is_probed_once() {
    let lab = lab(0);
    // No word comes back, so that it takes the whole timeout to leave.
    sh(
        &lab.client.ns,
        "echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all",
    );
    let group = |x| json!([{"targets": ["127.0.0.1"], "labels": {"x": x}}]);
    let list = List::new(&group("1"));
    let options = format!("{} -i 10ms -W 1s -o log --metrics 9500", list.option());
    let log = list.directory.path().join("log");
    let mut run = Client::start(
        &lab.client.ns,
        &format!("{options} --log {}", log.display()),
    );
    let shown = |x: &str| page(&lab.client.ns).contains(&format!("x=\"{x}\""));
    run.hear("no reply since");
    for x in ["2", "3"] {
        list.write(&group(x).to_string());
        run.hear("targets: 1 join, 1 leave");
    }
    let is_last = || shown("3") && !shown("1") && !shown("2");
    until("the last one only", is_last);
    assert_eq!(run.stop().status, 3);
}

#[test]
fn the_last_probes_of_a_target_that_leaves_have_all_stamps() {
    let lab = lab(2);
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let (a, b) = (address(0), address(1));
    let targets = List::new(&json!([{ "targets": [a] }]));
    let mut run = Client::start(
        &lab.client.ns,
        &format!("{} --nslocal -i 20ms -o json", targets.option()),
    );
    run.hear(&format!("{a}: server stamps"));
    targets.write(&json!([{ "targets": [b] }]).to_string());
    run.hear(&format!("{b}: server stamps"));
    let done = run.stop();
    let probes = done.probes();
    let of_a = probes.iter().filter(|probe| probe["target"] == *a);
    let last = of_a.max_by_key(|probe| probe["seq"].as_u64()).unwrap();
    // It is known only after the reply has left.
    assert!(delay(last, "r_tx_qdisc") > 0, "{last:#}");
}

#[test]
fn a_target_without_room_joins_when_another_has_left() {
    let lab = lab(2);
    let _server = Server::start(&lab.server.ns, "");
    let [a, b] = [0, 1].map(address);
    let small = json!({ "targets": [a] });
    // It takes all slots that a changing list has.
    let large = json!({"targets": [b], "labels": {"__pingtrace_interval": "1ms"}});
    let list = List::new(&json!([small]));
    let mut run = Client::start(
        &lab.client.ns,
        &format!("{} -i 100ms -W 2s -m 1s -o json", list.option()),
    );
    run.hear(&format!("{a}: server stamps"));
    list.write(&json!([small, large]).to_string());
    run.hear("[interval=1ms] is not probed: no room");
    list.write(&json!([large]).to_string());
    run.hear("[interval=1ms]: server stamps");
    list.write(&json!([large, small]).to_string());
    run.hear(&format!("{a} is not probed: no room"));
    let done = run.stop();
    let said = format!("1 targets were not probed, as there was no room: {a}");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
}

#[test]
fn a_run_of_several_is_read_again_one_by_one() {
    let lab = lab(2);
    let _server = Server::start(&lab.server.ns, "");
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("log");
    let (a, b) = (address(0), address(1));
    let options = format!("-C 30 -i 5ms -o log --log {}", log.display());
    let run = client(&lab.client.ns, &format!("-c {a} -c {b} {options}"));
    assert_eq!(run.status, 0, "{run:#?}");
    let file = format!("{}.seq", log.display());
    let all = client(&lab.client.ns, &format!("replay {file} -o json"));
    refused(&all, 1, &["2 targets", &a, &b, "--target"]);
    let one = client(
        &lab.client.ns,
        &format!("replay {file} --target {b} -o json"),
    );
    assert_eq!(
        (one.status, books(&one.stat())),
        (0, [30, 30, 0]),
        "{}",
        one.stderr
    );
    assert!(one.probes().iter().all(|probe| probe["peer"] == *b));
    let picture = directory.path().join("b.svg");
    let drawn = client(
        &lab.client.ns,
        &format!(
            "replay {file} --target {b} -o json --image {}",
            picture.display()
        ),
    );
    assert_eq!(drawn.status, 0, "{}", drawn.stderr);
    assert_eq!(drawn.lines("stat"), one.lines("stat"));
    let drawn = fs::read_to_string(&picture).unwrap();
    assert!(drawn.contains("<svg") && drawn.contains(&b), "{b}");
    let none = client(&lab.client.ns, &format!("replay {file} --target web9"));
    refused(&none, 1, &["no target 'web9'", &a, &b]);
}

#[test]
fn what_cannot_be_done_with_several_is_refused() {
    let lab = lab(0);
    let refuse = |args: &str, status: i32, words: &[&str]| {
        refused(&client(&lab.client.ns, args), status, words);
    };
    refuse(
        "-c 10.77.0.2 -c 10.77.0.3 -A -C 1",
        2,
        &["-A", "one target"],
    );
    refuse(
        "-c 10.77.0.2 -c 10.77.0.3 -C 1 -o image",
        2,
        &["picture", "replay"],
    );
    refuse(
        "-c 10.77.0.2 -c 10.77.0.3 -C 1 --image x.svg",
        2,
        &["picture", "--image", "replay"],
    );
    refuse("-c 10.77.0.2 --ring 3", 2, &["--targets"]);
    refuse(
        "--targets /nowhere/x.json",
        1,
        &["/nowhere/x.json", "No such file"],
    );
    let list =
        List::new(&json!([{ "targets": ["10.77.0.2"], "labels": {"__pingtrace_dscp": "64"} }]));
    refuse(&list.option(), 1, &["line 1", "64", "0 to 63"]);
    let many: Vec<String> = (0..100_000)
        .map(|k| format!("10.{}.{}.{}", k >> 16, k >> 8 & 255, k & 255))
        .collect();
    let many = List::new(&json!([{ "targets": many }]));
    refuse(&many.option(), 1, &["100000 targets", "10000", "--ring"]);
    let others = List::new(&json!([{ "targets": ["10.77.0.2"] }]));
    refuse(
        &format!("{} --ring 1 -C 1", others.option()),
        1,
        &["this host", "not in the list"],
    );
}

/// As a pod that starts before its address is in the Service.
#[test]
fn a_host_that_is_not_on_the_ring_yet_waits() {
    let lab = lab(1);
    let list = List::new(&json!([{ "targets": [address(0)] }]));
    let args = format!("{} --ring 1 -i 20ms -o json", list.option());
    let mut client = Client::start(&lab.client.ns, &args);
    client.hear("is not in the list, neither by name nor by address (--ring); waiting until it is");
    list.write(&json!([{ "targets": [address(0), "10.77.0.1"] }]).to_string());
    client.hear("targets: 1 join, 0 leave");
    let run = client.stop();
    assert_eq!(
        by_target(&run).into_keys().collect::<Vec<_>>(),
        [address(0)]
    );
}

#[test]
fn on_a_ring_each_probes_its_neighbours() {
    let lab = lab(20);
    let _server = Server::start(&lab.server.ns, "");
    let mut hosts: Vec<String> = (0..20).map(address).collect();
    hosts.push("10.77.0.1".to_owned());
    let list = List::new(&json!([{ "targets": hosts }]));
    let probed = || {
        let run = client(
            &lab.client.ns,
            &format!("{} --ring 3 -C 1 -o json", list.option()),
        );
        assert_eq!(run.status, 0, "{run:#?}");
        by_target(&run).into_keys().collect::<Vec<_>>()
    };
    let first = probed();
    assert_eq!(first.len(), 3);
    hosts.reverse();
    list.write(&json!([{ "targets": hosts }]).to_string());
    assert_eq!(probed(), first);
}
