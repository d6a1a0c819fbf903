//! Keys that both ends hold. A request with a tag comes from somebody who has the key; the tag of a reply shows
//! that the server has it too.
//!
//! A tag is SipHash-2-4 (Aumasson and Bernstein, 2012) under a key of 128 bits: short enough for the header, and
//! cheap enough to be checked in the kernel for each request. Tags are compared as one integer, which takes the same time
//! for every value.

use super::layout::{Header, HeaderV1, V1_ENTRY, V1_HEADER, set_checksum};
use super::protocol::Family;
use anyhow::{Context, Result, anyhow, bail};
use pnet_packet::util::checksum;
use rustix::process::geteuid;
use siphasher::sip::SipHasher24;
use std::fs::{self, File, Metadata};
use std::hash::Hasher as _;
use std::io::Read as _;
use std::mem::offset_of;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zerocopy::FromBytes as _;

/// Bytes of a key.
pub const KEY: usize = 16;
/// Where the part of a header begins that a tag covers: behind ICMP's own, which address translations rewrite.
const COVERED: usize = offset_of!(Header, version);
/// Where the tag is, at the end of the header.
const TAG: usize = offset_of!(HeaderV1, tag);
/// Upper bound on the size of a key file, bytes.
const MAX_FILE: u64 = 64 * 1024;
/// What the tag of a reply covers in the place of a request's first entry.
const REPLY: &[u8; V1_ENTRY] = b"reply of a pingtrace -s\0";
/// How a key is made.
const REMEDY: &str = "'openssl rand -hex 16' makes one";

/// A key; its value is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; KEY]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// The keys of a file: the first one makes tags, each is accepted. Two are for the time of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    first: Key,
    other: Option<Key>,
}

/// A file of keys (`--key-file`), and what it had when it was read last.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: String,
    /// Its keys.
    pub keys: Keys,
}

impl KeyFile {
    /// Reads a file that nobody else may read or write.
    pub fn read(path: &str) -> Result<Self> {
        Ok(Self {
            keys: Keys::of_file(path)?,
            path: path.to_owned(),
        })
    }

    /// Reads it again. Keeps the keys if that fails.
    pub fn reread(&mut self) -> Result<()> {
        self.keys = Keys::of_file(&self.path)?;
        Ok(())
    }

    /// Where its path leads: a new file takes its place by a name in one of these directories.
    pub fn directories(&self) -> Vec<PathBuf> {
        let path = Path::new(&self.path);
        let target = fs::canonicalize(path);
        let directories = [Some(path), target.as_deref().ok()].map(|path| {
            let parent = path?.parent()?;
            let here = parent.as_os_str().is_empty();
            Some(if here { Path::new(".") } else { parent }.to_owned())
        });
        directories.into_iter().flatten().collect()
    }
}

impl Keys {
    /// Reads a file that nobody else may read or write: `--key-file`.
    pub fn of_file(path: &str) -> Result<Self> {
        let read = || -> Result<String> {
            let file = File::open(path)?;
            only_ours(&file.metadata()?)?;
            let mut text = String::new();
            file.take(MAX_FILE).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().with_context(|| format!("read the keys of {path}"))?;
        Self::parse(&text).map_err(|e| anyhow!("{path}: {e}"))
    }

    /// A key a line, of 32 hexadecimal digits; `#` begins a comment.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line
                .split_once('#')
                .map_or(line, |(before, _)| before)
                .trim();
            if !line.is_empty() {
                keys.push(key(line).map_err(|e| format!("line {number}: {e}; {REMEDY}"))?);
            }
        }
        match *keys {
            [] => Err(format!("there is no key; {REMEDY}")),
            [first] => Ok(Self { first, other: None }),
            [first, other] if first != other => Ok(Self {
                first,
                other: Some(other),
            }),
            [_, _] => Err("both keys are the same".to_owned()),
            _ => Err(format!(
                "there are {} keys, and two at most: the one in use, and the one before or after it",
                keys.len()
            )),
        }
    }

    /// The key that makes tags, then the other one.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        [&self.first].into_iter().chain(&self.other)
    }

    /// Writes the tag of a request; its checksum is still to be set.
    pub fn tag_request(&self, message: &mut [u8]) {
        let tag = self.first.of_request(message);
        set_tag(message, tag);
    }

    /// Writes the tag of a finished stamp packet, and its checksum anew.
    pub fn tag_packet(&self, message: &mut [u8], family: Family) {
        let tag = self.first.of_packet(message);
        set_tag(message, tag);
        if family == Family::V4 {
            let sum = checksum(message, 1);
            set_checksum(message, sum);
        }
    }

    /// Whether a reply is that of a server that has one of these keys.
    pub fn have_made_reply(&self, message: &[u8]) -> bool {
        tag(message).is_some_and(|tag| self.all().any(|key| key.of_reply(message) == tag))
    }

    /// Whether a reply has the tag of its request, if that had this cookie.
    pub fn have_made_request(&self, message: &[u8], cookie: u64) -> bool {
        let mut sent = message.to_vec();
        let Ok((header, _)) = HeaderV1::mut_from_prefix(&mut sent) else {
            return false;
        };
        header.cookie = cookie.into();
        tag(message).is_some_and(|tag| self.first.of_request(&sent) == tag)
    }

    /// Whether a stamp packet is that of somebody who has one of these keys.
    pub fn have_made_packet(&self, message: &[u8]) -> bool {
        tag(message).is_some_and(|tag| self.all().any(|key| key.of_packet(message) == tag))
    }
}

