//! `pingtrace report`: a part of a saved run, as a table, a trace, and pictures.

use super::harness::{Finished, Server, finish, program, start};
use netns::{Lab, Namespace};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Runs pingtrace in the directory.
fn run(ns: &Namespace, directory: &Path, args: &str) -> Finished {
    let mut command = program();
    command.args(args.split_whitespace());
    finish(start(ns, command.current_dir(directory)))
}

fn report(directory: &Path, args: &str) -> Finished {
    run(
        &Namespace::current().unwrap(),
        directory,
        &format!("report {args}"),
    )
}

/// A run of 200 probes, a second long: all.json.
fn saved(directory: &Path) -> Finished {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = "-c 10.77.0.2 --nslocal -i 5ms -C 200 -W 0.2 -o json";
    let live = run(&lab.client.ns, directory, args);
    assert_eq!(live.status, 0, "{live:#?}");
    fs::write(directory.join("all.json"), &live.stdout).unwrap();
    live
}

/// When a probe was sent, and its number.
fn sent(probe: &Value) -> (u64, u64) {
    (
        probe["start_ns"].as_u64().unwrap(),
        probe["seq"].as_u64().unwrap(),
    )
}

#[test]
fn a_part_of_a_run_has_its_own_probes_and_statistics() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let live = saved(directory);
    let begin = live.lines("run")[0]["start_ns"].as_u64().unwrap();
    let part = report(directory, "all.json --from 200ms --to 600ms -o json");
    assert_eq!(part.status, 0, "{part:#?}");
    let span = begin + 200_000_000..begin + 600_000_000;
    let is_within = |probe: &&Value| span.contains(&sent(probe).0);
    let all = live.probes();
    let expected: Vec<&Value> = all.iter().filter(is_within).collect();
    assert!(!expected.is_empty() && expected.len() < 200, "{live:#?}");
    let probes = part.probes();
    assert_eq!(
        probes.iter().collect::<Vec<_>>(),
        expected,
        "each as it was"
    );
    let stat = part.stat();
    assert_eq!(stat["sent"], expected.len(), "{stat:#}");
    let totals = expected.iter().filter_map(|p| p["total_ns"].as_u64());
    assert_eq!(stat["delays"][0]["max"].as_u64(), totals.max(), "{stat:#}");
    let said = format!("{} of 200 recorded probes", expected.len());
    assert!(part.stderr.contains(&said), "{part:#?}");
    // A part is not the whole, whose first probe came before.
    assert!(stat["send_slip"]["max"].as_u64() > Some(0), "{stat:#}");
}

#[test]
fn a_table_has_a_row_for_each_probe_whose_segments_sum_to_the_total() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let live = saved(directory);
    let table = report(directory, "all.json -o csv");
    assert_eq!(table.status, 0, "{table:#?}");
    let mut rows = table
        .stdout
        .lines()
        .map(|row| row.split(',').collect::<Vec<_>>());
    let columns = rows.next().unwrap();
    let rows: Vec<HashMap<&str, &str>> = rows
        .map(|row| columns.iter().copied().zip(row).collect())
        .collect();
    let all = live.probes();
    assert_eq!(rows.len(), all.len());
    let number = |text: &str| text.parse::<u64>().ok();
    for (row, probe) in rows.iter().zip(&all) {
        assert_eq!(number(row["seq"]), probe["seq"].as_u64(), "{row:?}");
        assert_eq!(row["status"], probe["status"], "{row:?}");
        assert_eq!(
            number(row["total_ns"]),
            probe["total_ns"].as_u64(),
            "{row:?}"
        );
        let said = ["total_ns", "response_ns", "excess_ns", "l_tx_late_ns"];
        let segments = row
            .iter()
            .filter(|(name, _)| name.ends_with("_ns") && !said.contains(name));
        let sum: u64 = segments.filter_map(|(_, text)| number(text)).sum();
        assert_eq!(sum, number(row["total_ns"]).unwrap_or(0), "{row:?}");
    }
}

