//! Ways in which a client and a server are joined, and the places of each where faults are.

use super::super::kit::hold::Side::{self, Egress, Ingress};
use super::super::kit::topology::Topology;
use At::{Between, Client, Server, Way, Wire};

/// Whose a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The client's host.
    Client,
    /// Neither host sees it.
    Wire,
    /// A namespace between the two that the client's programs see: part of the wire, by name.
    Between,
    /// Part of the wire where hosts on the way run a server: from one host to the next, or the same one
    /// for what is in it. Behind the last one there is none.
    Way(&'static str, &'static str),
    /// The server's host.
    Server,
}

impl At {
    /// Whether no host that runs a program is there.
    pub fn is_wire(self) -> bool {
        match self {
            Self::Wire => true,
            Self::Way(from, to) => from != to,
            Self::Client | Self::Between | Self::Server => false,
        }
    }

    /// Whether a fault here is in this part of the way, or in one that it belongs to.
    pub fn may_be(self, stretch: (&str, &str)) -> bool {
        match self {
            Self::Way(from, to) => {
                let [near, far] = [stretch.0, stretch.1].map(rank);
                let around = near <= rank(from) && rank(to) <= far;
                stretch == (from, to) || stretch.0 != stretch.1 && around
            }
            Self::Wire => stretch.0 != stretch.1,
            Self::Client | Self::Between | Self::Server => false,
        }
    }
}

/// Hosts in the order of the path.
fn rank(host: &str) -> usize {
    let order = ["client", "transit2", "transit3"];
    let known = order.iter().position(|known| *known == host);
    known.unwrap_or(order.len())
}

/// A device that the probes pass.
#[derive(Clone, Copy)]
pub struct Spot {
    pub at: At,
    pub host: &'static str,
    pub dev: &'static str,
    /// Where requests pass it, and where replies do.
    pub sides: [Option<Side>; 2],
    /// Whether its queue can be filled.
    pub queues: bool,
    /// Where a probe's layer 3 begins in its frames.
    pub l3: u32,
}

/// A topology, the programs in it, and its places.
pub struct Row {
    pub topology: Topology,
    /// What the client is given, the address included.
    pub client: &'static str,
    /// Hosts that run a server, and what it is given.
    pub servers: &'static [(&'static str, &'static str)],
    pub spots: &'static [Spot],
}

/// In the place of a host: a process that carries the frames.
pub const FORWARDER: &str = "user space";

const ETHERNET: u32 = 14;
/// Behind the outer headers, over IPv4.
const VXLAN: u32 = 64;

const fn spot(
    at: At,
    host: &'static str,
    dev: &'static str,
    request: Option<Side>,
    reply: Option<Side>,
) -> Spot {
    Spot {
        at,
        host,
        dev,
        sides: [request, reply],
        queues: true,
        l3: ETHERNET,
    }
}

/// By which the client's or a router's requests leave.
const fn out(at: At, host: &'static str, dev: &'static str) -> Spot {
    spot(at, host, dev, Some(Egress), Some(Ingress))
}

/// By which requests arrive.
const fn into(at: At, host: &'static str, dev: &'static str) -> Spot {
    spot(at, host, dev, Some(Ingress), Some(Egress))
}

const fn inside(l3: u32, spot: Spot) -> Spot {
    Spot { l3, ..spot }
}

/// Client and server on the wire: a bridge that neither sees.
macro_rules! on_a_wire {
    ($setup:literal) => {
        concat!(
            "wire: ip link add br0 type bridge; ip link set br0 up
            wire: ip link set c0 master br0; ip link set s0 master br0
            ",
            $setup
        )
    };
}

const WIRE: &str = "client:eth0 wire:c0
    server:eth0 wire:s0";
