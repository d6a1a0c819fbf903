//! The packets in `tests/data/packets`, each with what reading it must give. A new case is a new file.
//!
//! A line that starts with `#` is `# key: value`; every other line is hex of the ICMP message,
//! from the type on, blanks ignored. The keys:
//!
//! | key | value |
//! |---|---|
//! | `about` | why this case is here |
//! | `family` | 4 or 6; with 6 also `src` and `dst`, for the pseudo header of the checksum |
//! | `checksum` | `good`, `bad`, `single-fold` (wrong as deployed v0 peers are wrong), or `none` (a fragment) |
//! | `expect` | `error NAME`: `truncated`, `magic`, `version`, `type` or `inconsistent`; or `ok` and the fields below |
//! | `or` | another outcome that is as good: where `overrun` is not 0, `error count`, refusing the packet |
//! | `tag` | the tag of a version 1 header |
//! | `entry` | one for each entry that is read, in order: `point= time_us= netns= ifindex= user=` in version 0 (after the eight reserved), `point= time_ns= netns= ifindex= host= cpu= aux=` in version 1 |
//!
//! The fields after `ok`: `version=`, `kind=` (`request`, `reply`, `record`), `session=` (hex),
//! `seq=`, `flags=` (hex) and `num=` as they stand in the packet, `entries=` known ones that are
//! read, `unknown=` those dropped because their point does not exist in that version,
//! `overrun=` how many `num` counts beyond what arrived or beyond the capacity (the eight
//! reserved of version 0 never count), and `capacity=` as it stands (version 1). A wrong
//! checksum is no error.

use pingtrace::wire::entry::Entry;
use pingtrace::wire::extension::{About, Extension};
use pingtrace::wire::flows::Flows;
use pingtrace::wire::layout::{V1_ENTRY, V1_HEADER};
use pingtrace::wire::number::{Sequence, SessionId};
use pingtrace::wire::packet::{self, Malformed};
use pingtrace::wire::probe::Probe;
use pingtrace::wire::protocol::{DONTADD, Family, INBAND, RECORD, Version};
use pingtrace::wire::stamp_packet::StampPacket;
use report::analysis::loss::ServerStatus;
use report::model::{Direction, Ifindex, Netns, Ttl};
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU8;
use std::path::Path;

/// One file.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    /// The file's name without `.hex`.
    pub name: String,
    pub bytes: Vec<u8>,
    /// All keys but `entry`.
    pub keys: BTreeMap<String, String>,
    /// The `entry` lines, in order.
    pub entries: Vec<Fields>,
}

/// `name=value` pairs; values are decimal, or hex with `0x`.
#[derive(Clone, Debug, Default)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    fn read(text: &str) -> Self {
        let pairs = text
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// A value as text.
    pub fn text(&self, name: &str) -> &str {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// A value as a number.
    pub fn number(&self, name: &str) -> u64 {
        let text = self.text(name);
        let number = text
            .strip_prefix("0x")
            .map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16));
        number.unwrap_or_else(|error| panic!("{name}={text}: {error}"))
    }
}

impl Packet {
    /// The fields after `ok`, or the name after `error`.
    pub fn expected(&self) -> Result<Fields, String> {
        match self.key("expect").split_once(' ') {
            Some(("ok", fields)) => Ok(Fields::read(fields)),
            Some(("error", name)) => Err(name.to_owned()),
            _ => panic!("{}: expect is neither ok nor error", self.name),
        }
    }

    /// The value of a key that must be there.
    pub fn key(&self, name: &str) -> &str {
        self.keys
            .get(name)
            .unwrap_or_else(|| panic!("{}: no key {name}", self.name))
    }

    fn read(path: &Path) -> Self {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut packet = Self {
            name,
            ..Self::default()
        };
        let mut hex = String::new();
        for line in text.lines() {
            match line.strip_prefix('#') {
                None => hex.extend(line.chars().filter(|digit| !digit.is_whitespace())),
                Some(pair) => packet.extension(pair),
            }
        }
        packet.bytes = bytes(&hex).unwrap_or_else(|| panic!("{}: not hex", packet.name));
        packet
    }

