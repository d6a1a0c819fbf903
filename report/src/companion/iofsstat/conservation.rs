//! What iofsstat computes: rates of devices from their counters, whether the rows add up to the devices'
//! counters, which rows are shown, and the paths of files.
//!
//! The hard idea is conservation. A device's counters and the rows cannot be read at one instant, so the
//! counters are read just before and just after the rows are cut off ([`Reading`]). What the device did
//! between two cuts lies between the smallest and the largest value that the readings allow; rows
//! outside of that do not agree. A difference of one request is possible, because the kernel reports its
//! completion just before it counts it.

use super::diskstats::Counters;

/// A device's counters just before and just after the rows were cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Just before.
    pub before: Counters,
    /// Just after.
    pub after: Counters,
}

/// Bytes read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// The bytes of rows beside those of the device's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conservation {
    /// What the rows hold.
    pub rows: Bytes,
    /// What the device counted, from cut to cut.
    pub device: Bytes,
    /// Distance of the rows from the range that the readings allow, in the worse direction.
    pub apart: u64,
    /// The largest request: the difference that is possible between completion and counter.
    pub request: u64,
}

impl Conservation {
    /// Compares the rows between two cuts with what the device did meanwhile.
    pub fn check(from: &Reading, to: &Reading, rows: Bytes, request: u64) -> Self {
        let device = to.after.since(&from.after);
        let min = to.before.since(&from.after);
        let max = to.after.since(&from.before);
        let apart =
            |rows: u64, min: u64, max: u64| min.saturating_sub(rows).max(rows.saturating_sub(max));
        let read = apart(rows.read, min.read_bytes, max.read_bytes);
        let written = apart(rows.written, min.written_bytes, max.written_bytes);
        Self {
            rows,
            device: Bytes {
                read: device.read_bytes,
                written: device.written_bytes,
            },
            apart: read.max(written),
            request,
        }
    }

    /// Whether the rows agree with the device, within one request.
    pub fn agrees(&self) -> bool {
        self.apart <= self.request
    }

    /// In one line, without the newline.
    pub fn text(&self) -> String {
        let apart = match self.apart {
            0 => "agree".to_owned(),
            n if self.agrees() => format!("agree within one request ({n} B apart)"),
            n => format!("{n} B APART"),
        };
        let (rows, device) = (self.rows, self.device);
        format!(
            "rows: read {} of {} B, written {} of {} B: {apart}",
            rows.read, device.read, rows.written, device.written
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(read_bytes: u64, written_bytes: u64) -> Counters {
        Counters {
            read_bytes,
            written_bytes,
            ..Counters::default()
        }
    }

    fn quiet(read: u64, written: u64) -> Reading {
        let now = counters(read, written);
        Reading {
            before: now,
            after: now,
        }
    }

    fn bytes(read: u64, written: u64) -> Bytes {
        Bytes { read, written }
    }

    #[test]
    fn rows_that_hold_what_the_device_counted_agree() {
        let (from, to) = (quiet(1000, 2000), quiet(1000, 10_192));
        let same = Conservation::check(&from, &to, bytes(0, 8192), 4096);
        assert_eq!((same.apart, same.agrees()), (0, true));
        assert_eq!(same.device, bytes(0, 8192));
        assert!(same.text().ends_with("written 8192 of 8192 B: agree"));
    }

    #[test]
    fn one_request_may_be_on_its_way() {
        let (from, to) = (quiet(0, 0), quiet(0, 8192));
        for (rows, apart, agrees) in [(4096, 4096, true), (12_288, 4096, true), (0, 8192, false)] {
            let found = Conservation::check(&from, &to, bytes(0, rows), 4096);
            assert_eq!((found.apart, found.agrees()), (apart, agrees), "{rows}");
        }
        let found = Conservation::check(&from, &to, bytes(0, 0), 4096);
        assert!(found.text().ends_with("8192 B APART"));
        let missing_read = Conservation::check(&quiet(0, 0), &quiet(9000, 0), bytes(1, 0), 4096);
        assert_eq!(missing_read.apart, 8999);
    }

    #[test]
    fn what_happens_while_the_counters_are_read_may_be_on_either_side() {
        let from = quiet(0, 0);
        let to = Reading {
            before: counters(0, 100_000),
            after: counters(0, 300_000),
        };
        for (rows, apart) in [(100_000, 0), (300_000, 0), (99_000, 1000), (300_512, 512)] {
            let found = Conservation::check(&from, &to, bytes(0, rows), 0);
            assert_eq!(found.apart, apart, "{rows}");
        }
    }
}