const AS_TWO_HOSTS: &str = "10.77.0.2 --userid 3";
const SERVER: &[(&str, &str)] = &[("server", TWO_HOSTS)];
const TWO_HOSTS: &str = "--userid 7 --lab-clock offset=3s,drift=50";
/// Of a topology with a device at each host.
const SPOTS: &[Spot] = &[
    out(Client, "client", "eth0"),
    into(Wire, "wire", "c0"),
    out(Wire, "wire", "s0"),
    into(Server, "server", "eth0"),
];
/// The same where the client's programs see the wire.
const BETWEEN: &[Spot] = &[
    out(Client, "client", "eth0"),
    into(Between, "wire", "c0"),
    out(Between, "wire", "s0"),
    into(Server, "server", "eth0"),
];

const fn two_hosts(
    name: &'static str,
    cables: &'static str,
    setup: &'static str,
    spots: &'static [Spot],
) -> Row {
    Row {
        topology: Topology {
            name,
            cables,
            setup,
        },
        client: AS_TWO_HOSTS,
        servers: SERVER,
        spots,
    }
}

/// All of the topology is on one kernel, and nobody says so.
const fn one_kernel(row: &Row, name: &'static str, spots: &'static [Spot]) -> Row {
    Row {
        topology: Topology {
            name,
            ..row.topology
        },
        client: "10.77.0.2",
        servers: &[("server", "")],
        spots,
    }
}

