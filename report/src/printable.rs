//! Text from elsewhere (names of processes, files, devices and hosts, whatever a saved run says) as
//! it may reach a terminal: no character that moves the cursor, changes colours or the order of
//! what is shown.

use std::borrow::Cow;
use std::fmt::Write as _;

/// One line of text with each control character as an escape: `\x1b`, `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::new(), |mut safe, c| {
        let _ = match u32::from(c) {
            _ if !acts(c) => write!(safe, "{c}"),
            code @ ..=0xff => write!(safe, "\\x{code:02x}"),
            code => write!(safe, "\\u{{{code:x}}}"),
        };
        safe
    }))
}

/// Text of several lines, each as [`printable`] makes it.
pub fn printable_lines(text: &str) -> String {
    let lines = text.split('\n').map(printable);
    lines.collect::<Vec<_>>().join("\n")
}

/// JSON of the same value, with the control characters escaped that JSON allows raw.
pub(crate) fn printable_json(json: String) -> String {
    if !json.contains(acts) {
        return json;
    }
    // JSON of one line has them inside of strings only.
    json.chars().fold(String::new(), |mut safe, c| {
        let _ = match u32::from(c) {
            _ if !acts(c) => write!(safe, "{c}"),
            // All that act are in the basic plane, so there are no surrogates.
            code => write!(safe, "\\u{code:04x}"),
        };
        safe
    })
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and what overrides the direction
/// of text.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_acts_on_a_terminal_is_escaped() {
        for (text, safe) in [
            ("", ""),
            ("kworker/u4:2 Straße 日本", "kworker/u4:2 Straße 日本"),
            ("a\x1b[2Jb", "a\\x1b[2Jb"),
            ("\u{9b}31m\x7f\0\r\n\t", "\\x9b31m\\x7f\\x00\\x0d\\x0a\\x09"),
            ("exe\u{202e}gnp", "exe\\u{202e}gnp"),
        ] {
            assert_eq!(printable(text), safe, "{text:?}");
        }
        assert!(matches!(printable("eth0"), Cow::Borrowed("eth0")));
        assert_eq!(printable_lines("a\x1b\nb\n"), "a\\x1b\nb\n");
    }

    #[test]
    fn json_keeps_its_value() {
        let name = "\x1b \u{9b} \x7f \u{202e} \u{10ffff} ü";
        let json = printable_json(serde_json::to_string(name).expect("a string"));
        assert!(!json.contains(acts), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), name);
    }
}
