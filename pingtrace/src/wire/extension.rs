//! Entries of version 1 that are not stamps: the states of probes, and drops with their names.

use super::layout::{EntryV1, RUNNING_NS, TEXT, TextEntry, WindowEntry};
use bpf::pingtrace::types::{pt_extension, pt_server_status, pt_text};
use report::analysis::loss::ServerStatus;
use report::model::{Direction, Ifindex, Netns, Ttl};
use zerocopy::{FromZeros, transmute, transmute_ref};

/// Host field of a question that is not answered yet.
const UNANSWERED: u16 = 0xffff;

const WINDOW_KIND: u16 = pt_extension::PT_EXTENSION_WINDOW.0 as u16;
const DROP_KIND: u16 = pt_extension::PT_EXTENSION_DROP.0 as u16;
const PLACE: u16 = pt_text::PT_TEXT_PLACE.0 as u16;
const TEXT_KIND: u16 = pt_extension::PT_EXTENSION_TEXT.0 as u16;
const TTL_KIND: u16 = pt_extension::PT_EXTENSION_TTL.0 as u16;

/// What a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The kernel's name of the reason.
    Reason = pt_text::PT_TEXT_REASON.0 as isize,
    /// The function that dropped the packet.
    Location = pt_text::PT_TEXT_LOCATION.0 as isize,
    /// The device.
    Device = pt_text::PT_TEXT_DEVICE.0 as isize,
    /// The namespace.
    Netns = pt_text::PT_TEXT_NETNS.0 as isize,
    /// What had the CPU in slow segments of the probe; see [`report::analysis::blame`].
    Blame = pt_text::PT_TEXT_BLAME.0 as isize,
    /// A place: see [`Extension::Place`].
    Name = pt_text::PT_TEXT_NAME.0 as isize,
}

impl About {
    const ALL: [Self; 6] = [
        Self::Reason,
        Self::Location,
        Self::Device,
        Self::Netns,
        Self::Blame,
        Self::Name,
    ];
}

/// An entry that is not a stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// The state of the probe `back` sequence numbers back, and of those after it.
    Window {
        /// How many sequence numbers back the first probe is.
        back: u16,
        /// How long the server has run at least, ns: it saw nothing before.
        running_ns: u64,
        /// A status for each, as far as the server gave one.
        statuses: Vec<Option<ServerStatus>>,
    },
    /// The server's kernel dropped a packet of a probe.
    Drop {
        /// `CLOCK_MONOTONIC` of the server, ns.
        ns: u64,
        /// Inode of the network namespace; 0 unknown.
        netns: Netns,
        /// Device; 0 unknown.
        ifindex: Ifindex,
        /// Of which packet.
        direction: Direction,
        /// How many sequence numbers back the probe is.
        back: u16,
    },
    /// What the [names](About::Name) behind it are of. On the wire it is a text of a kind of its own, which peers
    /// that do not know it ignore.
    Place {
        /// Inode of the network namespace.
        netns: Netns,
        /// Device; 0: the namespace itself.
        ifindex: Ifindex,
        /// Number of the host, as in a stamp, if it is on the way; else 0.
        host: u16,
    },
    /// A part of a name for the drop of the same probe, of its blame, or for a place: printable ASCII.
    Text {
        /// What it names.
        about: About,
        /// At most 16 characters.
        text: String,
        /// How many sequence numbers back the probe is.
        back: u16,
    },
    /// With which TTL the request of a probe arrived at the server.
    Ttl {
        /// As in the packet.
        ttl: Ttl,
        /// How many sequence numbers back the probe is; negative: it is a younger one.
        back: i16,
    },
}

impl Extension {
    /// Splits a name into entries; what is not printable ASCII is left out.
    pub fn texts(about: About, name: &str, back: u16) -> Vec<Self> {
        let printable: Vec<u8> = name.bytes().filter(|b| is_printable(*b)).collect();
        let parts = printable.chunks(TEXT).map(|part| Self::Text {
            about,
            text: String::from_utf8_lossy(part).into_owned(),
            back,
        });
        parts.collect()
    }

    /// Whether an entry is an extension.
    pub(super) fn is(e: &EntryV1) -> bool {
        (WINDOW_KIND..=TTL_KIND).contains(&e.point.get())
    }

