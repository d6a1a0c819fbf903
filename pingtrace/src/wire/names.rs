//! The names that a server gives the namespaces and devices of its stamps: a place, and a name in as many texts as
//! it takes. What arrives may say anything: a name is bounded and printable, and nothing else is believed of it.

use super::extension::{About, Extension};
use super::layout::{TEXT, V1_ENTRY};
use super::packet::Packet;
use bpf::pingtrace::types::pt_name;
use report::model::{Ifindex, Netns};
use std::mem::offset_of;

/// Entries that a name takes at most, that of its place included.
pub const MAX_ENTRIES: usize = (size_of::<pt_name>() - offset_of!(pt_name, entry)) / V1_ENTRY;
/// Upper bound on a name, bytes.
const MAX_NAME: usize = (MAX_ENTRIES - 1) * TEXT;
/// What a longer one ends with.
const CUT: &str = "..";

/// A namespace, or a device of it.
pub type Place = (Netns, Ifindex);

/// The entries that give a place its name. On the way the in-band program adds the host's number.
pub fn entries((netns, ifindex): Place, name: &str) -> Vec<Extension> {
    let is_printable = |c: char| c.is_ascii_graphic() || c == ' ';
    let printable = |c| if is_printable(c) { c } else { '?' };
    let mut name: String = name.chars().map(printable).collect();
    if name.len() > MAX_NAME {
        name.truncate(MAX_NAME - CUT.len());
        name.push_str(CUT);
    }
    let mut entries = vec![Extension::Place {
        netns,
        ifindex,
        host: 0,
    }];
    entries.extend(Extension::texts(About::Name, &name, 0));
    entries
}

/// The names in a packet, each with the number of its host (0: the server) and its place.
pub fn read(packet: &Packet<'_>) -> Vec<(u16, Place, String)> {
    let mut names: Vec<(u16, Place, String)> = Vec::new();
    for extension in packet.extensions() {
        match extension {
            Extension::Place {
                netns,
                ifindex,
                host,
            } => names.push((host, (netns, ifindex), String::new())),
            Extension::Text {
                about: About::Name,
                text,
                ..
            } => {
                let unfinished = names.last_mut().filter(|(.., name)| name.len() < MAX_NAME);
                if let Some((.., name)) = unfinished {
                    name.push_str(&text);
                }
            }
            _ => {}
        }
    }
    names.retain(|(.., name)| !name.trim().is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::number::{Sequence, SessionId};
    use crate::wire::packet;
    use crate::wire::protocol::{Family, Version};
    use crate::wire::stamp_packet::StampPacket;

    const WEB: Place = (Netns(7), Ifindex(0));
    const ETH0: Place = (Netns(7), Ifindex(2));

    fn message(extensions: &[Extension]) -> Vec<u8> {
        let (session, sequence) = (SessionId(1), Sequence(1));
        let mut packet = StampPacket::new(Family::V4, Version::V1, session, sequence, 1400);
        assert!(extensions.iter().all(|e| packet.push_extension(e)));
        packet.finish()
    }

    fn read_back(extensions: &[Extension]) -> Vec<(Place, String)> {
        let message = message(extensions);
        let names = read(&packet::parse(&message, Family::V4).unwrap());
        let of_place = |(_, place, name)| (place, name);
        names.into_iter().map(of_place).collect()
    }

    #[test]
    fn names_are_read_back() {
        let pod = "pod shop/frontend-6d4f8d5b9c-x2x7k";
        let both = [entries(WEB, pod), entries(ETH0, "eth0")].concat();
        let names = [(WEB, pod.to_owned()), (ETH0, "eth0".to_owned())];
        assert_eq!(read_back(&both), names);
    }

    #[test]
    fn long_and_odd_names_are_cut_and_printable() {
        let entries = entries(WEB, &format!("a\x1b[2Jü{}", "x".repeat(300)));
        assert_eq!(entries.len(), MAX_ENTRIES);
        let [(place, name)] = &read_back(&entries)[..] else {
            panic!("one name");
        };
        assert_eq!((*place, name.len()), (WEB, MAX_NAME));
        assert!(
            name.starts_with("a?[2J?xxx") && name.ends_with("xx.."),
            "{name}"
        );
    }

    /// What a peer may send, but no server does.
    #[test]
    fn nonsense_names_nothing_or_little() {
        let text = |text: &str| Extension::texts(About::Name, text, 0);
        assert_eq!(read_back(&text("nobody")), []);
        assert_eq!(read_back(&entries(WEB, "")), []);
        assert_eq!(read_back(&entries(WEB, "   ")), []);
        let endless = [entries(WEB, "x"), text(&"y".repeat(600))].concat();
        assert!(read_back(&endless)[0].1.len() < MAX_NAME + TEXT);
        // Texts of other kinds do not lengthen a name.
        let other = Extension::texts(About::Netns, "z", 0);
        let mixed = [entries(WEB, "web"), other, entries(ETH0, "eth0")].concat();
        assert_eq!(read_back(&mixed)[0].1, "web");
    }
}
