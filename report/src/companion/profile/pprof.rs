//! A profile as pprof reads it: a compressed message of the layout of
//! `github.com/google/pprof/proto/profile.proto`, of which only the fields that are filled in are here.

use super::measure::{Measure, Profile};
use super::stack::Stack;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use std::collections::HashMap;
use std::io::{self, Write as _};

#[derive(Message)]
struct Pprof {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
}

#[derive(Clone, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Message)]
struct Sample {
    /// The innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
    #[prost(int64, tag = "3")]
    number: i64,
}

#[derive(Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// When and how a profile was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Its start, nanoseconds since the Unix epoch.
    pub start_unix_ns: i64,
    /// Its length, ns.
    pub elapsed_ns: u64,
    /// Time between two samples of a CPU, ns.
    pub period_ns: u64,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

/// The file's bytes. Each sample has both of its weights, and the task's name, process and context as labels.
pub fn pprof(profile: &Profile, taken: &Taken) -> io::Result<Vec<u8>> {
    let mut tables = Tables::default();
    tables.string("");
    let (count, time) = match profile.measure {
        Measure::Samples => ("samples", "cpu"),
        Measure::OffCpu => ("waits", "off_cpu"),
    };
    let time = tables.value_type(time, "nanoseconds");
    let sample_type = vec![tables.value_type(count, "count"), time.clone()];
    let samples = profile.stacks().iter().map(|stack| tables.sample(stack));
    let sample = samples.collect();
    let comment = taken.notes.iter().map(|note| tables.string(note)).collect();
    let is_sampled = profile.measure == Measure::Samples;
    let message = Pprof {
        sample_type,
        sample,
        comment,
        time_nanos: taken.start_unix_ns,
        duration_nanos: taken.elapsed_ns.cast_signed(),
        period_type: is_sampled.then_some(time),
        period: if is_sampled {
            taken.period_ns.cast_signed()
        } else {
            0
        },
        location: (1..=tables.functions.len() as u64).map(location).collect(),
        function: tables.functions,
        string_table: tables.strings,
    };
    let mut file = GzEncoder::new(Vec::new(), Compression::default());
    file.write_all(&message.encode_to_vec())?;
    file.finish()
}

/// A location for each function: addresses were named before.
fn location(id: u64) -> Location {
    Location {
        id,
        line: vec![Line { function_id: id }],
    }
}

