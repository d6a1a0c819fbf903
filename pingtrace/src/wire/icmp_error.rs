//! ICMP errors (RFC 792, RFC 4443): what one says, and which probe it quotes.
//!
//! Anybody can send one, so it counts only if it quotes a probe in flight; what the kernel learnt from it,
//! such as a path MTU, is ignored.

use crate::wire::flows::Flows;
use crate::wire::layout::{Header, MAGIC};
use crate::wire::number::{Sequence, SessionId};
use crate::wire::protocol::Family;
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::util::checksum;
use std::mem::offset_of;
use std::net::IpAddr;
use zerocopy::{FromZeros, IntoBytes};

/// Bytes before the packet that an error quotes.
const HEADER: usize = 8;
const IPV6_HEADER: usize = 40;

/// An ICMP error about a packet of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The sender of the error.
    pub from: IpAddr,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Destination of the quoted packet.
    to: IpAddr,
    /// The quoted echo request, if it quotes one.
    echo: Option<Echo>,
}

/// A quoted echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Echo {
    id: u16,
    sequence: u16,
    /// Session and sequence number, if enough is quoted.
    whole: Option<(SessionId, Sequence)>,
}

impl IcmpError {
    /// Parses an ICMP error; `None` if it is not one, or quotes no packet of this family.
    pub fn parse(message: &[u8], family: Family, from: IpAddr) -> Option<Self> {
        let (kind, code) = (*message.first()?, *message.get(1)?);
        let is_error = match family {
            Family::V4 => matches!(kind, 3 | 11 | 12),
            Family::V6 => matches!(kind, 1..=4),
        };
        let quoted = message.get(HEADER..)?;
        let (to, payload) = match family {
            Family::V4 => {
                let ip = Ipv4Packet::new(quoted)?;
                let whole = ip.get_next_level_protocol() == IpNextHeaderProtocols::Icmp
                    && ip.get_fragment_offset() == 0
                    // The kernel delivers it to raw sockets before it checks it.
                    && checksum(message, 1) == u16::from_be_bytes([message[2], message[3]]);
                let payload = quoted.get(usize::from(ip.get_header_length()) * 4..);
                (ip.get_destination().into(), payload.filter(|_| whole))
            }
            Family::V6 => {
                let ip = Ipv6Packet::new(quoted)?;
                let whole = ip.get_next_header() == IpNextHeaderProtocols::Icmpv6;
                let payload = quoted.get(IPV6_HEADER..);
                (ip.get_destination().into(), payload.filter(|_| whole))
            }
        };
        is_error.then(|| Self {
            from,
            kind,
            code,
            to,
            echo: payload.and_then(|echo| Echo::parse(echo, family)),
        })
    }

    /// Whether it is about a packet to the peer, or one of the session's id: this run's, forged, or
    /// another program's.
    pub fn concerns(&self, session: SessionId, flows: Flows, peer: IpAddr) -> bool {
        self.to == peer || self.echo.is_some_and(|echo| echo.is_of(session, flows))
    }

    /// The low 16 bits of the quoted probe's sequence number, if it is one of this session to this
    /// peer, as far as it is quoted.
    pub fn probe(&self, session: SessionId, flows: Flows, peer: IpAddr) -> Option<u16> {
        let echo = self.echo.filter(|_| self.to == peer)?;
        let whole =
            |(s, sequence): (SessionId, Sequence)| s == session && sequence.low() == echo.sequence;
        (echo.is_of(session, flows) && echo.whole.is_none_or(whole)).then_some(echo.sequence)
    }
}

impl Echo {
    /// Whether the ICMP id is that of a session's probe.
    fn is_of(&self, session: SessionId, flows: Flows) -> bool {
        self.id == flows.id(session, Sequence(self.sequence.into()))
    }

    /// `None` if it is not an echo request, or enough is quoted to see that it is not a probe.
    fn parse(echo: &[u8], family: Family) -> Option<Self> {
        let mut header = Header::new_zeroed();
        let quoted = echo.len().min(size_of::<Header>());
        header.as_mut_bytes()[..quoted].copy_from_slice(&echo[..quoted]);
        let is_echo = quoted >= offset_of!(Header, version) && header.kind == family.request();
        let is_other = quoted >= offset_of!(Header, capacity) && header.magic != MAGIC;
        let is_whole = quoted == size_of::<Header>();
        (is_echo && !is_other).then(|| Self {
            id: header.id.get(),
            sequence: header.sequence16.get(),
            whole: is_whole.then(|| header.probe()),
        })
    }
}

