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

    /// The flow of a probe, from 0. Each round has one probe of every flow, in an order of its own: nothing
    /// periodic always meets the same flow, and none always follows the same other one, whose delay may be
    /// its own. Known by the low 16 bits of the sequence number, which is all that an ICMP error may quote.
    pub const fn of(self, sequence: Sequence) -> u8 {
        // 65536 over the golden ratio: its multiples spread evenly.
        const SPREAD: u16 = 40_503;
        let (low, flows) = (sequence.low(), self.0.get() as u16);
        let round = low / flows;
        let first = round.wrapping_mul(SPREAD) >> 8;
        let stride = coprime(1 + mixed(round) % flows, flows);
        let flow = low % flows * stride + first;
        (flow % flows) as u8
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

/// A number that has nothing in common with its neighbours' (the 32-bit finalizer of `MurmurHash3`).
const fn mixed(number: u16) -> u16 {
    let number = (number as u32).wrapping_mul(0x85eb_ca6b);
    let number = (number ^ number >> 13).wrapping_mul(0xc2b2_ae35);
    (number ^ number >> 16) as u16
}

/// The first number from this one on that shares no factor with another one: its multiples meet every rest.
const fn coprime(mut number: u16, other: u16) -> u16 {
    while gcd(number, other) != 1 {
        number += 1;
    }
    number
}

const fn gcd(mut one: u16, mut two: u16) -> u16 {
    while two != 0 {
        (one, two) = (two, one % two);
    }
    one
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
    fn a_flow_follows_every_other_one() {
        for number in [4_u8, 5, 8, 64] {
            let mut after = vec![vec![0_u32; number.into()]; number.into()];
            let of = |k| usize::from(flows(number).of(Sequence(k)));
            for k in 1..60_000 {
                after[of(k - 1)][of(k)] += 1;
            }
            let most = after.iter().flatten().max().unwrap();
            let mean = 60_000 / (u32::from(number) * u32::from(number));
            assert!(*most < 4 * mean, "{number} flows: {most}, not {mean}");
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
