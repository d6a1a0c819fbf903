//! Options that shape the packets reach the wire.

use super::harness::{Server, finish, pingtrace};
use netns::Lab;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::time::Duration;

#[test]
fn tos_size_device_and_zone_are_used() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, "");
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    let listener = lab.server.ns.run(open).unwrap().unwrap();
    listener
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let dev = &lab.client.dev;
    let args = format!("-c 10.77.0.2 -Q 0xb8 -b 300 -I {dev} -i 5ms -C 20 -o json");
    let run = finish(pingtrace(&lab.client.ns, &args));
    let mut packet = [0; 2048];
    let length = (&listener).read(&mut packet).unwrap();
    assert_eq!((packet[1], length), (0xb8, 20 + 300));
    assert_eq!((run.status, run.probes().len()), (0, 20), "{run:#?}");
    let zone = format!("-c fd77::2%{dev} -i 5ms -C 20 -o json");
    let run = finish(pingtrace(&lab.client.ns, &zone));
    assert_eq!((run.status, run.probes().len()), (0, 20), "{run:#?}");
}
