//! The state of each probe: a state machine without sockets, clocks and threads.
//!
//! A probe is sent once, in the order of the indices, and then *in flight* until it is *answered*,
//! given up as *lost*, or *forgotten*. A lost one may be answered after all, and counts as answered
//! from then on. At any time each probe sent is in exactly one of these states.
//!
//! The slot that collects a probe's stamps in the kernel is reused long before a slow answer arrives:
//! [`Event::SlotEnds`] says when it must be copied. States are kept for longer, in three bounded places:
//! a ring for the newest probes, and maps by index for older ones in flight and for lost ones. A probe
//! without room there is forgotten: whether it was answered cannot be known, so it is neither lost nor
//! answered.

use crate::client::index::ProbeIndex;
use report::analysis::loss::{LossId, ServerStatus};
use report::model::host_time::ServerNs;
use std::collections::BTreeMap;

/// Probes that are in flight although they are no longer among the youngest; and lost ones that
/// may still be answered.
const MAX_OVERDUE: usize = 65_536;
/// A probe is given up after this many timeouts.
const GIVE_UP_TIMEOUTS: u64 = 3;
/// A probe that the server can still be asked about is given up after this many.
const NO_WORD_TIMEOUTS: u64 = 10;
/// No probe is given up before this many times the longest round trip seen.
const GIVE_UP_ROUND_TRIPS: u64 = 2;

/// The state of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeState {
    /// Sent, and nothing came back yet.
    InFlight,
    /// Answered.
    Answered,
    /// Given up, and counted there.
    Lost(LossId),
    /// Given up without knowing.
    Forgotten,
}

/// What is known of a probe.
#[derive(Clone, Copy, Debug)]
struct Tracked {
    /// `CLOCK_MONOTONIC`, ns.
    sent_ns: u64,
    /// When it arrived at the server.
    arrived: Option<ServerNs>,
    /// What the server said of it.
    status: Option<ServerStatus>,
    state: ProbeState,
}

impl Tracked {
    const NOTHING: Self = Self {
        sent_ns: 0,
        arrived: None,
        status: None,
        state: ProbeState::Forgotten,
    };

    /// Neither is it known what became of it, nor what the server says.
    fn is_open(&self) -> bool {
        self.state == ProbeState::InFlight && self.status.is_none()
    }
}

/// What the owner of the session has to do about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The slot of this probe, which is in flight, is about to be reused: copy it.
    SlotEnds(ProbeIndex),
    /// This probe is forgotten; and when it was sent, if that is known.
    Forgotten(ProbeIndex, Option<u64>),
}

/// Takes the first answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstAnswer {
    /// When the probe was sent, ns.
    pub sent_ns: u64,
    /// It took longer than the timeout.
    pub late: bool,
    /// It was counted as lost there.
    pub amends: Option<LossId>,
    /// An answer to a later probe came before it.
    pub overtaken: bool,
    /// Then: when this one and the later one arrived at the server, if that is known.
    pub arrivals: Option<(ServerNs, ServerNs)>,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first one.
    First(FirstAnswer),
    /// A further one.
    Duplicate {
        /// When the probe was sent, ns.
        sent_ns: u64,
        /// When its first copy arrived at the server.
        arrived: Option<ServerNs>,
    },
    /// One of the two: nothing is known of the probe any more.
    Unmatched,
}

/// How long a probe is waited for, ns.
#[derive(Clone, Copy, Debug)]
struct Patience {
    timeout_ns: u64,
    /// The longest of this and of the last generation, ns.
    round_trips: [u64; 2],
    began_ns: u64,
}

impl Patience {
    /// A round trip was seen to take this long.
    fn learn(&mut self, round_trip_ns: u64, now: u64) {
        if now.saturating_sub(self.began_ns) >= NO_WORD_TIMEOUTS * self.timeout_ns {
            self.round_trips = [0, self.round_trips[0]];
            self.began_ns = now;
        }
        self.round_trips[0] = self.round_trips[0].max(round_trip_ns);
    }

    /// That number of timeouts, or a multiple of the slowest round trip if that is longer, ns.
    fn duration_ns(&self, timeouts: u64) -> u64 {
        let [now, before] = self.round_trips;
        let slowest = now.max(before).saturating_mul(GIVE_UP_ROUND_TRIPS);
        self.timeout_ns.saturating_mul(timeouts).max(slowest)
    }
}

/// The probes of a run.
pub struct Session {
    /// The youngest probes, by the low bits of their index.
    recent: Vec<Tracked>,
    /// Those before them that are in flight.
    overdue: BTreeMap<ProbeIndex, Tracked>,
    /// Those before them that were given up, and may be answered after all.
    lost: BTreeMap<ProbeIndex, Tracked>,
    /// Probes sent.
    sent: u64,
    in_flight: u64,
    /// Every recent probe below is in flight no more.
    oldest: u64,
    /// The highest index that was answered, plus one.
    frontier: u64,
    /// The server's status is wanted of no probe below it.
    asked: u64,
    /// A probe's slot is copied when this many younger ones have been sent.
    slot_lasts: u64,
    max_overdue: usize,
    patience: Patience,
}