#[test]
fn another_program_reads_the_trace() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let live = saved(directory);
    let made = report(directory, "all.json -o perfetto,svg,html");
    assert_eq!(made.status, 0, "{made:#?}");
    for picture in ["pingtrace.svg", "pingtrace.html"] {
        assert!(directory.join(picture).exists(), "{picture}");
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let read = Command::new(project.join("scripts/python.sh"))
        .arg("tests/perfetto.py")
        .arg(directory.join("pingtrace.pftrace"))
        .output()
        .unwrap();
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
    let read = String::from_utf8(read.stdout).unwrap();
    let slices = read
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut of_probe = HashMap::<u64, Vec<Value>>::new();
    for slice in slices {
        // Nothing is within something else: what overlaps is side by side.
        assert_eq!(slice["depth"], 0, "{slice:#}");
        let seq = slice["seq"].as_u64().unwrap();
        of_probe.entry(seq).or_default().push(slice);
    }
    assert_eq!(of_probe.len(), live.probes().len());
    for probe in live.probes() {
        let (start_ns, seq) = sent(&probe);
        let (whole, segments): (Vec<_>, Vec<_>) = of_probe[&seq]
            .iter()
            .partition(|slice| slice["category"] == "probe");
        let [whole] = &whole[..] else {
            panic!("{whole:#?}")
        };
        assert_eq!(whole["start_ns"], start_ns, "{whole:#}");
        assert_eq!(whole["track"], "probes", "{whole:#}");
        let delays = probe["delays"].as_array().unwrap();
        assert_eq!(segments.len(), delays.len(), "{segments:#?}");
        let late = |slice: &&&Value| slice["name"] != "l_tx_late";
        let sum: u64 = segments
            .iter()
            .filter(late)
            .map(|s| s["ns"].as_u64().unwrap())
            .sum();
        assert_eq!(Some(sum), probe["total_ns"].as_u64(), "{probe:#}");
        assert_eq!(
            whole["ns"].as_u64(),
            probe["total_ns"].as_u64(),
            "{whole:#}"
        );
        let of = |name: &str| segments.iter().find(|slice| slice["name"] == name);
        let queue = of("l_tx_qdisc").unwrap();
        let points = probe["points"].as_array().unwrap();
        let out = points
            .iter()
            .find(|stamp| stamp["point"] == "l_tx_devout")
            .unwrap();
        assert_eq!(queue["track"], format!("CPU {}", out["cpu"]), "{queue:#}");
        assert!(
            queue["of"].as_str().unwrap().starts_with("client"),
            "{queue:#}"
        );
        assert!(
            of("r_tx_qdisc").unwrap()["of"]
                .as_str()
                .unwrap()
                .starts_with("server")
        );
    }
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    saved(directory);
    let here = Namespace::current().unwrap();
    for (args, words) in [
        ("report all.json -o csv,json", "both go to stdout"),
        ("report all.json --from 2s --to 1s", "nothing lies between"),
        ("report all.json --from yesterday", "14:05"),
        ("report all.json --from 1h", "no probe of it was sent"),
        ("irqoff -o csv 1", "irqoff has none"),
        ("-c 127.0.0.1 -C 1 -o perfetto", "pingtrace report"),
    ] {
        let run = run(&here, directory, args);
        assert!(run.status == 1 || run.status == 2, "{args}: {run:#?}");
        assert!(run.stderr.contains(words), "{args}: {run:#?}");
    }
    assert!(!directory.join("pingtrace.pftrace").exists());
}

#[test]
fn a_run_that_is_saved_in_short_is_the_same_run() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for name in ["run.zst", "run.json.gz", "run.json"] {
        let args = format!("-c 10.77.0.2 --nslocal -i 2ms -C 300 -W 0.2 -o json --save {name}");
        let live = run(&lab.client.ns, directory, &args);
        assert_eq!(live.status, 0, "{live:#?}");
        fs::write(directory.join("whole"), &live.stdout).unwrap();
        let whole = report(directory, "whole -o json");
        let short = report(directory, &format!("{name} -o json"));
        assert_eq!(short.status, 0, "{short:#?}");
        assert_eq!(short.probes().len(), 300, "{short:#?}");
        assert_eq!(short.stdout, whole.stdout);
        // Again in short, of what was read.
        let again = report(directory, &format!("{name} -o json --save again.{name}"));
        assert_eq!(again.status, 0, "{again:#?}");
        let again = report(directory, &format!("again.{name} -o json"));
        assert_eq!(again.stdout, whole.stdout);
        let refused = report(directory, &format!("whole --save {name}"));
        assert_eq!(refused.status, 1, "{refused:#?}");
        assert!(refused.stderr.contains("(--save) exists"), "{refused:#?}");
    }
    let size = |name: &str| fs::metadata(directory.join(name)).unwrap().len();
    let statistics = |name: &str| {
        let whole = fs::read_to_string(directory.join(name)).unwrap();
        let is_other = |line: &&str| !line.starts_with(r#"{"type":"sh"#);
        whole.lines().filter(is_other).map(str::len).sum::<usize>() as u64
    };
    let per_probe = (size("run.json") - statistics("run.json")) / 300;
    assert!(per_probe < size("whole") / 300 / 4, "{per_probe}");
}

#[test]
fn several_targets_are_saved_in_short_and_read_one_by_one() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = "-c 10.77.0.2 -c 127.0.0.1 --nslocal -i 5ms -C 50 -W 0.2 -o json --save both.zst";
    let live = run(&lab.client.ns, directory, args);
    assert_eq!(live.status, 0, "{live:#?}");
    for target in ["10.77.0.2", "127.0.0.1"] {
        let of = report(directory, &format!("both.zst --target {target} -o json"));
        assert_eq!(of.probes().len(), 50, "{of:#?}");
        let all = live.probes();
        let expected = all.iter().filter(|probe| probe["target"] == target);
        let seqs = |probe: &Value| (probe["seq"].clone(), probe["points"].clone());
        assert_eq!(
            of.probes().iter().map(seqs).collect::<Vec<_>>(),
            expected.map(seqs).collect::<Vec<_>>()
        );
    }
}

