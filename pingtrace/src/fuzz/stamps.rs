//! Stamps that no honest pair of hosts takes, through breakdown, clock model, verdict and statistics.

use super::input::Input;
use super::results::Results;
use report::model::{
    ClockRelation, Host, Ifindex, Netns, Point, Probe, Stamp, StampFlags, Status, Ttl,
};

/// More probes than this tell nothing new.
const MAX_PROBES: usize = 64;

/// Each probe is a header and up to 31 stamps.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let mut results = Results::new();
    let mut now_ns = input.near(1 << 41);
    for seq in 0..MAX_PROBES as u32 {
        if input.is_empty() {
            break;
        }
        now_ns = input.near(now_ns);
        let probe = probe(&mut input, seq, now_ns);
        results.answered(&probe);
    }
    results.end(input.u64());
}

fn probe(input: &mut Input<'_>, seq: u32, now_ns: u64) -> Probe {
    let what = input.byte();
    let ttl = [input.byte(), input.byte()];
    let clock = match what & 1 {
        0 => ClockRelation::Separate,
        _ => ClockRelation::Same,
    };
    let status = match what & 6 {
        0 => Status::Ok,
        2 => Status::Late,
        _ => Status::Amended,
    };
    let count = usize::from(what >> 3);
    let mut ns = [now_ns; 3];
    let path = (0..count).map(|_| stamp(input, &mut ns)).collect();
    Probe {
        seq,
        sent_unix_ns: now_ns.cast_signed(),
        peer: [10, 0, 0, 2].into(),
        status,
        flow: what & 3,
        ttl: ttl.map(Ttl::new),
        clock,
        path,
    }
}

/// A stamp, most often by the host that takes such stamps and later than the one before.
fn stamp(input: &mut Input<'_>, now_ns: &mut [u64; 3]) -> Stamp {
    let points = Point::PATH.len();
    let number = input.byte();
    let point = match Point::PATH.get(usize::from(number) % (points + 8)) {
        Some(point) => *point,
        None => Point::from_wire(u16::from(number) % 32).unwrap_or(Point::LTxDue),
    };
    let place = input.byte();
    let host = match (place & 3, point.host()) {
        (0, Some(host)) => host,
        (0 | 1, _) => Host::Client,
        (2, _) => Host::Server,
        _ => Host::Transit(2 + u16::from(place >> 6)),
    };
    let clock = match host {
        Host::Client => 0,
        Host::Server => 1,
        Host::Transit(_) => 2,
    };
    let ns = input.near(now_ns[clock]);
    now_ns[clock] = ns;
    let more = input.byte();
    Stamp {
        point,
        host,
        ns,
        cpu: (more & 1 != 0).then_some(u16::from(more >> 5)),
        ifindex: Ifindex(u32::from(place >> 2 & 3)),
        netns: Netns(u32::from(place >> 4 & 3)),
        flags: StampFlags {
            direct: more & 2 != 0,
            interrupts_unknown: more & 4 != 0,
            underlay_unseen: more & 8 != 0,
        },
    }
}
