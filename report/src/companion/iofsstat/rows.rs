//! Rows of iofsstat: a device in a cycle, and what a process did to a device or a file.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use super::conservation::{Bytes, Conservation};
use super::diskstats::Rates;
use crate::companion::time::Time;
use crate::printable::printable;

/// Sizes of requests are counted up to these, and above; as in `-P`.
pub const SIZES: [&str; 9] = [
    "4K", "8K", "16K", "32K", "64K", "128K", "256K", "512K", "large",
];

/// A device in a cycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Device {
    /// `iofsstat`.
    pub companion: &'static str,
    /// The end of the cycle.
    pub time: Time,
    /// How long the cycle was, ns.
    pub cycle_ns: u64,
    /// Its name.
    pub dev: String,
    /// What it did.
    #[serde(flatten)]
    pub rates: Rates,
    /// Whether the rows account for it; absent where the rows count something else.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
}

/// [`Conservation`] as in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Counted by the device.
    pub rd_bytes: u64,
    /// See `rd_bytes`.
    pub wr_bytes: u64,
    /// Sums of the rows, those that are not shown too.
    pub rows_rd_bytes: u64,
    /// See `rows_rd_bytes`.
    pub rows_wr_bytes: u64,
    /// How far they are apart.
    pub apart_bytes: u64,
    /// At most one request.
    pub agree: bool,
}

impl From<&Conservation> for Check {
    fn from(found: &Conservation) -> Self {
        let Bytes { read, written } = found.device;
        Self {
            rd_bytes: read,
            wr_bytes: written,
            rows_rd_bytes: found.rows.read,
            rows_wr_bytes: found.rows.written,
            apart_bytes: found.apart,
            agree: found.agrees(),
        }
    }
}

/// Header of the devices, with its newline.
pub fn device_header() -> String {
    format!(
        "{:<12} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6}\n",
        "device-stat",
        "r_rqm",
        "w_rqm",
        "r_iops",
        "w_iops",
        "r_bps",
        "w_bps",
        "wait",
        "r_wait",
        "w_wait",
        "util%"
    )
}

impl Device {
    pub(in crate::companion) fn text(&self) -> String {
        let r = &self.rates;
        format!(
            "{:<12} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6.1}\n",
            printable(&self.dev),
            r.r_rqm,
            r.w_rqm,
            r.r_iops,
            r.w_iops,
            size(r.r_bps),
            size(r.w_bps),
            time(r.wait_ns),
            time(r.r_wait_ns),
            time(r.w_wait_ns),
            r.util_percent
        )
    }
}

/// What a process did in a cycle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Io {
    /// `iofsstat`.
    pub companion: &'static str,
    /// The end of the cycle.
    pub time: Time,
    /// How long the cycle was, ns.
    pub cycle_ns: u64,
    /// The device, or what stands for it where a file system has none.
    pub dev: String,
    /// The process; absent where nobody knows.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub who: Option<Who>,
    /// Reads: requests, calls, or pieces of a request.
    pub rd_count: u64,
    /// Bytes read.
    pub rd_bytes: u64,
    /// Writes.
    pub wr_count: u64,
    /// Bytes written.
    pub wr_bytes: u64,
    /// Whatever else is known, by the kind of row.
    #[serde(flatten)]
    pub of: Of,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Who {
    /// Its name.
    pub comm: String,
    /// Its id in the initial PID namespace; in rows of files that of the thread that came first.
    pub pid: u32,
    /// The id of the process.
    pub tgid: u32,
    /// Container that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Of which kind a row is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Of {
    /// Requests of a process to a device.
    Block(Box<Block>),
    /// What a process wrote by way of another one: a part of that one's row.
    Part(Part),
    /// Calls of a process for a file.
    File(File),
}

/// More about the requests of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Block {
    /// Discards, which count as neither reads nor writes.
    #[serde(skip_serializing_if = "is_zero")]
    pub discard_count: u64,
    /// Bytes discarded.
    #[serde(skip_serializing_if = "is_zero")]
    pub discard_bytes: u64,
    /// Latencies of reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rd_latency: Option<Latency>,
    /// Latencies of writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wr_latency: Option<Latency>,
    /// Read requests by size, see [`SIZES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rd_sizes: Option<[u64; 9]>,
    /// Write requests by size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wr_sizes: Option<[u64; 9]>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for this signature"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Means and maxima of some requests, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// From the submission to the completion.
    pub q2c_ns: u64,
    /// The longest.
    pub q2c_max_ns: u64,
    /// From the driver to the completion; absent on devices without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d2c_ns: Option<u64>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d2c_max_ns: Option<u64>,
}