impl Key {
    /// As two words of the kernel programs, the first 8 bytes first.
    pub fn words(&self) -> [u64; 2] {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| self.0[at + i]));
        [word(0), word(8)]
    }

    /// Covers the header and the first entry, which may be a question.
    fn of_request(&self, message: &[u8]) -> u64 {
        let entry = message.get(V1_HEADER..V1_HEADER + V1_ENTRY);
        self.hash([covered(message), entry.unwrap_or(&[0; V1_ENTRY])])
    }

    /// Covers the header but for the number of entries, which grows on the way.
    fn of_reply(&self, message: &[u8]) -> u64 {
        let mut header = [0; TAG - COVERED];
        let covered = covered(message);
        header[..covered.len()].copy_from_slice(covered);
        header[offset_of!(Header, num) - COVERED] = 0;
        self.hash([&header, REPLY])
    }

    /// Covers the header and all entries.
    fn of_packet(&self, message: &[u8]) -> u64 {
        self.hash([
            covered(message),
            message.get(V1_HEADER..).unwrap_or_default(),
        ])
    }

    fn hash<const N: usize>(&self, parts: [&[u8]; N]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish()
    }
}

/// The tag of a message, if it has a whole header.
pub fn tag(message: &[u8]) -> Option<u64> {
    let (header, _) = HeaderV1::ref_from_prefix(message).ok()?;
    Some(header.tag.get())
}

fn set_tag(message: &mut [u8], tag: u64) {
    if let Ok((header, _)) = HeaderV1::mut_from_prefix(message) {
        header.tag = tag.into();
    }
}

fn covered(message: &[u8]) -> &[u8] {
    message.get(COVERED..TAG).unwrap_or_default()
}

/// A key of this text.
fn key(text: &str) -> Result<Key, String> {
    let digits: Option<Vec<_>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.ok_or("a key has hexadecimal digits only")?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |b, d| b << 4 | *d as u8))
        .collect();
    <[u8; KEY]>::try_from(bytes)
        .ok()
        .filter(|_| digits.len() == 2 * KEY)
        .map(Key)
        .ok_or_else(|| {
            let which = if digits.len() < 2 * KEY {
                "short"
            } else {
                "long"
            };
            format!(
                "a key of {} hexadecimal digits is too {which}: it has {}",
                digits.len(),
                2 * KEY
            )
        })
}

/// Fails if others could know or change the keys of this file.
fn only_ours(meta: &Metadata) -> Result<()> {
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_file() {
        bail!("it is no regular file");
    }
    if mode & 0o037 != 0 {
        bail!("others can read or change it (mode {mode:04o}): chmod 0600 makes it yours alone");
    }
    if ![0, geteuid().as_raw()].contains(&meta.uid()) {
        bail!(
            "it belongs to user {}, and has to be root's or your own",
            meta.uid()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const FIRST: &str = "000102030405060708090a0b0c0d0e0f";
    const OTHER: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

    fn keys(text: &str) -> Keys {
        Keys::parse(text).unwrap()
    }

    #[test]
    fn a_file_has_one_or_two_keys() {
        let one = keys(&format!("# of host a\n{FIRST} # in use\n\n"));
        assert_eq!(one.all().count(), 1);
        assert_eq!(keys(&format!("{FIRST}\n{OTHER}\n")).all().count(), 2);
        for (text, words) in [
            ("# none\n", "there is no key"),
            (
                &FIRST[..30],
                "line 1: a key of 30 hexadecimal digits is too short",
            ),
            (&format!("{FIRST}00"), "is too long"),
            ("\nsecret", "line 2: a key has hexadecimal digits only"),
            (&format!("{FIRST}\n{FIRST}"), "both keys are the same"),
            (
                &format!("{FIRST}\n{OTHER}\n{}", FIRST.replace('0', "9")),
                "3 keys, and two at most",
            ),
        ] {
            let said = Keys::parse(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_or_write_is_refused() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("key");
        for (mode, fine) in [(0o600, true), (0o440, true), (0o644, false), (0o620, false)] {
            let _ = fs::remove_file(&path);
            fs::write(&path, FIRST).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let said = Keys::of_file(path.to_str().unwrap());
            assert_eq!(said.is_ok(), fine, "{mode:o}: {said:?}");
        }
        let said = Keys::of_file(directory.path().to_str().unwrap()).unwrap_err();
        assert!(format!("{said:#}").contains("no regular file"), "{said:#}");
    }

    #[test]
    fn a_tag_covers_what_it_is_of() {
        let mut message: Vec<u8> = (0..120).collect();
        let ours = keys(&format!("{FIRST}\n{OTHER}"));
        let has_tag = |message: &[u8]| {
            let cookie = HeaderV1::ref_from_prefix(message).unwrap().0.cookie.get();
            ours.have_made_request(message, cookie)
        };
        ours.tag_request(&mut message);
        assert!(has_tag(&message));
        assert!(!ours.have_made_packet(&message) && !ours.have_made_reply(&message));
        // The checksum and the id of ICMP, and what lies behind the first entry, may change.
        for (at, covered) in [
            (3, false),
            (5, false),
            (8, true),
            (39, true),
            (60, true),
            (72, false),
        ] {
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert_eq!(has_tag(&changed), !covered, "{at}");
        }
    }

    #[test]
    fn two_ends_agree_while_a_key_is_replaced() {
        let mut message = vec![7; 120];
        let old = keys(FIRST);
        let new = keys(&format!("{OTHER}\n{FIRST}"));
        old.tag_packet(&mut message, Family::V4);
        assert!(new.have_made_packet(&message));
        assert!(!keys(OTHER).have_made_packet(&message));
        message[100] ^= 1;
        assert!(!new.have_made_packet(&message));
    }
}
