//! A quiet client beside a crowd: what the crowd takes of a server's slots is the crowd's.

use super::crowd::{self, Crowd, Outcome};
use super::harness::{Client, Finished, Server, alone, points, status, wire};
use pingtrace::selftest::inject::forwarder::{Action, Plan, Rule};
use report::model::Direction;
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// Requests and slots of a server, which the crowd fills this often and more.
const SLOTS: u64 = 8192;
const COUNT: u64 = 18 * SLOTS;
/// Requests a second: so the crowd takes seven seconds at least.
const RATE: u64 = 20_000;
/// Of the quiet client: lost on the way out, and on the way back, while the crowd is there.
const LOST: [u32; 2] = [4, 6];

/// What became of everybody.
struct Beside {
    quiet: Finished,
    crowd: Outcome,
    /// Echo requests that the server's namespace received.
    arrived: u64,
    story: Vec<String>,
}

/// A client at 1/s, and from its fourth probe on the crowd, until that has sent all.
fn beside(crowd: Crowd) -> Beside {
    let rules = [
        Rule::at(Direction::Request, [LOST[0]], Action::Drop),
        Rule::at(Direction::Reply, [LOST[1]], Action::Drop),
    ];
    let (lab, _wire) = wire(Plan::new(Duration::ZERO, rules));
    let side = crowd::join(&lab, crowd.cookies);
    let server = Server::start(&lab.server.ns, "--nslocal");
    let args = format!("-c {} --nslocal -i 1s -W 1.2 -o json", lab.server.v4);
    let quiet = Client::start(&lab.client.ns, &args);
    server.wait_for_probes(3);
    let crowd = crowd.run(&side);
    let quiet = quiet.stop();
    let arrived = echoes(server.pid());
    let (exit, story) = server.stop(libc::SIGTERM);
    assert!(exit.success(), "{story:#?}");
    Beside {
        quiet,
        crowd,
        arrived,
        story,
    }
}

/// Echo requests that a process's namespace has received.
fn echoes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/net/snmp")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let names = lines.next().unwrap().split(' ');
    let mut counts = names.zip(lines.next().unwrap().split(' '));
    counts
        .find(|(name, _)| *name == "InEchos")
        .unwrap()
        .1
        .parse()
        .unwrap()
}

impl Beside {
    /// The number behind these words of the server's story; 0 when it did not say them.
    fn said(&self, words: &str) -> u64 {
        let told = self.story.iter().find_map(|line| line.split_once(words));
        told.map_or(0, |(_, number)| {
            number.trim_start_matches(": ").parse().unwrap()
        })
    }

    fn stamped(&self) -> u64 {
        let words = " replies stamped in band";
        let line = self.story.iter().find_map(|line| line.split_once(words));
        line.unwrap().0.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The quiet client has every stamp and every answer, and the server's books balance.
    fn assert_quiet_is_whole(&self) {
        let stat = self.quiet.stat();
        let context = || format!("{stat:#} {:?} {:#?}", self.crowd, self.story);
        assert_eq!(self.quiet.status, 0, "{}", context());
        let probes = self.quiet.probes();
        let lacks = |p: &&Value| status(p) != "lost" && !points(p).contains(&"r_tx_devout");
        let lacking: Vec<&Value> = probes.iter().filter(lacks).map(|p| &p["seq"]).collect();
        assert_eq!(lacking, [LOST[1] - 1], "{}", context());
        assert_eq!(stat["no_remote"], 1, "{}", context());
        assert_eq!(stat["lost"], 2, "{}", context());
        for probe in probes.iter().filter(|p| status(p) == "lost") {
            let at = LOST.iter().position(|seq| probe["seq"] == *seq).unwrap();
            let place = ["wire_out", "wire_in"][at];
            assert_eq!(probe["loss"]["place"], place, "{probe:#} {}", context());
        }
        assert_eq!(self.crowd.sent, COUNT);
        self.assert_books();
    }

    /// Requests whose stamps were lost on the server, by its summary.
    fn lost(&self) -> u64 {
        let causes = [
            "slots reused before their reply left",
            "slots reused before their late stamps were sent",
            "likewise, of sources that returned no cookie",
            "without a slot",
        ];
        causes.into_iter().map(|words| self.said(words)).sum()
    }

    /// Each request that arrived has its stamps in its reply, or is counted; one that was displaced can be both.
    fn assert_books(&self) {
        let without = self.said("without a slot");
        let displaced = self.said("slots reused before their reply left");
        let (stamped, arrived) = (self.stamped(), self.arrived);
        assert!(arrived > COUNT, "{arrived} of {COUNT}: {:#?}", self.story);
        assert!(stamped + without <= arrived, "{:#?}", self.story);
        assert!(
            stamped + without + displaced >= arrived,
            "{arrived}: {:#?}",
            self.story
        );
    }

    /// The crowd's late stamps were delivered, or are counted, or wait in a slot.
    fn assert_late_stamps_are_known(&self) {
        let known = self.crowd.late + self.lost();
        let context = format!("{known} {:?}: {:#?}", self.crowd, self.story);
        assert!(self.crowd.answered * 10 > COUNT * 9, "{context}");
        assert!(known + SLOTS >= COUNT, "{context}");
        assert!(known <= self.arrived, "{context}");
    }
}

/// All have proven their addresses.
#[test]
fn a_quiet_client_loses_nothing_beside_two_hundred_busy_ones() {
    let _alone = alone();
    let crowd = Crowd {
        sources: 200,
        sessions: 200,
        rate: RATE,
        count: COUNT,
        cookies: true,
    };
    let beside = beside(crowd);
    beside.assert_quiet_is_whole();
    beside.assert_late_stamps_are_known();
}

/// Peers that know no cookies, or return none.
#[test]
fn a_quiet_client_loses_nothing_beside_two_hundred_strangers() {
    let _alone = alone();
    let crowd = Crowd {
        sources: 200,
        sessions: 200,
        rate: RATE,
        count: COUNT,
        cookies: false,
    };
    beside(crowd).assert_quiet_is_whole();
}

#[test]
fn a_quiet_client_loses_nothing_beside_60_000_forged_sources() {
    let _alone = alone();
    let crowd = Crowd {
        sources: 60_000,
        sessions: 60_000,
        rate: RATE,
        count: COUNT,
        cookies: false,
    };
    let beside = beside(crowd);
    beside.assert_quiet_is_whole();
    let lost = beside.said("likewise, of sources that returned no cookie");
    assert!(lost > SLOTS, "{:#?}", beside.story);
}

/// One host with more sessions than there are slots, each as slow as the quiet client.
#[test]
fn a_quiet_client_loses_nothing_beside_thousands_of_sessions_of_one_host() {
    let _alone = alone();
    let crowd = Crowd {
        sources: 1,
        sessions: 15_000,
        rate: RATE,
        count: COUNT,
        cookies: true,
    };
    let beside = beside(crowd);
    beside.assert_quiet_is_whole();
    beside.assert_late_stamps_are_known();
    let lost = beside.said("slots reused before their late stamps were sent");
    assert!(lost > SLOTS, "{:#?}", beside.story);
}
