//! `pingtrace replay`: a saved run gives again what it gave live.

use super::harness::{
    Finished, Server, alone, finish, kill, program, start, status, times, until, wire,
};
use flate2::{Compression, write::GzEncoder};
use netns::{Lab, Namespace};
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::format::json::{Line, parse_line};
use report::model::{Direction, Owner};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const SCHEMA: &str = include_str!("../report/schema/pingtrace.schema.json");
const MS: Duration = Duration::from_millis(1);

/// A directory to run in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// A run whose stdout goes to a file, as that of a user does.
    fn save(&self, ns: &Namespace, name: &str, args: &str) -> Finished {
        let run = self.run(ns, args);
        assert_eq!(run.status, 0, "{run:#?}");
        self.write(name, &run.stdout);
        run
    }

    fn replay(&self, args: &str) -> Finished {
        let here = Namespace::current().unwrap();
        self.run(&here, &format!("replay {args}"))
    }

    fn run(&self, ns: &Namespace, args: &str) -> Finished {
        let mut command = program();
        command.args(args.split_whitespace());
        finish(start(ns, command.current_dir(self.0.path())))
    }
}

/// Every line is as before.
fn same(before: &str, after: &str) {
    let mut lines = before.lines().zip(after.lines());
    if let Some((one, two)) = lines.find(|(one, two)| one != two) {
        panic!("was\n{one}\nis now\n{two}");
    }
    assert_eq!(before.lines().count(), after.lines().count());
}

/// All but the run's line: when the mode changes it is written again, and replayed only once.
fn behind_the_run(lines: &str) -> String {
    let of_run = |line: &&str| line.starts_with("{\"type\":\"run\"");
    lines.split_inclusive('\n').filter(|l| !of_run(l)).collect()
}

fn without_story(stderr: &str) -> String {
    let of_story = |line: &&str| line.starts_with("pingtrace: ");
    let lines = stderr.split_inclusive('\n');
    lines.filter(|l| !of_story(l)).collect()
}

fn warned(run: &Finished, words: &[&str]) {
    assert_eq!(run.status, 0, "{run:#?}");
    for word in words {
        assert!(run.stderr.contains(word), "no '{word}': {run:#?}");
    }
}

/// Some probes are held up on the way out and in, lost, late, doubled and overtaken.
fn troubled() -> Plan {
    let each = |first: u32| (first..1_500).step_by(97).collect::<Vec<_>>();
    let at = |first, direction, action| Rule::at(direction, each(first), action);
    let (out, back) = (Direction::Request, Direction::Reply);
    let twice = Action::Duplicate { copies: 1, gap: MS };
    Plan::new(
        Duration::from_micros(300),
        [
            at(210, out, Action::Delay(3 * MS)),
            at(230, back, Action::Delay(2 * MS)),
            at(250, out, Action::Drop),
            at(260, back, Action::Drop),
            at(270, out, Action::Delay(150 * MS)),
            at(280, back, twice),
            at(290, out, Action::Hold),
        ],
    )
}

/// A run with two clocks, one of which is stepped so long after the server's start; none if the machine was too slow to
/// begin it in time before that.
fn run_with_two_clocks(place: &Place, after: Duration) -> Option<Finished> {
    const INTERVAL: Duration = Duration::from_millis(2);
    let (lab, _wire) = wire(troubled());
    let clock = format!("offset=3s,drift=100,step={}s:7ms", after.as_secs());
    let server = Server::start(&lab.server.ns, &format!("--userid 7 --lab-clock {clock}"));
    let step_ns = server.number_after("from ") + after.as_nanos() as u64;
    let count = (after + Duration::from_millis(1_500)).as_millis() / INTERVAL.as_millis();
    let args = format!("-c 10.77.0.2 --userid 3 -i 2ms -C {count} -W 0.1 -n -o json");
    let run = place.save(&lab.client.ns, "live.json", &args);
    let begun_ns = times(&run.probes()[0])[0];
    (begun_ns + 1_000_000_000 < step_ns).then_some(run)
}

