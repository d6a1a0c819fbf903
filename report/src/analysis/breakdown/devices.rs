//! Which devices of a host had a packet.

use crate::model::{Device, Point, Stamp, StampFlags};

/// Where one host had the packet in its devices' hands.
#[derive(Clone, Copy, Default)]
pub struct AtDevices {
    /// It was queued there last, and the device did not hand it over since.
    pub queued: Option<Device>,
    /// It was handed over there last.
    pub handed_over: Option<(Device, StampFlags)>,
    /// It was received there first.
    pub received: Option<(Device, StampFlags)>,
}

impl AtDevices {
    /// Takes in the next stamp of this host.
    pub fn note(&mut self, stamp: &Stamp) {
        let place = stamp.place();
        match stamp.point {
            Point::LTxDevqueue | Point::RTxDevqueue => self.queued = Some(place),
            Point::LTxDevout | Point::RTxDevout => {
                self.queued = self.queued.filter(|queued| *queued != place);
                self.handed_over = Some((place, stamp.flags));
            }
            Point::LRxIprcv | Point::RRxDevrcv => {
                self.received.get_or_insert((place, stamp.flags));
            }
            _ => {}
        }
    }
}
