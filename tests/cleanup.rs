//! Nothing is left behind, however a process ends; devices may come and go.

use super::harness::{Finished, Server, client, finish, kill, pingtrace, points, until};
use bpf::inband::InbandSkelBuilder;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{TC_EGRESS, TcHookBuilder};
use netns::{Host, Lab, Netlink};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::AsFd;

const SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGKILL];
/// What a server marks its clsact filters with.
const MARK: u32 = 0x7ace;

/// No clsact qdisc, and no filter.
pub(super) fn is_clean(host: &Host) -> bool {
    let look = || {
        let mut netlink = Netlink::open()?;
        let qdiscs = netlink.qdiscs(host.ifindex)?;
        let clsact = qdiscs.iter().any(|q| q.kind == "clsact");
        Ok::<_, netns::Error>(!clsact)
    };
    host.ns.run(look).unwrap().unwrap()
}

/// A short run to an address.
fn probe(lab: &Lab, to: &str) -> Finished {
    client(
        &lab.client.ns,
        &format!("-c {to} -i 2ms -C 20 -o json --nslocal"),
    )
}

/// Whether all probes were stamped by the server.
fn is_stamped(run: &Finished) -> bool {
    let probes = run.probes();
    let stamped = probes
        .iter()
        .all(|p| points(p).contains(&"r_rx_devrcv") && points(p).contains(&"r_tx_devout"));
    run.status == 0 && probes.len() == 20 && stamped
}

#[test]
fn a_server_leaves_nothing_behind() {
    let lab = Lab::veth_pair().unwrap();
    for signal in SIGNALS {
        let server = Server::start(&lab.server.ns, "--nslocal");
        let run = probe(&lab, "10.77.0.2");
        assert!(is_stamped(&run), "{run:#?}");
        let (status, story) = server.stop(signal);
        assert_eq!(status.success(), signal != libc::SIGKILL, "{story:#?}");
        assert!(is_clean(&lab.server), "after signal {signal}");
        // Nobody stamps any more.
        let run = probe(&lab, "10.77.0.2");
        assert_eq!(run.status, 0, "{run:#?}");
        assert!(
            run.probes()
                .iter()
                .all(|p| points(p).iter().all(|p| !p.starts_with("r_rx_dev"))),
            "{run:#?}"
        );
    }
}

#[test]
fn a_client_leaves_nothing_behind() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    for signal in SIGNALS {
        let mut run = pingtrace(&lab.client.ns, "-c 10.77.0.2 -i 2ms --nslocal");
        let mut byte = [0];
        std::io::Read::read_exact(run.stdout.as_mut().unwrap(), &mut byte).unwrap();
        kill(run.id(), signal);
        let run = finish(run);
        assert_eq!(
            run.status,
            if signal == libc::SIGKILL { -1 } else { 0 },
            "{run:#?}"
        );
        assert!(is_clean(&lab.client), "after signal {signal}");
        let next = probe(&lab, "10.77.0.2");
        assert!(is_stamped(&next), "{next:#?}");
    }
}

/// Attaches the in-band program as a server does where there is no TCX, and leaves it there.
fn leave_stale_filter(host: &Host) {
    let _inside = host.ns.enter().unwrap();
    let mut storage = MaybeUninit::uninit();
    let skel = InbandSkelBuilder::default()
        .open(&mut storage)
        .unwrap()
        .load()
        .unwrap();
    let mut hook = TcHookBuilder::new(skel.progs.inband_ether.as_fd())
        .ifindex(host.ifindex.cast_signed())
        .handle(MARK)
        .priority(MARK)
        .hook(TC_EGRESS);
    hook.create().unwrap();
    hook.attach().unwrap();
}

#[test]
fn a_stale_filter_is_removed() {
    let lab = Lab::veth_pair().unwrap();
    leave_stale_filter(&lab.server);
    assert!(!is_clean(&lab.server));
    let server = Server::start(&lab.server.ns, "--nslocal");
    let run = probe(&lab, "10.77.0.2");
    assert!(is_stamped(&run), "{run:#?}");
    server.stop(libc::SIGTERM);
    assert!(is_clean(&lab.server));
}

#[test]
fn a_filter_of_somebody_else_stays() {
    let lab = Lab::veth_pair().unwrap();
    let host = &lab.server;
    let add = || {
        let mut command = std::process::Command::new("sh");
        let device = &host.dev;
        command.args(["-c", &format!("tc qdisc add dev {device} clsact && tc filter add dev {device} egress bpf bytecode '1,6 0 0 0'")]);
        command.status().unwrap().success()
    };
    assert!(host.ns.run(add).unwrap());
    for signal in SIGNALS {
        let server = Server::start(&host.ns, "--nslocal");
        assert!(is_stamped(&probe(&lab, "10.77.0.2")));
        server.stop(signal);
        let index = host.ifindex;
        let there = || Netlink::open()?.has_filters(index);
        assert!(
            host.ns.run(there).unwrap().unwrap(),
            "after signal {signal}"
        );
    }
}

/// Gives a device an address, and sets it up.
fn configure(host: &Host, device: &str, address: &str) -> u32 {
    let set = || {
        let mut netlink = Netlink::open()?;
        let index = netlink.link_named(device)?.index;
        netlink.add_address(index, address.parse::<IpAddr>().unwrap(), 24)?;
        netlink.set_up(index)?;
        Ok::<_, netns::Error>(index)
    };
    host.ns.run(set).unwrap().unwrap()
}

#[test]
fn devices_come_and_go_while_a_server_runs() {
    let lab = Lab::veth_pair().unwrap();
    let server = Server::start(&lab.server.ns, "--nslocal");
    for _ in 0..2 {
        let peer = &lab.client.ns;
        let add = || Netlink::open()?.add_veth("late0", "late1", peer);
        lab.server.ns.run(add).unwrap().unwrap();
        let index = configure(&lab.server, "late0", "10.78.0.2");
        configure(&lab.client, "late1", "10.78.0.1");
        until("the new device is stamped", || {
            let run = probe(&lab, "10.78.0.2");
            is_stamped(&run) && run.lines("run").last().unwrap()["mode"] == "inband"
        });
        let remove = || Netlink::open()?.delete_link(index);
        lab.server.ns.run(remove).unwrap().unwrap();
        let run = probe(&lab, "10.77.0.2");
        assert!(is_stamped(&run), "{run:#?}");
    }
    let (status, story) = server.stop(libc::SIGTERM);
    assert!(status.success(), "{story:#?}");
    assert!(!story.iter().any(|l| l.contains("error")), "{story:#?}");
    assert!(
        story
            .iter()
            .any(|l| l.contains("late0 (tcx)") || l.contains("late0 (clsact)")),
        "{story:#?}"
    );
    assert!(is_clean(&lab.server));
}