pub const ROWS: &[Row] = &[
    VETH,
    two_hosts(
        "macvlan (bridge) at the server",
        WIRE,
        on_a_wire!(
            "client: ip addr add 10.77.0.1/24 dev eth0
            server: sysctl -qw net.ipv4.conf.all.arp_ignore=1
            server: ip link add mv0 link eth0 type macvlan mode bridge
            server: ip addr add 10.77.0.2/24 dev mv0; ip link set mv0 up"
        ),
        &[
            out(Client, "client", "eth0"),
            into(Wire, "wire", "c0"),
            out(Wire, "wire", "s0"),
            into(Server, "server", "eth0"),
            into(Server, "server", "mv0"),
        ],
    ),
    two_hosts(
        "macvlan (private) at the client",
        WIRE,
        on_a_wire!(
            "client: sysctl -qw net.ipv4.conf.all.arp_ignore=1
            client: ip link add mv0 link eth0 type macvlan mode private
            client: ip addr add 10.77.0.1/24 dev mv0; ip link set mv0 up
            server: ip addr add 10.77.0.2/24 dev eth0"
        ),
        &[
            out(Client, "client", "mv0"),
            out(Client, "client", "eth0"),
            into(Wire, "wire", "c0"),
            out(Wire, "wire", "s0"),
            into(Server, "server", "eth0"),
        ],
    ),
    two_hosts(
        "bridge at the server",
        WIRE,
        on_a_wire!(
            "client: ip addr add 10.77.0.1/24 dev eth0
            server: ip link add br0 type bridge; ip link set eth0 master br0
            server: ip addr add 10.77.0.2/24 dev br0; ip link set br0 up"
        ),
        &[
            out(Client, "client", "eth0"),
            into(Wire, "wire", "c0"),
            out(Wire, "wire", "s0"),
            into(Server, "server", "eth0"),
            into(Server, "server", "br0"),
        ],
    ),
    two_hosts(
        "bridge at the client",
        WIRE,
        on_a_wire!(
            "client: ip link add br0 type bridge; ip link set eth0 master br0
            client: ip addr add 10.77.0.1/24 dev br0; ip link set br0 up
            server: ip addr add 10.77.0.2/24 dev eth0"
        ),
        &[
            out(Client, "client", "br0"),
            out(Client, "client", "eth0"),
            into(Wire, "wire", "c0"),
            out(Wire, "wire", "s0"),
            into(Server, "server", "eth0"),
        ],
    ),
    one_kernel(
        &VETH,
        "bridge between, one kernel",
        BETWEEN,
    ),
    Row {
        client: "10.77.0.2 --nslocal",
        ..one_kernel(
            &VETH,
            "bridge between, one kernel, --nslocal at the client",
            SPOTS,
        )
    },
    Row {
        servers: &[("server", "--nslocal")],
        ..one_kernel(
            &VETH,
            "bridge between, one kernel, --nslocal at the server",
            BETWEEN,
        )
    },
    TWO_BRIDGES,
    one_kernel(
        &TWO_BRIDGES,
        "two bridges between, netfilter, one kernel",
        &[
            out(Client, "client", "eth0"),
            into(Between, "one", "c0"),
            out(Between, "one", "mid"),
            out(Between, "two", "s0"),
            into(Server, "server", "eth0"),
        ],
    ),
    two_hosts(
        "VXLAN",
        WIRE,
        on_a_wire!(
            "client: ip addr add 10.78.0.1/24 dev eth0
            server: ip addr add 10.78.0.2/24 dev eth0
            client: ip link add vx0 type vxlan id 7 dstport 4789 local 10.78.0.1 remote 10.78.0.2
            server: ip link add vx0 type vxlan id 7 dstport 4789 local 10.78.0.2 remote 10.78.0.1
            client: ip addr add 10.77.0.1/24 dev vx0; ip link set vx0 up
            server: ip addr add 10.77.0.2/24 dev vx0; ip link set vx0 up"
        ),
        &[
            out(Client, "client", "vx0"),
            inside(VXLAN, out(Client, "client", "eth0")),
            inside(VXLAN, into(Wire, "wire", "c0")),
            inside(VXLAN, out(Wire, "wire", "s0")),
            inside(VXLAN, into(Server, "server", "eth0")),
            into(Server, "server", "vx0"),
        ],
    ),
    ROUTED_POD,
    one_kernel(
        &ROUTED_POD,
        "pod behind a routing host, one kernel",
        POD_SPOTS_ONE_KERNEL,
    ),
    SNAT,
    one_kernel(
        &SNAT,
        "pod behind SNAT, one kernel",
        POD_SPOTS_ONE_KERNEL,
    ),
    two_hosts(
        "pod behind SNAT, ICMP id rewritten",
        POD_CABLES,
        on_a_wire!(
            "client: ip addr add 10.77.5.1/24 dev eth0; ip route add default via 10.77.5.254
            host: ip addr add 10.77.5.254/24 dev pod0; ip addr add 10.77.0.1/24 dev eth0
            host: sysctl -qw net.ipv4.ip_forward=1
            host: nft 'table ip t { chain c { type nat hook postrouting priority 100; oifname eth0 masquerade fully-random; }; }'
            server: ip addr add 10.77.0.2/24 dev eth0"
        ),
        POD_SPOTS,
    ),
    two_hosts(
        "server behind DNAT",
        "client:eth0 wire:c0
        host:eth0 wire:s0
        host:pod0 server:eth0",
        on_a_wire!(
            "client: ip addr add 10.77.0.1/24 dev eth0
            host: ip addr add 10.77.0.2/24 dev eth0; ip addr add 10.77.5.254/24 dev pod0
            host: sysctl -qw net.ipv4.ip_forward=1
            host: nft 'table ip t { chain c { type nat hook prerouting priority -100; ip daddr 10.77.0.2 dnat to 10.77.5.2; }; }'
            server: ip addr add 10.77.5.2/24 dev eth0; ip route add default via 10.77.5.254"
        ),
        &[
            out(Client, "client", "eth0"),
            into(Wire, "wire", "c0"),
            out(Wire, "host", "pod0"),
            into(Server, "server", "eth0"),
        ],
    ),
    two_hosts(
        "two NICs, policy routing at the server",
        "client:eth0 wire:c0
        server:eth0 wire:s0
        server:eth1 wire:s1",
        on_a_wire!(
            "wire: ip link set s1 master br0
            client: ip addr add 10.77.0.1/24 dev eth0
            server: sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
            server: ip addr add 10.77.0.2/24 dev eth0; ip addr add 10.77.0.3/24 dev eth1
            server: ip rule add from 10.77.0.2 table 7; ip route add 10.77.0.0/24 dev eth1 table 7"
        ),
        &[
            out(Client, "client", "eth0"),
            into(Wire, "wire", "c0"),
            spot(Wire, "wire", "s0", Some(Egress), None),
            spot(Wire, "wire", "s1", None, Some(Ingress)),
            spot(Server, "server", "eth0", Some(Ingress), None),
            spot(Server, "server", "eth1", None, Some(Egress)),
        ],
    ),
    two_hosts(
        "two NICs at the client, asymmetric routes",
        "client:eth0 wire:c0
        client:eth1 back:c1
        server:eth0 wire:s0
        server:eth1 back:s1",
        on_a_wire!(
            "back: ip link add br0 type bridge; ip link set br0 up; ip link set c1 master br0; ip link set s1 master br0
            client: sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0
            server: sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0
            client: ip addr add 10.77.0.1/24 dev eth0; ip addr add 10.78.0.1/24 dev eth1
            server: ip addr add 10.77.0.2/24 dev eth0; ip addr add 10.78.0.2/24 dev eth1
            server: ip route add 10.77.0.1/32 via 10.78.0.1 dev eth1"
        ),
        &[
            spot(Client, "client", "eth0", Some(Egress), None),
            spot(Client, "client", "eth1", None, Some(Ingress)),
            spot(Wire, "wire", "c0", Some(Ingress), None),
            spot(Wire, "back", "c1", None, Some(Egress)),
            spot(Server, "server", "eth0", Some(Ingress), None),
            spot(Server, "server", "eth1", None, Some(Egress)),
        ],
    ),
    Row {
        client: "10.99.0.2 --userid 3",
        ..two_hosts(
            "address on the server's loopback",
            WIRE,
            on_a_wire!(
                "client: ip addr add 10.77.0.1/24 dev eth0; ip route add 10.99.0.2/32 via 10.77.0.2
                server: ip addr add 10.77.0.2/24 dev eth0; ip addr add 10.99.0.2/32 dev lo"
            ),
            SPOTS,
        )
    },
    Row {
        client: "fe80::2%eth0 --userid 3",
        ..two_hosts(
            "IPv6 link-local",
            WIRE,
            on_a_wire!(
                "client: ip addr add fe80::1/64 dev eth0 nodad
                server: ip addr add fe80::2/64 dev eth0 nodad"
            ),
            SPOTS,
        )
    },
    IFB,
    TAP,
    two_hosts(
        "XDP redirect on the way",
        WIRE,
        "wire: @xdp_redirect c0 s0
        wire: @xdp_redirect s0 c0
        client: @xdp_pass eth0 eth0
        server: @xdp_pass eth0 eth0
        client: ip addr add 10.77.0.1/24 dev eth0
        server: ip addr add 10.77.0.2/24 dev eth0",
        &[
            out(Client, "client", "eth0"),
            into(Server, "server", "eth0"),
        ],
    ),
    TC_REDIRECT,
    one_kernel(
        &TC_REDIRECT,
        "pod by redirect_neigh and redirect_peer, one kernel",
        &[
            out(Client, "client", "eth0"),
            spot(Between, "host", "pod0", Some(Ingress), None),
            out(Between, "host", "eth0"),
            into(Server, "server", "eth0"),
        ],
    ),
    Row {
        servers: &[("router", ROUTER), ("server", TWO_HOSTS)],
        ..two_hosts(
            "router with a server between",
            "client:eth0 router:c0
            router:s0 server:eth0",
            "router: sysctl -qw net.ipv4.ip_forward=1
            router: ip addr add 10.77.5.254/24 dev c0; ip addr add 10.77.0.254/24 dev s0
            client: ip addr add 10.77.5.1/24 dev eth0; ip route add default via 10.77.5.254
            server: ip addr add 10.77.0.2/24 dev eth0; ip route add default via 10.77.0.254",
            &[
                out(Client, "client", "eth0"),
                into(FIRST, "router", "c0"),
                out(FIRST, "router", "s0"),
                into(Server, "server", "eth0"),
            ],
        )
    },
    TWO_ROUTERS,
    Row {
        topology: Topology {
            name: "two routers with servers between, none at the end",
            ..TWO_ROUTERS.topology
        },
        servers: &[("one", ROUTER), ("two", NEXT_ROUTER)],
        spots: &behind_two_routers(BEHIND),
        ..TWO_ROUTERS
    },
    Row {
        topology: Topology {
            name: "two routers with servers between, clocks that agree",
            ..TWO_ROUTERS.topology
        },
        servers: &[
            ("one", "--userid 5"),
            ("two", "--userid 6"),
            ("server", "--userid 7"),
        ],
        ..TWO_ROUTERS
    },
];

