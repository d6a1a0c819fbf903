//! Faults of known size in known places of many topologies: what is named is the right host, or
//! it is not sure.

pub mod table;

use super::harness::{Finished, Server, alone, client, delay, status};
use super::kit::hold::{Hold, Means, Side};
use super::kit::topology::Hosts;
use pingtrace::kernel::thread::{Priority, prioritise};
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::model::{Direction, Owner};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;
use table::{At, FORWARDER, ROWS, Row, Spot};

/// Probes from which baselines are learnt.
const LEARNING: u32 = 120;
/// One in this many probes is hit, so that the effect of a fault is over before the next.
const SPACING: u32 = 3;
const INTERVAL_MS: u32 = 7;
/// Length of a fault.
const EACH_US: u32 = 2_500;
/// Probes that each fault of the matrix hits.
const HITS: u32 = 5;

/// Topologies in which a wrong host is named, and why.
const WRONG: &[(&str, &str)] = &[];

#[derive(Clone, Copy)]
struct Fault {
    spot: Spot,
    direction: Direction,
    side: Side,
    means: Means,
}

/// A probe that a fault hits.
struct Trial {
    seq: u32,
    fault: Fault,
    us: u32,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The host is right, and so is the device of a full queue.
    Right,
    NotSure,
    Wrong,
    /// Something else held up the probe for as long.
    Disturbed,
    /// The fault had no effect.
    Missed,
}

/// A trial's outcome and what was named.
type Judged = (Outcome, String);

/// Each fault that there can be in this row's places.
fn faults(row: &Row) -> Vec<Fault> {
    let mut faults = Vec::new();
    for spot in row.spots {
        let in_kernel = spot.host != FORWARDER;
        for (direction, side) in [Direction::Request, Direction::Reply]
            .into_iter()
            .zip(spot.sides)
        {
            let Some(side) = side else { continue };
            let means = [Means::Burn, Means::Queue, Means::Drop];
            // On one kernel a softirq that is busy for the wire is also that of the next host.
            let possible = |means: &Means| match means {
                Means::Burn => !spot.at.is_wire() || !in_kernel,
                Means::Queue => side == Side::Egress && spot.queues,
                Means::Drop => true,
            };
            faults.extend(means.into_iter().filter(possible).map(|means| Fault {
                spot: *spot,
                direction,
                side,
                means,
            }));
        }
    }
    faults
}

impl Fault {
    /// Attaches it for its part of the trials.
    fn attach(&self, hosts: &Hosts, trials: &[Trial]) {
        let mine = trials.iter().filter(|trial| trial.fault.is(self));
        let chosen: Vec<_> = mine.map(|trial| (trial.seq, trial.us)).collect();
        let Spot { host, dev, l3, .. } = self.spot;
        Hold {
            ns: hosts.get(host),
            dev,
            side: self.side,
            direction: self.direction,
            means: self.means,
            l3,
            chosen: &chosen,
        }
        .attach();
    }

    fn is(&self, other: &Self) -> bool {
        let key = |f: &Self| (f.spot.host, f.spot.dev, f.direction, f.means);
        key(self) == key(other)
    }

    /// Whether this host, and this segment or place of it, is where the fault is.
    fn is_at(&self, owner: Owner, segment: &str) -> bool {
        let request = self.direction == Direction::Request;
        match self.spot.at {
            At::Client => {
                let part = if request { "l_tx" } else { "l_rx" };
                matches!(owner, Owner::Local | Owner::Receiver) && segment.starts_with(part)
            }
            At::Wire | At::Way(..) => {
                let wire = if request {
                    Owner::WireOut
                } else {
                    Owner::WireIn
                };
                owner == wire
            }
            At::Between => matches!(owner, Owner::Local | Owner::WireOut | Owner::WireIn),
            At::Server => {
                let part = if request { "r_rx" } else { "r_tx" };
                owner == Owner::Remote && segment.starts_with(part)
            }
        }
    }

    /// Whether this owner, which is no host, may be where the fault is.
    fn may_be_at(&self, owner: Owner) -> bool {
        match owner {
            Owner::Unknown => true,
            Owner::Wire => matches!(self.spot.at, At::Wire | At::Between | At::Way(..)),
            Owner::WireOrRemote => self.spot.at != At::Client,
            _ => false,
        }
    }
}

