//! What tunnels, VLANs and MPLS carry: a probe inside is stamped at the devices below.

use super::faults::{ONE_CLOCK, TWO_CLOCKS, slow_queue};
use super::harness::{Server, client};
use super::kit::attacker::on_device;
use netns::{Lab, Namespace, Netlink};
use pingtrace::kernel::thread::pin;
use pingtrace::wire::entry::Entry;
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet;
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{Family, INBAND, Version};
use pingtrace::wire::socket::{MAX_MESSAGE, Options, ProbeSocket, Received};
use report::model::{Ifindex, Point};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const IP4: u16 = 0x0800;
const IP6: u16 = 0x86dd;
const BRIDGING: u16 = 0x6558;
const MPLS: u16 = 0x8847;
/// To which the server is told to listen.
const PORT: u16 = 4789;
const OTHER_PORT: u16 = 4790;

/// A header around a packet, or several that belong together.
#[derive(Clone, Copy, Debug)]
enum Header {
    /// Its `EtherType`.
    Vlan(u16),
    Mpls,
    Ethernet,
    /// With these flags, of checksum, key and sequence number.
    Gre(u16),
    /// Words of options.
    Geneve(u8),
    Vxlan,
    /// With IP inside.
    VxlanGpe,
    Gue,
    /// Nothing but UDP: FOU, bareudp.
    Fou,
    VxlanTo(u16),
    /// With options.
    Ip4(bool),
    /// With an extension header.
    Ip6(bool),
}
use Header::{Ethernet, Fou, Geneve, Gre, Gue, Ip4, Ip6, Mpls, Vlan, Vxlan, VxlanGpe, VxlanTo};

/// A packet, and by what number the header before it names it.
struct Packet {
    bytes: Vec<u8>,
    /// [`BRIDGING`]: an Ethernet frame; below 256 an IP protocol.
    kind: u16,
}

impl Packet {
    fn behind(self, header: &[u8], kind: u16) -> Self {
        Self {
            bytes: [header, &self.bytes].concat(),
            kind,
        }
    }

    /// The number of what is behind an IP header.
    fn protocol(&self) -> u8 {
        match self.kind {
            IP4 => 4,
            IP6 => 41,
            protocol => protocol as u8,
        }
    }

    fn udp(self, port: u16, header: &[u8]) -> Self {
        let length = (8 + header.len() + self.bytes.len()) as u16;
        let udp = [40_000_u16, port, length, 0].map(u16::to_be_bytes).concat();
        self.behind(&[&udp, header].concat(), 17)
    }

    fn ip4(self, options: bool) -> Self {
        let words = if options { 6 } else { 5 };
        let length = (words * 4 + self.bytes.len()) as u16;
        let mut header = vec![0; words * 4];
        header[0] = 0x40 | words as u8;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[8..10].copy_from_slice(&[64, self.protocol()]);
        header[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        self.behind(&header, IP4)
    }

    fn ip6(self, extension: bool) -> Self {
        const OPTIONS: u8 = 60;
        let limit = [self.protocol(), 0, 4, 1, 4, 1, 1, 0];
        let (next, inner) = if extension {
            (OPTIONS, self.behind(&limit, 0))
        } else {
            (self.protocol(), self)
        };
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((inner.bytes.len() as u16).to_be_bytes());
        header.extend([next, 64]);
        for last in [1, 2] {
            header.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets());
        }
        inner.behind(&header, IP6)
    }

    fn wrap(self, header: Header) -> Self {
        let [high, low] = self.kind.to_be_bytes();
        match header {
            Vlan(kind) => self.behind(&[0x60, 77, high, low], kind),
            Mpls => {
                let bottom = u8::from(self.kind != MPLS);
                self.behind(&[0, 0x04, 0xd0 | bottom, 64], MPLS)
            }
            Ethernet => self.behind(&[&[2; 12][..], &[high, low]].concat(), BRIDGING),
            Gre(flags) => {
                let fields = (flags & 0xb000).count_ones() as usize;
                let flags = flags.to_be_bytes();
                let header = [&flags[..], &[high, low], &vec![0x45; fields * 4]].concat();
                self.behind(&header, 47)
            }
            Geneve(words) => {
                let options = vec![0x45; usize::from(words) * 4];
                let header = [&[words, 0, high, low, 0, 0, 77, 0][..], &options].concat();
                self.udp(PORT, &header)
            }
            Vxlan => self.udp(PORT, &[8, 0, 0, 0, 0, 0, 77, 0]),
            VxlanTo(port) => self.udp(port, &[8, 0, 0, 0, 0, 0, 77, 0]),
            VxlanGpe => {
                let next = if self.kind == IP4 { 1 } else { 2 };
                self.udp(PORT, &[0x0c, 0, 0, next, 0, 0, 77, 0])
            }
            Gue => {
                let header = [1, self.protocol(), 0, 0, 0x45, 0x45, 0x45, 0x45];
                self.udp(PORT, &header)
            }
            Fou => self.udp(PORT, &[]),
            Ip4(options) => self.ip4(options),
            Ip6(extension) => self.ip6(extension),
        }
    }
}