const ROUTER: &str = "--userid 5 --lab-clock offset=1s,drift=-30";
const NEXT_ROUTER: &str = "--userid 6 --lab-clock offset=-20s,drift=80";
const FIRST: At = Way("transit2", "transit2");
const NEXT_WIRE: At = Way("transit2", "transit3");
const SECOND: At = Way("transit3", "transit3");
const BEHIND: At = Way("transit3", "");

/// The devices on the way through two routers to a server that is seen there.
const fn behind_two_routers(server: At) -> [Spot; 8] {
    [
        out(Client, "client", "eth0"),
        into(FIRST, "one", "c0"),
        out(FIRST, "one", "m0"),
        into(NEXT_WIRE, "wire", "a0"),
        out(NEXT_WIRE, "wire", "b0"),
        into(SECOND, "two", "m0"),
        out(SECOND, "two", "s0"),
        into(server, "server", "eth0"),
    ]
}

/// Between the routers a wire that nobody sees.
pub const TWO_ROUTERS: Row = Row {
    servers: &[("one", ROUTER), ("two", NEXT_ROUTER), ("server", TWO_HOSTS)],
    client: "10.77.0.2 --userid 3 --size 640",
    ..two_hosts(
        "two routers with servers between",
        "client:eth0 one:c0
        one:m0 wire:a0
        two:m0 wire:b0
        two:s0 server:eth0",
        "wire: ip link add br0 type bridge; ip link set br0 up
        wire: ip link set a0 master br0; ip link set b0 master br0
        one: sysctl -qw net.ipv4.ip_forward=1
        two: sysctl -qw net.ipv4.ip_forward=1
        client: ip addr add 10.77.5.1/24 dev eth0; ip route add default via 10.77.5.254
        one: ip addr add 10.77.5.254/24 dev c0; ip addr add 10.77.6.1/24 dev m0
        one: ip route add default via 10.77.6.2
        two: ip addr add 10.77.6.2/24 dev m0; ip addr add 10.77.0.254/24 dev s0
        two: ip route add default via 10.77.6.1
        server: ip addr add 10.77.0.2/24 dev eth0; ip route add default via 10.77.0.254",
        &behind_two_routers(Server),
    )
};