impl Trial {
    /// For a forwarder.
    fn rule(&self) -> Rule {
        let action = match self.fault.means {
            Means::Drop => Action::Drop,
            Means::Burn | Means::Queue => Action::Delay(Duration::from_micros(self.us.into())),
        };
        Rule::at(self.fault.direction, [self.seq], action)
    }
}

/// Runs a row's topology with these faults; what was said of each trial.
fn judge_all(row: &Row, trials: &[Trial]) -> Vec<Judged> {
    let (on_wire, in_kernel): (Vec<_>, Vec<_>) = faults(row)
        .into_iter()
        .partition(|f| f.spot.host == FORWARDER);
    let by_forwarder = |t: &&Trial| on_wire.iter().any(|fault| fault.is(&t.fault));
    let rules = trials.iter().filter(by_forwarder).map(Trial::rule);
    let hosts = row
        .topology
        .build(Plan::new(Duration::ZERO, rules.collect::<Vec<_>>()));
    let servers = row.servers.iter();
    let _servers: Vec<_> = servers
        .map(|(host, args)| Server::start(hosts.get(host), args))
        .collect();
    for fault in in_kernel {
        fault.attach(&hosts, trials);
    }
    let count = LEARNING + (trials.len() as u32 + 10) * SPACING;
    let args = format!(
        "-c {} -i {INTERVAL_MS}ms -C {count} -W 0.4 -m 1us -o json",
        row.client
    );
    // So that it has a CPU also on a busy machine; its child inherits that.
    let probe = || {
        prioritise(Priority::Fifo(1)).expect("a priority");
        client(hosts.get("client"), &args)
    };
    let run = thread::scope(|scope| scope.spawn(probe).join()).expect("the client");
    let name = row.topology.name;
    assert_eq!(run.status, 0, "{name}: {}", run.stderr);
    judge(&run, trials)
}

fn judge(run: &Finished, trials: &[Trial]) -> Vec<Judged> {
    let probes: BTreeMap<u64, Value> = run
        .probes()
        .into_iter()
        .map(|p| (p["seq"].as_u64().expect("seq"), p))
        .collect();
    let fastest = probes
        .values()
        .filter_map(response_ns)
        .min()
        .expect("an answer");
    let of_trial = |trial: &Trial| {
        let probe = &probes[&u64::from(trial.seq)];
        if trial.fault.means == Means::Drop {
            lost(trial, probe)
        } else {
            slow(trial, probe, fastest)
        }
    };
    trials.iter().map(of_trial).collect()
}

fn text<'p>(value: &'p Value, key: &str) -> &'p str {
    value[key].as_str().unwrap_or("-")
}

fn lost(trial: &Trial, probe: &Value) -> Judged {
    if status(probe) != "lost" {
        return (Outcome::Missed, status(probe).into());
    }
    let loss = &probe["loss"];
    let place = text(loss, "place");
    let (owner, segment) = match place {
        "wire_out" => (Owner::WireOut, ""),
        "wire_in" => (Owner::WireIn, ""),
        "server_receive" => (Owner::Remote, "r_rx"),
        "server_reply" => (Owner::Remote, "r_tx"),
        "client_receive" | "socket" => (Owner::Local, "l_rx"),
        "no_word" => (Owner::WireOrRemote, ""),
        "unknown" => (Owner::Unknown, ""),
        _ => (Owner::Local, "l_tx"),
    };
    let named = format!("lost at {}", place.replace('_', " "));
    let at_host = !matches!(trial.fault.spot.at, At::Wire | At::Way(..));
    let device = loss["dev"].as_str().filter(|_| at_host);
    let right = trial.fault.is_at(owner, segment)
        && device.is_none_or(|dev| dev == trial.fault.spot.dev || loss["drop"].is_null());
    let outcome = if right {
        Outcome::Right
    } else if trial.fault.may_be_at(owner) {
        Outcome::NotSure
    } else {
        Outcome::Wrong
    };
    (outcome, with_device(named, loss))
}

/// From when it was due.
fn response_ns(probe: &Value) -> Option<u64> {
    Some(probe["total_ns"].as_u64()? + delay(probe, "l_tx_late"))
}