/// The owner of written pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Who wrote them.
    pub via: String,
    /// Its id.
    pub via_pid: u32,
    /// What they are.
    pub pages: Pages,
    /// The file, by its full path if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its inode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pages {
    /// Pages of a file, dirtied by the process of the row.
    File,
    /// Pages of a file that were dirty before the start, or whose owner could not be remembered.
    Earlier,
    /// The file system's own blocks, in the page cache of the device.
    Metadata,
    /// Memory that is not a page of a file: direct writes, journals of some file systems.
    NoFile,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Full path, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its inode.
    pub inode: u64,
}

/// Header of the rows of blocks, with its newline.
pub fn block_header() -> String {
    format!(
        "{:<16} {:>7} {:>8} {:>8} {:>8} {:>8} {:<10} {:>8} {:>8} {:>8} {:>8}\n",
        "comm",
        "pid",
        "iops_rd",
        "bps_rd",
        "iops_wr",
        "bps_wr",
        "device",
        "q2c_rd",
        "d2c_rd",
        "q2c_wr",
        "d2c_wr"
    )
}

/// Header of the rows of files, with its newline.
pub fn file_header() -> String {
    format!(
        "{:<16} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>10} {:<10} filepath\n",
        "comm", "tgid", "pid", "cnt_rd", "bw_rd", "cnt_wr", "bw_wr", "inode", "device"
    )
}

impl Io {
    pub(in crate::companion) fn text(&self) -> String {
        let mut text = match &self.of {
            Of::Block(block) => self.block_columns(block),
            Of::Part(part) => self.part_columns(part),
            Of::File(file) => self.file_columns(file),
        };
        let container = self.who.as_ref().and_then(|who| who.container.as_ref());
        if let Some(container) = container {
            let _ = write!(text, " [containerId:{}]", printable(container));
        }
        text.push('\n');
        if let Of::Block(block) = &self.of {
            text += &block.size_lines();
        }
        text
    }

    fn per_second(&self, n: u64) -> f64 {
        n as f64 * 1e9 / self.cycle_ns.max(1) as f64
    }

    fn comm(&self) -> Cow<'_, str> {
        printable(self.who.as_ref().map_or("?", |who| &who.comm))
    }

    fn tgid(&self) -> String {
        let tgid = self.who.as_ref().map(|who| who.tgid.to_string());
        tgid.unwrap_or_else(|| "?".to_owned())
    }

    fn pid(&self) -> String {
        let pid = self.who.as_ref().map(|who| who.pid.to_string());
        pid.unwrap_or_else(|| "?".to_owned())
    }

    fn block_columns(&self, block: &Block) -> String {
        let latency = |latency: Option<Latency>| {
            let d2c = latency.and_then(|l| l.d2c_ns);
            [time(latency.map(|l| l.q2c_ns)), time(d2c)]
        };
        let [q2c_rd, d2c_rd] = latency(block.rd_latency);
        let [q2c_wr, d2c_wr] = latency(block.wr_latency);
        format!(
            "{:<16} {:>7} {:>8.1} {:>8} {:>8.1} {:>8} {:<10} {q2c_rd:>8} {d2c_rd:>8} {q2c_wr:>8} {d2c_wr:>8}",
            self.comm(),
            self.pid(),
            self.per_second(self.rd_count),
            size(self.per_second(self.rd_bytes)),
            self.per_second(self.wr_count),
            size(self.per_second(self.wr_bytes)),
            printable(&self.dev),
        )
    }

    fn part_columns(&self, part: &Part) -> String {
        let what = match part.pages {
            Pages::File | Pages::Earlier => part.file.as_deref().unwrap_or("?"),
            Pages::Metadata => "(metadata)",
            Pages::NoFile => "(no page of a file)",
        };
        format!(
            "|----{}:{}:{} {} {} {}",
            self.comm(),
            self.tgid(),
            self.pid(),
            size(self.per_second(self.wr_bytes)),
            printable(&self.dev),
            printable(what)
        )
    }

    fn file_columns(&self, file: &File) -> String {
        format!(
            "{:<16} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>10} {:<10} {}",
            self.comm(),
            self.tgid(),
            self.pid(),
            self.rd_count,
            size(self.per_second(self.rd_bytes)),
            self.wr_count,
            size(self.per_second(self.wr_bytes)),
            file.inode,
            printable(&self.dev),
            printable(file.file.as_deref().unwrap_or("?"))
        )
    }
}

