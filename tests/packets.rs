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

use std::collections::BTreeMap;
use std::fs;
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
                Some(pair) => packet.note(pair),
            }
        }
        packet.bytes = bytes(&hex).unwrap_or_else(|| panic!("{}: not hex", packet.name));
        packet
    }

    fn note(&mut self, pair: &str) {
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
