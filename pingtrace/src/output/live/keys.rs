//! Keys of the terminal.
//!
//! crossterm's own reader is not used: it spins when the terminal hangs up, blocks within a sequence, and opens
//! /dev/tty, which a confined process may not.

/// A key of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character; Enter is `\n`.
    Char(char),
    /// Escape alone.
    Escape,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// To the start.
    Home,
    /// To the end.
    End,
    /// A page back.
    PageUp,
    /// A page on.
    PageDown,
}

/// Splits what a terminal sends into keys.
#[derive(Debug, Default)]
pub struct Keys {
    /// A sequence that is not complete.
    rest: Vec<u8>,
}

/// What a sequence is.
enum Found {
    /// So many bytes: a key, or none of the view's.
    Bytes(usize, Option<Key>),
    /// More must come.
    Unfinished,
}

impl Keys {
    /// The keys in what the terminal sent. A sequence that was cut off waits for its rest.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.rest.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut at = 0;
        while at < self.rest.len() {
            match first(&self.rest[at..]) {
                Found::Bytes(count, key) => {
                    keys.extend(key);
                    at += count;
                }
                Found::Unfinished => break,
            }
        }
        self.rest.drain(..at);
        keys
    }

    /// Nothing follows soon: a sequence that was begun is the key Escape.
    pub fn rest(&mut self) -> Option<Key> {
        let begun = !std::mem::take(&mut self.rest).is_empty();
        begun.then_some(Key::Escape)
    }
}

fn first(bytes: &[u8]) -> Found {
    match bytes {
        [] | [0x1b] | [0x1b, b'[' | b'O'] => Found::Unfinished,
        [0x1b, b'[' | b'O', rest @ ..] => sequence(rest),
        [0x1b, ..] => Found::Bytes(1, Some(Key::Escape)),
        [b'\r', ..] => Found::Bytes(1, Some(Key::Char('\n'))),
        [byte, ..] => Found::Bytes(1, byte.is_ascii().then_some(Key::Char(char::from(*byte)))),
    }
}

/// What follows the introducer: parameters, and a final byte.
fn sequence(bytes: &[u8]) -> Found {
    let is_final = |byte: &u8| (0x40..=0x7e).contains(byte);
    let Some(at) = bytes.iter().position(is_final) else {
        return Found::Unfinished;
    };
    let key = match (&bytes[..at], bytes[at]) {
        (_, b'A') => Some(Key::Up),
        (_, b'B') => Some(Key::Down),
        (_, b'C') => Some(Key::Right),
        (_, b'D') => Some(Key::Left),
        (_, b'H') | (b"1" | b"7", b'~') => Some(Key::Home),
        (_, b'F') | (b"4" | b"8", b'~') => Some(Key::End),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        _ => None,
    };
    Found::Bytes(2 + at + 1, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_keys_also_in_parts() {
        let mut keys = Keys::default();
        let all = b"q\x1b[A\x1bOB\x1b[1;5C\x1b[5~\x1b[H\x1b[4~\r\x1b[99~";
        let expected = [
            Key::Char('q'),
            Key::Up,
            Key::Down,
            Key::Right,
            Key::PageUp,
            Key::Home,
            Key::End,
            Key::Char('\n'),
        ];
        assert_eq!(keys.take(all), expected);
        let one_by_one: Vec<_> = all.iter().flat_map(|byte| keys.take(&[*byte])).collect();
        assert_eq!(one_by_one, expected);
        assert_eq!(keys.rest(), None);
    }

    #[test]
    fn escape_is_a_key_if_nothing_follows() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"\x1b"), []);
        assert_eq!(keys.rest(), Some(Key::Escape));
        assert_eq!(keys.take(b"\x1bq"), [Key::Escape, Key::Char('q')]);
    }
}
