//! Options of one packet, which travel beside it to the kernel: cmsg(3), ip(7), ipv6(7).

use std::net::IpAddr;

/// Options of one packet, ready for the kernel.
#[derive(Clone, Debug, Default)]
pub struct Ancillary(Vec<u8>);

impl Ancillary {
    /// The packet's TOS or traffic-class byte, and the address that it is sent from.
    pub fn new(tos: Option<u8>, source: Option<IpAddr>, is_v4: bool) -> Self {
        let mut all = Self::default();
        if let Some(tos) = tos {
            let (level, kind) = if is_v4 {
                (libc::IPPROTO_IP, libc::IP_TOS)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            };
            all.push(level, kind, &i32::from(tos).to_ne_bytes());
        }
        match source {
            // struct in_pktinfo: device (0: by the route), source, the destination of received packets.
            Some(IpAddr::V4(source)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&source.octets());
                all.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // struct in6_pktinfo: source, device.
            Some(IpAddr::V6(source)) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&source.octets());
                all.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        all
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A sequence of control messages.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// struct cmsghdr: length with the header, level, type; then the data, padded.
    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let length = size_of::<libc::cmsghdr>() + data.len();
        self.0.extend(length.to_ne_bytes());
        self.0.extend(level.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        let padded = self.0.len().next_multiple_of(size_of::<usize>());
        self.0.resize(padded, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, MsgHdr, Protocol, Socket, Type};
    use std::io::IoSlice;
    use std::net::{SocketAddr, UdpSocket};

    /// The kernel takes the source from the message, not from the socket.
    #[test]
    fn a_packet_leaves_from_the_address_that_it_says() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        let options = Ancillary::new(Some(0xb8), Some("127.0.0.9".parse().unwrap()), true);
        let (to, data) = (receiver.local_addr().unwrap().into(), [IoSlice::new(b"x")]);
        let message = MsgHdr::new().with_addr(&to).with_buffers(&data);
        sender
            .sendmsg(&message.with_control(options.bytes()), 0)
            .unwrap();
        let (_, from) = receiver.recv_from(&mut [0; 1]).unwrap();
        assert_eq!(from.ip(), SocketAddr::from(([127, 0, 0, 9], 0)).ip());
    }
}