impl Session {
    /// `slots`, a power of two, are used in turn; the state of the `recent` newest probes is known, a power of
    /// two and no smaller.
    pub fn new(recent: usize, slots: u32, timeout_ns: u64) -> Self {
        Self::with_room(recent, MAX_OVERDUE, slots, timeout_ns)
    }

    /// `recent` is a power of two, and no smaller than `slots`.
    fn with_room(recent: usize, max_overdue: usize, slots: u32, timeout_ns: u64) -> Self {
        Self {
            recent: vec![Tracked::NOTHING; recent],
            overdue: BTreeMap::new(),
            lost: BTreeMap::new(),
            sent: 0,
            in_flight: 0,
            oldest: 0,
            frontier: 0,
            asked: 0,
            slot_lasts: u64::from(slots - (slots / 8).max(1)),
            max_overdue,
            patience: Patience {
                timeout_ns,
                round_trips: [0, 0],
                began_ns: 0,
            },
        }
    }

    /// As if this many probes had been sent, and long been answered.
    #[cfg(any(test, fuzzing))]
    pub fn skip_to(&mut self, index: u64) {
        self.sent = index;
        self.oldest = index;
        self.frontier = index;
        self.asked = index;
    }

    /// Probes sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Probes that are in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// The next probe was sent, at `sent_ns` if that is known.
    pub fn send(&mut self, sent_ns: Option<u64>, mut event: impl FnMut(Event)) {
        let index = ProbeIndex(self.sent);
        let place = self.place(index);
        if let Some(oldest) = self.sent.checked_sub(self.recent.len() as u64) {
            self.leave(ProbeIndex(oldest), self.recent[place], &mut event);
        }
        self.sent += 1;
        self.recent[place] = match sent_ns {
            Some(sent_ns) => Tracked {
                sent_ns,
                state: ProbeState::InFlight,
                ..Tracked::NOTHING
            },
            None => Tracked::NOTHING,
        };
        if sent_ns.is_some() {
            self.in_flight += 1;
        } else {
            event(Event::Forgotten(index, None));
        }
        let ending = self.sent.checked_sub(self.slot_lasts + 1).map(ProbeIndex);
        if let Some(ending) = ending.filter(|index| self.is_in_flight(*index)) {
            event(Event::SlotEnds(ending));
        }
    }

    /// A probe is no longer among the youngest.
    fn leave(&mut self, index: ProbeIndex, known: Tracked, event: &mut impl FnMut(Event)) {
        match known.state {
            ProbeState::InFlight => {
                self.overdue.insert(index, known);
                if self.overdue.len() > self.max_overdue
                    && let Some((index, known)) = self.overdue.pop_first()
                {
                    self.in_flight -= 1;
                    event(Event::Forgotten(index, Some(known.sent_ns)));
                }
            }
            ProbeState::Lost(_) => self.keep_lost(index, known),
            ProbeState::Answered | ProbeState::Forgotten => {}
        }
        self.oldest = self.oldest.max(index.0 + 1);
    }

    fn keep_lost(&mut self, index: ProbeIndex, known: Tracked) {
        self.lost.insert(index, known);
        if self.lost.len() > self.max_overdue {
            self.lost.pop_first();
        }
    }

    /// An answer to a probe came at `now`; `arrived` is when the probe arrived at the server.
    pub fn answer(&mut self, index: ProbeIndex, now: u64, arrived: Option<ServerNs>) -> Answer {
        let Some(known) = self.known(index).copied() else {
            return Answer::Unmatched;
        };
        let amends = match known.state {
            ProbeState::Forgotten => return Answer::Unmatched,
            ProbeState::Answered => {
                return Answer::Duplicate {
                    sent_ns: known.sent_ns,
                    arrived: known.arrived,
                };
            }
            ProbeState::Lost(id) => Some(id),
            ProbeState::InFlight => None,
        };
        let (overtaken, arrivals) = self.order(index, arrived);
        let round_trip_ns = now.saturating_sub(known.sent_ns);
        self.patience.learn(round_trip_ns, now);
        if let Some(known) = self.known_mut(index) {
            known.arrived = arrived;
        }
        self.settle(index, ProbeState::Answered);
        Answer::First(FirstAnswer {
            sent_ns: known.sent_ns,
            // One that could not be sent has the answer of somebody else, and that at any time.
            late: amends.is_some() || round_trip_ns > self.patience.timeout_ns,
            amends,
            overtaken,
            arrivals,
        })
    }

    /// Whether a later probe was answered before, and then when both arrived at the server.
    fn order(
        &mut self,
        index: ProbeIndex,
        arrived: Option<ServerNs>,
    ) -> (bool, Option<(ServerNs, ServerNs)>) {
        let overtaken = index.0 < self.frontier;
        let first = self.frontier.checked_sub(1).map(ProbeIndex);
        let first = first.and_then(|first| self.known(first)?.arrived);
        self.frontier = self.frontier.max(index.0 + 1);
        (overtaken, arrived.zip(first).filter(|_| overtaken))
    }

