//! Namespaces and devices have their names, those of the other host too.

use super::harness::{Server, client, kill, pingtrace};
use netns::{Host, Lab, Netlink};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, id};

/// A lab whose namespaces `ip netns` lists, `PREFIX-client` and `PREFIX-server`.
fn named(test: &str) -> (Lab, String) {
    let prefix = format!("pt-names-{test}-{}", id());
    (Lab::named(&prefix).unwrap(), prefix)
}

/// The values of a field at a host's points that say a namespace.
fn values(probe: &Value, host: &str, field: &str) -> BTreeSet<String> {
    let points = probe["points"].as_array().expect("points");
    let of_host = points
        .iter()
        .filter(|p| p["host"] == host && p["netns"].as_u64().is_some());
    of_host.map(|p| p[field].to_string()).collect()
}

fn is(value: &str) -> BTreeSet<String> {
    BTreeSet::from([format!("\"{value}\"")])
}

/// Different user ids make one kernel two hosts: the server's names come from the server.
#[test]
fn the_other_host_sends_its_names() {
    let (lab, prefix) = named("sent");
    let _server = Server::start(&lab.server.ns, "--userid 7");
    for mode in ["auto", "compact"] {
        let args = format!("-c 10.77.0.2 --userid 3 --mode {mode} -i 10ms -C 60 -n -o json");
        let run = client(&lab.client.ns, &args);
        let probes = run.probes();
        let last = probes.last().unwrap_or_else(|| panic!("{run:#?}"));
        for (host, end) in [("client", &lab.client), ("server", &lab.server)] {
            let netns = format!("{prefix}-{host}");
            assert_eq!(
                values(last, host, "netns_name"),
                is(&netns),
                "{mode}: {last}"
            );
            let devices = values(last, host, "dev");
            assert!(devices.is_superset(&is(&end.dev)), "{mode}: {last}");
        }
        let unknown = run.stat()["unknown_points"].as_u64();
        assert_eq!(unknown.unwrap_or(0), 0, "{run:#?}");
    }
    let run = client(&lab.client.ns, "-c 10.77.0.2 --userid 3 -i 10ms -C 60 -n");
    let table = run.stdout.rsplit_once("request ").expect("a table").1;
    let row = |line: &str| line.contains(&format!("server   {prefix}-server {}", lab.server.dev));
    assert!(table.lines().any(row), "{table}");
}

#[test]
fn a_private_server_sends_no_names() {
    let (lab, prefix) = named("private");
    let _server = Server::start(&lab.server.ns, "--userid 7 --private");
    for mode in ["auto", "compact"] {
        let args = format!("-c 10.77.0.2 --userid 3 --mode {mode} -i 10ms -C 60 -n -o json");
        let run = client(&lab.client.ns, &args);
        assert_eq!(run.status, 0, "{run:#?}");
        assert!(run.stdout.contains("r_rx_devrcv"), "{run:#?}");
        assert!(run.stdout.contains(&format!("{prefix}-client")), "{run:#?}");
        assert!(
            !run.stdout.contains(&format!("{prefix}-server")),
            "{run:#?}"
        );
        let names = |p| values(p, "server", "dev").len();
        assert!(run.probes().iter().all(|p| names(p) <= 1), "{run:#?}");
    }
}

/// A client that runs until it is dropped.
struct Endless {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Endless {
    fn start(lab: &Lab, args: &str) -> Self {
        let mut child = pingtrace(&lab.client.ns, args);
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// Reads on until a host's points are at a device with this name.
    fn await_device(&mut self, host: &str, name: &str) {
        let named = |line: String| {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            line["type"] == "probe" && values(&line, host, "dev").is_superset(&is(name))
        };
        let mut lines = self.lines.by_ref().map(|line| line.expect("a line"));
        assert!(
            lines.any(named),
            "the run is over, and {host} has no {name}"
        );
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        kill(self.child.id(), libc::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Another device with the same number, as far as names go.
fn rename(host: &Host, name: &str) {
    let rename = || {
        let mut netlink = Netlink::open()?;
        netlink.set_down(host.ifindex)?;
        netlink.set_name(host.ifindex, name)?;
        netlink.set_up(host.ifindex)
    };
    host.ns.run(rename).unwrap().unwrap();
}

/// The run has an end, in case the new names never come.
#[test]
fn a_name_that_changes_is_followed_on_both_hosts() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--userid 7");
    let mut run = Endless::start(&lab, "-c 10.77.0.2 --userid 3 -i 20ms -t 60 -o json");
    for (host, end) in [("client", &lab.client), ("server", &lab.server)] {
        run.await_device(host, &end.dev);
        rename(end, &format!("new{host}"));
        run.await_device(host, &format!("new{host}"));
    }
}