#[test]
fn two_clocks_are_replayed_to_the_last_digit() {
    let _alone = alone();
    let place = Place::new();
    let mut runs = [4, 8, 16, 32].map(Duration::from_secs).into_iter();
    let live = runs.find_map(|after| run_with_two_clocks(&place, after));
    let live = live.expect("a run that begins in time");
    let stat = live.stat();
    for what in ["lost", "late", "dup", "reordered"] {
        assert!(stat[what].as_u64() > Some(5), "{what}: {stat:#}");
    }
    // More than one on a busy machine: of microseconds, the noise of the wire.
    assert!(
        stat["clock"]["events"]["step"].as_u64() > Some(0),
        "{stat:#}"
    );

    let again = place.replay("live.json -n -o json");
    warned(&again, &[]);
    same(
        &behind_the_run(&live.stdout),
        &behind_the_run(&again.stdout),
    );
    place.write("again.json", &again.stdout);
    let third = place.replay("again.json -n -o json");
    same(&again.stdout, &third.stdout);
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for line in again.stdout.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap();
        let wrong = schema.iter_errors(&parsed);
        let wrong: Vec<_> = wrong
            .map(|e| format!("{e} at {}", e.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}: {line}");
    }
    late_ways_are_those_of_the_verdicts(&live);
}

fn late_ways_are_those_of_the_verdicts(live: &Finished) {
    let sure = |owner: Owner| {
        let probes = live.probes();
        let of = |p: &&Value| {
            let verdict = &p["verdict"];
            status(p) == "late" && verdict["sure"] == true && verdict["owner"] == owner.name()
        };
        probes.iter().filter(of).count()
    };
    let stat = live.stat();
    assert_eq!(stat["late_out"], sure(Owner::WireOut), "{stat:#}");
    assert_eq!(stat["late_in"], sure(Owner::WireIn), "{stat:#}");
}

#[test]
fn one_clock_gives_the_same_text_picture_and_log() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let _server = Server::start(&lab.server.ns, "");
    let outputs = |name: &str| format!("-n -o text,json,imagelog --image {name}.svg --log {name}");
    let args = format!(
        "-c 10.77.0.2 -i 2ms -C 300 --logsize 250K {}",
        outputs("live")
    );
    let live = place.save(&lab.client.ns, "live.json", &args);
    assert!(place.file("live.seq.2").exists(), "the log did not rotate");

    for file in ["live.json", "live.seq"] {
        let again = place.replay(&format!("{file} {}", outputs("again")));
        assert_eq!(again.status, 0, "{again:#?}");
        same(
            &behind_the_run(&live.stdout),
            &behind_the_run(&again.stdout),
        );
        same(&without_story(&live.stderr), &without_story(&again.stderr));
        same(&place.read("live.svg"), &place.read("again.svg"));
        assert_eq!(place.read("again.seq").lines().count(), 302, "{file}");
        for name in ["again.seq", "again.stat", "again.svg"] {
            fs::remove_file(place.file(name)).unwrap();
        }
    }
}

#[test]
fn what_was_not_recorded_is_not_guessed() {
    let (lab, _wire) = wire(troubled());
    let place = Place::new();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let live = place.save(
        &lab.client.ns,
        "slow.json",
        "-c 10.77.0.2 --nslocal -i 2ms -C 600 -W 0.1 -m 1ms -o json",
    );
    let recorded = live.stat()["recorded"].as_u64().unwrap();
    assert!(recorded > 8 && recorded < 600, "{live:#?}");

    let again = place.replay("slow.json -m 500 -o json --slo p50(total)<3600s");
    let of = format!("of {} answered probes", live.stat()["replied"]);
    warned(&again, &["slow.json has ", &of, "at or over 1.00 ms"]);
    assert_eq!(again.stderr.matches("answered probes").count(), 1);
    assert_eq!(again.probes(), live.probes());
    for key in ["delays", "verdicts", "causes", "recorded", "losses"] {
        assert_eq!(again.stat()[key], live.stat()[key], "{key}");
    }
    assert_eq!(again.stat()["slo"][0]["met"], true);

    // A higher threshold than the run's own counts fewer, and not other ones.
    let fewer = place.replay("slow.json -m 2500 -o json");
    let over = |p: &Value| p["response_ns"].as_u64().is_none_or(|ns| ns >= 2_500_000);
    let mut expected = live.probes();
    expected.retain(over);
    assert_eq!(fewer.probes(), expected);
    assert_eq!(fewer.stat()["recorded"], expected.len());
    assert_eq!(fewer.stat()["delays"], live.stat()["delays"]);

    // Killed: without its last line.
    let lines: Vec<_> = live.stdout.lines().collect();
    place.write("killed.json", &lines[..lines.len() - 1].join("\n"));
    let killed = place.replay("killed.json -o json");
    warned(
        &killed,
        &["no final statistics", "percentiles are of those"],
    );
    assert_eq!(killed.probes(), live.probes());
    let judged = place.replay("killed.json --slo p50(total)<3600s");
    assert_eq!(judged.status, 1, "{judged:#?}");
    assert!(judged.stderr.contains("--slo"), "{judged:#?}");
}