    /// The oldest probe in flight, if its time is over at `now`; `statuses`: the server reports what
    /// became of probes.
    pub fn expired(&mut self, now: u64, statuses: bool) -> Option<ProbeIndex> {
        let index = self.oldest_in_flight()?;
        let known = self.known(index)?;
        let timeouts = if statuses && known.is_open() {
            NO_WORD_TIMEOUTS
        } else {
            GIVE_UP_TIMEOUTS
        };
        (now.saturating_sub(known.sent_ns) >= self.patience.duration_ns(timeouts)).then_some(index)
    }

    /// A probe in flight for this long is overdue, ns.
    pub fn overdue_after_ns(&self) -> u64 {
        self.patience.duration_ns(1)
    }

    /// Those in flight that were sent at `before_ns` or before, the oldest first.
    pub fn in_flight_since(&self, before_ns: u64) -> Vec<ProbeIndex> {
        let old =
            |known: &Tracked| known.state == ProbeState::InFlight && known.sent_ns <= before_ns;
        let overdue = self.overdue.iter();
        let overdue = overdue
            .filter(|(_, known)| old(known))
            .map(|(index, _)| *index);
        let recent = (self.oldest..self.sent)
            .map(ProbeIndex)
            .filter(|index| self.known(*index).is_some_and(old));
        overdue.chain(recent).collect()
    }

    /// A probe in flight is given up, and counted there.
    pub fn lose(&mut self, index: ProbeIndex, id: LossId) {
        self.settle(index, ProbeState::Lost(id));
    }

    /// The server says what it saw of a probe.
    pub fn note_status(&mut self, index: ProbeIndex, status: ServerStatus) {
        if let Some(known) = self.known_mut(index)
            && known.state == ProbeState::InFlight
        {
            known.status = Some(status);
        }
    }

    /// What the server said of a probe.
    pub fn status(&self, index: ProbeIndex) -> Option<ServerStatus> {
        self.known(index)?.status
    }

    /// When a probe was sent, ns, if that is still known.
    pub fn sent_ns(&self, index: ProbeIndex) -> Option<u64> {
        let known = self.known(index)?;
        (known.sent_ns != 0).then_some(known.sent_ns)
    }

    /// Whether a probe was sent and nothing came back yet.
    pub fn is_in_flight(&self, index: ProbeIndex) -> bool {
        let known = self.known(index);
        known.is_some_and(|known| known.state == ProbeState::InFlight)
    }

    /// The oldest probe in flight of which the server has said nothing.
    pub fn oldest_open(&mut self) -> Option<ProbeIndex> {
        let overdue = self.overdue.range(ProbeIndex(self.asked)..);
        let overdue = overdue.map(|(index, known)| (*index, known.is_open()));
        let first = overdue
            .filter(|(_, open)| *open)
            .map(|(index, _)| index)
            .next();
        if let Some(index) = first {
            self.asked = index.0;
            return Some(index);
        }
        self.asked = self.asked.max(self.oldest);
        while self.asked < self.sent {
            let index = ProbeIndex(self.asked);
            if self.known(index).is_some_and(Tracked::is_open) {
                return Some(index);
            }
            self.asked += 1;
        }
        None
    }

    fn oldest_in_flight(&mut self) -> Option<ProbeIndex> {
        if let Some((index, _)) = self.overdue.first_key_value() {
            return Some(*index);
        }
        while self.oldest < self.sent {
            let index = ProbeIndex(self.oldest);
            if self.is_in_flight(index) {
                return Some(index);
            }
            self.oldest += 1;
        }
        None
    }

    /// A probe is in flight, or lost, no more.
    fn settle(&mut self, index: ProbeIndex, state: ProbeState) {
        if self.is_in_flight(index) {
            self.in_flight -= 1;
        }
        if self.is_recent(index) {
            let place = self.place(index);
            self.recent[place].state = state;
            return;
        }
        let overdue = self.overdue.remove(&index);
        let known = self.lost.remove(&index).or(overdue);
        if let (ProbeState::Lost(_), Some(known)) = (state, known) {
            self.keep_lost(index, Tracked { state, ..known });
        }
    }

    fn known(&self, index: ProbeIndex) -> Option<&Tracked> {
        if self.is_recent(index) {
            return Some(&self.recent[self.place(index)]);
        }
        self.overdue.get(&index).or_else(|| self.lost.get(&index))
    }

    fn known_mut(&mut self, index: ProbeIndex) -> Option<&mut Tracked> {
        if self.is_recent(index) {
            let place = self.place(index);
            return Some(&mut self.recent[place]);
        }
        let overdue = self.overdue.get_mut(&index);
        overdue.or_else(|| self.lost.get_mut(&index))
    }

    fn is_recent(&self, index: ProbeIndex) -> bool {
        index.0 < self.sent && self.sent - index.0 <= self.recent.len() as u64
    }

    fn place(&self, index: ProbeIndex) -> usize {
        index.0 as usize & (self.recent.len() - 1)
    }
}

#[cfg(test)]
mod tests;
