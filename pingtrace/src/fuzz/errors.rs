//! ICMP errors.

use super::input::Input;
use crate::wire::flows::Flows;
use crate::wire::icmp_error::IcmpError;
use crate::wire::number::SessionId;
use crate::wire::protocol::Family;
use pnet_packet::util::checksum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const SESSION: SessionId = SessionId(7);

/// The input as an error of either family, and once more with a type and a checksum that are right.
pub fn check(data: &[u8]) {
    for family in [Family::V4, Family::V6] {
        parse(data, family);
        parse(&error_like(data, family), family);
    }
}

fn parse(message: &[u8], family: Family) {
    let (from, peer): (IpAddr, IpAddr) = match family {
        Family::V4 => (Ipv4Addr::LOCALHOST.into(), [10, 0, 0, 2].into()),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
    };
    let Some(error) = IcmpError::parse(message, family, from) else {
        return;
    };
    assert!(!error.to_string().is_empty());
    let quoted = error.probe(SESSION, Flows::ONE, peer);
    assert!(quoted.is_none() || error.concerns(SESSION, Flows::ONE, peer));
}

fn error_like(data: &[u8], family: Family) -> Vec<u8> {
    let mut input = Input(data);
    let choice = usize::from(input.byte());
    let kinds: &[u8] = match family {
        Family::V4 => &[3, 11, 12],
        Family::V6 => &[1, 2, 3, 4],
    };
    let mut bytes = vec![kinds[choice % kinds.len()], input.byte(), 0, 0, 0, 0, 0, 0];
    bytes.extend(input.0);
    let sum = checksum(&bytes, 1);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}