/// Headers from the outermost to the innermost.
const LOOKED_INTO: [&[Header]; 26] = [
    &[Ip4(false)],
    &[Ip6(false)],
    &[Ip6(true)],
    &[Ip4(false), Gre(0)],
    &[Ip4(true), Gre(0x2000)],
    &[Ip6(true), Gre(0xb000)],
    &[Ip4(false), Gre(0), Ethernet],
    &[Ip6(false), Gre(0x2000), Ethernet],
    &[Ip4(false), Vxlan, Ethernet],
    &[Ip4(true), Vxlan, Ethernet],
    &[Ip6(false), Vxlan, Ethernet],
    &[Ip6(true), Vxlan, Ethernet],
    &[Ip4(false), VxlanGpe],
    &[Ip4(false), Geneve(0), Ethernet],
    &[Ip6(false), Geneve(2), Ethernet],
    &[Ip4(false), Geneve(8)],
    &[Ip4(false), Gue],
    &[Ip6(false), Fou],
    &[Vlan(0x8100)],
    &[Vlan(0x88a8), Vlan(0x8100)],
    &[Mpls],
    &[Mpls, Mpls],
    &[Vlan(0x8100), Ip4(false), Vxlan, Ethernet, Vlan(0x8100)],
    &[Ip4(false), Vxlan, Ethernet, Ip4(false)],
    &[Ip4(false), Gre(0), Mpls],
    &[Ip4(false), Ip4(false)],
];

/// A version of GRE that is PPTP's; a fragment could be none of these; another port.
const REFUSED: [&[Header]; 3] = [
    &[Ip4(false), Gre(1)],
    &[Ip4(false), VxlanTo(OTHER_PORT), Ethernet],
    &[Ip6(false), VxlanTo(OTHER_PORT), Ethernet],
];

/// Sends frames and probes from the client's device, in order.
struct Sender<'l> {
    lab: &'l Lab,
    family: Family,
    frames: Socket,
    probes: ProbeSocket,
}

impl<'l> Sender<'l> {
    /// In the client's namespace.
    fn new(lab: &'l Lab, family: Family) -> Self {
        Self {
            lab,
            family,
            frames: Socket::new(Domain::PACKET, Type::RAW, None).unwrap(),
            probes: ProbeSocket::open(family, &Options::default()).unwrap(),
        }
    }

    fn addresses(&self) -> [IpAddr; 2] {
        [&self.lab.client, &self.lab.server].map(|host| match self.family {
            Family::V4 => host.v4.into(),
            Family::V6 => host.v6.into(),
        })
    }

    /// The IP packet of a probe.
    fn inner(&self, message: &[u8]) -> Packet {
        let packet = Packet {
            bytes: message.to_vec(),
            kind: if self.family == Family::V4 { 1 } else { 58 },
        };
        let [from, to] = self.addresses();
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut packet = packet.ip4(false);
                packet.bytes[12..20].copy_from_slice(&[from.octets(), to.octets()].concat());
                packet
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut packet = packet.ip6(false);
                packet.bytes[8..40].copy_from_slice(&[from.octets(), to.octets()].concat());
                packet
            }
            _ => unreachable!("one family"),
        }
    }

    fn frame(&self, packet: &Packet) {
        let [high, low] = packet.kind.to_be_bytes();
        let header = [&[0xff; 6][..], &[2; 6], &[high, low]].concat();
        let to = on_device(&self.lab.client, packet.kind);
        let frame = [header, packet.bytes.clone()].concat();
        self.frames.send_to(&frame, &to).unwrap();
    }

    /// How often a device of the server received the request of a probe that went inside of these
    /// headers, and then without them.
    fn receptions(&self, session: u32, headers: &[Header]) -> usize {
        let session = SessionId(session);
        let mut probe = Probe::new(self.family, Version::V1, session, 512, INBAND);
        let message = probe.at(Sequence(0), 0).to_vec();
        let inner = self.inner(&message);
        self.frame(
            &headers
                .iter()
                .rfold(inner, |packet, header| packet.wrap(*header)),
        );
        let [_, to] = self.addresses();
        self.probes
            .send(&message, &SocketAddr::new(to, 0).into())
            .unwrap();
        let entries = self.reply(session);
        let received = |e: &&Entry| e.point == Point::RRxDevrcv;
        let at_device = |e: &Entry| assert_eq!(e.ifindex, Ifindex(self.lab.server.ifindex));
        entries
            .iter()
            .filter(received)
            .inspect(|e| at_device(e))
            .count()
    }

    fn reply(&self, session: SessionId) -> Vec<Entry> {
        let mut buffer = vec![MaybeUninit::uninit(); MAX_MESSAGE];
        loop {
            let (Received::Reply(reply), _) = self.probes.receive(&mut buffer).unwrap() else {
                continue;
            };
            let Ok(reply) = packet::parse(reply.message, self.family) else {
                continue;
            };
            if !reply.request && reply.session == session {
                return reply.entries().flatten().collect();
            }
        }
    }
}

