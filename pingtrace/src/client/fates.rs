//! What became of each probe, and when the socket itself dropped some.

use crate::packet::{Note, Packet};
use report::loss::{LossId, Word};
use std::collections::VecDeque;

/// What became of a probe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Flying,
    Answered,
    Lost(LossId),
}

/// What is known of the youngest probe of a slot.
#[derive(Clone, Copy)]
pub struct Known {
    index: u64,
    pub fate: Fate,
    /// What the server said of it.
    pub word: Option<Word>,
    /// When it arrived at the server, on that clock, ns.
    pub arrived_ns: Option<u64>,
}

impl Known {
    const fn new(index: u64) -> Self {
        Self {
            index,
            fate: Fate::Flying,
            word: None,
            arrived_ns: None,
        }
    }
}

/// The youngest probes, by the low bits of their index.
pub struct Fates {
    known: Vec<Known>,
    /// All probes below it have their fate.
    oldest: u64,
    /// The highest index that was answered, plus one.
    frontier: u64,
    /// Of all probes below it the fate is known, or the server's word.
    asked: u64,
}

impl Fates {
    /// `slots` is a power of two.
    pub fn new(slots: u32) -> Self {
        Self {
            known: vec![Known::new(u64::MAX); slots as usize],
            oldest: 0,
            frontier: 0,
            asked: 0,
        }
    }

    /// All probes below it have their fate.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Of a probe whose slot has another one by now, nothing is known.
    pub fn of(&self, index: u64) -> Option<&Known> {
        let known = &self.known[self.slot(index)];
        (known.index == index).then_some(known)
    }

    pub fn of_mut(&mut self, index: u64) -> &mut Known {
        let slot = self.slot(index);
        let known = &mut self.known[slot];
        if known.index != index {
            *known = Known::new(index);
        }
        known
    }

    pub fn fate(&self, index: u64) -> Fate {
        self.of(index).map_or(Fate::Flying, |known| known.fate)
    }

    /// When it arrived at the server, on that clock, ns.
    pub fn arrived_ns(&self, index: u64) -> Option<u64> {
        self.of(index).and_then(|known| known.arrived_ns)
    }

    /// Neither its fate is known nor the server's word.
    pub fn is_open(&self, index: u64) -> bool {
        let open = |known: &Known| known.fate == Fate::Flying && known.word.is_none();
        self.of(index).is_none_or(open)
    }

    /// Those of the first `sent` probes that are without a fate.
    pub fn flying(&self, sent: u64) -> impl Iterator<Item = u64> {
        (self.oldest..sent).filter(|index| self.fate(*index) == Fate::Flying)
    }

    /// Passes over the oldest probe: its slot can be used again.
    pub fn pass(&mut self) {
        self.oldest += 1;
    }

    /// An answer came. Whether one to a later probe came before it, and then when both of them
    /// arrived at the server, if that is known: this one and the other.
    pub fn answered(&mut self, index: u64) -> (bool, Option<(u64, u64)>) {
        let overtaken = index < self.frontier;
        let first = self.frontier.checked_sub(1);
        let first = first.and_then(|index| self.arrived_ns(index));
        let both = self.arrived_ns(index).zip(first).filter(|_| overtaken);
        self.frontier = self.frontier.max(index + 1);
        self.of_mut(index).fate = Fate::Answered;
        while self.fate(self.oldest) != Fate::Flying {
            self.oldest += 1;
        }
        (overtaken, both)
    }

    /// The oldest of the first `sent` probes that is open, or else `sent`.
    pub fn oldest_open(&mut self, sent: u64) -> u64 {
        self.asked = self.asked.max(self.oldest);
        while self.asked < sent && !self.is_open(self.asked) {
            self.asked += 1;
        }
        self.asked
    }

    /// What the server says of probes that nobody answered yet.
    pub fn take_words(&mut self, packet: &Packet<'_>, sent: u64) {
        for note in packet.notes() {
            let Note::Window { back, words } = note else {
                continue;
            };
            let first = packet.sequence.wrapping_sub(u32::from(back));
            for (sequence, word) in (0..).map(|k| first.wrapping_add(k)).zip(words) {
                let index = word.and_then(|_| index_of(sequence, sent));
                if let Some(index) = index.filter(|i| self.fate(*i) == Fate::Flying) {
                    self.of_mut(index).word = word;
                }
            }
        }
    }

    fn slot(&self, index: u64) -> usize {
        index as usize & (self.known.len() - 1)
    }
}

/// The youngest of the first `sent` probes with this sequence number, which wraps.
pub fn index_of(sequence: u32, sent: u64) -> Option<u64> {
    let back = (sent as u32).wrapping_sub(sequence);
    if back == 0 {
        return None;
    }
    sent.checked_sub(u64::from(back))
}

/// When the socket's receive buffer was full, as far as its counter tells.
#[derive(Default)]
pub struct Overflows {
    dropped: u32,
    read_ns: u64,
    /// The counter rose in these times, `CLOCK_MONOTONIC` ns.
    spans: VecDeque<(u64, u64)>,
}

impl Overflows {
    /// Older times are forgotten.
    const SPANS: usize = 64;

    /// The counter was read.
    pub fn note(&mut self, dropped: u32, now: u64) {
        let since = std::mem::replace(&mut self.read_ns, now);
        if std::mem::replace(&mut self.dropped, dropped) == dropped {
            return;
        }
        match self.spans.back_mut() {
            Some(last) if last.1 == since => last.1 = now,
            _ => self.spans.push_back((since, now)),
        }
        if self.spans.len() > Self::SPANS {
            self.spans.pop_front();
        }
    }

    /// Whether it may have been full then.
    pub fn at(&self, ns: u64) -> bool {
        self.spans
            .iter()
            .any(|&(from, to)| (from..=to).contains(&ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap() {
        let sent = (1 << 32) + 2;
        assert_eq!(index_of(1, sent), Some((1 << 32) + 1));
        assert_eq!(index_of(u32::MAX, sent), Some((1 << 32) - 1));
        assert_eq!(index_of(2, sent), None, "not sent yet");
        assert_eq!(index_of(7, 3), None);
    }

    #[test]
    fn an_answer_after_a_later_one_was_overtaken() {
        let mut fates = Fates::new(8);
        fates.of_mut(0).arrived_ns = Some(20);
        fates.of_mut(1).arrived_ns = Some(10);
        assert_eq!(fates.answered(1), (false, None));
        assert_eq!(fates.oldest(), 0);
        assert_eq!(fates.answered(0), (true, Some((20, 10))));
        assert_eq!(fates.oldest(), 2);
        assert_eq!(fates.flying(4).collect::<Vec<_>>(), [2, 3]);
        // The next one in a slot knows nothing of the last.
        assert!(fates.is_open(8) && !fates.is_open(1));
        assert!(fates.of_mut(8).arrived_ns.is_none() && fates.of(0).is_none());
    }

    #[test]
    fn a_full_buffer_is_known_from_one_reading_to_the_next() {
        let mut overflows = Overflows::default();
        overflows.note(0, 10);
        overflows.note(3, 20);
        overflows.note(3, 30);
        assert!(overflows.at(15) && !overflows.at(25) && !overflows.at(5));
    }
}