    /// `None` for a question that is not answered, an unknown text, and an impossible TTL.
    pub(super) fn from_entry(e: &EntryV1) -> Option<Self> {
        let back = e.aux.get();
        match e.point.get() {
            WINDOW_KIND if e.host.get() != UNANSWERED => {
                let window: &WindowEntry = transmute_ref!(e);
                let statuses = window.statuses.iter().flat_map(|b| [b & 15, b >> 4]);
                Some(Self::Window {
                    back,
                    running_ns: u64::from(window.running.get()) * RUNNING_NS,
                    statuses: statuses.map(status).collect(),
                })
            }
            DROP_KIND => Some(Self::Drop {
                ns: e.time_ns.get(),
                netns: Netns(e.netns.get()),
                ifindex: Ifindex(e.ifindex.get()),
                direction: Direction::from_number(e.cpu.get().into()),
                back,
            }),
            TEXT_KIND => {
                let entry: &TextEntry = transmute_ref!(e);
                let about = entry.about.get();
                if about == PLACE {
                    return Some(Self::Place {
                        netns: Netns(e.netns.get()),
                        ifindex: Ifindex(e.ifindex.get()),
                        host: e.host.get(),
                    });
                }
                let about = About::ALL.into_iter().find(|a| *a as u16 == about)?;
                let text = entry.text.iter().filter(|b| is_printable(**b));
                let text = text.map(|b| char::from(*b)).collect();
                Some(Self::Text { about, text, back })
            }
            TTL_KIND => {
                let ttl = u8::try_from(e.cpu.get()).ok()?;
                Some(Self::Ttl {
                    ttl: Ttl::new(ttl)?,
                    back: back.cast_signed(),
                })
            }
            _ => None,
        }
    }

    /// `None` for a window, which only the kernel programs write.
    pub fn to_entry(&self) -> Option<EntryV1> {
        match self {
            Self::Window { .. } => None,
            Self::Drop {
                ns,
                netns,
                ifindex,
                direction,
                back,
            } => Some(EntryV1 {
                time_ns: (*ns).into(),
                netns: netns.0.into(),
                ifindex: ifindex.0.into(),
                host: 0.into(),
                point: DROP_KIND.into(),
                cpu: (*direction as u16).into(),
                aux: (*back).into(),
            }),
            Self::Place {
                netns,
                ifindex,
                host,
            } => Some(EntryV1 {
                netns: netns.0.into(),
                ifindex: ifindex.0.into(),
                host: (*host).into(),
                point: TEXT_KIND.into(),
                cpu: PLACE.into(),
                ..EntryV1::new_zeroed()
            }),
            Self::Text { about, text, back } => {
                let mut entry = TextEntry::new_zeroed();
                let bytes = &text.as_bytes()[..text.len().min(TEXT)];
                entry.text[..bytes.len()].copy_from_slice(bytes);
                entry.kind = TEXT_KIND.into();
                entry.about = (*about as u16).into();
                entry.back = (*back).into();
                Some(transmute!(entry))
            }
            Self::Ttl { ttl, back } => Some(EntryV1 {
                point: TTL_KIND.into(),
                cpu: u16::from(ttl.get()).into(),
                aux: back.cast_unsigned().into(),
                ..EntryV1::new_zeroed()
            }),
        }
    }
}

/// A client's question about the probe `back` sequence numbers back, which was sent `age_ns` ago, and about
/// those after it.
pub(super) fn question(back: u16, age_ns: u64) -> EntryV1 {
    EntryV1 {
        time_ns: age_ns.into(),
        host: UNANSWERED.into(),
        point: WINDOW_KIND.into(),
        aux: back.into(),
        ..EntryV1::new_zeroed()
    }
}

fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte == b' '
}

fn status(code: u8) -> Option<ServerStatus> {
    match pt_server_status(u32::from(code)) {
        pt_server_status::PT_STATUS_UNSEEN => Some(ServerStatus::Unseen),
        pt_server_status::PT_STATUS_ARRIVED => Some(ServerStatus::Arrived),
        pt_server_status::PT_STATUS_DELIVERED => Some(ServerStatus::Delivered),
        pt_server_status::PT_STATUS_REPLIED => Some(ServerStatus::Replied),
        pt_server_status::PT_STATUS_LEFT => Some(ServerStatus::Left),
        pt_server_status::PT_STATUS_FORGOTTEN => Some(ServerStatus::Forgotten),
        pt_server_status::PT_STATUS_REPLY_DROPPED => Some(ServerStatus::ReplyDropped),
        _ => None,
    }
}