const TAP: Row = two_hosts(
    "TAP and a user-space forwarder",
    "",
    "",
    &[
        out(Client, "client", "tap0"),
        Spot {
            queues: false,
            ..out(Wire, FORWARDER, "the wire")
        },
        into(Server, "server", "tap0"),
    ],
);

const TC_REDIRECT: Row = two_hosts(
    "pod by redirect_neigh and redirect_peer",
    POD_CABLES,
    on_a_wire!(
        "client: ip addr add 10.77.5.1/24 dev eth0; ip route add default via 10.77.5.254
        host: ip addr add 10.77.5.254/24 dev pod0; ip addr add 10.77.0.1/24 dev eth0
        host: @redirect_neigh pod0 eth0
        host: @redirect_peer eth0 pod0
        server: ip addr add 10.77.0.2/24 dev eth0; ip route add default via 10.77.0.1"
    ),
    &[
        out(Client, "client", "eth0"),
        spot(Wire, "host", "pod0", Some(Ingress), None),
        out(Wire, "host", "eth0"),
        out(Wire, "wire", "s0"),
        into(Server, "server", "eth0"),
    ],
);

const VETH: Row = two_hosts(
    "veth",
    WIRE,
    on_a_wire!(
        "client: ip addr add 10.77.0.1/24 dev eth0
        server: ip addr add 10.77.0.2/24 dev eth0"
    ),
    SPOTS,
);

