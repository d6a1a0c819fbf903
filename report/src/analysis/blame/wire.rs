//! Blame as a server sends it.

use std::cmp::Reverse;
use std::fmt::Write as _;

use super::join::PARTS;
use crate::model::{Blame, Class, Host, Part, Segment};

/// What separates blames, their parts, and the fields of one, in the form that a server sends.
const BLAME: char = '&';

const PART: char = '|';

const FIELD: char = ';';

/// Encodes blame as a server sends it: printable ASCII, with as many blames and parts as fit into
/// `most` bytes.
pub fn to_wire(blame: &[Blame], max: usize) -> String {
    blame.iter().fold(String::new(), |mut wire, blame| {
        let room = max.saturating_sub(wire.len() + 1);
        let next = blame.to_wire(room);
        if !next.is_empty() && !wire.is_empty() {
            wire.push(BLAME);
        }
        wire + &next
    })
}

/// Decodes what a server sent; invalid parts are left out.
pub fn from_wire(wire: &str) -> Vec<Blame> {
    wire.split(BLAME).filter_map(Blame::from_wire).collect()
}

impl Blame {
    /// Encodes as many parts as fit; empty if not even the window fits.
    fn to_wire(&self, max: usize) -> String {
        let mut wire = format!("{};{};{}", self.segment.name(), self.cpu, self.window_ns);
        if wire.len() > max {
            return String::new();
        }
        for part in &self.parts {
            let Part {
                class,
                who,
                tid,
                ns,
                function,
            } = part;
            let function = function.as_deref().unwrap_or_default();
            let fields = [
                class.name(),
                &escape(who),
                &tid.to_string(),
                &ns.to_string(),
            ];
            let part = format!("{PART}{};{}", fields.join(";"), escape(function));
            if wire.len() + part.len() > max {
                break;
            }
            wire += &part;
        }
        wire
    }

    pub(super) fn from_wire(wire: &str) -> Option<Self> {
        let mut parts = wire.split(PART);
        let mut head = parts.next()?.split(FIELD);
        let segment = Segment::from_name(head.next()?)?;
        let mut blame = Self {
            segment,
            host: Host::Server,
            cpu: head.next()?.parse().ok()?,
            window_ns: head.next()?.parse().ok()?,
            parts: parts
                .take(PARTS)
                .map(part_from_wire)
                .collect::<Option<_>>()?,
            lane: Vec::new(),
        };
        let explained = blame
            .parts
            .iter()
            .try_fold(0_u64, |sum, part| sum.checked_add(part.ns))?;
        blame.parts.sort_by_key(|part| Reverse(part.ns));
        (explained <= blame.window_ns).then_some(blame)
    }
}

fn part_from_wire(wire: &str) -> Option<Part> {
    let fields: Vec<&str> = wire.split(FIELD).collect();
    let &[class, who, tid, ns, function] = fields.as_slice() else {
        return None;
    };
    Some(Part {
        class: Class::from_name(class)?,
        who: unescape(who)?,
        tid: tid.parse().ok()?,
        ns: ns.parse().ok()?,
        function: Some(unescape(function)?).filter(|function| !function.is_empty()),
    })
}

/// Encodes separators and what is not printable ASCII as `%` and two hexadecimal digits.
fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, b| {
        let separates = matches!(char::from(b), BLAME | PART | FIELD | '%');
        if b.is_ascii_graphic() && !separates {
            escaped.push(char::from(b));
        } else {
            let _ = write!(escaped, "%{b:02x}");
        }
        escaped
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = more;
    }
    let text = String::from_utf8_lossy(&bytes);
    Some(
        text.chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect(),
    )
}