/// Clicks: the head of a column twice, then the slowest probe. What it sees is left in the page.
const CLICKS: &str = r#"<script>
var table = function (title) {
  return Array.from(document.querySelectorAll("h2")).find(function (h) { return h.textContent === title; })
    .nextElementSibling.querySelector("table");
};
var column = function (of, at) { return Array.from(of.tBodies[0].rows, function (row) { return row.cells[at].textContent; }); };
var delays = table("Delay by segment"), head = delays.tHead.rows[0].cells[8];
head.click();
var falling = column(delays, 8);
head.click();
var more = document.querySelector("tr.more"), before = more.hidden;
more.previousElementSibling.click();
var rising = column(delays, 8), rows = Array.from(delays.tBodies[0].rows);
function sorted(at, texts) {
  rows.forEach(function (row, k) { row.cells[at].textContent = texts[k % texts.length]; });
  delays.tHead.rows[0].cells[at].click();
  return column(delays, at).filter(function (text, k, all) { return text !== all[k - 1]; });
}
document.body.dataset.seen = JSON.stringify({
  falling: falling, rising: rising, before: before, after: more.hidden,
  breakdown: more.innerText,
  times: sorted(2, ["119 s", "2 min", "812 ms late", "1.16e5 s", "", "2 min 5 s", "3 h"]),
  sizes: sorted(3, ["812 KiB/s", "1.50 MiB/s", "9 B/s", "2.00 GiB/s"]),
  others: sorted(4, ["10.77.0.2", "99999", "123 k", "+7", "2026-12-01 10:00"])
});
</script>"#;

#[test]
fn the_page_sorts_and_opens_in_a_browser_without_an_error() {
    let directory = TempDir::new().unwrap();
    let directory = directory.path();
    let live = saved(directory);
    let done = report(directory, "all.json -o html");
    assert_eq!(done.status, 0, "{done:#?}");
    let stat = live.stat();
    let delays = stat["delays"].as_array().unwrap();
    let page = fs::read_to_string(directory.join("pingtrace.html")).unwrap();
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    fs::write(directory.join("clicked.html"), page + CLICKS).unwrap();
    let seen = browse(directory, "clicked.html");
    let texts = |key: &str| -> Vec<String> {
        let all = seen[key].as_array().unwrap().iter();
        all.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let (falling, mut rising) = (texts("falling"), texts("rising"));
    rising.reverse();
    assert_eq!(falling.len(), delays.len());
    // Equals stay in their order, so only the ends are the other way round.
    assert_eq!(
        (falling.first(), falling.last()),
        (rising.first(), rising.last())
    );
    let slowest = delays
        .iter()
        .filter_map(|delay| delay["max"].as_u64())
        .max();
    assert_eq!(
        falling.first().cloned(),
        slowest.map(::report::units::duration),
        "{falling:?}"
    );
    assert_eq!(
        (&seen["before"], &seen["after"]),
        (&true.into(), &false.into())
    );
    let times = [
        "1.16e5 s",
        "3 h",
        "2 min 5 s",
        "2 min",
        "119 s",
        "812 ms late",
        "",
    ];
    let sizes = ["2.00 GiB/s", "1.50 MiB/s", "812 KiB/s", "9 B/s"];
    let others = ["123 k", "99999", "+7", "2026-12-01 10:00", "10.77.0.2"];
    assert_eq!(texts("times"), times);
    assert_eq!(texts("sizes"), sizes);
    assert_eq!(texts("others"), others);
    for words in ["l_tx_devqueue", "r_rx_napi", "client host", "eth0"] {
        assert!(
            seen["breakdown"].as_str().unwrap().contains(words),
            "{seen:#}"
        );
    }
}

/// What the page left in itself. The browser says on stderr what a page writes to its console.
fn browse(directory: &Path, page: &str) -> Value {
    let setup = Command::new("../scripts/setup.sh").arg("chromium").status();
    assert!(setup.unwrap().success(), "install chromium");
    let done = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .args([
            "--disable-sync",
            "--no-first-run",
            "--enable-logging=stderr",
        ])
        .arg(format!(
            "--user-data-dir={}",
            directory.join("browser").display()
        ))
        .args(["--timeout=60000", "--dump-dom"])
        .arg(format!("file://{}", directory.join(page).display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!said.contains("CONSOLE"), "{said}");
    let dom = String::from_utf8_lossy(&done.stdout);
    let seen = dom.split_once("data-seen=\"").expect("it ran").1;
    let seen = seen.split_once('"').unwrap().0;
    serde_json::from_str(&seen.replace("&quot;", "\"")).unwrap()
}