/// What samples refer to by number.
#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    string_ids: HashMap<String, i64>,
    functions: Vec<Function>,
    function_ids: HashMap<(i64, i64), u64>,
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(id) = self.string_ids.get(text) {
            return *id;
        }
        let id = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.string_ids.insert(text.to_owned(), id);
        id
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType {
            kind: self.string(kind),
            unit: self.string(unit),
        }
    }

    /// The number of a function; those of the kernel are in a file of their own.
    fn function(&mut self, name: &str, file: &str) -> u64 {
        let (name, filename) = (self.string(name), self.string(file));
        let next = self.functions.len() as u64 + 1;
        let id = *self.function_ids.entry((name, filename)).or_insert(next);
        if id == next {
            self.functions.push(Function { id, name, filename });
        }
        id
    }

    fn sample(&mut self, stack: &Stack) -> Sample {
        let kernel = stack.kernel.iter().map(|name| (name, "[kernel]"));
        let user = stack.user.iter().map(|name| (name, ""));
        let ids = kernel
            .chain(user)
            .map(|(name, file)| self.function(name, file));
        Sample {
            location_id: ids.collect(),
            value: vec![stack.count.cast_signed(), stack.ns.cast_signed()],
            label: vec![
                self.text_label("comm", &stack.comm),
                Label {
                    key: self.string("pid"),
                    text: 0,
                    number: stack.pid.into(),
                },
                self.text_label("context", stack.context.name()),
            ],
        }
    }

    fn text_label(&mut self, key: &str, text: &str) -> Label {
        Label {
            key: self.string(key),
            text: self.string(text),
            number: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::companion::profile::Context;
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    /// A field of a message by the wire format alone (protobuf.dev/programming-guides/encoding).
    #[derive(Clone, Debug, PartialEq)]
    enum Value {
        Number(u64),
        Bytes(Vec<u8>),
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    fn fields(mut bytes: &[u8]) -> Vec<(u64, Value)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    let (inside, rest) = bytes.split_at(length);
                    bytes = rest;
                    Value::Bytes(inside.to_vec())
                }
                kind => panic!("wire type {kind}"),
            };
            fields.push((key >> 3, value));
        }
        fields
    }

    fn messages(of: &[(u64, Value)], tag: u64) -> Vec<Vec<u8>> {
        let bytes = |(at, value): &(u64, Value)| match value {
            Value::Bytes(bytes) if *at == tag => Some(bytes.clone()),
            _ => None,
        };
        of.iter().filter_map(bytes).collect()
    }

    /// A number; 0 is not written.
    fn number(of: &[(u64, Value)], tag: u64) -> u64 {
        let number = |(at, value): &(u64, Value)| match value {
            Value::Number(number) if *at == tag => Some(*number),
            _ => None,
        };
        of.iter().find_map(number).unwrap_or(0)
    }

    fn packed(of: &[(u64, Value)], tag: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        for bytes in messages(of, tag) {
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                numbers.push(varint(&mut bytes));
            }
        }
        numbers
    }

    fn stack(count: u64, user: &[&str], kernel: &[&str]) -> Stack {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
        Stack {
            companion: "profile",
            comm: "web".to_owned(),
            pid: 300,
            context: Context::Softirq,
            count,
            ns: count * 1_000_000,
            share: 0.0,
            kernel: names(kernel),
            user: names(user),
        }
    }

    #[test]
    fn a_reader_of_the_wire_format_finds_every_stack_by_name() {
        let stacks = [
            stack(700, &["read", "main"], &["vfs_read", "read"]),
            stack(300, &["burn", "main"], &[]),
        ];
        let profile = Profile::new(Measure::Samples, stacks.into_iter());
        let taken = Taken {
            start_unix_ns: 5,
            elapsed_ns: 6,
            period_ns: 1_000_000,
            notes: vec!["3.6 % without a stack".to_owned()],
        };
        let file = pprof(&profile, &taken).unwrap();
        let mut bytes = Vec::new();
        GzDecoder::new(&file[..]).read_to_end(&mut bytes).unwrap();
        let all = fields(&bytes);
        let strings: Vec<String> = messages(&all, 6)
            .into_iter()
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect();
        assert_eq!(strings[0], "");
        let text = |id: u64| strings[id as usize].as_str();
        let types: Vec<_> = messages(&all, 1)
            .iter()
            .map(|bytes| fields(bytes))
            .map(|kind| (text(number(&kind, 1)), text(number(&kind, 2))))
            .collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
        assert_eq!([9, 10, 12].map(|tag| number(&all, tag)), [5, 6, 1_000_000]);
        let functions: HashMap<u64, (&str, &str)> = messages(&all, 5)
            .iter()
            .map(|bytes| fields(bytes))
            .map(|of| {
                let name = (text(number(&of, 2)), text(number(&of, 4)));
                (number(&of, 1), name)
            })
            .collect();
        let locations: HashMap<u64, u64> = messages(&all, 4)
            .iter()
            .map(|bytes| fields(bytes))
            .map(|of| (number(&of, 1), number(&fields(&messages(&of, 4)[0]), 1)))
            .collect();
        let samples: Vec<_> = messages(&all, 2)
            .iter()
            .map(|bytes| fields(bytes))
            .map(|of| {
                let named = |id: &u64| functions[&locations[id]];
                let path: Vec<_> = packed(&of, 1).iter().map(named).collect();
                (path, packed(&of, 2))
            })
            .collect();
        let kernel = "[kernel]";
        let read = [
            ("vfs_read", kernel),
            ("read", kernel),
            ("read", ""),
            ("main", ""),
        ];
        assert_eq!(samples[0], (read.to_vec(), vec![700, 700_000_000]));
        let burn = [("burn", ""), ("main", "")];
        assert_eq!(samples[1], (burn.to_vec(), vec![300, 300_000_000]));
        let labels: Vec<_> = messages(&fields(&messages(&all, 2)[0]), 3)
            .iter()
            .map(|bytes| fields(bytes))
            .map(|of| (text(number(&of, 1)), text(number(&of, 2)), number(&of, 3)))
            .collect();
        assert_eq!(
            labels,
            [
                ("comm", "web", 0),
                ("pid", "", 300),
                ("context", "softirq", 0)
            ]
        );
        assert_eq!(text(packed(&all, 13)[0]), "3.6 % without a stack");
    }
}