#[test]
fn a_threshold_and_intervals_can_be_chosen_afterwards() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let live = place.save(
        &lab.client.ns,
        "all.json",
        "-c 10.77.0.2 --nslocal -i 5ms -C 200 -o json",
    );
    let median = live.stat()["delays"][0]["p50"].as_u64().unwrap();
    let again = place.replay(&format!(
        "all.json -m {median}ns --stat-interval 0.1 -o json"
    ));
    warned(&again, &[]);
    let slow = |p: &&Value| p["response_ns"].as_u64() >= Some(median);
    let expected = live.probes().iter().filter(slow).count();
    assert_eq!(again.probes().len(), expected);
    assert_eq!(again.stat()["recorded"], expected);
    assert_eq!(again.stat()["delays"], live.stat()["delays"]);
    let intervals = again.lines("interval");
    assert_eq!(intervals.len(), 10, "{intervals:#?}");
    let replied = |i: &Value| i["replied"].as_u64().unwrap();
    assert_eq!(intervals.iter().map(replied).sum::<u64>(), 200);
    let missed = place.replay("all.json --slo max(total)<1ns");
    assert_eq!(missed.status, 4, "{missed:#?}");
}

#[test]
fn stdin_and_the_last_of_several_runs_are_read() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let both: Vec<_> = ["a.json", "b.json"]
        .map(|name| {
            let args = "-c 10.77.0.2 -i 2ms -C 20 -o json";
            place.save(&lab.client.ns, name, args).stdout
        })
        .to_vec();
    place.write("all.json", &both.concat());
    let last = place.replay("all.json -o json");
    warned(&last, &["all.json: the last of 2 runs in the file"]);
    same(&behind_the_run(&both[1]), &behind_the_run(&last.stdout));

    let mut command = program();
    command.args(["replay", "-", "-o", "json"]);
    command.stdin(fs::File::open(place.file("all.json")).unwrap());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let piped = finish(child.unwrap());
    warned(&piped, &["stdin: the last of 2 runs"]);
    same(&last.stdout, &piped.stdout);
}

/// More lines than wait for a live run's reader.
#[test]
fn a_slow_reader_gets_every_line() {
    let _alone = alone();
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let args = "-c 10.77.0.2 -i 100us -C 18000 -o log --log many";
    place.save(&lab.client.ns, "nothing", args);
    let recorded = count_probes(&place.file("many.seq"));
    assert!(recorded > 17_000, "{recorded}");
    let mut command = program();
    command.args(["replay", "many.seq", "-o", "json"]);
    let here = Namespace::current().unwrap();
    let child = start(&here, command.current_dir(place.0.path()));
    thread::sleep(Duration::from_secs(4));
    let replayed = finish(child);
    warned(&replayed, &[]);
    assert_eq!(replayed.probes().len(), recorded);
}

#[test]
fn the_log_of_a_killed_run_is_replayed() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let mut command = program();
    let args = "-c 10.77.0.2 -i 2ms -o log --log killed";
    command.args(args.split(' ')).current_dir(place.0.path());
    let killed = start(&lab.client.ns, &mut command);
    let probes = || count_probes(&place.file("killed.seq"));
    until("there are probes", || probes() > 50);
    kill(killed.id(), libc::SIGKILL);
    finish(killed);
    let again = place.replay("killed.seq -o json");
    warned(&again, &["no final statistics", "counters are those of"]);
    assert_eq!(again.probes().len(), probes());
    assert_eq!(again.stat()["replied"], probes());
    assert!(again.stat().get("self").is_none());

    // Its beginning was rotated away, and only FILE.stat says what run it is.
    let log = place.read("killed.seq");
    let rest: Vec<_> = log.lines().skip(11).collect();
    place.write("killed.seq", &(rest.join("\n") + "\n"));
    let rest = place.replay("killed.seq -o json");
    warned(&rest, &["the others are not in it"]);
    assert_eq!(rest.probes(), again.probes()[rest_of(&again, &rest)..]);
}

