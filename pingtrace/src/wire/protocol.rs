//! Address family, protocol version and flags of a packet.

use bpf::pingtrace::types::pt_wire;

/// A stamp packet: it carries stamps and is not to be stamped itself.
pub const DONTADD: u16 = pt_wire::PT_FLAG_DONTADD.0 as u16;
/// Stamp this packet in place.
pub const INBAND: u16 = pt_wire::PT_FLAG_INBAND.0 as u16;
/// Send a stamp packet.
pub const RECORD: u16 = pt_wire::PT_FLAG_RECORD.0 as u16;
/// The request has a tag.
pub const AUTH: u16 = pt_wire::PT_FLAG_AUTH.0 as u16;
/// Say with which TTL the request arrived.
pub const TTL: u16 = pt_wire::PT_FLAG_TTL.0 as u16;

/// Address family of the ICMP messages: the type numbers differ, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ICMP (RFC 792).
    V4,
    /// `ICMPv6` (RFC 4443).
    V6,
}

impl Family {
    /// ICMP type of an echo request.
    pub const fn request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    /// ICMP type of an echo reply.
    pub const fn reply(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// Protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Of deployed `PingTrace` v2.0 peers.
    V0,
    /// Ours.
    V1,
}