impl Block {
    /// `-P`: the distribution of request sizes.
    fn size_lines(&self) -> String {
        let line = |name: &str, sizes: Option<[u64; 9]>| {
            let sizes = sizes.unwrap_or_default();
            let all: u64 = sizes.iter().sum();
            if all == 0 {
                return String::new();
            }
            let of_size = SIZES.iter().zip(sizes).filter(|(_, n)| *n > 0);
            let share =
                |(size, n): (&&str, u64)| format!(" {size} {:.1}%", n as f64 * 100.0 / all as f64);
            let shares: String = of_size.map(share).collect();
            format!("    {name} by size:{shares}\n")
        };
        line("reads", self.rd_sizes) + &line("writes", self.wr_sizes)
    }
}

/// Bytes with binary prefixes.
fn size(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["", "K", "M", "G"] {
        if value < 1024.0 {
            return match unit {
                "" => format!("{value:.0}"),
                unit => format!("{value:.1}{unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}

/// A time in milliseconds, as text.
fn time(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), |ns| format!("{:.3}", ns as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::companion::Row;

    fn io(who: Option<Who>, of: Of) -> Io {
        Io {
            companion: "iofsstat",
            time: Time(0),
            cycle_ns: 2_000_000_000,
            dev: "vda".into(),
            who,
            rd_count: 0,
            rd_bytes: 0,
            wr_count: 6,
            wr_bytes: 4 << 20,
            of,
        }
    }

    fn dd() -> Who {
        Who {
            comm: "dd".into(),
            pid: 8,
            tgid: 7,
            container: Some("ab".into()),
        }
    }

    #[test]
    fn requests_of_a_process_in_text() {
        let block = Block {
            wr_latency: Some(Latency {
                q2c_ns: 1_500_000,
                q2c_max_ns: 2_000_000,
                ..Latency::default()
            }),
            wr_sizes: Some([3, 0, 0, 0, 0, 0, 0, 0, 1]),
            ..Block::default()
        };
        let text = io(Some(dd()), Of::Block(Box::new(block))).text();
        let lines: Vec<Vec<_>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        let row = "dd 8 0.0 0 3.0 2.0M vda - - 1.500 - [containerId:ab]";
        assert_eq!(lines[0].join(" "), row);
        assert_eq!(lines[1].join(" "), "writes by size: 4K 75.0% large 25.0%");
        let headings = block_header().split_whitespace().count();
        assert_eq!(headings, lines[0].len() - 1);
    }

    #[test]
    fn pages_of_nobody_known_are_said_to_be() {
        let part = Part {
            via: "kworker/u8:1".into(),
            via_pid: 30,
            pages: Pages::Earlier,
            file: Some("/a b".into()),
            inode: Some(12),
        };
        let row = io(None, Of::Part(part));
        assert_eq!(row.text(), "|----?:?:? 2.0M vda /a b\n");
        let json = Row::Io(row).json();
        assert!(!json.contains("comm") && json.contains(r#""pages":"earlier""#));
    }

    #[test]
    fn a_file_in_text_and_json() {
        let file = File {
            file: None,
            inode: 12,
        };
        let row = io(Some(dd()), Of::File(file));
        let words: Vec<_> = row.text().split_whitespace().map(str::to_owned).collect();
        let wanted = "dd 7 8 0 0 6 2.0M 12 vda ? [containerId:ab]";
        assert_eq!(words.join(" "), wanted);
        let json = Row::Io(row).json();
        assert!(json.starts_with(r#"{"type":"io","companion":"iofsstat""#));
        assert!(json.contains(r#""tgid":7"#) && !json.contains("\"file\""));
    }

    #[test]
    fn sizes_are_read_easily() {
        for (bytes, text) in [
            (0.0, "0"),
            (1023.0, "1023"),
            (1536.0, "1.5K"),
            (8_388_608.0, "8.0M"),
            (1e15, "909.5T"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
