//! The answer in one sentence: what it is about, and at which device of which namespace.

use super::harness::{Finished, Server, client, wire};
use netns::{Host, Lab, Netlink};
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::model::Direction;
use serde_json::Value;
use std::process::{Child, Command};
use std::time::Duration;

/// 100 kB/s, with room for all that a test sends: probes queue up from the first on.
fn slow_queue(host: &Host) {
    let shape = || Netlink::open()?.tbf(host.ifindex, 100_000, 600, 1_000_000);
    host.ns.run(shape).unwrap().unwrap();
}

/// What the run is about, and its title.
fn headline(run: &Finished) -> (String, String) {
    let stat = run.stat();
    let text = |key: &str| stat["headline"][key].as_str().unwrap().to_owned();
    (text("about"), text("title"))
}

/// A process in a namespace: one in which nobody lives has no name. It ends by itself.
struct Inhabitant(Child);

impl Inhabitant {
    fn new(host: &Host) -> Self {
        let sleep = || Command::new("sleep").arg("60").spawn();
        Self(host.ns.run(sleep).unwrap().unwrap())
    }

    /// What the namespace is called after it.
    fn netns(&self) -> String {
        format!("sleep/{}", self.0.id())
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Without `-n` too: of the client's own device, and of one on the way.
#[test]
fn a_queue_is_named_with_its_device_and_namespace() {
    for routed in [false, true] {
        let lab = if routed {
            Lab::routed()
        } else {
            Lab::veth_pair()
        }
        .unwrap();
        let router = lab.router.as_ref().map(|router| &router.server_side);
        let queue = router.unwrap_or(&lab.client);
        let inhabitant = Inhabitant::new(queue);
        slow_queue(queue);
        let _server = Server::start(&lab.server.ns, "");
        let args = format!("-c {} -i 2ms -C 100 -m 1ms -o json", lab.server.v4);
        let run = client(&lab.client.ns, &args);
        let (about, title) = headline(&run);
        assert_eq!((run.status, about.as_str()), (0, "slow"), "{run:#?}");
        let segment = if routed { "l_tx_outlink" } else { "l_tx_qdisc" };
        let place = format!("queue of {} in netns ", queue.dev);
        assert!(title.contains(&place) && title.contains(segment), "{title}");
        let cause: &Value = &run.stat()["causes"][0];
        let named = (&cause["dev"], &cause["segment"]);
        assert_eq!(
            named,
            (&queue.dev.as_str().into(), &segment.into()),
            "{cause}"
        );
        if routed {
            assert_eq!(cause["netns_name"], inhabitant.netns(), "{cause}");
        }
    }
}

/// The device that has no room, not the one by which the packet came.
#[test]
fn a_drop_for_size_names_the_mtu_of_its_device() {
    let lab = Lab::routed().unwrap();
    let small = &lab.router.as_ref().unwrap().server_side;
    let inhabitant = Inhabitant::new(small);
    let set = || {
        Command::new("ip")
            .args(["link", "set", &small.dev, "mtu", "300"])
            .status()
    };
    assert!(small.ns.run(set).unwrap().unwrap().success());
    let args = format!("-c {} -i 20ms -C 10 -W 100ms -o json", lab.server.v4);
    let run = client(&lab.client.ns, &args);
    let (about, title) = headline(&run);
    assert_eq!((run.status, about.as_str()), (3, "unanswered"), "{run:#?}");
    let place = format!(
        "PKT_TOO_BIG, {} in netns {} has MTU 300",
        small.dev,
        inhabitant.netns()
    );
    assert!(title.ends_with(&place), "{title}");
}

/// 17 of 100 are lost on the wire, and a few slow ones do not hide it.
#[test]
fn a_run_with_many_lost_probes_is_about_loss() {
    let lost: Vec<u32> = (10..27).collect();
    let slow = Action::Delay(Duration::from_millis(40));
    let rules = [
        Rule::at(Direction::Request, lost, Action::Drop),
        Rule::at(Direction::Request, [50, 51, 52], slow),
    ];
    let (lab, _wire) = wire(Plan::new(Duration::ZERO, rules));
    let _server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!(
        "-c {} --nslocal -i 5ms -C 100 -m 30ms -o json",
        lab.server.v4
    );
    let run = client(&lab.client.ns, &args);
    let (about, title) = headline(&run);
    assert_eq!((run.status, about.as_str()), (0, "loss"), "{run:#?}");
    assert!(title.starts_with("Lost 17 of 100 at wire out"), "{title}");
}

/// A threshold that nothing reached is said; without one, a run is about slow probes exactly if any
/// probe has a verdict.
#[test]
fn where_nothing_was_slow_that_is_said() {
    let lab = Lab::veth_pair().unwrap();
    let run = |more: &str| {
        let args = format!("-c {} -i 5ms -C 200 {more}", lab.server.v4);
        client(&lab.client.ns, &args)
    };
    let given = run("-m 20 -o json");
    let unreached = run("-m 100s -o json");
    let (about, title) = headline(&unreached);
    assert_eq!(about, "not_reached", "{title}");
    assert!(title.starts_with("No probe reached 100 s"), "{title}");
    assert!(
        unreached.stat()["causes"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
    assert_ne!(headline(&given).0, "ordinary");

    let learnt = run("-o json");
    let blamed = learnt
        .probes()
        .iter()
        .any(|probe| !probe["verdict"].is_null());
    let (about, title) = headline(&learnt);
    let expected = if blamed { "slow" } else { "ordinary" };
    assert_eq!(about, expected, "{title}");
    assert!(blamed || title.starts_with("Nothing was slow"), "{title}");
    assert!(!learnt.stdout.contains("undecided, 0 ns"));

    let text = run("-m 100s");
    assert!(
        text.stdout.contains("No probe reached 100 s"),
        "{}",
        text.stdout
    );
}
