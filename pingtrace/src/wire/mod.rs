//! What two hosts exchange: packets, and the sockets that send and receive them.

/// Which way through the network.
pub mod flows;
/// Session id and sequence number.
pub mod number;
/// Address family, version, flags.
pub mod protocol;

/// The bytes, as types.
pub mod layout;

/// Stamps in a packet.
pub mod entry;
/// What else is in a packet.
pub mod extension;
/// The names of a server's namespaces and devices.
pub mod names;

/// Keys, and the tags that they make.
pub mod key;

/// The packet that a client sends.
pub mod probe;
/// The packet that a server sends.
pub mod stamp_packet;

/// Parses the packets that arrive.
pub mod packet;

pub mod stamp_return;

pub mod ancillary;
pub mod icmp_error;
pub mod socket;
pub mod timestamps;
