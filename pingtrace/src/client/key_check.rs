//! Whether the server has the client's key, as its packets show.

use crate::wire::key::Keys;
use crate::wire::packet::Packet;
use crate::wire::protocol::Version;

/// What a server's packets show of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is ours.
    Ours,
    /// It has none.
    None,
    /// It is another one.
    Other,
}

/// Looks at the tags of what arrives.
pub struct KeyCheck {
    keys: Option<Keys>,
    /// The last cookie that the server gave.
    cookie: u64,
    shown: Option<Shown>,
}

impl KeyCheck {
    /// Nothing has arrived yet.
    pub fn new(keys: Option<Keys>) -> Self {
        Self {
            keys,
            cookie: 0,
            shown: None,
        }
    }

    /// The server has given this cookie, 0 if none, before this looks at its packets.
    pub fn knows(&mut self, cookie: u64) {
        self.cookie = cookie;
    }

    /// Whether a packet may be used: once the server has shown the key, its stamp packets must have a tag. Says what
    /// is to be known of the server's key, when that changes.
    pub fn admits(&mut self, packet: &Packet<'_>, message: &[u8]) -> bool {
        let Some(keys) = self.keys.filter(|_| packet.version == Version::V1) else {
            return true;
        };
        if packet.is_stamp_packet() {
            return keys.have_made_packet(message) || self.shown != Some(Shown::Ours);
        }
        let shown = self.shown_by(&keys, packet, message);
        self.cookie = packet.cookie;
        if shown.is_some() && self.shown != shown && self.shown != Some(Shown::Ours) {
            self.shown = shown;
            self.say();
        }
        true
    }

    /// What a reply shows. One that is as its request was shows nothing: no server has seen it. A server without keys leaves
    /// the tag as it is.
    fn shown_by(&self, keys: &Keys, packet: &Packet<'_>, message: &[u8]) -> Option<Shown> {
        if keys.have_made_reply(message) {
            return Some(Shown::Ours);
        }
        if packet.entries().flatten().next().is_some() {
            return Some(Shown::None);
        }
        // An answer has replaced what the tag covers.
        if packet.extensions().next().is_some() || keys.have_made_request(message, packet.cookie) {
            return None;
        }
        let sent = [self.cookie, 0];
        let ours = sent
            .iter()
            .any(|cookie| keys.have_made_request(message, *cookie));
        Some(if ours { Shown::None } else { Shown::Other })
    }

    fn say(&self) {
        match self.shown {
            Some(Shown::None) => {
                log::warn!(
                    "the server has no key (--key-file): it answers as it does to everybody"
                );
            }
            Some(Shown::Other) => {
                log::warn!(
                    "the server has another key (--key-file): it gives no stamps to this client"
                );
            }
            Some(Shown::Ours) | None => {}
        }
    }
}