/// How many probes the second run has less.
fn rest_of(all: &Finished, rest: &Finished) -> usize {
    all.probes().len() - rest.probes().len()
}

fn count_probes(path: &Path) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    let probe = |line: &&str| matches!(parse_line(line), Ok(Line::Probe(_)));
    text.lines().filter(probe).count()
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let args = "-c 10.77.0.2 -i 2ms -C 20 -o json,log --log good";
    let good = place.save(&lab.client.ns, "good.json", args).stdout;
    let (run, rest) = good.split_once('\n').unwrap();
    let later = good.replacen("\"version\":1", "\"version\":2", 1);
    place.write("later.json", &later);
    place.write("norun.json", rest);
    place.write("noprobe.json", run);
    place.write("empty.json", "");
    let flood = good.replacen("\"interval_ns\":2000000", "\"interval_ns\":0", 1);
    place.write("flood.json", &flood);
    let many = good.replace("\"sent\":20", "\"sent\":4611686018427387904");
    place.write("many.json", &many);
    place.write("long.json", &format!("{good}\"{}\"", "x".repeat(5 << 20)));
    let bomb = gzip(&vec![b'x'; 70 << 20]);
    fs::write(place.file("bomb.gz"), bomb).unwrap();
    for (args, status, words) in [
        (
            "flood.json",
            1,
            ["flood.json: line 1: ", "interval of 0 ns"],
        ),
        (
            "many.json",
            1,
            ["many.json: line ", "at most 1099511627776"],
        ),
        ("long.json", 1, ["long.json: line ", "longer than 4 MiB"]),
        ("bomb.gz", 1, ["bomb.gz: line 1", ""]),
        (
            "later.json",
            1,
            [
                "later.json: line 1: ",
                "format version 2, this reads up to 1",
            ],
        ),
        ("norun.json", 1, ["norun.json: ", "no line says"]),
        ("noprobe.json", 1, ["noprobe.json: ", "no probe in it"]),
        ("good.stat", 1, ["good.stat: ", "no probe in it"]),
        ("empty.json", 1, ["empty.json: ", "no line says"]),
        ("missing.json", 1, ["missing.json", "No such file"]),
        (".", 1, [".", "directory"]),
        ("good.seq -o log --log good", 2, ["good.seq", "--log"]),
        ("good.json -o image --image x.bmp", 2, ["--image", "x.bmp"]),
        ("good.json -c 10.77.0.2", 2, ["unexpected argument", "-c"]),
        ("good.json --slo nonsense", 2, ["--slo", "nonsense"]),
    ] {
        let refused = place.replay(args);
        assert_eq!(refused.status, status, "{args}: {refused:#?}");
        assert_eq!(refused.stdout, "", "{args}");
        let lines = refused.stderr.lines().count();
        assert!(status == 2 || lines == 1, "{args}: {refused:#?}");
        for word in words {
            assert!(refused.stderr.contains(word), "no '{word}': {refused:#?}");
        }
    }
}

/// Of lost probes without stamps it is not known when they were sent, nor how late that was.
#[test]
fn unknown_send_slip_is_not_called_none() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let live = place.run(&lab.client.ns, "-c 10.77.0.9 -i 5ms -C 3 -W 50ms -o json");
    assert_eq!(live.status, 3, "{live:#?}");
    let without_stamps = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        if value["type"] == "probe" {
            value["points"] = Value::Array(Vec::new());
        }
        (value["type"] != "stat").then(|| value.to_string() + "\n")
    };
    let saved: String = live.stdout.lines().filter_map(without_stamps).collect();
    place.write("cut.json", &saved);
    let replayed = place.replay("cut.json");
    assert!(replayed.stdout.contains("lost 3 of 3"), "{replayed:#?}");
    assert!(!replayed.stdout.contains("send slip"), "{replayed:#?}");
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

