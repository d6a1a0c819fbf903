//! The rule of what may be sure: the time between two places of the chain is its segment's owner's only if
//! all was seen that another owner could have had of it. So it is in doubt
//!
//! - if a place between them has no stamp, and its two sides have different owners;
//! - if it ends where a host received the packet without the raise of a softirq: what the packet waited
//!   for that is in it (unless the stamp says that it was received outside a softirq and waited for none);
//! - if interrupts may have been off on the CPU that received it: it may have lain in the NIC;
//! - if it is that of a softirq or poll that began before the packet can have arrived: for other packets,
//!   and this one may have come late over the wire;
//! - if a device at one of its ends carries the packet inside another one that was not seen.
//!
//! Among several, the first of this list. A queue whose device never handed the packet over has left out
//! the hand-over stamp of its host, whatever other devices said ([`super::chain`]).

use super::carve::Part;
use super::chain::{
    CHAIN, POINTS, Picked, RX_IPRCV, RX_SKDATAREADY, RX_USER, SERVER_DEVOUT, SERVER_DEVRCV,
    TX_DEVOUT,
};
use crate::model::{Device, Doubt, Host, Ifindex, Netns, Point, StampFlags, Unseen};

impl Picked {
    /// Why the time from one place of the chain to the next that has a stamp may be another owner's.
    pub fn doubt(&self, from: usize, to: usize) -> Option<Doubt> {
        self.left_out(from, to)
            .or_else(|| self.not_raised(to))
            .or_else(|| self.at_ends(from, to))
    }

    /// The first place without a stamp, if the two sides of the gap have different owners.
    fn left_out(&self, from: usize, to: usize) -> Option<Doubt> {
        let no_server = (from, to) == (TX_DEVOUT, RX_IPRCV);
        let no_sleep = (from, to) == (RX_SKDATAREADY, RX_USER);
        let links = &CHAIN[from + 1..=to];
        let one_owner = links.iter().all(|link| link.owner() == links[0].owner());
        if one_owner || no_server || no_sleep {
            return None;
        }
        let place = from + 1;
        let queued = match place {
            TX_DEVOUT => self.client_devices.queued,
            SERVER_DEVOUT => self.server_devices.queued,
            _ => None,
        };
        let point = POINTS[place];
        let host = point.host().unwrap_or(Host::Client);
        Some(Doubt {
            unseen: Unseen::Stamp(point),
            at: queued.unwrap_or(Device {
                host,
                netns: Netns(0),
                ifindex: Ifindex(0),
            }),
        })
    }

    /// A receive that no softirq accounts for.
    pub fn not_raised(&self, to: usize) -> Option<Doubt> {
        let raised = match to {
            RX_IPRCV => self.client_softirq.raise.is_some(),
            SERVER_DEVRCV => self.server_softirq.raise.is_some(),
            _ => return None,
        };
        let (at, flags) = self.received(to)?;
        let point = match to {
            RX_IPRCV => Point::LRxSoftirq,
            _ => Point::RRxSoftirq,
        };
        (!raised && !flags.direct).then_some(Doubt {
            unseen: Unseen::Stamp(point),
            at,
        })
    }

    /// What the devices at the two ends of a crossing leave open.
    fn at_ends(&self, from: usize, to: usize) -> Option<Doubt> {
        let handed_over = match from {
            TX_DEVOUT => self.client_devices.handed_over,
            SERVER_DEVOUT => self.server_devices.handed_over,
            _ => None,
        };
        let received = self.received(to);
        let interrupts = received.filter(|(_, flags)| flags.interrupts_unknown);
        let interrupts = interrupts.map(|(at, _)| Doubt {
            unseen: Unseen::Interrupts,
            at,
        });
        let mut ends = [handed_over, received].into_iter().flatten();
        let underlay = ends.find(|(_, flags)| flags.underlay_unseen);
        interrupts.or(underlay.map(|(at, _)| Doubt {
            unseen: Unseen::Underlay,
            at,
        }))
    }

    /// How the packet was received, if a span ends there.
    fn received(&self, to: usize) -> Option<(Device, StampFlags)> {
        match to {
            RX_IPRCV => self.client_devices.received,
            SERVER_DEVRCV => self.server_devices.received,
            _ => None,
        }
    }

    /// Why the time of a softirq or of its poll, part of the span that ends there, may be another owner's.
    pub fn of_poll(&self, to: usize, part: &Part) -> Option<Doubt> {
        let entry = match to {
            RX_IPRCV => Point::LRxNapi,
            _ => Point::RRxNapi,
        };
        let unseen = match (part.merged, part.early) {
            (true, _) => Unseen::Stamp(entry),
            (false, true) => Unseen::Arrival,
            (false, false) => return None,
        };
        self.received(to).map(|(at, _)| Doubt { unseen, at })
    }
}
