//! The kernel's own symbol table, `/proc/kallsyms`, with the end of each symbol.
//!
//! The table has only the beginnings of symbols. A function ends where the next symbol begins, and the
//! last one of a region ends with the region: the kernel's text at `_etext`, a module at its end by
//! `/proc/modules`, a BPF program at its length by `bpf_prog_info`. An address between two regions
//! belongs to no function, although a symbol lies below it.

use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use std::collections::HashMap;
use std::fs;
use std::ops::Range;

/// Upper bound on a function of unknown length (a trampoline, a probe's instructions); addresses beyond
/// it have no name.
const PAGE: u64 = 4096;
/// The kernel's text: its first symbol, and the first one behind it.
const TEXT: [(&str, &str); 2] = [("_stext", "_etext"), ("_sinittext", "_einittext")];

/// One reading of the table; its functions by address.
#[derive(Debug, Default)]
pub(crate) struct KernelSymbols {
    functions: Vec<Function>,
    names: String,
}

#[derive(Debug)]
struct Function {
    start: u64,
    /// Not included.
    end: u64,
    /// In the names.
    name: Range<usize>,
    /// Not part of the kernel's image: other code may be at its place later.
    loaded: bool,
}

/// A function that holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub name: &'a str,
    /// From the function's start, bytes.
    pub offset: u64,
    /// See [`Function::loaded`].
    pub loaded: bool,
}

impl KernelSymbols {
    /// Reads the table; empty if it is hidden.
    pub(crate) fn read() -> Self {
        // Before the table: code loaded in between is in the table, but has no length yet.
        let lengths = programs();
        let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
        let table = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        Self::parse(&table, &modules, &lengths)
    }

    /// From the two files, and the lengths of BPF functions by their address.
    pub(crate) fn parse(table: &str, modules: &str, lengths: &HashMap<u64, u64>) -> Self {
        let mut lines: Vec<Line> = table.lines().filter_map(Line::parse).collect();
        let regions = Regions::new(&lines, modules, lengths);
        // Of several symbols for one address the first counts.
        lines.sort_by_key(|line| line.start);
        lines.dedup_by_key(|line| line.start);
        let mut all = Self::default();
        let next = lines.iter().skip(1).map(|line| line.start);
        for (line, next) in lines.iter().zip(next.chain([u64::MAX])) {
            let Some(end) = line.is_code.then(|| regions.end(line)).flatten() else {
                continue;
            };
            let from = all.names.len();
            all.names.push_str(line.name);
            all.functions.push(Function {
                start: line.start,
                end: end.min(next),
                name: from..all.names.len(),
                loaded: line.module.is_some(),
            });
        }
        all
    }

    /// The function that holds this address.
    pub(crate) fn find(&self, address: u64) -> Option<Found<'_>> {
        let behind = self.functions.partition_point(|f| f.start <= address);
        let function = &self.functions[behind.checked_sub(1)?];
        (address < function.end).then(|| Found {
            name: &self.names[function.name.clone()],
            offset: address - function.start,
            loaded: function.loaded,
        })
    }
}

/// A line of `/proc/kallsyms`.
struct Line<'a> {
    start: u64,
    is_code: bool,
    name: &'a str,
    /// Absent for the kernel's image.
    module: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// `None` of a hidden address.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let start = u64::from_str_radix(words.next()?, 16).ok()?;
        let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
        let name = words.next()?;
        let module = words.next();
        let module = module.map(|module| module.trim_matches(['[', ']']));
        (start != 0).then_some(Self {
            start,
            is_code,
            name,
            module,
        })
    }
}

/// Where code lies.
struct Regions<'a> {
    text: Vec<Range<u64>>,
    modules: HashMap<&'a str, Range<u64>>,
    lengths: &'a HashMap<u64, u64>,
}

impl<'a> Regions<'a> {
    fn new(lines: &[Line<'a>], modules: &'a str, lengths: &'a HashMap<u64, u64>) -> Self {
        let marks = TEXT.map(|(from, to)| [from, to]).concat();
        let known: HashMap<&str, u64> = lines
            .iter()
            .filter(|line| line.module.is_none() && marks.contains(&line.name))
            .map(|line| (line.name, line.start))
            .collect();
        let text = TEXT.iter().filter_map(|(from, to)| {
            let (from, to) = (known.get(from)?, known.get(to)?);
            Some(*from..*to)
        });
        Self {
            text: text.collect(),
            modules: modules.lines().filter_map(module).collect(),
            lengths,
        }
    }

    /// Upper bound on the end of a function; `None` if it lies outside of all code.
    fn end(&self, line: &Line<'_>) -> Option<u64> {
        let Some(module) = line.module else {
            let text = self.text.iter().find(|text| text.contains(&line.start));
            return text.map(|text| text.end);
        };
        if let Some(length) = self.lengths.get(&line.start) {
            return Some(line.start.saturating_add(*length));
        }
        let region = self.modules.get(module);
        let region = region.filter(|region| region.contains(&line.start));
        Some(region.map_or(line.start.saturating_add(PAGE), |region| region.end))
    }
}

/// A line of `/proc/modules`: its name, and the memory that it takes from its text's start on.
fn module(line: &str) -> Option<(&str, Range<u64>)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let size: u64 = words.get(1)?.parse().ok()?;
    let start = u64::from_str_radix(words.get(5)?.strip_prefix("0x")?, 16).ok()?;
    Some((words[0], start..start.saturating_add(size)))
}

