use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use report::analysis::stats::Stats;
use report::model::{Loss, Place};

const TIMEOUT_NS: u64 = 100;
const SLOTS: usize = 8;
const RECENT: usize = 16;
const MAX_OVERDUE: usize = 12;

/// What happens in a run. Probes are meant by how many were sent after them.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Number of probes that leave before anybody looks, and the time between two of them.
    Send(u8, u8),
    /// This probe is answered; what is asked for twice is a duplicate.
    Answer(u8),
    /// The server says something of this probe.
    Status(u8),
    /// Nothing happens for this long.
    Wait(u16),
    /// Those that are overdue are given up.
    Expire,
    /// An interval ends.
    Interval,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..3_u8, 0..20_u8).prop_map(|(count, gap)| Step::Send(count, gap)),
        // A stall of the receiver: more than there are slots, or places.
        1 => (5..60_u8, 0..3_u8).prop_map(|(count, gap)| Step::Send(count, gap)),
        10 => (0..4_u8).prop_map(Step::Answer),
        3 => (0..80_u8).prop_map(Step::Answer),
        2 => (0..40_u8).prop_map(Step::Status),
        3 => (0..50_u16).prop_map(Step::Wait),
        1 => (50..2_000_u16).prop_map(Step::Wait),
        4 => Just(Step::Expire),
        1 => Just(Step::Interval),
    ]
}

/// What truly became of a probe, by the steps alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Open,
    Answered,
    GivenUp,
    Forgotten,
}

/// A session, its books, and what is true.
struct Run {
    session: Session,
    stats: Stats,
    now: u64,
    truth: Vec<(u64, Truth)>,
    /// The index of the probe that each slot holds.
    slots: [u64; SLOTS],
    /// Probes whose slot was copied in time.
    copied: Vec<ProbeIndex>,
    in_flight_before: u64,
}

impl Run {
    fn new() -> Self {
        Self {
            session: Session::with_room(RECENT, MAX_OVERDUE, SLOTS as u32, TIMEOUT_NS),
            stats: Stats::new(),
            now: 1,
            truth: Vec::new(),
            slots: [u64::MAX; SLOTS],
            copied: Vec::new(),
            in_flight_before: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(count, gap) => self.send(count, u64::from(gap)),
            Step::Answer(back) => self.answer(back),
            Step::Status(back) => {
                if let Some(index) = self.back(back) {
                    self.session.note_status(index, ServerStatus::Left);
                }
            }
            Step::Wait(ns) => self.now += u64::from(ns),
            Step::Expire => self.expire(),
            Step::Interval => self.interval(),
        }
        self.check();
    }

    fn back(&self, back: u8) -> Option<ProbeIndex> {
        let index = (self.truth.len() as u64).checked_sub(1 + u64::from(back));
        index.map(ProbeIndex)
    }

    /// The sender is ahead of what the session has been told by the whole of a burst.
    fn send(&mut self, count: u8, gap: u64) {
        let first = self.truth.len();
        for _ in 0..count {
            self.now += gap;
            self.slots[self.truth.len() % SLOTS] = self.truth.len() as u64;
            self.truth.push((self.now, Truth::Open));
        }
        for index in first..self.truth.len() {
            let mut events = Vec::new();
            let sent_ns = self.truth[index].0;
            self.session.send(Some(sent_ns), |event| events.push(event));
            for event in events {
                self.event(event, usize::from(count));
            }
        }
    }

    fn event(&mut self, event: Event, burst: usize) {
        match event {
            Event::SlotEnds(index) => {
                assert_eq!(self.truth[index.0 as usize].1, Truth::Open);
                assert!(!self.copied.contains(&index), "once");
                // In time, unless the session was told too late.
                let holds = self.slots[index.0 as usize % SLOTS];
                assert!(holds == index.0 || burst > SLOTS / 8, "{index:?}: {holds}");
                self.copied.push(index);
            }
            Event::Forgotten(index, sent_ns) => {
                let (at, truth) = &mut self.truth[index.0 as usize];
                assert_eq!((sent_ns, *truth), (Some(*at), Truth::Open));
                *truth = Truth::Forgotten;
                self.stats.counters.forgotten += 1;
            }
        }
    }

