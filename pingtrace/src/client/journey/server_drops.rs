//! What the server's kernel says of packets that it dropped.

use super::early::MAX_EARLY;
use crate::client::index::ProbeIndex;
use crate::client::warm_up;
use crate::wire::extension::{About, Extension};
use crate::wire::packet::Packet;
use report::model::{Host, KernelDrop, Symbol};
use std::collections::BTreeMap;

/// Upper bound on the length of a kernel's name, bytes.
pub const MAX_NAME: usize = 255;

/// The drops of probes in flight, by index; the oldest are forgotten.
#[derive(Default)]
pub struct ServerDrops {
    pub by_index: BTreeMap<ProbeIndex, KernelDrop>,
    /// Number of drops of probes that were never sent, and of parts of names that are too long.
    pub refused: u64,
}

impl ServerDrops {
    /// Takes what a packet says of the first `sent` probes. Returns whether it reports a drop.
    pub fn take_from(&mut self, packet: &Packet<'_>, sent: u64) -> bool {
        let mut any = false;
        let index = |back: u16| ProbeIndex::from_sequence(packet.sequence.back(back), sent);
        for extension in packet.extensions() {
            match extension {
                Extension::Drop { back, .. }
                    if warm_up::has_number(packet.sequence.back(back), sent) => {}
                Extension::Drop {
                    ns,
                    netns,
                    ifindex,
                    direction,
                    back,
                } => {
                    let drop = KernelDrop {
                        host: Host::Server,
                        direction,
                        ns,
                        netns,
                        ifindex,
                        reason: Symbol::default(),
                        location: Symbol::default(),
                        device: None,
                        netns_name: None,
                        mtu: None,
                    };
                    any |= self.keep(index(back), drop);
                }
                Extension::Text { about, text, back } => self.name(index(back), about, &text),
                Extension::Window { .. } | Extension::Place { .. } | Extension::Ttl { .. } => {}
            }
        }
        any
    }

    /// Returns whether the probe was sent at all.
    fn keep(&mut self, index: Option<ProbeIndex>, drop: KernelDrop) -> bool {
        let Some(index) = index else {
            self.refused += 1;
            return false;
        };
        if self.by_index.len() >= MAX_EARLY {
            self.by_index.pop_first();
        }
        self.by_index.insert(index, drop);
        true
    }

    fn name(&mut self, index: Option<ProbeIndex>, about: About, text: &str) {
        let drop = index.and_then(|index| self.by_index.get_mut(&index));
        let Some(name) = drop.and_then(|drop| name(drop, about)) else {
            return;
        };
        let name = name.get_or_insert_default();
        if name.len() + text.len() <= MAX_NAME {
            name.push_str(text);
        } else {
            self.refused += 1;
        }
    }

    /// Takes out the drop of a probe that is lost.
    pub fn remove(&mut self, index: ProbeIndex) -> Option<KernelDrop> {
        self.by_index.remove(&index)
    }
}

/// The name of a drop that a text gives.
fn name(drop: &mut KernelDrop, about: About) -> Option<&mut Option<String>> {
    match about {
        About::Reason => Some(&mut drop.reason.name),
        About::Location => Some(&mut drop.location.name),
        About::Device => Some(&mut drop.device),
        About::Netns => Some(&mut drop.netns_name),
        About::Blame | About::Name => None,
    }
}