    fn extension(&mut self, pair: &str) {
        let Some((key, value)) = pair.trim().split_once(": ") else {
            panic!("{}: '{pair}' is not 'key: value'", self.name);
        };
        if key == "entry" {
            self.entries.push(Fields::read(value));
        } else {
            self.keys.insert(key.to_owned(), value.to_owned());
        }
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| str::from_utf8(pair).ok());
    pairs
        .map(|pair| {
            pair.filter(|pair| pair.len() == 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        })
        .collect()
}

/// All packets, in order of their names.
pub fn all() -> Vec<Packet> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/packets");
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files
        .map(|file| file.expect("a directory entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "hex"));
    paths.sort();
    paths.iter().map(|path| Packet::read(path)).collect()
}

/// Flags that have a meaning to the product; unknown ones are cleared.
const KNOWN_FLAGS: u16 = DONTADD | INBAND | RECORD;

#[test]
fn every_packet_is_read_as_its_file_says() {
    let packets = all();
    assert!(packets.len() > 70, "the files are missing");
    packets.iter().for_each(compare);
}

fn compare(file: &Packet) {
    let name = &file.name;
    let family = match file.key("family") {
        "4" => Family::V4,
        _ => Family::V6,
    };
    let read = packet::parse(&file.bytes, family);
    let (read, fields) = match (read, file.expected()) {
        (Ok(read), Ok(fields)) => (read, fields),
        (Err(why), Err(expected)) => {
            return assert_eq!(word(why), expected, "{name}");
        }
        (Err(why), Ok(_)) => {
            let other = file.keys.get("or").map(String::as_str);
            return assert_eq!(
                Some(format!("error {}", word(why)).as_str()),
                other,
                "{name}"
            );
        }
        (Ok(read), Err(expected)) => panic!("{name}: read as {read:?}, expected error {expected}"),
    };
    let version = u64::from(read.version == Version::V1);
    let kind = match (read.request, read.is_stamp_packet()) {
        (true, _) => "request",
        (false, true) => "record",
        (false, false) => "reply",
    };
    assert_eq!(version, fields.number("version"), "{name}");
    assert_eq!(kind, fields.text("kind"), "{name}");
    assert_eq!(
        u64::from(read.session.0),
        fields.number("session"),
        "{name}"
    );
    assert_eq!(u64::from(read.sequence.0), fields.number("seq"), "{name}");
    assert_eq!(
        read.flags,
        fields.number("flags") as u16 & KNOWN_FLAGS,
        "{name}"
    );
    // An overrun that is not refused would be a read past the end.
    assert_eq!(fields.number("overrun"), 0, "{name}");
    let good = family == Family::V6 || file.key("checksum") == "good";
    assert_eq!(read.checksum_ok, good, "{name}");
    let (known, unknown): (Vec<_>, Vec<_>) = read.entries().partition(Option::is_some);
    assert_eq!(unknown.len() as u64, fields.number("unknown"), "{name}");
    assert_eq!(known.len() as u64, fields.number("entries"), "{name}");
    assert_eq!(known.len(), file.entries.len(), "{name}");
    for (entry, expected) in known.iter().flatten().zip(&file.entries) {
        compare_entry(name, entry, expected, read.version);
    }
}

fn compare_entry(name: &str, entry: &Entry, expected: &Fields, version: Version) {
    assert_eq!(entry.point as u64, expected.number("point"), "{name}");
    assert_eq!(u64::from(entry.netns.0), expected.number("netns"), "{name}");
    assert_eq!(
        u64::from(entry.ifindex.0),
        expected.number("ifindex"),
        "{name}"
    );
    if version == Version::V0 {
        assert_eq!(entry.time, expected.number("time_us"), "{name}");
        return;
    }
    assert_eq!(entry.time, expected.number("time_ns"), "{name}");
    assert_eq!(u64::from(entry.host), expected.number("host"), "{name}");
    assert_eq!(
        entry.cpu.map(u64::from),
        Some(expected.number("cpu")),
        "{name}"
    );
    let back = u64::from(entry.back.cast_unsigned());
    assert_eq!(back, expected.number("aux"), "{name}");
}

const fn word(why: Malformed) -> &'static str {
    match why {
        Malformed::Truncated => "truncated",
        Malformed::NotEcho => "type",
        Malformed::Magic => "magic",
        Malformed::Version => "version",
        Malformed::Inconsistent => "inconsistent",
        Malformed::Count => "count",
    }
}

/// A drop with its names arrives as it was sent, whatever else is in the packet.
#[test]
fn drop_reports_come_out_as_they_went_in() {
    let mut extensions = vec![Extension::Drop {
        ns: 0x1234_5678_9abc_def0,
        netns: Netns(4_026_531_840),
        ifindex: Ifindex(3),
        direction: Direction::Reply,
        back: 7,
    }];
    let name = "a_function_with_a_name_of_some_length\u{7}é";
    extensions.extend(Extension::texts(About::Location, name, 7));
    extensions.push(Extension::Ttl {
        ttl: Ttl::new(63).unwrap(),
        back: -2,
    });
    for family in [Family::V4, Family::V6] {
        let mut report = StampPacket::new(family, Version::V1, SessionId(9), Sequence(500), 556);
        assert!(
            extensions
                .iter()
                .all(|extension| report.push_extension(extension))
        );
        let bytes = report.trimmed().finish();
        assert_eq!(bytes.len(), V1_HEADER + extensions.len() * V1_ENTRY);
        let read = packet::parse(&bytes, family).unwrap();
        assert!(read.checksum_ok && read.is_stamp_packet());
        assert_eq!(read.extensions().collect::<Vec<_>>(), extensions);
        assert_eq!(read.entries().count(), 0);
    }
    let text: String = extensions
        .iter()
        .filter_map(|extension| match extension {
            Extension::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(text, "a_function_with_a_name_of_some_length");
    let mut old = StampPacket::new(Family::V4, Version::V0, SessionId(9), Sequence(500), 556);
    assert!(!old.push_extension(&extensions[0]));
}

/// The ICMP id is that of session and flow: a packet with another one is not whole.
#[test]
fn a_probe_has_the_id_of_its_flow() {
    let flows = Flows(NonZeroU8::new(8).unwrap());
    let mut probe = Probe::new(Family::V4, Version::V1, SessionId(9), 144, INBAND).in_flows(flows);
    for k in 0..100 {
        let mut bytes = probe.at(Sequence(k), 1).to_vec();
        let id = u16::from_be_bytes([bytes[4], bytes[5]]);
        assert_eq!(id, 9 + u16::from(flows.of(Sequence(k))));
        assert_eq!(u16::from(bytes[10]), id - 9);
        let read = packet::parse(&bytes, Family::V4).unwrap();
        assert!(read.checksum_ok && read.flags == INBAND);
        bytes[10] ^= 1;
        let why = packet::parse(&bytes, Family::V4).unwrap_err();
        assert_eq!(why, Malformed::Inconsistent);
    }
}

/// A question has a right checksum, and is no answer; the next probe is without it.
#[test]
fn a_question_is_only_in_the_probe_that_asks() {
    let mut probe = Probe::new(Family::V4, Version::V1, SessionId(9), 144, INBAND);
    for question in [None, Some((40, 5_000)), None] {
        let bytes = probe.asking(Sequence(500), 77, question).to_vec();
        let read = packet::parse(&bytes, Family::V4).unwrap();
        assert!(read.checksum_ok && read.request);
        assert_eq!(
            (bytes[9], read.extensions().count()),
            (u8::from(question.is_some()), 0)
        );
        if question.is_some() {
            let mut answer = bytes;
            answer[V1_HEADER..V1_HEADER + 3].copy_from_slice(&[0x51, 0x06, 0xff]);
            answer[V1_HEADER + 17] = 1;
            answer[V1_HEADER + 16] = 0;
            answer[V1_HEADER + 20..V1_HEADER + 22].copy_from_slice(&[1, 2]);
            let read = packet::parse(&answer, Family::V4).unwrap();
            let Some(Extension::Window {
                back,
                running_ns,
                statuses,
            }) = read.extensions().next()
            else {
                panic!("no answer")
            };
            assert_eq!((back, statuses.len()), (40, 32));
            assert_eq!(running_ns, 2_580_000_000);
            let expected = [
                Some(ServerStatus::Unseen),
                Some(ServerStatus::Left),
                Some(ServerStatus::Forgotten),
                None,
                None,
                None,
                None,
            ];
            assert_eq!(statuses[..7], expected);
        }
    }
}