impl Place {
    /// Replaces a file by a compressed one, as logrotate does.
    fn compress(&self, name: &str, ending: &str, how: fn(&[u8]) -> Vec<u8>) {
        let content = how(&fs::read(self.file(name)).unwrap());
        fs::write(self.file(&format!("{name}.{ending}")), content).unwrap();
        fs::remove_file(self.file(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.file(from), self.file(to)).unwrap();
    }
}

#[test]
fn every_file_of_a_log_stands_alone_and_all_are_one_run() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = "-c 10.77.0.2 --nslocal -i 2ms -C 500 -o json,log --log all --logsize 60K \
                --logbackup 99 --stat-interval 20ms";
    let live = place.save(&lab.client.ns, "all.json", args);
    let numbers = (1..99).take_while(|n| place.file(&format!("all.seq.{n}")).exists());
    let mut parts: Vec<_> = numbers.map(|n| format!("all.seq.{n}")).collect();
    assert!(parts.len() > 2, "the log did not rotate: {parts:?}");
    assert!(place.file("all.stat.1").exists(), "nor did its statistics");
    parts.push("all.seq".to_owned());
    for name in ["all.stat", "all.stat.1"] {
        let head = place.read(name).lines().next().map(str::to_owned);
        assert!(
            head.is_some_and(|l| l.starts_with("{\"type\":\"run\"")),
            "{name}"
        );
    }
    let mut replayed = 0;
    for part in &parts {
        place.write("part.json", &place.read(part));
        let probes = count_probes(&place.file(part));
        let alone = place.replay("part.json -o json");
        assert_eq!(
            (alone.status, alone.probes().len()),
            (0, probes),
            "{alone:#?}"
        );
        replayed += probes;
    }
    assert_eq!(replayed, 500);

    let whole = place.replay("all.seq -o json");
    warned(&whole, &[]);
    assert_eq!(
        (whole.probes(), whole.stat()["delays"].clone()),
        (live.probes(), live.stat()["delays"].clone())
    );
    place.compress("all.seq.1", "zst", zstd);
    place.compress("all.seq.2", "gz", gzip);
    place.compress("all.stat.1", "gz", gzip);
    let compressed = place.replay("all.seq -o json");
    warned(&compressed, &[]);
    same(&whole.stdout, &compressed.stdout);
    let plain = place.replay("all.json -o json");
    place.compress("all.json", "zst", zstd);
    let compressed = place.replay("all.json.zst -o json");
    warned(&compressed, &[]);
    same(&plain.stdout, &compressed.stdout);
    // The last statistics were rotated away.
    place.rename("all.stat", "all.stat.0");
    place.compress("all.stat.0", "gz", gzip);
    let here = Namespace::current().unwrap();
    for other in ["all.seq", "all.stat"] {
        let diff = place.run(&here, &format!("diff {other} all.json.zst"));
        assert_eq!(diff.status, 0, "{diff:#?}");
        assert!(diff.stdout.contains("500"), "{diff:#?}");
    }
}

#[test]
fn a_log_that_was_opened_anew_stands_alone() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let mut command = program();
    let args = "-c 10.77.0.2 -i 2ms -o log --log a";
    command.args(args.split(' ')).current_dir(place.0.path());
    let run = start(&lab.client.ns, &mut command);
    let count = || count_probes(&place.file("a.seq"));
    until("there are probes", || count() > 20);
    place.rename("a.seq", "b.seq");
    place.rename("a.stat", "b.stat");
    kill(run.id(), libc::SIGHUP);
    until("the log is there again", || count() > 20);
    kill(run.id(), libc::SIGTERM);
    assert_eq!(finish(run).status, 0);
    let later = place.replay("a.seq -o json");
    warned(&later, &["answered probes, the others are not in it"]);
    assert_eq!(later.probes().len(), count());
    let earlier = place.replay("b.seq -o json");
    warned(&earlier, &["no final statistics"]);
    assert_eq!(earlier.probes().len(), count_probes(&place.file("b.seq")));
    let here = Namespace::current().unwrap();
    let diff = place.run(&here, "diff a.seq a.stat");
    assert_eq!(diff.status, 0, "{diff:#?}");
}

