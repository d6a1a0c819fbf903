//! The answer in one sentence: what the run is about. It is decided here, from a summary alone, and text,
//! JSON, pictures and the demo print it; a saved run gives the same sentence.
//!
//! A run is about loss if its lost probes weigh more than its slow ones. A lost probe weighs as much as
//! ten slow ones ([`LOST_IN_SLOW`]), as waiting for an answer that never arrives takes a timeout. The
//! place with the most lost probes leads, and the cause that took the most time above its baseline,
//! whatever the number of its probes. The other part, if any, is in the second half of the sentence. Flows that
//! differ from the others stand before both: they say on which way it happens.

use crate::analysis::flows::Different;
use crate::model::{Cause, LossCount, Names, Owner, Place, Run, Stretch, Summary, Symbol};
use crate::printable::printable;
use crate::units::duration;

/// A lost probe weighs as much as this many slow ones.
const LOST_IN_SLOW: u64 = 10;

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum About {
    /// No probe was sent.
    Nothing,
    /// None was answered.
    Unanswered,
    /// Lost probes.
    Loss,
    /// Slow probes.
    Slow,
    /// No probe reached the given threshold.
    NotReached,
    /// Nothing was slow by the learnt threshold.
    Ordinary,
}

/// What a run is about, and its sentences.
#[derive(Clone, Debug, PartialEq)]
pub struct Headline {
    /// The subject of the title.
    pub about: About,
    /// The answer.
    pub title: String,
    /// What else belongs to it; may be empty.
    pub detail: String,
    /// The cause with the most time, if there were slow probes.
    pub cause: Option<Cause>,
    /// The place with the most lost probes, if any were lost.
    pub loss: Option<LossCount>,
    /// The flows that differ from the others.
    pub flows: Vec<u8>,
}

impl About {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Unanswered,
        Self::Loss,
        Self::Slow,
        Self::NotReached,
        Self::Ordinary,
    ];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Headline {
    /// Of a run so far.
    pub fn new(run: &Run, summary: &Summary, names: &Names) -> Self {
        let facts = Facts {
            run,
            summary,
            names,
        };
        let about = facts.about();
        let (title, detail) = match about {
            About::Nothing => ("no probe was sent".to_owned(), vec![]),
            About::Unanswered => (facts.unanswered(), vec![]),
            About::Loss => (facts.lost(), vec![facts.slow_in_brief()]),
            About::Slow => {
                let more = [facts.next_cause(), facts.lost(), facts.extent()];
                (facts.slow(), more.into())
            }
            About::NotReached | About::Ordinary => (
                facts.nothing_slow(),
                vec![facts.lost(), facts.meant_by_slow()],
            ),
        };
        let different = Different::new(&summary.flows);
        let flows = [
            different.loss(&summary.flows),
            different.delay(&summary.flows),
        ];
        let parts = flows.into_iter().flatten().chain([title]).chain(detail);
        let mut parts = parts.filter(|part| !part.is_empty());
        let title = parts.next().unwrap_or_default();
        let detail: Vec<String> = parts.collect();
        Self {
            about,
            title: capital(&title),
            detail: capital(&detail.join("; ")),
            cause: facts.cause().copied(),
            loss: facts.loss().cloned(),
            flows: different.numbers().collect(),
        }
    }
}

/// A sentence begins with a capital letter.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// What it is decided from.
struct Facts<'a> {
    run: &'a Run,
    summary: &'a Summary,
    names: &'a Names,
}

