//! The programs of others read our numbers and measure beside us: Prometheus, promtool, `smokeping_prober` and fping of
//! Debian, unpacked and not installed.

use super::harness::{Client, kill, program, sh, start, until, wire};
use netns::{Namespace, Netlink};
use pingtrace::selftest::inject::forwarder::Plan;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A bucket of a histogram of schema 3 is wider than the one below by this factor: `2^(1/8)`.
const BUCKET: f64 = 1.090_507_732_665_257_7;
/// Percentiles in JSON have three digits.
const DIGITS: f64 = 1.001;

/// A program of a package of Debian.
fn of_debian(package: &str, program: &str) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/unpack.sh");
    let unpacked = Command::new(script).arg(package).output().unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    let folder = String::from_utf8(unpacked.stdout).unwrap();
    PathBuf::from(folder.trim_end())
        .join("usr/bin")
        .join(program)
}

/// Two values are at most a bucket apart.
fn assert_close(what: &str, a: f64, b: f64) {
    let apart = (a / b).max(b / a);
    assert!(apart <= BUCKET * DIGITS, "{what}: {a} and {b}");
}

fn curl(ns: &Namespace, args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "20"]).args(args);
    let done = start(ns, &mut command).wait_with_output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// A process of somebody else; dropped, it gets SIGTERM and is waited for.
struct Foreign(Child);

impl Foreign {
    fn start(ns: &Namespace, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(ns.run(|| command.spawn()).unwrap().unwrap())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        kill(self.0.id(), libc::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A Prometheus that scrapes once a second.
pub struct Prometheus<'n> {
    ns: &'n Namespace,
    directory: TempDir,
    _process: Foreign,
}

impl<'n> Prometheus<'n> {
    /// Of the groups of targets, as in its `static_configs`.
    pub fn start(ns: &'n Namespace, features: &str, groups: &Value) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "pingtrace", "static_configs": groups}],
        });
        // JSON is YAML.
        fs::write(path("prometheus.yml"), config.to_string()).unwrap();
        let mut command = Command::new(of_debian("prometheus", "prometheus"));
        command.arg(format!(
            "--config.file={}",
            path("prometheus.yml").display()
        ));
        command.arg(format!("--storage.tsdb.path={}", path("data").display()));
        command.args(["--web.listen-address=127.0.0.1:9090", "--log.level=warn"]);
        command.arg(format!("--enable-feature={features}"));
        command.stderr(File::create(path("log")).unwrap());
        Self {
            ns,
            _process: Foreign::start(ns, &mut command),
            directory,
        }
    }

    fn ask(&self, what: &str, query: &str) -> Value {
        let url = format!("http://127.0.0.1:9090/api/v1/{what}");
        let query = format!("query={query}");
        let said = curl(self.ns, &[&url, "--data-urlencode", &query]);
        serde_json::from_str(&said).unwrap_or_default()
    }

    /// The values of a query, by instance.
    fn query(&self, query: &str) -> BTreeMap<String, f64> {
        let answer = self.ask("query", query);
        assert_ne!(answer["status"], "error", "{query}: {answer}");
        let series = answer["data"]["result"].as_array().into_iter().flatten();
        let of = |one: &Value| {
            let value = one["value"][1].as_str()?.parse().ok()?;
            Some((one["metric"]["instance"].as_str()?.to_owned(), value))
        };
        series.filter_map(of).collect()
    }

    /// Waits until each of these many instances has a value that is so.
    fn until(&self, query: &str, instances: usize, so: impl Fn(f64) -> bool) {
        let path = self.directory.path().join("log");
        until(query, || {
            let values = self.query(query);
            let done = values.len() == instances && values.values().all(|value| so(*value));
            done || fs::read_to_string(&path).unwrap().contains("level=error")
        });
        let log = fs::read_to_string(&path).unwrap();
        assert!(!log.contains("level=error"), "{log}");
    }
}

/// Hosts on one switch, and one more, which watches them.
struct Fleet {
    hosts: Vec<Namespace>,
    monitor: Namespace,
    _switch: Namespace,
}

fn address(k: usize) -> String {
    format!("10.88.0.{}", 1 + k)
}

fn instance(k: usize) -> String {
    format!("{}:9500", address(k))
}

