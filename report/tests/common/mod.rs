//! What several test binaries share: probes written as text, and a small deterministic PRNG.

#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use report::model::{ClockRelation, Host, Point, Probe, Stamp, Status};

/// A folder of test data.
pub fn data(folder: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", folder]
        .iter()
        .collect()
}

/// A probe without stamps.
pub fn probe(seq: u32, clock: ClockRelation) -> Probe {
    Probe {
        seq,
        sent_unix_ns: 1_767_225_600_123_456_000,
        peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        status: Status::Ok,
        clock,
        path: Vec::new(),
    }
}

/// A stamp without device.
pub fn stamp(point: Point, host: Host, ns: u64) -> Stamp {
    Stamp {
        point,
        host,
        ns,
        cpu: None,
        ifindex: 0,
        netns: 0,
    }
}

/// Reads `client l_tx_devout 1200 dev=1:4 cpu=1`: host, point, ns, and optionally namespace and
/// device, and CPU.
pub fn parse_stamp(line: &str) -> Stamp {
    let mut words = line.split_whitespace();
    let host = words.next().and_then(Host::from_name).expect("host");
    let point = words.next().and_then(Point::from_name).expect("point");
    let ns = number(words.next().expect("ns"));
    let mut stamp = stamp(point, host, ns);
    for word in words {
        match word.split_once('=').expect("key=value") {
            ("dev", value) => {
                let (netns, ifindex) = value.split_once(':').expect("netns:ifindex");
                stamp.netns = netns.parse().expect("netns");
                stamp.ifindex = ifindex.parse().expect("ifindex");
            }
            ("cpu", value) => stamp.cpu = Some(value.parse().expect("cpu")),
            (key, _) => panic!("unknown key {key}"),
        }
    }
    stamp
}

/// A number that may contain underscores.
pub fn number(word: &str) -> u64 {
    word.replace('_', "").parse().expect("number")
}

/// xorshift64*: small, deterministic, good enough to choose stamps.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }
}
