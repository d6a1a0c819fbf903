//! Saved runs that somebody has changed: numbers, names, fields, lines and bytes.

use proptest::prelude::*;
use serde_json::Value;

/// Numbers at which arithmetic ends.
const NUMBERS: [u64; 10] = [
    0,
    1,
    65_536,
    1 << 32,
    1 << 40,
    1 << 53,
    1 << 60,
    1 << 62,
    1 << 63,
    u64::MAX,
];
/// Names that nobody should print, and values of other fields.
const STRINGS: [&str; 9] = [
    "",
    "\u{1b}[2J\u{1b}]0;x\u{7}",
    "\u{9b}31m\r\n\0",
    "\u{202e}gnp.exe",
    "<script>&\"'",
    "total",
    "9999-12-31T23:59:59.999999Z",
    "1700-01-01T00:00:00Z",
    "client",
];

/// One change; which line, and which of its values, are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Change {
    Number(usize, usize, u64),
    String(usize, usize, &'static str),
    Remove(usize, usize),
    /// A value is there 1000 times.
    Many(usize, usize),
    MoveLine(usize, usize),
    CopyLine(usize, usize),
    RemoveLine(usize),
    Cut(usize),
    Byte(usize, u8),
}

/// Up to eight changes.
pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let (line, value) = (any::<usize>(), any::<usize>());
    let number = prop_oneof![proptest::sample::select(&NUMBERS[..]), any::<u64>()];
    let string = proptest::sample::select(&STRINGS[..]);
    let change = prop_oneof![
        6 => (line, value, number).prop_map(|(l, v, n)| Change::Number(l, v, n)),
        3 => (line, value, string).prop_map(|(l, v, s)| Change::String(l, v, s)),
        2 => (line, value).prop_map(|(l, v)| Change::Remove(l, v)),
        1 => (line, value).prop_map(|(l, v)| Change::Many(l, v)),
        1 => (line, line).prop_map(|(l, to)| Change::MoveLine(l, to)),
        1 => (line, line).prop_map(|(l, to)| Change::CopyLine(l, to)),
        1 => line.prop_map(Change::RemoveLine),
        1 => value.prop_map(Change::Cut),
        1 => (value, any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
    ];
    proptest::collection::vec(change, 1..8)
}

/// The lines after these changes.
pub fn changed(lines: &[String], changes: &[Change]) -> Vec<u8> {
    let mut lines = lines.to_vec();
    let mut cut = None;
    let mut bytes = Vec::new();
    for change in changes {
        if lines.is_empty() {
            break;
        }
        let count = lines.len();
        match *change {
            Change::Number(line, at, number) => {
                on_value(&mut lines[line % count], at, Value::is_number, |v| {
                    *v = number.into();
                });
            }
            Change::String(line, at, string) => {
                on_value(&mut lines[line % count], at, Value::is_string, |v| {
                    *v = string.into();
                });
            }
            Change::Remove(line, at) => {
                on_value(&mut lines[line % count], at, |_| true, |v| *v = Value::Null);
            }
            Change::Many(line, at) => {
                let many = |v: &mut Value| {
                    if let Some(first) = v.as_array().and_then(|all| all.first()).cloned() {
                        *v = vec![first; 1_000].into();
                    }
                };
                on_value(&mut lines[line % count], at, Value::is_array, many);
            }
            Change::MoveLine(line, to) => lines.swap(line % count, to % count),
            Change::CopyLine(line, to) => lines.insert(to % count, lines[line % count].clone()),
            Change::RemoveLine(line) => drop(lines.remove(line % count)),
            Change::Cut(at) => cut = Some(at),
            Change::Byte(at, byte) => bytes.push((at, byte)),
        }
    }
    let mut text = (lines.join("\n") + "\n").into_bytes();
    for (at, byte) in bytes {
        let at = at % text.len();
        text[at] = byte;
    }
    text.truncate(cut.map_or(text.len(), |at| at % text.len()));
    text
}

fn on_value(
    line: &mut String,
    at: usize,
    is_meant: fn(&Value) -> bool,
    change: impl FnOnce(&mut Value),
) {
    let mut root: Value = serde_json::from_str(line).expect("a line of JSON");
    let mut paths = Vec::new();
    collect(&root, String::new(), is_meant, &mut paths);
    if let Some(value) = paths.get(at % paths.len().max(1)) {
        change(root.pointer_mut(value).expect("a path that was found"));
        *line = root.to_string();
    }
}

/// The JSON pointers of all such values.
fn collect(value: &Value, path: String, is_meant: fn(&Value) -> bool, paths: &mut Vec<String>) {
    match value {
        Value::Array(all) => {
            for (index, value) in all.iter().enumerate() {
                collect(value, format!("{path}/{index}"), is_meant, paths);
            }
        }
        Value::Object(all) => {
            for (key, value) in all {
                collect(value, format!("{path}/{key}"), is_meant, paths);
            }
        }
        _ => {}
    }
    if is_meant(value) && !path.is_empty() {
        paths.push(path);
    }
}