impl Fleet {
    fn new(count: usize) -> Self {
        let switch = Namespace::anonymous().unwrap();
        sh(&switch, "ip link add br0 type bridge; ip link set br0 up");
        let host = |k: usize| {
            let ns = Namespace::anonymous().unwrap();
            let port = format!("port{k}");
            let plug = || -> netns::Result<()> {
                let mut netlink = Netlink::open()?;
                netlink.add_veth(&port, "eth0", &ns)?;
                let bridge = netlink.link_named("br0")?.index;
                let index = netlink.link_named(&port)?.index;
                netlink.set_controller(index, Some(bridge))?;
                netlink.set_up(index)
            };
            switch.run(plug).unwrap().unwrap();
            let configure = || -> netns::Result<()> {
                let mut netlink = Netlink::open()?;
                for name in ["lo", "eth0"] {
                    let index = netlink.link_named(name)?.index;
                    netlink.set_up(index)?;
                }
                let index = netlink.link_named("eth0")?.index;
                netlink.add_address(index, address(k).parse().expect("an address"), 24)
            };
            ns.run(configure).unwrap().unwrap();
            ns
        };
        let mut hosts: Vec<Namespace> = (0..=count).map(host).collect();
        for ns in &hosts {
            let link = || ns.run(|| Netlink::open()?.link_named("eth0")).unwrap();
            until("the cable carries", || link().is_ok_and(|l| l.running));
        }
        let monitor = hosts.pop().unwrap();
        Self {
            hosts,
            monitor,
            _switch: switch,
        }
    }
}

/// From now on it answers no echo request.
fn fall_silent(host: &Namespace) {
    let path = "/proc/sys/net/ipv4/icmp_echo_ignore_all";
    host.run(|| fs::write(path, "1")).unwrap().unwrap();
}

fn total(stat: &Value) -> &Value {
    let delays = stat["delays"].as_array().unwrap();
    delays.iter().find(|d| d["delay"] == "total").unwrap()
}

/// Who probes in a fleet, and how much of it a Prometheus is to see before all fall silent.
struct Probing {
    /// One host in so many has an agent, and the others a client without kernel programs.
    agent_every: usize,
    interval: &'static str,
    answered: f64,
}

fn prober(fleet: &Fleet, probing: &Probing, k: usize) -> Client {
    let peer = address((k + 1) % fleet.hosts.len());
    let options = format!(
        "-c {peer} -i {} -W 200ms -m 1s -o json --metrics {}",
        probing.interval,
        instance(k)
    );
    let ns = &fleet.hosts[k];
    if k.is_multiple_of(probing.agent_every) {
        return Client::start(ns, &format!("agent --open --nslocal {options}"));
    }
    let mut command = Command::new("setpriv");
    command.args(
        "--bounding-set=-bpf,-perfmon,-sys_admin --inh-caps=-bpf,-perfmon,-sys_admin".split(' '),
    );
    command
        .arg(program().get_program())
        .args(options.split(' '));
    Client::of(start(ns, &mut command))
}

/// The 99th percentiles that a Prometheus computes of fifty hosts are their own, within a bucket.
fn prometheus_finds_the_percentiles(probing: &Probing) {
    let fleet = Fleet::new(50);
    let count = fleet.hosts.len();
    let probers: Vec<Client> = (0..count).map(|k| prober(&fleet, probing, k)).collect();
    let instances: Vec<String> = (0..count).map(instance).collect();
    let features = "native-histograms,exemplar-storage";
    let prometheus = Prometheus::start(&fleet.monitor, features, &json!([{"targets": instances}]));
    prometheus.until("up", count, |up| up > 0.0);
    let count_of = "histogram_count(pingtrace_rtt_seconds)";
    prometheus.until(count_of, count, |answered| answered >= probing.answered);
    // What was answered stays as it is from here on.
    fleet.hosts.iter().for_each(fall_silent);
    let lost = "pingtrace_probes_total{result=\"lost\"}";
    prometheus.until(lost, count, |lost| lost >= 10.0);
    let answered = prometheus.query(count_of);
    let p99 = prometheus.query("histogram_quantile(0.99, pingtrace_rtt_seconds)");
    for prober in &probers {
        kill(prober.pid(), libc::SIGINT);
    }
    for (prober, instance) in probers.into_iter().zip(&instances) {
        let run = prober.finish();
        assert_eq!(run.status, 0, "{run:#?}");
        let stat = run.stat();
        assert_eq!(stat["replied"].as_f64(), Some(answered[instance]), "{stat}");
        let own = total(&stat)["p99"].as_f64().unwrap() / 1e9;
        assert_close(instance, own, p99[instance]);
    }
}