/// Lengths of all BPF functions by their address; empty without the privilege to ask.
fn programs() -> HashMap<u64, u64> {
    let options = ProgInfoQueryOptions::default()
        .include_jited_ksyms(true)
        .include_jited_func_lens(true);
    let functions = ProgInfoIter::with_query_opts(options).flat_map(|program| {
        let lengths = program.jited_func_lens.into_iter().map(u64::from);
        let starts = program.jited_ksyms.into_iter().map(|start| start as u64);
        starts.zip(lengths).collect::<Vec<_>>()
    });
    functions.filter(|(start, _)| *start != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
0000000000001000 A per_cpu_start
ffffffff81000000 T startup
ffffffff81000000 T _stext
ffffffff81000100 t first
ffffffff81000180 W weak
ffffffff81000200 t last
ffffffff81000300 T _etext
ffffffff81000400 R table
ffffffff81000500 D variable
ffffffff81001000 t boot
ffffffff81001000 T _sinittext
ffffffff81001080 T _einittext
ffffffffc0000000 t load\t[one]
ffffffffc0000040 t unload\t[one]
ffffffffc0005000 t load\t[two]
ffffffffc0006000 d data\t[two]
ffffffffc0100000 t bpf_prog_1_short\t[bpf]
ffffffffc0100040 t bpf_prog_2_long\t[bpf]
ffffffffc0200000 t bpf_trampoline_7\t[bpf]
";
    const MODULES: &str = "\
two 16384 0 - Live 0xffffffffc0005000
one 4096 1 two, Live 0xffffffffc0000000 (OE)
";

    fn symbols() -> KernelSymbols {
        let lengths = [
            (0xffff_ffff_c010_0000, 0x20),
            (0xffff_ffff_c010_0040, 0x3000),
        ];
        KernelSymbols::parse(TABLE, MODULES, &lengths.into())
    }

    fn name(symbols: &KernelSymbols, address: u64) -> Option<(String, u64)> {
        let found = symbols.find(address)?;
        Some((found.name.to_owned(), found.offset))
    }

    #[test]
    fn a_function_ends_where_the_next_symbol_or_its_region_does() {
        let symbols = symbols();
        for (address, expected) in [
            (0x0, None),
            (0x1000, None),
            (0xffff_ffff_80ff_ffff, None),
            (0xffff_ffff_8100_0000, Some(("startup", 0))),
            (0xffff_ffff_8100_017f, Some(("first", 0x7f))),
            (0xffff_ffff_8100_0180, Some(("weak", 0))),
            (0xffff_ffff_8100_02ff, Some(("last", 0xff))),
            // Behind the text: no function, although symbols lie below.
            (0xffff_ffff_8100_0300, None),
            (0xffff_ffff_8100_0400, None),
            (0xffff_ffff_8100_0510, None),
            (0xffff_ffff_8100_1010, Some(("boot", 0x10))),
            (0xffff_ffff_8100_1080, None),
            // Modules, and what lies between them.
            (0xffff_ffff_c000_003f, Some(("load", 0x3f))),
            (0xffff_ffff_c000_0fff, Some(("unload", 0xfbf))),
            (0xffff_ffff_c000_1000, None),
            (0xffff_ffff_c000_5fff, Some(("load", 0xfff))),
            (0xffff_ffff_c000_6000, None),
            // Programs by their length, trampolines by their page.
            (0xffff_ffff_c010_001f, Some(("bpf_prog_1_short", 0x1f))),
            (0xffff_ffff_c010_0020, None),
            (0xffff_ffff_c010_303f, Some(("bpf_prog_2_long", 0x2fff))),
            (0xffff_ffff_c010_3040, None),
            (0xffff_ffff_c020_0fff, Some(("bpf_trampoline_7", 0xfff))),
            (0xffff_ffff_c020_1000, None),
            (u64::MAX, None),
        ] {
            let expected = expected.map(|(name, offset)| (String::from(name), offset));
            assert_eq!(name(&symbols, address), expected, "{address:#x}");
        }
        assert!(!symbols.find(0xffff_ffff_8100_0100).unwrap().loaded);
        assert!(symbols.find(0xffff_ffff_c000_0000).unwrap().loaded);
    }

    #[test]
    fn a_hidden_or_broken_table_names_nothing() {
        let hidden = "0000000000000000 T _stext\n0000000000000000 T _etext\nx\n\nffff T\n";
        let symbols = KernelSymbols::parse(hidden, "one\n", &HashMap::new());
        assert_eq!(symbols.functions.len(), 0);
        assert_eq!(symbols.find(0xffff_ffff_8100_0000), None);
    }
}