fn slow(trial: &Trial, probe: &Value, fastest: u64) -> Judged {
    let injected = u64::from(trial.us) * 1_000;
    let Some(response) = response_ns(probe) else {
        return (Outcome::Disturbed, status(probe).into());
    };
    let excess = response - fastest;
    let verdict = &probe["verdict"];
    let owner = Owner::from_name(text(verdict, "owner")).unwrap_or(Owner::Unknown);
    let segment = text(verdict, "segment");
    let named = format!("{}, {segment}", owner.label());
    let spot = trial.fault.spot;
    let queue = trial.fault.means == Means::Queue && !matches!(spot.at, At::Wire | At::Way(..));
    let device = verdict["dev"].as_str().filter(|_| queue);
    let stretch = stretch(verdict);
    let is_at = match spot.at {
        At::Way(from, to) => {
            let known = owner == Owner::WireOrRemote || trial.fault.is_at(owner, segment);
            known && stretch == Some((from, to))
        }
        _ => trial.fault.is_at(owner, segment) && stretch.is_none(),
    };
    // A host that is named is wrong if the time went by elsewhere.
    let elsewhere = stretch.is_some_and(|stretch| !spot.at.may_be(stretch));
    let outcome = if excess < injected / 2 {
        Outcome::Missed
    } else if excess > injected + injected / 2 {
        Outcome::Disturbed
    } else if is_at && device.is_none_or(|dev| dev == spot.dev) {
        Outcome::Right
    } else if verdict["sure"] == true && (elsewhere || !trial.fault.may_be_at(owner)) {
        Outcome::Wrong
    } else {
        Outcome::NotSure
    };
    (outcome, with_device(named, verdict))
}

/// The part of the way that a verdict names: from one host to the next, "" where there is none.
fn stretch(verdict: &Value) -> Option<(&str, &str)> {
    let stretch = verdict.get("on_way")?;
    Some((
        stretch["from"].as_str()?,
        stretch["to"].as_str().unwrap_or(""),
    ))
}

fn with_device(named: String, at: &Value) -> String {
    let device = at["dev"].as_str().into_iter();
    let stretch = stretch(at).map(|stretch| match stretch {
        (from, "") => format!("behind {from}"),
        (from, to) if from == to => format!("in {from}"),
        (from, to) => format!("between {from} and {to}"),
    });
    let places = device.map(str::to_owned).chain(stretch);
    places.fold(named, |named, place| format!("{named}, {place}"))
}

/// What came of all trials of a fault.
struct Measured<'r> {
    row: &'r Row,
    fault: Fault,
    judged: Vec<Judged>,
}

impl Measured<'_> {
    fn count(&self, outcome: Outcome) -> usize {
        self.judged.iter().filter(|(o, _)| *o == outcome).count()
    }

    /// What was named most often.
    fn named(&self) -> &str {
        let mut times = BTreeMap::<_, usize>::new();
        let told = |(o, _): &&Judged| !matches!(o, Outcome::Disturbed | Outcome::Missed);
        for (_, named) in self.judged.iter().filter(told) {
            *times.entry(named.as_str()).or_default() += 1;
        }
        let most = times.into_iter().max_by_key(|(_, count)| *count);
        most.map_or("-", |(named, _)| named)
    }

    /// No wrong host, and the fault's place named or left open.
    fn is_right(&self) -> bool {
        let [right, not_sure] = [Outcome::Right, Outcome::NotSure].map(|o| self.count(o));
        self.count(Outcome::Wrong) == 0 && right + not_sure > 0
    }

    fn words(&self) -> String {
        let Fault {
            spot,
            direction,
            means,
            side,
        } = &self.fault;
        let packet = match direction {
            Direction::Request => "request",
            Direction::Reply => "reply",
        };
        let what = match (means, side) {
            (Means::Burn, _) if spot.host == FORWARDER => "delay by",
            (Means::Drop, _) if spot.host == FORWARDER => "drop by",
            (Means::Burn, Side::Egress) => "CPU busy before the queue of",
            (Means::Burn, Side::Ingress) => "CPU busy behind the receive at",
            (Means::Queue, _) => "full queue of",
            (Means::Drop, Side::Egress) => "drop before the queue of",
            (Means::Drop, Side::Ingress) => "drop behind the receive at",
        };
        let whose = match spot.at {
            at if at.is_wire() => " (wire)",
            At::Between => " (between)",
            _ => "",
        };
        format!("{packet}: {what} {} in {}{whose}", spot.dev, spot.host)
    }
}