#[test]
fn prometheus_finds_the_percentiles_of_fifty_hosts() {
    prometheus_finds_the_percentiles(&Probing {
        agent_every: 10,
        interval: "50ms",
        answered: 100.0,
    });
}

/// All their programs run on this one kernel, each for the packets and softirqs of all.
#[test]
#[ignore = "takes both CPUs of a small machine"]
fn prometheus_finds_the_percentiles_of_fifty_agents() {
    prometheus_finds_the_percentiles(&Probing {
        agent_every: 1,
        interval: "500ms",
        answered: 20.0,
    });
}

fn promtool_says(page: &str) -> String {
    let mut command = Command::new(of_debian("prometheus", "promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let said = promtool.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    format!("{}{}", said.status, String::from_utf8(words).unwrap())
}

/// Both kinds of text: promtool finds nothing, and a Prometheus without native histograms reads what there is.
#[test]
fn pages_of_text_are_in_order() {
    let fleet = Fleet::new(2);
    let prometheus = Prometheus::start(
        &fleet.monitor,
        "exemplar-storage",
        &json!([{"targets": [instance(0)]}]),
    );
    for more in ["", "--metrics-classic --explain --debug"] {
        let (there, gone, own) = (address(1), address(99), instance(0));
        let args = format!(
            "agent -c {there} -c {gone} --open --nslocal -i 5ms -W 20ms -m 1us -o json --metrics {own} {more}"
        );
        let agent = Client::start(&fleet.hosts[0], &args);
        let page = || curl(&fleet.monitor, &[&format!("http://{own}/metrics")]);
        for family in [
            "pingtrace_slow_probes_total{",
            "pingtrace_lost_probes_total{",
        ] {
            until(family, || page().contains(family));
        }
        let page = page();
        assert_eq!(promtool_says(&page), "exit status: 0", "{page}");
        let query = match more {
            "" => "sum by (instance) (pingtrace_rtt_seconds_count)",
            _ => "histogram_quantile(0.99, sum by (instance, le) (pingtrace_rtt_seconds_bucket))",
        };
        prometheus.until(query, 1, |value| value > 0.0);
        agent.stop();
    }
    let exemplars = prometheus.ask("query_exemplars", "pingtrace_slow_probes_total");
    let labels = &exemplars["data"][0]["exemplars"][0]["labels"];
    assert!(
        labels["session"].is_string() && labels["sequence"].is_string(),
        "{exemplars}"
    );
}

/// Probes of each prober and target.
const PROBES: usize = 40;
/// The way there and back, each, and the time between two probes of a target.
const WAY: Duration = Duration::from_millis(20);
const INTERVAL_MS: u64 = 80;

/// One for each target, as it numbers all its probes in one sequence.
fn fping(ns: &Namespace, target: &str) -> Child {
    let mut command = Command::new(of_debian("fping", "fping"));
    let options = format!("-q -C {PROBES} -p {INTERVAL_MS} -t 2000 {target}");
    start(ns, command.args(options.split(' ')))
}

/// The round trips that it had, ms; absent: lost.
fn fping_says(fping: Child) -> Vec<Option<f64>> {
    let said = String::from_utf8(fping.wait_with_output().unwrap().stderr).unwrap();
    let (_, values) = said
        .trim_end()
        .split_once(" : ")
        .expect("a target and its round trips");
    values.split(' ').map(|value| value.parse().ok()).collect()
}

/// A `smokeping_prober` with buckets as wide as ours.
fn smokeping(ns: &Namespace, targets: &[&str]) -> Foreign {
    let bounds: Vec<String> = (-64..8).map(|k| BUCKET.powi(k).to_string()).collect();
    let package = "prometheus-smokeping-prober";
    let mut command = Command::new(of_debian(package, package));
    command.arg(format!("--buckets={}", bounds.join(",")));
    command.arg(format!("--ping.interval={INTERVAL_MS}ms"));
    command.args(["--privileged", "--log.level=error"]);
    command.args(targets);
    Foreign::start(ns, &mut command)
}

/// What `smokeping_prober` says of a target: requests sent, and its answers up to each bound, s.
fn smokeping_says(page: &str, target: &str) -> (u64, Vec<(f64, u64)>) {
    let of_target = format!("host=\"{target}\"");
    let series = page.lines().filter_map(|line| line.rsplit_once(' '));
    let series: Vec<_> = series
        .filter(|(name, _)| name.contains(&of_target))
        .collect();
    let named = |family: &'static str| {
        series
            .iter()
            .filter(move |(name, _)| name.starts_with(family))
    };
    let requests = named("smokeping_requests_total").next();
    let buckets = named("smokeping_response_duration_seconds_bucket").map(|(name, count)| {
        let (_, bound) = name.split_once("le=\"").unwrap();
        (
            bound.split('"').next().unwrap().parse().unwrap(),
            count.parse().unwrap(),
        )
    });
    (
        requests.map_or(0, |(_, count)| count.parse().unwrap()),
        buckets.collect(),
    )
}

/// The wire takes 40 ms both ways, and one of the two targets never sees every fourth sequence number: all three say so.
#[test]
fn other_probers_see_the_same_loss_and_the_same_median() {
    let mut plan = Plan::new(WAY, []);
    plan.base_other = WAY;
    let (lab, _wire) = wire(plan);
    let targets = ["10.77.0.2", "10.77.0.10"];
    let dropped = "nft add table ip t; nft add chain ip t in '{ type filter hook input priority 0; }'
        nft add rule ip t in ip daddr 10.77.0.10 icmp type echo-request icmp sequence '&' 3 == 1 drop";
    sh(
        &lab.server.ns,
        &format!(
            "ip address add {}/24 dev {}; {dropped}",
            targets[1], lab.server.dev
        ),
    );
    let ns = &lab.client.ns;
    let prober = smokeping(ns, &targets);
    let args = format!(
        "-c {} -c {} -C {PROBES} -i {INTERVAL_MS}ms -W 2 -m 10s -o json",
        targets[0], targets[1]
    );
    let own = Client::start(ns, &args);
    let fpings = targets.map(|target| fping(ns, target));
    let lost_of = |target: &str, sent: u64| {
        if target == targets[0] {
            0
        } else {
            (sent + 2) / 4
        }
    };
    // It does not count the answers to its first probes, and one may be in flight.
    let page = || curl(ns, &["http://127.0.0.1:9374/metrics"]);
    let mut answers = BTreeMap::new();
    until("smokeping_prober loses as many", || {
        let page = page();
        for target in targets {
            let (sent, buckets) = smokeping_says(&page, target);
            let answered = buckets.last().map_or(0, |(_, count)| *count);
            let others = (sent - answered).checked_sub(lost_of(target, sent));
            if sent >= PROBES as u64 && others.is_some_and(|others| others <= 3) {
                answers.insert(target, buckets);
            }
        }
        answers.len() == targets.len()
    });
    drop(prober);
    let run = own.finish();
    for (target, fping) in targets.into_iter().zip(fpings) {
        let fping = fping_says(fping);
        let stat = run
            .lines("stat")
            .into_iter()
            .rfind(|stat| stat["target"] == target);
        let stat = stat.expect("statistics");
        let lost = lost_of(target, PROBES as u64);
        assert_eq!(
            (&stat["sent"], &stat["lost"]),
            (&PROBES.into(), &lost.into()),
            "{stat}"
        );
        let mut round_trips: Vec<f64> = fping.iter().copied().flatten().collect();
        assert_eq!(
            (fping.len(), fping.len() - round_trips.len()),
            (PROBES, lost as usize),
            "{fping:?}"
        );
        round_trips.sort_by(f64::total_cmp);
        let median = total(&stat)["p50"].as_f64().unwrap() / 1e6;
        assert!(median >= 2.0 * WAY.as_millis() as f64, "{stat}");
        assert_close("fping", round_trips[round_trips.len() / 2], median);
        let buckets = &answers[target];
        let half = buckets.last().unwrap().1.div_ceil(2);
        let (bound, _) = buckets.iter().find(|(_, count)| *count >= half).unwrap();
        assert_close("smokeping_prober", bound * 1e3 / BUCKET.sqrt(), median);
    }
}
