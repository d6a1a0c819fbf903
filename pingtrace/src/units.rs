//! Clocks and their zone, and the durations and sizes that a user types.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fs;
use std::num::NonZeroU8;
use std::sync::LazyLock;
use std::time::Duration;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// By how much `CLOCK_MONOTONIC` in this process's time namespace is ahead of the host's, ns. The
/// kernel's programs stamp with the host's clock.
static NAMESPACE_OFFSET_NS: LazyLock<i64> = LazyLock::new(|| {
    // Kernels before 5.6 have no time namespaces, and no such file.
    let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    monotonic_offset(&text).unwrap_or(0)
});

/// The line of `/proc/PID/timens_offsets` for `CLOCK_MONOTONIC`: its name, seconds, nanoseconds.
pub(crate) fn monotonic_offset(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|l| l.strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, ns) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(SECOND.cast_signed())?.checked_add(ns)
}

/// `CLOCK_MONOTONIC` of the host, nanoseconds, also inside a time namespace; the clock of every
/// stamp.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic).wrapping_sub(NAMESPACE_OFFSET_NS.cast_unsigned())
}

/// Sleeps until [`monotonic_ns`] is this, or a signal comes.
pub fn sleep_until(ns: u64) {
    let ns = ns.wrapping_add(NAMESPACE_OFFSET_NS.cast_unsigned());
    let at = Timespec {
        tv_sec: (ns / SECOND).cast_signed(),
        tv_nsec: (ns % SECOND).cast_signed(),
    };
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}

/// `CLOCK_REALTIME`, nanoseconds since the Unix epoch.
pub fn realtime_ns() -> i64 {
    nanoseconds(ClockId::Realtime).cast_signed()
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub unix_ns: i64,
}

impl Time {
    /// Now. A thread that loses its CPU between the two clocks reads them apart: the pair counts that was read
    /// fastest.
    pub fn now() -> Self {
        const PAIRS: usize = 4;
        let read = |_| {
            let ns = monotonic_ns();
            let unix_ns = realtime_ns();
            (monotonic_ns() - ns, Self { ns, unix_ns })
        };
        let pairs: [_; PAIRS] = std::array::from_fn(read);
        let fastest = pairs.iter().min_by_key(|(took_ns, _)| *took_ns);
        fastest.unwrap_or(&pairs[0]).1
    }
}

/// From now on local time is UTC, in all that this process writes and in its schedules. To be called
/// before there is a second thread.
#[expect(unsafe_code, reason = "the environment is the only place for the zone")]
pub fn use_utc() {
    // SAFETY: there is no other thread yet that could read the environment.
    unsafe { std::env::set_var("TZ", "UTC0") };
}

/// CPU time of this process, user and system, nanoseconds.
pub fn process_cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

/// CPU time of this thread, user and system, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let t = clock_gettime(clock);
    t.tv_sec.cast_unsigned() * SECOND + t.tv_nsec.cast_unsigned()
}

/// A duration; `plain` is the unit, in nanoseconds, of a number without one.
fn duration(text: &str, plain: u64) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err(format!("'{text}' is not a duration, e.g. 10ms"));
    }
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit.trim() {
        "" => plain,
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" | "min" => 60 * SECOND,
        "h" => 3600 * SECOND,
        other => return Err(format!("unknown unit '{other}': use ns, us, ms, s, m or h")),
    };
    let value: f64 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a duration, e.g. 10ms"))?;
    let ns = value * scale as f64;
    if !(0.0..1e18).contains(&ns) {
        return Err(format!("'{text}' is out of range"));
    }
    Ok(Duration::from_nanos(ns.round() as u64))
}

/// A duration whose plain number is in microseconds.
pub fn microseconds(text: &str) -> Result<Duration, String> {
    duration(text, 1_000)
}

/// A duration whose plain number is in milliseconds.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    duration(text, 1_000_000)
}

/// A duration whose plain number is in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    duration(text, SECOND)
}

/// Below this interval a plain number is refused: such a load must be intended, so it needs a unit.
const FLOOD: Duration = Duration::from_millis(1);

/// A time between probes. A plain number is in microseconds; below `FLOOD` it is refused, because
/// users of other tools mean seconds.
pub fn interval(text: &str) -> Result<Duration, String> {
    let hint = "0 would flood: use -A to send the next probe at each reply";
    let interval = some(microseconds(text)?, hint)?;
    let is_plain = text.ends_with(|last: char| last.is_ascii_digit() || last == '.');
    if is_plain && interval < FLOOD {
        let rate = 1.0 / interval.as_secs_f64();
        return Err(format!(
            "without a unit this is {text} us, {rate:.0} probes a second: \
             use -i {text}s or -i {text}ms, or -i {text}us if the flood is meant"
        ));
    }
    Ok(interval)
}