/// Each fault of a row, as many times as [`HITS`] says, in turns.
fn matrix(row: &Row) -> Vec<Measured<'_>> {
    let faults = faults(row);
    let mut trials = Vec::new();
    for _ in 0..HITS {
        for fault in &faults {
            trials.push(Trial {
                seq: LEARNING + trials.len() as u32 * SPACING,
                fault: *fault,
                us: EACH_US,
            });
        }
    }
    let judged = judge_all(row, &trials);
    faults
        .into_iter()
        .map(|fault| {
            let mine = trials.iter().zip(&judged);
            let mine = mine.filter(|(trial, _)| trial.fault.is(&fault));
            let judged = mine.map(|(_, judged)| judged.clone()).collect();
            Measured { row, fault, judged }
        })
        .collect()
}

fn is_wrong(row: &Row) -> bool {
    WRONG.iter().any(|(name, _)| *name == row.topology.name)
}

/// With `UPDATE_DOCS=1` the table of docs/topologies.md is written from what was measured.
#[test]
fn no_fault_has_a_wrong_host() {
    let _alone = alone();
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let only = std::env::var("TOPOLOGY").unwrap_or_default();
    let rows = ROWS.iter().filter(|row| row.topology.name.contains(&only));
    let rows = rows.filter(|row| update || !is_wrong(row));
    let results: Vec<_> = rows.flat_map(matrix).collect();
    let table = table_of(&results);
    println!("{table}");
    if update {
        write_docs(&table);
    }
    let bad = results.iter().filter(|r| !r.is_right() && !is_wrong(r.row));
    let bad: Vec<_> = bad
        .map(|r| format!("{}: {}: {:?}", r.row.topology.name, r.words(), r.judged))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

fn table_of(results: &[Measured<'_>]) -> String {
    let mut table = String::from(
        "| topology | fault | named | right | not sure | wrong |\n|---|---|---|---|---|---|\n",
    );
    let mut last = "";
    for result in results {
        let name = result.row.topology.name;
        let shown = if name == last { "" } else { name };
        last = name;
        let [right, not_sure, wrong] =
            [Outcome::Right, Outcome::NotSure, Outcome::Wrong].map(|o| result.count(o));
        let (words, named) = (result.words(), result.named());
        let line = format!("| {shown} | {words} | {named} | {right} | {not_sure} | {wrong} |");
        let _ = writeln!(table, "{line}");
    }
    table
}

fn write_docs(table: &str) {
    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/topologies.md");
    const BEGIN: &str = "<!-- measured -->\n";
    let page = std::fs::read_to_string(DOCS).expect(DOCS);
    let (head, _) = page.split_once(BEGIN).expect(BEGIN);
    std::fs::write(DOCS, format!("{head}{BEGIN}\n{table}")).expect(DOCS);
}

/// Faults of random size in random places; `SEED` and `FAULTS` in the environment repeat and prolong it.
#[test]
#[ignore = "takes minutes"]
fn no_random_fault_has_a_wrong_host() {
    let _alone = alone();
    let number = |name, otherwise: u64| {
        let value = std::env::var(name).ok();
        value.map_or(otherwise, |v| v.parse().expect(name))
    };
    let seed = number("SEED", u64::from(std::process::id()));
    let wanted = number("FAULTS", 1_000) as usize;
    println!("SEED={seed}");
    let mut random = Random(seed);
    let rows: Vec<_> = ROWS.iter().filter(|row| !is_wrong(row)).collect();
    let mut counts = BTreeMap::<Outcome, usize>::new();
    let mut wrong = Vec::new();
    let mut done = 0;
    while done < wanted {
        let row = rows[random.below(rows.len())];
        let faults = faults(row);
        let trial = |k: u32| Trial {
            seq: LEARNING + k * SPACING,
            fault: faults[random.below(faults.len())],
            us: 1_500 + random.below(3_500) as u32,
        };
        let trials: Vec<_> = (0..100).map(trial).collect();
        for (trial, (outcome, named)) in trials.iter().zip(judge_all(row, &trials)) {
            *counts.entry(outcome).or_default() += 1;
            if outcome == Outcome::Wrong {
                let Spot { host, dev, .. } = trial.fault.spot;
                wrong.push(format!(
                    "{}: {:?} of the {:?} at {dev} in {host}: {named}",
                    row.topology.name, trial.fault.means, trial.fault.direction
                ));
            }
        }
        done += trials.len();
    }
    println!("{done} faults: {counts:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(counts[&Outcome::Right] * 2 > done, "{counts:?}");
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        let mut x = self.0.wrapping_mul(2).wrapping_add(1);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = x;
        (x % limit as u64) as usize
    }
}