impl std::fmt::Display for IcmpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let v6 = self.from.is_ipv6();
        let what = if v6 {
            icmpv6_name(self.kind, self.code)
        } else {
            icmp_name(self.kind, self.code)
        };
        write!(
            f,
            "{} says: {what} (ICMP{} type {} code {})",
            self.from,
            if v6 { "v6" } else { "" },
            self.kind,
            self.code
        )
    }
}

const fn icmp_name(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 4) => "fragmentation needed, but forbidden: use a smaller size (-b)",
        (3, 9 | 10 | 13) => "communication administratively prohibited",
        (3, _) => "destination unreachable",
        (11, _) => "time exceeded on the way",
        (12, _) => "parameter problem",
        _ => "ICMP error",
    }
}

const fn icmpv6_name(kind: u8, code: u8) -> &'static str {
    match (kind, code) {
        (1, 0) => "no route to destination",
        (1, 1) => "communication administratively prohibited",
        (1, 3) => "address unreachable",
        (1, _) => "destination unreachable",
        (2, _) => "packet too big: use a smaller size (-b)",
        (3, _) => "hop limit exceeded on the way",
        (4, _) => "parameter problem",
        _ => "ICMPv6 error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::probe::Probe;
    use crate::wire::protocol::Version;

    const SESSION: SessionId = SessionId(0x1234_5678);
    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    /// "Fragmentation needed" that quotes the first `quoted` bytes of a message to an address.
    fn error(message: &[u8], to: [u8; 4], quoted: usize) -> Vec<u8> {
        let mut bytes = vec![3, 4, 0, 0, 0, 0, 0, 68];
        let mut ip = [0; 20];
        ip[0] = 0x45;
        ip[9] = 1;
        ip[16..].copy_from_slice(&to);
        bytes.extend(ip);
        bytes.extend(&message[..quoted]);
        let sum = checksum(&bytes, 1);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn probe(session: SessionId, sequence: u32) -> Vec<u8> {
        let mut probe = Probe::new(Family::V4, Version::V1, session, 144, 0);
        probe.at(Sequence(sequence), 1).to_vec()
    }

    fn parse(bytes: &[u8]) -> IcmpError {
        IcmpError::parse(bytes, Family::V4, ROUTER).expect("an ICMP error")
    }

    #[test]
    fn a_probe_is_known_by_as_much_as_is_quoted() {
        let ours = probe(SESSION, 0x0007_0005);
        for quoted in [8, 12, 14, 24, 144] {
            let error = parse(&error(&ours, [10, 0, 0, 2], quoted));
            assert_eq!(
                error.probe(SESSION, Flows::ONE, PEER),
                Some(5),
                "{quoted} bytes"
            );
        }
    }

    #[test]
    fn what_quotes_no_probe_of_ours_is_not_believed() {
        let ours = probe(SESSION, 5);
        let elsewhere = parse(&error(&ours, [10, 0, 0, 3], 8));
        assert_eq!(
            elsewhere.probe(SESSION, Flows::ONE, PEER),
            None,
            "another host"
        );
        assert!(elsewhere.concerns(SESSION, Flows::ONE, PEER), "by its id");
        let mut no_magic = ours.clone();
        no_magic[12] = 0;
        let same_low_bits = probe(SessionId(SESSION.0 ^ 0xff_0000), 5);
        for (what, message, quoted) in [
            ("no magic", &no_magic, 14),
            ("another session", &same_low_bits, 24),
            ("too short", &ours, 7),
        ] {
            let error = parse(&error(message, [10, 0, 0, 2], quoted));
            assert_eq!(error.probe(SESSION, Flows::ONE, PEER), None, "{what}");
            assert!(error.concerns(SESSION, Flows::ONE, PEER), "{what}");
        }
        let mut bad_sum = error(&ours, [10, 0, 0, 2], 24);
        bad_sum[2] ^= 1;
        assert_eq!(
            parse(&bad_sum).probe(SESSION, Flows::ONE, PEER),
            None,
            "bad checksum"
        );
        let foreign = parse(&error(&probe(SessionId(0x1111_2222), 5), [10, 0, 0, 3], 24));
        assert!(!foreign.concerns(SESSION, Flows::ONE, PEER));
    }
}