impl Facts<'_> {
    fn about(&self) -> About {
        let counters = &self.summary.counters;
        let slow = self.slow_probes();
        match (counters.sent, counters.replied) {
            (0, _) => About::Nothing,
            (_, 0) => About::Unanswered,
            _ if counters.lost > 0 && counters.lost.saturating_mul(LOST_IN_SLOW) >= slow => {
                About::Loss
            }
            _ if slow > 0 => About::Slow,
            _ if self.run.threshold_ns > 0 => About::NotReached,
            _ => About::Ordinary,
        }
    }

    /// The leading cause: the one with the most time.
    fn cause(&self) -> Option<&Cause> {
        self.summary.causes.first()
    }

    /// The place with the most lost probes; of equals, the first on the path.
    fn loss(&self) -> Option<&LossCount> {
        let losses = self.summary.losses.iter();
        losses.rev().max_by_key(|loss| loss.count)
    }

    /// Number of slow probes; older runs did not save it.
    fn slow_probes(&self) -> u64 {
        let counts = self.summary.causes.iter().map(|cause| cause.count);
        let caused = counts.fold(0, u64::saturating_add);
        self.summary.slow.probes.max(caused)
    }

    /// `none of 12 probes was answered, lost at client queue: QDISC_DROP, eth0 in netns web`.
    fn unanswered(&self) -> String {
        let sent = self.summary.counters.sent;
        let none = match sent {
            1 => "the probe was not answered".to_owned(),
            _ => format!("none of {sent} probes was answered"),
        };
        let whole = |loss: &&LossCount| loss.count == sent && loss.place != Place::Unknown;
        match (self.loss().filter(whole), self.loss()) {
            (Some(loss), _) => format!("{none}, lost at {}", self.place(loss)),
            (None, Some(loss)) => format!("{none}, {} lost at {}", loss.count, self.place(loss)),
            (None, None) => none,
        }
    }

    /// `lost 17 of 100 at client queue: QDISC_DROP, eth0 in netns web`; empty if none was.
    fn lost(&self) -> String {
        let counters = &self.summary.counters;
        if counters.lost == 0 {
            return String::new();
        }
        let how_many = format!("lost {} of {}", counters.lost, counters.sent);
        match self.loss() {
            Some(loss) if loss.count >= counters.lost => {
                format!("{how_many} at {}", self.place(loss))
            }
            Some(loss) => format!("{how_many}, {} of them at {}", loss.count, self.place(loss)),
            None => how_many,
        }
    }

    /// `client queue: QDISC_DROP, eth0 in netns web`.
    fn place(&self, loss: &LossCount) -> String {
        let known = |symbol: &&Symbol| !symbol.is_unknown();
        let reason = loss.reason.as_ref().filter(known);
        // Kernels without reasons still know the function.
        let reason = reason.or(loss.location.as_ref().filter(known));
        let device = loss.device.and_then(|device| {
            let name = self.names.device_in_netns(device)?;
            let key = (device.host, device.netns, device.ifindex);
            let mtu = self.names.mtu.get(&key);
            Some(mtu.map_or(name.clone(), |mtu| format!("{name} has MTU {mtu}")))
        });
        let reason = reason.map(|reason| printable(&reason.to_string()).into_owned());
        let why = [reason, device];
        let why: Vec<String> = why.into_iter().flatten().collect();
        if why.is_empty() {
            return loss.place.label().to_owned();
        }
        format!("{}: {}", loss.place.label(), why.join(", "))
    }

    /// `146 of 384 slow probes: client host, queue of eth0 in netns web (l_tx_qdisc) on CPU 3, 667 us
    /// to 27.8 ms`; empty if none was slow.
    fn slow(&self) -> String {
        let slow = self.slow_probes();
        match (self.cause(), self.summary.taken()) {
            (Some(cause), _) => format!(
                "{} of {slow} slow probes: {}",
                cause.count,
                self.cause_words(cause)
            ),
            (None, Some(total)) if slow > 0 => format!(
                "{slow} of {} probes took {} or more, but nothing took longer than is usual here",
                total.count,
                duration(self.run.threshold_ns)
            ),
            _ => String::new(),
        }
    }

    /// `server host 10.0.0.2, waiting for the NET_RX softirq on CPU 3, 0.9 ms to 4.1 ms`.
    fn cause_words(&self, cause: &Cause) -> String {
        let mut words = vec![
            match (cause.owner, cause.segment, self.run.server.label()) {
                (Owner::Unknown, None, _) => "undecided which segment".to_owned(),
                (Owner::Remote, _, Some(server)) => {
                    format!("{} {}", cause.owner.label(), printable(&server))
                }
                (owner, ..) => owner.label().to_owned(),
            },
        ];
        let cpu = cause.one_cpu().map(|cpu| format!(" on CPU {cpu}"));
        words.extend(
            self.doing(cause)
                .map(|doing| doing + &cpu.unwrap_or_default()),
        );
        let (min, max) = (duration(cause.min_ns), duration(cause.max_ns));
        words.push(if min == max {
            min
        } else {
            format!("{min} to {max}")
        });
        words.join(", ") + &self.doubt_words(cause)
    }

    /// ` (12 not sure: no hand-over seen at eth0 in netns web)`; empty if all are sure.
    fn doubt_words(&self, cause: &Cause) -> String {
        let why = cause.one_doubt();
        let why = why.map(|doubt| format!(": {}", doubt.words(self.names)));
        let why = why.unwrap_or_default();
        match cause.unsure() {
            0 => String::new(),
            unsure if unsure == cause.count => format!(" (not sure{why})"),
            unsure => format!(" ({unsure} not sure{why})"),
        }
    }

    /// What the probes did in the segment, and at which device, if that has a name here.
    fn doing(&self, cause: &Cause) -> Option<String> {
        let segment = cause.segment?;
        let at = cause.one_device();
        let named = at.and_then(|at| Some((at.queue, self.names.device_in_netns(at.device)?)));
        let doing = match named {
            Some((true, name)) => format!("queue of {name} ({})", segment.name()),
            Some((false, name)) => format!("{}, at {name}", segment.doing()),
            None => segment.doing().to_owned(),
        };
        let stretch = cause.one_stretch().map(Stretch::words);
        Some(match stretch {
            Some(stretch) => format!("{doing}, {stretch}"),
            None => doing,
        })
    }

    /// `1.87 s in all; then l_rx_task_queue, 262 ms in 238 probes`.
    fn next_cause(&self) -> String {
        let [first, next, ..] = self.summary.causes.as_slice() else {
            return String::new();
        };
        let name = match (next.segment, next.owner) {
            (Some(segment), _) => segment.name(),
            (None, Owner::Unknown) => "undecided",
            (None, owner) => owner.label(),
        };
        format!(
            "{} in all; then {name}, {} in {} probe{}",
            duration(first.excess_ns),
            duration(next.excess_ns),
            next.count,
            if next.count == 1 { "" } else { "s" }
        )
    }

    /// `384 of 3000 probes slow (from 500 us); slowest 27.8 ms, median 18.6 us`.
    fn extent(&self) -> String {
        let Some(total) = self.summary.taken() else {
            return String::new();
        };
        format!(
            "{} of {} probes slow{}; slowest {}, median {}",
            self.slow_probes(),
            total.count,
            self.threshold(),
            duration(total.max),
            duration(total.p50)
        )
    }

    /// ` (from 500 us)`; not for a learnt threshold, which changes during the run and is not the only rule.
    fn threshold(&self) -> String {
        match self.run.threshold_ns {
            0 => String::new(),
            given => format!(" (from {})", duration(given)),
        }
    }

    fn slow_in_brief(&self) -> String {
        match self.slow() {
            slow if slow.is_empty() => self.nothing_slow(),
            slow => slow,
        }
    }

    /// `nothing was slow: slowest 480 us, median 21.0 us`.
    fn nothing_slow(&self) -> String {
        let what = match self.run.threshold_ns {
            0 => "nothing was slow".to_owned(),
            given => format!("no probe reached {}", duration(given)),
        };
        match self.summary.taken() {
            Some(total) => format!(
                "{what}: slowest of {} {}, median {}",
                total.count,
                duration(total.max),
                duration(total.p50)
            ),
            None => what,
        }
    }

    fn meant_by_slow(&self) -> String {
        match (self.run.threshold_ns, self.summary.slow.from_ns) {
            (0, Some(ns)) => format!(
                "slow would be {} and more, by what is usual for this path (-m sets another threshold)",
                duration(ns)
            ),
            (0, None) => "too few probes to say what is usual for this path".to_owned(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AtDevice, Counters, Device, Endpoint, Host, Slow};
    use crate::model::{DelayStat, Ifindex, Netns, Segment};

    const MS: u64 = 1_000_000;
    const ETH0: Device = Device {
        host: Host::Client,
        netns: Netns(7),
        ifindex: Ifindex(2),
    };

    fn names() -> Names {
        let mut names = Names::default();
        names.netns.insert((Host::Client, Netns(7)), "web".into());
        names
            .device
            .insert((Host::Client, Netns(7), Ifindex(2)), "eth0".into());
        names
    }

    fn run(threshold_ns: u64) -> Run {
        Run {
            server: Endpoint {
                addr: Some("10.0.0.2".parse().unwrap()),
                ..Endpoint::default()
            },
            threshold_ns,
            ..Run::default()
        }
    }

    fn cause(segment: Segment, count: u64, each_ns: u64) -> Cause {
        Cause {
            owner: segment.owner(),
            segment: Some(segment),
            count,
            sure: count,
            excess_ns: count * each_ns,
            min_ns: each_ns,
            p50_ns: each_ns,
            max_ns: each_ns,
            cpu: None,
            at: None,
            on_way: None,
            doubt: None,
        }
    }

    /// So many sent, lost and slow; the slowest took 30 ms.
    fn summary(sent: u64, lost: u64, causes: Vec<Cause>) -> Summary {
        let probes = causes.iter().map(|cause| cause.count).sum();
        let total = DelayStat {
            segment: None,
            count: sent - lost,
            min: 20_000,
            mean: 21_000.0,
            p50: 21_000,
            p90: 30_000,
            p99: 40_000,
            p999: 30 * MS,
            max: 30 * MS,
        };
        Summary {
            counters: Counters {
                sent,
                lost,
                replied: sent - lost,
                ..Counters::default()
            },
            delays: if lost < sent { vec![total] } else { vec![] },
            slow: Slow {
                probes,
                ..Slow::default()
            },
            causes,
            ..Summary::default()
        }
    }

    fn lost_at(place: Place, reason: &str, count: u64) -> LossCount {
        LossCount {
            place,
            reason: Some(Symbol::named(reason)),
            location: None,
            device: Some(ETH0),
            count,
        }
    }

    fn headline(threshold_ns: u64, summary: &Summary) -> Headline {
        Headline::new(&run(threshold_ns), summary, &names())
    }

    #[test]
    fn what_took_most_time_leads() {
        let at = AtDevice {
            device: ETH0,
            queue: true,
        };
        let queue = Cause {
            cpu: Some((3, 146)),
            at: Some((at, 146)),
            max_ns: 28 * MS,
            ..cause(Segment::LTxQdisc, 146, 12_800_000)
        };
        let causes = vec![queue, cause(Segment::LRxTaskQueue, 238, 1_100_000)];
        let found = headline(MS, &summary(3_000, 0, causes));
        assert_eq!(found.about, About::Slow);
        assert_eq!(
            found.title,
            "146 of 384 slow probes: client host, queue of eth0 in netns web (l_tx_qdisc) on CPU 3, \
             12.8 ms to 28.0 ms"
        );
        assert_eq!(
            found.detail,
            "1.87 s in all; then l_rx_task_queue, 262 ms in 238 probes; 384 of 3000 probes slow \
             (from 1.00 ms); slowest 30.0 ms, median 21.0 us"
        );
        assert_eq!(found.cause, Some(queue));
    }

    #[test]
    fn a_server_has_its_address_and_a_doubt_is_said() {
        let softirq = Cause {
            cpu: Some((3, 37)),
            sure: 30,
            ..cause(Segment::RRxSoftirq, 37, MS)
        };
        assert_eq!(
            headline(1, &summary(100, 0, vec![softirq])).title,
            "37 of 37 slow probes: server host 10.0.0.2, waiting for the NET_RX softirq on CPU 3, \
             1.00 ms (7 not sure)"
        );
        let undecided = Cause {
            owner: Owner::Unknown,
            segment: None,
            sure: 0,
            ..softirq
        };
        assert_eq!(
            headline(1, &summary(100, 0, vec![undecided])).title,
            "37 of 37 slow probes: undecided which segment, 1.00 ms (not sure)"
        );
    }

    #[test]
    fn a_run_with_many_lost_is_about_loss() {
        let mut run = summary(100, 17, vec![cause(Segment::LTxQdisc, 1, 3_600_000)]);
        run.losses = vec![
            lost_at(Place::ClientSend, "NETFILTER_DROP", 2),
            lost_at(Place::ClientQueue, "QDISC_DROP", 15),
        ];
        let found = headline(0, &run);
        assert_eq!(found.about, About::Loss);
        assert_eq!(
            found.title,
            "Lost 17 of 100, 15 of them at client queue: QDISC_DROP, eth0 in netns web"
        );
        assert!(
            found
                .detail
                .starts_with("1 of 1 slow probes: client host, queued"),
            "{}",
            found.detail
        );
        assert_eq!(found.loss, Some(run.losses[1].clone()));
    }

    #[test]
    fn a_lost_probe_weighs_as_ten_slow_ones() {
        for (lost, slow, about) in [(1, 10, About::Loss), (1, 11, About::Slow)] {
            let mut run = summary(100, lost, vec![cause(Segment::LTxQdisc, slow, MS)]);
            run.losses = vec![lost_at(Place::ClientQueue, "QDISC_DROP", lost)];
            let found = headline(0, &run);
            assert_eq!(found.about, about);
            let all = format!("{} {}", found.title, found.detail).to_lowercase();
            assert!(all.contains("lost 1 of 100 at client queue"), "{all}");
            assert!(all.contains("slow probes: client host"), "{all}");
        }
    }

    #[test]
    fn a_drop_for_size_names_the_mtu() {
        let mut run = summary(10, 1, vec![]);
        run.losses = vec![lost_at(Place::ClientForward, "PKT_TOO_BIG", 1)];
        let mut names = names();
        names
            .mtu
            .insert((Host::Client, Netns(7), Ifindex(2)), 1_280);
        assert_eq!(
            Headline::new(&self::run(0), &run, &names).title,
            "Lost 1 of 10 at client forwarding: PKT_TOO_BIG, eth0 in netns web has MTU 1280"
        );
    }

    #[test]
    fn nothing_slow_is_said() {
        let mut quiet = summary(233, 0, vec![]);
        quiet.slow.from_ns = Some(MS);
        quiet.slow.learnt = true;
        let found = headline(0, &quiet);
        assert_eq!(found.about, About::Ordinary);
        assert_eq!(
            found.title,
            "Nothing was slow: slowest of 233 30.0 ms, median 21.0 us"
        );
        assert!(
            found.detail.starts_with("Slow would be 1.00 ms"),
            "{}",
            found.detail
        );
        let found = headline(50 * MS, &summary(233, 0, vec![]));
        assert_eq!(found.about, About::NotReached);
        assert_eq!(
            (found.title.as_str(), found.detail.as_str()),
            (
                "No probe reached 50.0 ms: slowest of 233 30.0 ms, median 21.0 us",
                ""
            )
        );
    }

    #[test]
    fn slow_by_the_threshold_and_usual_for_the_path() {
        let mut usual = summary(100, 0, vec![]);
        usual.slow.probes = 100;
        assert_eq!(
            headline(10_000, &usual).title,
            "100 of 100 probes took 10.0 us or more, but nothing took longer than is usual here"
        );
    }

    #[test]
    fn no_answer_at_all() {
        assert_eq!(
            headline(0, &summary(0, 0, vec![])).title,
            "No probe was sent"
        );
        let mut run = summary(12, 12, vec![]);
        assert_eq!(headline(0, &run).title, "None of 12 probes was answered");
        run.losses = vec![lost_at(Place::ClientQueue, "QDISC_DROP", 12)];
        assert_eq!(
            headline(0, &run).title,
            "None of 12 probes was answered, lost at client queue: QDISC_DROP, eth0 in netns web"
        );
    }

    #[test]
    fn an_unnamed_device_is_not_guessed() {
        let mut run = summary(10, 1, vec![]);
        run.losses = vec![lost_at(Place::ServerReply, "QDISC_DROP", 1)];
        assert_eq!(
            Headline::new(&self::run(0), &run, &Names::default()).title,
            "Lost 1 of 10 at server reply: QDISC_DROP"
        );
    }
}