/// How long to run.
pub fn run_time(text: &str) -> Result<Duration, String> {
    let hint = "0 would end before anything is measured: leave it out for an endless run";
    some(seconds(text)?, hint)
}

/// How many probes to send.
pub fn count(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|count| *count > 0);
    number.ok_or_else(|| {
        format!(
            "'{text}' is not a number of probes from 1 to {}: leave -C out for an endless run",
            u32::MAX
        )
    })
}

/// Upper bound on the flows of a run: each has a distribution of its own.
const MAX_FLOWS: u8 = 64;

/// A number of flows.
pub fn flows(text: &str) -> Result<NonZeroU8, String> {
    let number: Option<NonZeroU8> = text.parse().ok();
    let number = number.filter(|flows| flows.get() <= MAX_FLOWS);
    number.ok_or_else(|| format!("'{text}' is not a number of flows from 1 to {MAX_FLOWS}"))
}

/// The size of a message, bytes; whether it fits is found out with the route.
pub fn message_size(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("'{text}' is not a number of bytes, e.g. 512"))
}

/// How long to wait for a reply.
pub fn timeout(text: &str) -> Result<Duration, String> {
    some(seconds(text)?, "0 would call every probe late")
}

/// The length of a run of memleak: nothing has a trend in less than a second.
pub fn look(text: &str) -> Result<Duration, String> {
    let time = seconds(text)?;
    if time < Duration::from_secs(1) {
        return Err("nothing has a trend in less than 1 s".to_owned());
    }
    Ok(time)
}

fn some(time: Duration, hint: &str) -> Result<Duration, String> {
    if time.is_zero() {
        Err(hint.to_owned())
    } else {
        Ok(time)
    }
}

/// Bytes, with K, M or G for powers of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let (number, scale) = match trimmed.char_indices().last() {
        Some((i, 'k' | 'K')) => (&trimmed[..i], 1 << 10),
        Some((i, 'm' | 'M')) => (&trimmed[..i], 1 << 20),
        Some((i, 'g' | 'G')) => (&trimmed[..i], 1 << 30),
        _ => (trimmed, 1),
    };
    let value: u64 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a size, e.g. 256M"))?;
    value
        .checked_mul(scale)
        .ok_or_else(|| format!("'{text}' is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        let text = "monotonic        -5     250000000\nboottime          7         0\n";
        assert_eq!(monotonic_offset(text), Some(-4_750_000_000));
        assert_eq!(monotonic_offset("monotonic 3 0\n"), Some(3_000_000_000));
        assert_eq!(monotonic_offset(""), None);
    }

    #[test]
    fn durations_have_the_plain_unit_of_their_option() {
        assert_eq!(microseconds("500"), Ok(Duration::from_micros(500)));
        assert_eq!(seconds("2"), Ok(Duration::from_secs(2)));
        assert_eq!(microseconds("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(seconds("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(microseconds("100ns"), Ok(Duration::from_nanos(100)));
        for bad in ["", "ms", "1x", "-1", "1e99s", "1.2.3"] {
            assert!(microseconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interval_that_floods_needs_its_unit() {
        for plain in ["1", "0.2", "50", "999"] {
            let said = interval(plain).unwrap_err();
            assert!(said.contains(&format!("{plain} us")), "{said}");
            assert!(said.contains(&format!("-i {plain}s ")), "{said}");
            assert!(said.contains(&format!("-i {plain}us")), "{said}");
            assert!(interval(&format!("{plain}us")).is_ok(), "{plain}us");
        }
        assert_eq!(interval("1000"), Ok(Duration::from_millis(1)));
        assert_eq!(interval("1s"), Ok(Duration::from_secs(1)));
        assert!(interval("0").unwrap_err().contains("-A"));
        assert!(interval("0us").unwrap_err().contains("-A"));
    }

    #[test]
    fn what_would_measure_nothing_is_refused() {
        for text in ["0", "-5", "-5s", "0ms"] {
            assert!(run_time(text).is_err(), "{text}");
        }
        for text in ["0", "-5", "", "1.5", "x", "4294967296"] {
            assert!(count(text).unwrap_err().contains("endless"), "{text}");
        }
        assert_eq!(count("7"), Ok(7));
        assert!(message_size("-5").is_err());
    }

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("256M"), Ok(256 << 20));
        assert_eq!(bytes("1g"), Ok(1 << 30));
        assert_eq!(bytes(" \u{2003}5k "), Ok(5 << 10));
        for bad in ["", "M", "1T", "-5", "99999999999G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
