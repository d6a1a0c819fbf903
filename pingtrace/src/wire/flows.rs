//! Flows: what networks hash to choose one of several ways, varied from probe to probe.

use super::number::{Sequence, SessionId};
use std::num::NonZeroU8;

/// In how many flows the probes of a session leave. Each has an ICMP id of its own and, over IPv6, a flow
/// label of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows(pub NonZeroU8);

impl Flows {
    /// All probes are one flow.
    pub const ONE: Self = Self(NonZeroU8::MIN);

    /// The flow of a probe, from 0. Each round has one probe of every flow, and begins with another flow than
    /// the round before, so that nothing periodic always meets the same one. Known by the low 16 bits of the
    /// sequence number, which is all that an ICMP error may quote.
    pub const fn of(self, sequence: Sequence) -> u8 {
        // 65536 over the golden ratio: its multiples spread evenly.
        const SPREAD: u16 = 40_503;
        let (low, flows) = (sequence.low(), self.0.get() as u16);
        let shift = (low / flows).wrapping_mul(SPREAD) >> 8;
        ((low % flows + shift) % flows) as u8
    }

    /// The ICMP id of a probe.
    pub fn id(self, session: SessionId, sequence: Sequence) -> u16 {
        session.id(self.of(sequence))
    }

    /// The IPv6 flow label of a probe; 0 leaves the choice to the kernel.
    pub fn label(self, session: SessionId, sequence: Sequence) -> u32 {
        const SET: u32 = 1 << 16;
        if self == Self::ONE {
            return 0;
        }
        SET | u32::from(self.id(session, sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn flows(number: u8) -> Flows {
        Flows(NonZeroU8::new(number).unwrap())
    }

    #[test]
    fn each_round_has_every_flow_once() {
        for number in [1, 2, 3, 8, 64, 255] {
            let of = |k| flows(number).of(Sequence(k));
            for round in 0..200 {
                let first = round * u32::from(number);
                let seen: HashSet<u8> = (first..first + u32::from(number)).map(of).collect();
                assert_eq!(seen.len(), usize::from(number));
                assert!(seen.iter().all(|flow| *flow < number));
            }
        }
    }

    #[test]
    fn what_happens_at_every_nth_probe_meets_every_flow() {
        for (number, every) in [(4_u8, 4), (8, 8), (8, 40), (5, 10), (64, 128)] {
            let mut met = vec![0; number.into()];
            for k in (0..40_000).step_by(every) {
                met[usize::from(flows(number).of(Sequence(k)))] += 1;
            }
            let mean = 40_000 / every / usize::from(number);
            let even = |count: &usize| (mean / 2..=2 * mean).contains(count);
            assert!(
                met.iter().all(even),
                "{number} flows, every {every}: {met:?}"
            );
        }
    }

    #[test]
    fn ids_and_labels_are_one_a_flow() {
        let session = SessionId(0x0005_fffe);
        let ids = (0..4).map(|k| flows(4).id(session, Sequence(k)));
        let ids: HashSet<u16> = ids.collect();
        assert_eq!(ids, HashSet::from([0xfffe, 0xffff, 0, 1]));
        let labels = (0..4).map(|k| flows(4).label(session, Sequence(k)));
        assert!(labels.clone().all(|label| label != 0 && label < 1 << 20));
        assert_eq!(labels.collect::<HashSet<_>>().len(), 4);
        assert_eq!(Flows::ONE.label(session, Sequence(1)), 0);
    }
}