    fn answer(&mut self, back: u8) {
        let Some(index) = self.back(back) else { return };
        let (sent_ns, truth) = self.truth[index.0 as usize];
        let retained = self.truth.len() as u64 - index.0 <= RECENT as u64;
        let answer = self.session.answer(index, self.now, None);
        let counters = &mut self.stats.counters;
        match answer {
            Answer::First(first) => {
                assert_eq!(first.sent_ns, sent_ns, "its own, not a younger one's");
                assert_eq!(first.late, self.now - sent_ns > TIMEOUT_NS);
                assert_eq!(first.amends.is_some(), truth == Truth::GivenUp);
                assert!(matches!(truth, Truth::Open | Truth::GivenUp), "{truth:?}");
                counters.replied += 1;
                counters.late += u64::from(first.late);
                self.truth[index.0 as usize].1 = Truth::Answered;
                if let Some(id) = first.amends {
                    self.stats.found(id);
                }
            }
            Answer::Duplicate { sent_ns: at, .. } => {
                assert_eq!((at, truth), (sent_ns, Truth::Answered));
                counters.dup += 1;
            }
            Answer::Unmatched => {
                let forgotten = truth == Truth::Forgotten;
                assert!(forgotten || truth != Truth::Open && !retained, "{truth:?}");
                counters.unmatched += 1;
            }
        }
    }

    fn expire(&mut self) {
        let loss = Loss {
            place: Place::Unknown,
            last: None,
            device: None,
            drop: None,
            error: None,
        };
        while let Some(index) = self.session.expired(self.now, index_is_asked(self.now)) {
            let (sent_ns, truth) = &mut self.truth[index.0 as usize];
            assert_eq!(*truth, Truth::Open);
            assert!(self.now - *sent_ns >= GIVE_UP_TIMEOUTS * TIMEOUT_NS);
            *truth = Truth::GivenUp;
            let id = self.stats.lost(&loss);
            self.session.lose(index, id);
        }
    }

    /// The books of an interval balance like those of the run.
    fn interval(&mut self) {
        self.check();
        let interval = self.stats.interval(self.now).counters;
        let left = self.in_flight_before + interval.sent + interval.amended
            - interval.replied
            - interval.lost
            - interval.forgotten;
        assert_eq!(left, interval.in_flight);
        self.in_flight_before = interval.in_flight;
    }

    fn check(&mut self) {
        let counters = &mut self.stats.counters;
        counters.sent = self.session.sent();
        counters.in_flight = self.session.in_flight();
        assert!(counters.balance(), "{counters:?}");
        let count = |wanted| {
            self.truth
                .iter()
                .filter(|(_, truth)| *truth == wanted)
                .count() as u64
        };
        let counted = [
            counters.in_flight,
            counters.replied,
            counters.lost,
            counters.forgotten,
        ];
        let so = [
            Truth::Open,
            Truth::Answered,
            Truth::GivenUp,
            Truth::Forgotten,
        ];
        assert_eq!(counted, so.map(count));
        let lost = counters.lost;
        let losses = self.stats.summary(0).losses;
        assert_eq!(losses.iter().map(|l| l.count).sum::<u64>(), lost);
        let all = self.session.in_flight_since(u64::MAX);
        assert_eq!(all.len() as u64, self.session.in_flight());
        assert!(all.is_sorted());
        let oldest = self.session.oldest_open();
        assert!(oldest.is_none_or(|index| all.contains(&index)));
    }
}

/// Sometimes the server says what it saw, sometimes not.
fn index_is_asked(now: u64) -> bool {
    now.is_multiple_of(2)
}

proptest! {
    /// Loss, delay, stall, duplicate, more in flight than there are slots and places.
    #[test]
    fn every_probe_is_counted_once_whatever_happens(steps in vec(step(), 1..300)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
    }

    #[test]
    fn sequence_numbers_wrap_and_name_the_youngest(
        sent in prop_oneof![0..1_000_u64, (1_u64 << 32) - 50..(1 << 32) + 50, 0..u64::MAX],
        back in prop_oneof![0..200_u64, 0..(1_u64 << 32) + 100],
    ) {
        let Some(index) = sent.checked_sub(back) else { return Ok(()) };
        let found = ProbeIndex::from_sequence(ProbeIndex(index).sequence(), sent).map(|found| found.0);
        match back {
            0 => prop_assert_eq!(found, None, "not sent yet"),
            _ if back < 1 << 32 => prop_assert_eq!(found, Some(index)),
            _ => prop_assert!(found.is_none_or(|found| found > index)),
        }
        let low = ProbeIndex::from_low(index as u16, sent).map(|low| low.0);
        match back {
            0 => prop_assert_eq!(low, None, "not sent yet"),
            _ if back < 1 << 16 => prop_assert_eq!(low, Some(index)),
            _ => prop_assert!(low.is_none_or(|found| found > index)),
        }
    }
}

