//! Where probes are lost.

use super::direction::Direction;
use super::drop::{KernelDrop, Symbol};
use super::point::Point;
use super::send_error::SendError;
use super::stamp::Device;

/// Where a probe was lost, in path order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case")]
pub enum Place {
    /// Before the client's first device queue: routing, netfilter, neighbour discovery.
    ClientSend,
    /// In a queueing discipline of the client.
    ClientQueue,
    /// Behind the client's hand-over to a driver, and dropped by the client's kernel.
    ClientDriver,
    /// Between two devices of the client's kernel.
    ClientForward,
    /// Between the client's driver and the server's `netif_receive_skb`.
    WireOut,
    /// At the server, before there was a reply.
    ServerReceive,
    /// At the server, the reply.
    ServerReply,
    /// Between the server's driver and the client's `netif_receive_skb`.
    WireIn,
    /// At the client, before its socket.
    ClientReceive,
    /// At the client's socket, or in it.
    Socket,
    /// Behind the client's driver; the server said nothing of it.
    NoWord,
    /// It was not seen anywhere.
    Unknown,
}

impl Place {
    /// All, in path order.
    pub const ALL: [Self; 12] = [
        Self::ClientSend,
        Self::ClientQueue,
        Self::ClientDriver,
        Self::ClientForward,
        Self::WireOut,
        Self::ServerReceive,
        Self::ServerReply,
        Self::WireIn,
        Self::ClientReceive,
        Self::Socket,
        Self::NoWord,
        Self::Unknown,
    ];

    /// Whether it is at one of the two hosts, and so perhaps at a device of it.
    pub(crate) const fn is_at_a_host(self) -> bool {
        !matches!(
            self,
            Self::WireOut | Self::WireIn | Self::NoWord | Self::Unknown
        )
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The place with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Its name for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientSend => "client send",
            Self::ClientQueue => "client queue",
            Self::ClientDriver => "client driver",
            Self::ClientForward => "client forwarding",
            Self::WireOut => "wire out",
            Self::ServerReceive => "server receive",
            Self::ServerReply => "server reply",
            Self::WireIn => "wire in",
            Self::ClientReceive => "client receive",
            Self::Socket => "client socket",
            Self::NoWord => "wire or server (no word from the server)",
            Self::Unknown => "unknown place",
        }
    }

    /// Which packet was lost: the request or the reply.
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Self::ClientSend
            | Self::ClientQueue
            | Self::ClientDriver
            | Self::ClientForward
            | Self::WireOut
            | Self::ServerReceive => Some(Direction::Request),
            Self::ServerReply | Self::WireIn | Self::ClientReceive | Self::Socket => {
                Some(Direction::Reply)
            }
            Self::NoWord | Self::Unknown => None,
        }
    }
}

/// What became of a lost probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where it was lost.
    pub place: Place,
    /// The last point that it is known to have passed.
    pub last: Option<Point>,
    /// The device that dropped it, or the last one that saw it.
    pub device: Option<Device>,
    /// The kernel's report of the drop; absent if no kernel dropped it or no drop was seen.
    pub drop: Option<KernelDrop>,
    /// Why the client's kernel refused to send it; absent when it did not.
    pub error: Option<SendError>,
}

/// How many probes were lost at one place for one reason at one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossCount {
    /// Where.
    pub place: Place,
    /// The kernel's reason if it dropped them, else the name of the error if it refused to send them.
    pub reason: Option<Symbol>,
    /// Where in the kernel.
    pub location: Option<Symbol>,
    /// The device that dropped them, or the last one that saw them.
    pub device: Option<Device>,
    /// Probes.
    pub count: u64,
}

impl LossCount {
    /// Whether both are of one place, reason and device.
    pub fn is_like(&self, other: &Self) -> bool {
        let key = |c: &Self| (c.place, c.reason.clone(), c.location.clone(), c.device);
        key(self) == key(other)
    }
}