const TWO_BRIDGES: Row = two_hosts(
    "two bridges between, netfilter",
    "client:eth0 one:c0
    one:mid two:mid
    server:eth0 two:s0",
    "one: ip link add br0 type bridge; ip link set br0 up; ip link set c0 master br0; ip link set mid master br0
    two: ip link add br0 type bridge; ip link set br0 up; ip link set mid master br0; ip link set s0 master br0
    one: sysctl -qw net.bridge.bridge-nf-call-iptables=1
    two: sysctl -qw net.bridge.bridge-nf-call-iptables=1
    one: nft 'table ip t { chain c { type filter hook forward priority 0; ct state established counter; }; }'
    client: ip addr add 10.77.0.1/24 dev eth0
    server: ip addr add 10.77.0.2/24 dev eth0",
    &[
        out(Client, "client", "eth0"),
        into(Wire, "one", "c0"),
        out(Wire, "one", "mid"),
        out(Wire, "two", "s0"),
        into(Server, "server", "eth0"),
    ],
);

const POD_CABLES: &str = "client:eth0 host:pod0
    host:eth0 wire:c0
    server:eth0 wire:s0";
const POD_SPOTS: &[Spot] = &[
    out(Client, "client", "eth0"),
    into(Wire, "host", "pod0"),
    out(Wire, "host", "eth0"),
    out(Wire, "wire", "s0"),
    into(Server, "server", "eth0"),
];

/// Between two ends on one kernel.
const POD_SPOTS_ONE_KERNEL: &[Spot] = &[
    out(Client, "client", "eth0"),
    into(Between, "host", "pod0"),
    out(Between, "host", "eth0"),
    into(Server, "server", "eth0"),
];

const ROUTED_POD: Row = two_hosts(
    "pod behind a routing host",
    POD_CABLES,
    on_a_wire!(
        "client: ip addr add 10.77.5.1/24 dev eth0; ip route add default via 10.77.5.254
        host: ip addr add 10.77.5.254/24 dev pod0; ip addr add 10.77.0.1/24 dev eth0
        host: sysctl -qw net.ipv4.ip_forward=1
        server: ip addr add 10.77.0.2/24 dev eth0; ip route add default via 10.77.0.1"
    ),
    POD_SPOTS,
);

const SNAT: Row = two_hosts(
    "pod behind SNAT",
    POD_CABLES,
    on_a_wire!(
        "client: ip addr add 10.77.5.1/24 dev eth0; ip route add default via 10.77.5.254
        host: ip addr add 10.77.5.254/24 dev pod0; ip addr add 10.77.0.1/24 dev eth0
        host: sysctl -qw net.ipv4.ip_forward=1
        host: nft 'table ip t { chain c { type nat hook postrouting priority 100; oifname eth0 masquerade; }; }'
        server: ip addr add 10.77.0.2/24 dev eth0"
    ),
    POD_SPOTS,
);

const IFB: Row = two_hosts(
    "ifb at the server",
    WIRE,
    on_a_wire!(
        "client: ip addr add 10.77.0.1/24 dev eth0
        server: ip addr add 10.77.0.2/24 dev eth0
        server: ip link add ifb0 type ifb; ip link set ifb0 up; tc qdisc add dev eth0 clsact
        server: tc filter add dev eth0 ingress prio 40000 protocol all u32 match u32 0 0 action mirred egress redirect dev ifb0"
    ),
    &[
        out(Client, "client", "eth0"),
        out(Wire, "wire", "s0"),
        // A copy cannot be queued there.
        Spot {
            queues: false,
            ..spot(Server, "server", "ifb0", Some(Egress), None)
        },
        spot(Server, "server", "eth0", None, Some(Egress)),
    ],
);
