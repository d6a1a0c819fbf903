//! The rtnetlink conversation: one blocking socket, one request at a time.

use crate::{Error, Namespace, Result};
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;
use std::io;

/// Changes, with an acknowledgement.
pub(crate) const CHANGE: u16 = NLM_F_ACK;
/// Adds; an existing one is an error.
pub(crate) const CREATE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
/// Replaces what is there.
pub(crate) const REPLACE: u16 = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;

/// More than the kernel puts into one netlink datagram (32 KiB).
const DATAGRAM: usize = 64 << 10;
/// A dump that a change interrupted is asked for again, this often at most.
const DUMP_TRIES: u32 = 10;

/// An rtnetlink socket of the namespace in which it was opened, wherever the thread goes later.
pub struct Netlink {
    socket: Socket,
    netns: u32,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let netns = Namespace::current()?.inode();
        let socket = open_socket().map_err(|e| Error::inside(netns, "open netlink socket", e))?;
        Ok(Self {
            socket,
            netns,
            sequence: 0,
        })
    }

    /// The inode of the namespace that this socket speaks of.
    pub fn netns(&self) -> u32 {
        self.netns
    }

    /// Sends a change and waits for its acknowledgement.
    pub(crate) fn change(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<()> {
        self.request(operation, message, flags).map(drop)
    }

    /// Asks a question with one answer.
    pub(crate) fn get(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage> {
        let answers = self.request(operation, message, NLM_F_ACK)?.messages;
        answers.into_iter().next().ok_or_else(|| {
            let nothing = io::Error::new(io::ErrorKind::NotFound, "no answer");
            Error::inside(self.netns, operation, nothing)
        })
    }

    /// Asks for a list; asks again while changes spoil it.
    pub(crate) fn dump(
        &mut self,
        operation: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_TRIES {
            let answer = self.request(operation, message.clone(), NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(Error::inside(self.netns, operation, Errno::AGAIN))
    }

    fn request(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answer> {
        let netns = self.netns;
        self.exchange(message, flags)
            .map_err(|e| Error::inside(netns, operation, e.cause).with_hint(e.hint))
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> std::result::Result<Answer, Failure> {
        self.send(message, flags)?;
        let mut answer = Answer::default();
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            self.socket.recv(&mut datagram, 0)?;
            for message in messages(&datagram)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                if answer.take(message)? {
                    return Ok(answer);
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }
}

fn open_socket() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Both only improve error messages, and are missing on old kernels.
    let _ = socket.set_ext_ack(true);
    let _ = socket.set_cap_ack(true);
    Ok(socket)
}

/// What came back for one request.
#[derive(Default)]
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    /// The list changed while it was read, and may miss entries.
    interrupted: bool,
}

impl Answer {
    /// Takes one message; true if it was the last one.
    fn take(
        &mut self,
        message: NetlinkMessage<RouteNetlinkMessage>,
    ) -> std::result::Result<bool, Failure> {
        self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::Error(e) if e.code.is_some() => Err(Failure::reported(&e)),
            NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => Ok(true),
            NetlinkPayload::InnerMessage(inner) => {
                self.messages.push(inner);
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}

/// A failed exchange, without the operation that it was for.
struct Failure {
    cause: io::Error,
    hint: Option<String>,
}

impl Failure {
    fn reported(message: &ErrorMessage) -> Self {
        Self {
            cause: message.to_io(),
            hint: extended_text(&message.header),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Self {
        Self { cause, hint: None }
    }
}

/// The kernel's message (`NLMSGERR_ATTR_MSG`), which follows the header of the refused request.
fn extended_text(refused: &[u8]) -> Option<String> {
    const REQUEST_HEADER: usize = 16;
    const ATTR_MSG: u16 = 1;
    let mut rest = refused.get(REQUEST_HEADER..)?;
    while let [l0, l1, k0, k1, tail @ ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let value = tail.get(..length.checked_sub(4)?)?;
        if u16::from_ne_bytes([*k0, *k1]) == ATTR_MSG {
            let text = String::from_utf8_lossy(value);
            return Some(text.trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The messages in one datagram.
pub(crate) fn messages(datagram: &[u8]) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    /// A damaged shorter length would keep the loop where it is.
    const HEADER: u32 = 16;
    let mut rest = datagram;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = NetlinkBuffer::new_checked(rest)
            .map_err(io::Error::other)?
            .length()
            .max(HEADER) as usize;
        found.push(NetlinkMessage::deserialize(rest).map_err(io::Error::other)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_kernels_sentence() {
        let mut refused = vec![0; 16];
        refused.extend([8, 0, 2, 0, 0, 0, 0, 0]);
        refused.extend([9, 0, 1, 0, b'W', b'h', b'y', b'?', 0, 0, 0, 0]);
        assert_eq!(extended_text(&refused).as_deref(), Some("Why?"));
    }

    #[test]
    fn damaged_acknowledgements_have_no_sentence() {
        assert_eq!(extended_text(&[0; 10]), None);
        assert_eq!(extended_text(&[0; 24]), None);
        let mut refused = vec![0; 16];
        refused.extend([200, 0, 1, 0, b'x']);
        assert_eq!(extended_text(&refused), None);
    }
}