/// Real frames of every kind, each before the probe that it carries: the server's device receives
/// that twice. Sent from one CPU, they are received in order.
#[test]
fn the_programs_look_into_every_encapsulation() {
    let lab = Lab::veth_pair().unwrap();
    let _server = Server::start(&lab.server.ns, &format!("--nslocal --tunnel {PORT}"));
    for family in [Family::V4, Family::V6] {
        let ask = || {
            pin(0).unwrap();
            let sender = Sender::new(&lab, family);
            let all = LOOKED_INTO.iter().map(|headers| (headers, 2));
            let all = all.chain(REFUSED.iter().map(|headers| (headers, 1)));
            let asked = all.zip(1..).filter_map(|((headers, expected), session)| {
                let received = sender.receptions(session, headers);
                (received != expected).then(|| format!("{headers:?}: {received}, not {expected}"))
            });
            asked.collect::<Vec<_>>()
        };
        let wrong = lab.client.ns.run(ask).unwrap();
        assert!(wrong.is_empty(), "{family:?}: {wrong:#?}");
    }
}

/// The devices at which a probe has this stamp, in order.
fn devices(probe: &Value, point: &str) -> Vec<u64> {
    let points = probe["points"].as_array().expect("points");
    let stamps = points.iter().filter(|stamp| stamp["point"] == point);
    stamps
        .filter_map(|stamp| stamp["ifindex"].as_u64())
        .collect()
}

/// The server meets the tunnel when it comes; the client finds it.
#[test]
fn hops_go_on_below_a_tunnel() {
    for in_v6 in [false, true] {
        let lab = Lab::veth_pair().unwrap();
        let _server = Server::start(&lab.server.ns, "--nslocal");
        let tunnel = lab.vxlan(in_v6).unwrap();
        let server: [IpAddr; 2] = [tunnel.server.v4.into(), tunnel.server.v6.into()];
        for to in server {
            let run = client(
                &lab.client.ns,
                &format!("-c {to} --nslocal -i 5ms -C 60 -o json"),
            );
            assert_eq!(run.status, 0, "{run:#?}");
            let probes = run.probes();
            assert_eq!(probes.len(), 60);
            let [near, far] = [[&tunnel.client, &lab.client], [&tunnel.server, &lab.server]]
                .map(|hosts| hosts.map(|host| u64::from(host.ifindex)));
            let inwards = |[above, below]: [u64; 2]| [below, above];
            for (point, expected) in [
                ("l_tx_devqueue", near),
                ("l_tx_devout", near),
                ("r_rx_devrcv", inwards(far)),
                ("r_tx_devqueue", far),
                ("r_tx_devout", far),
                ("l_rx_iprcv", inwards(near)),
            ] {
                let wrong = probes.iter().find(|p| devices(p, point) != expected);
                assert!(
                    wrong.is_none(),
                    "{point} at {expected:?}: {:#}",
                    wrong.unwrap()
                );
            }
        }
    }
}

/// Packets before a probe in the queue of the device that carries the tunnel.
#[test]
fn a_queue_below_a_tunnel_is_the_hosts() {
    for (options, in_v6) in [(ONE_CLOCK, true), (TWO_CLOCKS, false)] {
        let lab = Lab::veth_pair().unwrap();
        let tunnel = lab.vxlan(in_v6).unwrap();
        slow_queue(&tunnel, &lab.client, &lab.server, options, "l_tx_path");
        slow_queue(&tunnel, &lab.server, &lab.client, options, "r_tx_qdisc");
    }
}

/// A tunnel in a namespace of its own: with `--nslocal` the device below it is not seen, and each probe
/// says so where it leaves the namespace.
#[test]
fn a_tunnel_that_is_not_followed_is_said() {
    let lab = Lab::veth_pair().unwrap();
    let tunnel = lab.vxlan(false).unwrap();
    let _server = Server::start(&lab.server.ns, "--nslocal");
    assert_eq!(unseen_below(&lab.client.ns), 0);
    let pod = Namespace::anonymous().unwrap();
    let leave = || Netlink::open()?.move_to(tunnel.client.ifindex, &pod);
    lab.client.ns.run(leave).unwrap().unwrap();
    let settle = || {
        let mut netlink = Netlink::open()?;
        let index = netlink.link_named("vx0")?.index;
        netlink.set_up(index)?;
        netlink.add_address(index, tunnel.client.v4.into(), 24)
    };
    pod.run(settle).unwrap().unwrap();
    assert_eq!(unseen_below(&pod), 40);
}

/// Of 40 probes through the tunnel, how many say that they were not followed below it.
fn unseen_below(client_ns: &Namespace) -> usize {
    let run = client(client_ns, "-c 10.77.2.2 --nslocal -i 5ms -C 40 -o json");
    let unseen = |probe: &&Value| {
        let points = probe["points"].as_array().expect("points");
        let last = points.iter().rfind(|stamp| stamp["point"] == "l_tx_devout");
        last.expect("a hand-over")["underlay_unseen"] == true
    };
    run.probes().iter().filter(unseen).count()
}
