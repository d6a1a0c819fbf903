//! Times at which the socket dropped replies.

use std::collections::VecDeque;

/// When the socket's receive buffer was full, by its counter of drops.
#[derive(Default)]
pub struct Overflows {
    dropped: u32,
    read_ns: u64,
    /// Times in which the counter rose, `CLOCK_MONOTONIC` ns.
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

    /// Whether the buffer may have been full at `ns`.
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
    fn a_full_buffer_is_known_from_one_reading_to_the_next() {
        let mut overflows = Overflows::default();
        overflows.note(0, 10);
        overflows.note(3, 20);
        overflows.note(3, 30);
        assert!(overflows.at(15) && !overflows.at(25) && !overflows.at(5));
    }
}
