//! Why it is not sure whose the time of a segment is.

use super::host::Host;
use super::names::Names;
use super::point::Point;
use super::stamp::Device;

/// What was not seen of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unseen {
    /// The packet at this point: there is no stamp.
    Stamp(Point),
    /// The packet below a device that carries it inside another one.
    Underlay,
    /// How long interrupts were off before the packet was received.
    Interrupts,
    /// When the packet arrived, during a softirq or poll that other packets had begun.
    Arrival,
}

/// A segment may contain the time of another owner, as something was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Doubt {
    /// What.
    pub unseen: Unseen,
    /// On which host, and at which device where one is known.
    pub at: Device,
}

impl Unseen {
    const UNDERLAY: &'static str = "underlay";
    const INTERRUPTS: &'static str = "interrupts";
    const ARRIVAL: &'static str = "arrival";

    /// Its name in every machine-readable format: that of the point, where a stamp is missing.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stamp(point) => point.name(),
            Self::Underlay => Self::UNDERLAY,
            Self::Interrupts => Self::INTERRUPTS,
            Self::Arrival => Self::ARRIVAL,
        }
    }

    /// What has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            Self::UNDERLAY => Some(Self::Underlay),
            Self::INTERRUPTS => Some(Self::Interrupts),
            Self::ARRIVAL => Some(Self::Arrival),
            _ => Point::from_name(name).map(Self::Stamp),
        }
    }

    /// `no hand-over seen`.
    fn words(self) -> String {
        let stamp = match self {
            Self::Stamp(Point::LTxDevout | Point::RTxDevout) => "hand-over",
            Self::Stamp(Point::LRxSoftirq | Point::RRxSoftirq) => "softirq raise",
            Self::Stamp(Point::LRxNapi | Point::RRxNapi) => "softirq entry",
            Self::Stamp(Point::LRxIprcv | Point::RRxDevrcv) => "receive",
            Self::Stamp(point) => point.name(),
            Self::Arrival => "arrival",
            Self::Underlay => return "underlay not seen".to_owned(),
            Self::Interrupts => return "interrupts may have been off".to_owned(),
        };
        format!("no {stamp} seen")
    }
}

impl Doubt {
    /// `no hand-over seen at eth0 in netns web`; the host alone where the device has no name here.
    pub fn words(&self, names: &Names) -> String {
        let what = self.unseen.words();
        match (names.device_in_netns(self.at), self.at.host) {
            (Some(device), _) => format!("{what} at {device}"),
            (None, Host::Client) => format!("{what} on the client host"),
            (None, Host::Server) => format!("{what} on the server host"),
            (None, Host::Transit(_)) => format!("{what} on the way"),
        }
    }
}
