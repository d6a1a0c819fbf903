//! Every point in order, in every probe, by every way of getting remote stamps.

use super::harness::{Server, client, delay, points};
use netns::Lab;

/// All points that this kernel gives, in path order.
const ALL: [&str; 14] = [
    "l_tx_user",
    "l_tx_devqueue",
    "l_tx_devout",
    "r_rx_softirq",
    "r_rx_napi",
    "r_rx_devrcv",
    "r_rx_icmprcv",
    "r_tx_devqueue",
    "r_tx_devout",
    "l_rx_softirq",
    "l_rx_napi",
    "l_rx_iprcv",
    "l_rx_skdataready",
    "l_rx_user",
];

#[test]
fn every_probe_has_every_point_in_order() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for host in [
        lab.client.v4.to_string().replace(".1", ".2"),
        "fd77::2".into(),
    ] {
        let run = client(
            &lab.client.ns,
            &format!("-c {host} --nslocal -i 2ms -C 200 -o json"),
        );
        assert_eq!(run.status, 0, "{run:#?}");
        let probes = run.probes();
        assert_eq!(probes.len(), 200);
        for probe in &probes {
            let sleepless: Vec<_> = points(probe)
                .into_iter()
                .filter(|p| !matches!(*p, "l_rx_wakeup" | "l_rx_oncpu"))
                .collect();
            assert_eq!(sleepless, ALL, "{probe:#}");
            let sum: u64 = probe["delays"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d["ns"].as_u64().unwrap())
                .sum();
            assert_eq!(sum, probe["total_ns"].as_u64().unwrap());
            assert_eq!(delay(probe, "unattributed"), 0);
        }
    }
}
