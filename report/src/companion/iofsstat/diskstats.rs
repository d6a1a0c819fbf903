//! `/proc/diskstats` (Documentation/admin-guide/iostats.rst) and the rates of iostat.

use serde::Serialize;

/// A sector of these counters, whatever the device's own is.
const SECTOR: u64 = 512;

/// A line: a disk or a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub major: u32,
    /// See `major`.
    pub minor: u32,
    /// Its name.
    pub name: String,
    /// Its counters since it exists.
    pub counters: Counters,
}

/// What a device counted. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads completed.
    pub reads: u64,
    /// Reads merged into another one.
    pub reads_merged: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Time of all reads together.
    pub read_ms: u64,
    /// Writes completed.
    pub writes: u64,
    /// Writes merged into another one.
    pub writes_merged: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Time of all writes together.
    pub write_ms: u64,
    /// Time in which something was in flight.
    pub busy_ms: u64,
}

/// A line that is not one of diskstats.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of diskstats is '{text}', not numbers, a name and at least 11 counters")]
pub struct Malformed {
    line: usize,
    text: String,
}

/// Reads the file; columns that later kernels added (discards, flushes) are left out.
pub fn parse(text: &str) -> Result<Vec<Device>, Malformed> {
    let malformed = |(n, line): (usize, &str)| Malformed {
        line: n + 1,
        text: line.to_owned(),
    };
    let lines = text.lines().enumerate();
    lines
        .map(|(n, line)| device(line).ok_or_else(|| malformed((n, line))))
        .collect()
}

fn device(line: &str) -> Option<Device> {
    let mut words = line.split_ascii_whitespace();
    let major = words.next()?.parse().ok()?;
    let minor = words.next()?.parse().ok()?;
    let name = words.next()?.to_owned();
    let mut next = || words.next()?.parse::<u64>().ok();
    let counters = Counters {
        reads: next()?,
        reads_merged: next()?,
        read_bytes: next()?.wrapping_mul(SECTOR),
        read_ms: next()?,
        writes: next()?,
        writes_merged: next()?,
        written_bytes: next()?.wrapping_mul(SECTOR),
        write_ms: next()?,
        busy_ms: {
            let _in_flight = next()?;
            next()?
        },
    };
    next()?;
    Some(Device {
        major,
        minor,
        name,
        counters,
    })
}

impl Counters {
    /// The counts since an earlier reading. Times have 32 bits in the kernel and wrap; a device that was
    /// removed and added again counts from 0, which shows as no activity.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let count = u64::saturating_sub;
        let time = |now: u64, then: u64| u64::from((now as u32).wrapping_sub(then as u32));
        Self {
            reads: count(self.reads, earlier.reads),
            reads_merged: count(self.reads_merged, earlier.reads_merged),
            read_bytes: count(self.read_bytes, earlier.read_bytes),
            read_ms: time(self.read_ms, earlier.read_ms),
            writes: count(self.writes, earlier.writes),
            writes_merged: count(self.writes_merged, earlier.writes_merged),
            written_bytes: count(self.written_bytes, earlier.written_bytes),
            write_ms: time(self.write_ms, earlier.write_ms),
            busy_ms: time(self.busy_ms, earlier.busy_ms),
        }
    }

    /// Reads and writes, merged ones too.
    pub fn is_idle(&self) -> bool {
        self.reads + self.writes == 0
    }

    /// Rates, when this was counted in `elapsed_ns`.
    pub fn rates(&self, elapsed_ns: u64) -> Rates {
        let seconds = elapsed_ns.max(1) as f64 / 1e9;
        let rate = |count: u64| count as f64 / seconds;
        let mean_ns = |ms: u64, count: u64| (ms * 1_000_000).checked_div(count);
        Rates {
            r_rqm: rate(self.reads_merged),
            w_rqm: rate(self.writes_merged),
            r_iops: rate(self.reads),
            w_iops: rate(self.writes),
            r_bps: rate(self.read_bytes),
            w_bps: rate(self.written_bytes),
            wait_ns: mean_ns(self.read_ms + self.write_ms, self.reads + self.writes),
            r_wait_ns: mean_ns(self.read_ms, self.reads),
            w_wait_ns: mean_ns(self.write_ms, self.writes),
            util_percent: (self.busy_ms as f64 / seconds / 10.0).min(100.0),
        }
    }
}

/// What a device did in a cycle, a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Reads merged.
    pub r_rqm: f64,
    /// Writes merged.
    pub w_rqm: f64,
    /// Reads completed.
    pub r_iops: f64,
    /// Writes completed.
    pub w_iops: f64,
    /// Bytes read.
    pub r_bps: f64,
    /// Bytes written.
    pub w_bps: f64,
    /// Mean time of a request from its queue to its completion, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ns: Option<u64>,
    /// The same of reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r_wait_ns: Option<u64>,
    /// The same of writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub w_wait_ns: Option<u64>,
    /// Share of the time in which something was in flight.
    pub util_percent: f64,
}