#[test]
fn a_quiet_run_is_a_good_one() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let args = "-c 10.77.0.2 -i 2ms -C 50 -m 10s -o json,log --log quiet --stat-interval 20ms";
    let live = place.save(&lab.client.ns, "quiet.json", args);
    assert_eq!(live.stat()["recorded"], 0, "{live:#?}");
    for file in ["quiet.json", "quiet.seq", "quiet.stat"] {
        let again = place.replay(&format!("{file} -o json,text,image --image {file}.svg"));
        warned(
            &again,
            &[
                "no probe, as none was lost or took 10.0 s",
                "sent 50, replied 50",
            ],
        );
        assert!(!again.stderr.contains("warning"), "{again:#?}");
        assert_eq!(again.stat()["delays"], live.stat()["delays"], "{file}");
        assert!(place.file(&format!("{file}.svg")).exists());
    }
    let judged = place.replay("quiet.json --slo max(total)<1ns");
    assert_eq!(judged.status, 4, "{judged:#?}");
    let here = Namespace::current().unwrap();
    let diff = place.run(&here, "diff quiet.json quiet.seq");
    assert_eq!(diff.status, 0, "{diff:#?}");

    // Killed in the morning: what there was at its last interval.
    let lines: Vec<_> = live.stdout.lines().collect();
    let stat = place.read("quiet.stat");
    let so_far: Vec<_> = stat.lines().filter(|l| !l.contains("\"hdr\"")).collect();
    place.write(
        "killed.json",
        &format!("{}\n{}\n", lines[0], so_far.join("\n")),
    );
    let killed = place.replay("killed.json");
    warned(
        &killed,
        &[
            "no final statistics",
            "counters are those of its last interval",
        ],
    );
    assert!(killed.stdout.contains(", replied "), "{killed:#?}");
    place.write("nothing.json", lines[0]);
    let nothing = place.replay("nothing.json");
    assert_eq!(nothing.status, 1, "{nothing:#?}");
}

#[test]
fn a_file_that_is_cut_off_has_what_is_whole() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let args = "-c 10.77.0.2 -i 2ms -C 50 -o json";
    let live = place.save(&lab.client.ns, "all.json", args);
    let text = &live.stdout;
    let within = text.match_indices("\"type\":\"probe\"").nth(30).unwrap().0 + 40;
    place.write("cut.json", &text[..within]);
    let number = text[..within].lines().count();
    let said = format!("cut.json: line {number} is cut off");
    let cut = place.replay("cut.json -o json");
    warned(&cut, &[&said, "no final statistics"]);
    assert_eq!(cut.stderr.matches("cut off").count(), 1, "{cut:#?}");
    assert_eq!(cut.probes(), live.probes()[..30]);

    for (name, content) in [
        ("cut.gz", gzip(text.as_bytes())),
        ("cut.zst", zstd(text.as_bytes())),
    ] {
        fs::write(place.file(name), &content[..content.len() - 1]).unwrap();
        let cut = place.replay(&format!("{name} -o json"));
        warned(&cut, &["is cut off"]);
        assert!(cut.probes().len() <= 50);
    }
    // Cut behind its end: nothing is missing.
    place.write("torn.json", &format!("{text}{{\"type\":"));
    let torn = place.replay("torn.json -o json");
    warned(&torn, &["torn.json: line", "cut off"]);
    same(&behind_the_run(text), &behind_the_run(&torn.stdout));
}

#[test]
fn names_from_a_file_do_not_act_on_a_terminal() {
    let lab = Lab::veth_pair().unwrap();
    let place = Place::new();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = "-c 10.77.0.2 --nslocal -i 2ms -C 20 -n -o json";
    let live = place.save(&lab.client.ns, "live.json", args);
    let device = live.probes()[0]["points"]
        .as_array()
        .and_then(|all| all.iter().find_map(|p| p["dev"].as_str()))
        .map(|name| format!("\"dev\":\"{name}\""))
        .expect("a device");
    let evil = live
        .stdout
        .replace(&device, "\"dev\":\"\\u001b[2J\u{9b}31m\u{202e}\"");
    let evil = evil.replace("\"mode\":\"", "\"mode\":\"\\u001b]0;x\\u0007");
    place.write("evil.json", &evil);
    let acts = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    for output in ["text", "json", "text,json"] {
        let again = place.replay(&format!("evil.json -n -o {output}"));
        assert_eq!(again.status, 0, "{again:#?}");
        let shown = again.stdout + &again.stderr;
        assert!(!shown.contains(acts), "{shown}");
        assert!(
            shown.contains("\\x1b[2J\\x9b31m") || output == "json",
            "{shown}"
        );
    }
    let picture = place.replay("evil.json -n -o image --image evil.html");
    assert_eq!(picture.status, 0, "{picture:#?}");
    assert!(!place.read("evil.html").contains(acts));
}