fn id() -> LossId {
    Stats::new().lost(&Loss {
        place: Place::WireIn,
        last: None,
        device: None,
        drop: None,
        error: None,
    })
}

/// What `-A` does after one lost probe: the slots are used again and again before it is given up.
#[test]
fn a_lost_probe_does_not_make_others_lost() {
    let mut session = Session::with_room(RECENT, MAX_OVERDUE, SLOTS as u32, 1_000_000);
    let none = |event| panic!("{event:?}");
    session.send(Some(1), none);
    let mut copied = Vec::new();
    for now in 2..500 {
        session.send(Some(now), |event| copied.push(event));
        assert!(session.expired(now, false).is_none());
        let index = ProbeIndex(session.sent() - 1);
        assert!(matches!(session.answer(index, now, None), Answer::First(first) if !first.late));
    }
    assert_eq!(copied, [Event::SlotEnds(ProbeIndex(0))]);
    assert_eq!(session.in_flight(), 1);
    assert_eq!(session.expired(3_000_001, false), Some(ProbeIndex(0)));
    session.lose(ProbeIndex(0), id());
    // And it is answered after all.
    let Answer::First(first) = session.answer(ProbeIndex(0), 4_000_000, None) else {
        panic!("the first answer")
    };
    assert_eq!(
        (first.sent_ns, first.late, first.overtaken),
        (1, true, true)
    );
    assert!(first.amends.is_some());
}

/// A round trip above the timeout is late, not lost.
#[test]
fn slow_round_trips_are_waited_for() {
    let mut session = Session::with_room(RECENT, 1_000, SLOTS as u32, TIMEOUT_NS);
    for now in 1..=300 {
        session.send(Some(now), |_| {});
    }
    let Answer::First(first) = session.answer(ProbeIndex(0), 301, None) else {
        panic!("the first answer")
    };
    assert!(first.late && first.amends.is_none());
    // The others took as long, or will.
    assert_eq!(session.expired(602, false), Some(ProbeIndex(1)));
    assert_eq!(session.expired(601, false), None);
    assert_eq!(session.overdue_after_ns(), 600);
}

#[test]
fn an_answer_after_a_later_one_was_overtaken() {
    let mut session = Session::new(65_536, 8, TIMEOUT_NS);
    for now in 1..=4 {
        session.send(Some(now), |_| {});
    }
    let mut answer = |index, arrived| session.answer(ProbeIndex(index), 5, Some(ServerNs(arrived)));
    let order = |answer| match answer {
        Answer::First(first) => (first.overtaken, first.arrivals),
        other => panic!("{other:?}"),
    };
    assert_eq!(order(answer(1, 10)), (false, None));
    assert_eq!(
        order(answer(0, 20)),
        (true, Some((ServerNs(20), ServerNs(10))))
    );
    let Answer::Duplicate { arrived, .. } = answer(0, 21) else {
        panic!("a duplicate")
    };
    assert_eq!(arrived, Some(ServerNs(20)));
    assert_eq!(session.in_flight_since(3), [ProbeIndex(2)]);
    assert_eq!(session.in_flight_since(9), [ProbeIndex(2), ProbeIndex(3)]);
}

/// A probe of which nobody knows when it left is forgotten at once.
#[test]
fn without_a_time_of_the_send_nothing_is_known() {
    let mut session = Session::new(65_536, 8, TIMEOUT_NS);
    let mut events = Vec::new();
    session.send(None, |event| events.push(event));
    assert_eq!(events, [Event::Forgotten(ProbeIndex(0), None)]);
    assert_eq!(session.answer(ProbeIndex(0), 5, None), Answer::Unmatched);
    assert_eq!((session.sent(), session.in_flight()), (1, 0));
    assert_eq!(session.sent_ns(ProbeIndex(0)), None);
}
