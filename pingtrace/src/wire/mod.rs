//! What two hosts exchange: packets, and the sockets that send and receive them.

pub mod icmp_error;
pub mod packet;
pub mod socket;
pub mod timestamps;
