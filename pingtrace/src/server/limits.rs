//! What a server does not send on top of the kernel's echo, and why: it never becomes an amplifier.

use std::collections::HashMap;
use std::net::IpAddr;
use strum::VariantArray as _;

/// Stamp packets a second: to one client, and to all.
const SOURCE_RATE: u64 = 20_000;
const TOTAL_RATE: u64 = 50_000;
/// Packets a second that have only a cookie, to all: their addresses may be forged.
const COOKIE_RATE: u64 = 100;
/// Upper bound on clients whose rate is remembered.
const MAX_SOURCES: usize = 4096;
/// What a bucket holds.
const BURST_NS: u64 = 100_000_000;

/// Why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
#[repr(u8)]
pub enum Withheld {
    /// The request returned no valid cookie.
    Unproven,
    /// The probe has had its packet.
    Second,
    /// A version 0 request has no room for a stamp.
    TooSmall,
    /// The client's own rate limit.
    SourceLimit,
    /// The rate limit of all clients.
    TotalLimit,
    /// The rate limit of packets that have only a cookie.
    CookieLimit,
}

impl Withheld {
    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Unproven => "probes that returned no cookie yet",
            Self::Second => "a second packet for a probe",
            Self::TooSmall => "version 0 requests without room for a stamp (see --v0)",
            Self::SourceLimit => "rate limit of one client",
            Self::TotalLimit => "rate limit of all clients",
            Self::CookieLimit => "rate limit of cookies alone",
        }
    }
}

/// How many packets were not sent, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts([u64; Withheld::VARIANTS.len()]);

impl Counts {
    /// One more.
    pub fn add(&mut self, why: Withheld) {
        self.0[why as usize] += 1;
    }

    /// All reasons, with their counts.
    pub fn all(&self) -> impl Iterator<Item = (Withheld, u64)> {
        Withheld::VARIANTS.iter().copied().zip(self.0)
    }
}

/// What keeps a flood of requests from becoming a flood of stamp packets.
#[derive(Debug, Default)]
pub struct Limits {
    sources: HashMap<IpAddr, Bucket>,
    total: Bucket,
    cookies: Bucket,
    /// The most that was in use of the bucket of one client, and of that of all, ns.
    most_ns: [u64; 2],
}

impl Limits {
    /// Takes room for one more packet to this client at `now`, `CLOCK_MONOTONIC` ns.
    pub fn take(&mut self, now: u64, to: IpAddr) -> Result<(), Withheld> {
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&to) {
            self.sources.clear();
        }
        let source = self.sources.entry(to).or_default();
        let taken = source.take(now, SOURCE_RATE).ok_or(Withheld::SourceLimit)?;
        self.most_ns[0] = self.most_ns[0].max(taken);
        let taken = self.total.take(now, TOTAL_RATE);
        let taken = taken.ok_or(Withheld::TotalLimit)?;
        self.most_ns[1] = self.most_ns[1].max(taken);
        Ok(())
    }

    /// Takes room for one more packet that has only a cookie.
    pub fn take_cookie(&mut self, now: u64) -> Result<(), Withheld> {
        let taken = self.cookies.take(now, COOKIE_RATE);
        taken.map(|_| ()).ok_or(Withheld::CookieLimit)
    }

    /// How much of the limit of one client, and of that of all, was ever in use, in percent.
    pub fn most_percent(&self) -> [u64; 2] {
        self.most_ns.map(|ns| (ns * 100).div_ceil(BURST_NS))
    }
}

/// A token bucket that holds a tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// When the bucket would have been empty, monotonic ns.
    empty_ns: u64,
}

impl Bucket {
    /// Takes one packet; returns what is in use of the bucket then, ns.
    fn take(&mut self, now: u64, per_second: u64) -> Option<u64> {
        let full = now.saturating_sub(BURST_NS);
        let after = self.empty_ns.max(full) + crate::units::SECOND / per_second;
        if after > now {
            return None;
        }
        self.empty_ns = after;
        Some(after - full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let start = 10 * crate::units::SECOND;
        let mut taken = |at, tries| {
            (0..tries)
                .filter(|_| bucket.take(at, 1000).is_some())
                .count()
        };
        assert_eq!(taken(start, 1000), 100);
        assert_eq!(taken(start + crate::units::SECOND / 100, 1000), 10);
    }

    #[test]
    fn many_sources_share_one_limit_and_little_memory() {
        let mut limits = Limits::default();
        let start = 10 * crate::units::SECOND;
        let client = |n: usize| IpAddr::from(Ipv6Addr::from(n as u128));
        let burst = |limits: &mut Limits, now, sources: usize, each: usize| {
            let asked = (0..sources * each).map(|n| client(n % sources));
            asked.filter(|to| limits.take(now, *to).is_ok()).count() as u64
        };
        assert_eq!(burst(&mut limits, start, 1, 9_000), SOURCE_RATE / 10);
        assert_eq!(limits.most_percent(), [100, 40]);
        let rest = (TOTAL_RATE - SOURCE_RATE) / 10;
        assert_eq!(burst(&mut limits, start, 90_000, 1), rest);
        assert!(limits.sources.len() <= MAX_SOURCES);
        let later = start + crate::units::SECOND / 100;
        assert_eq!(burst(&mut limits, later, 9_000, 1), TOTAL_RATE / 100);
        assert_eq!(limits.most_percent(), [100, 100]);
    }

    #[test]
    fn the_use_of_the_limits_is_known() {
        let mut limits = Limits::default();
        let start = 10 * crate::units::SECOND;
        for _ in 0..SOURCE_RATE / 20 {
            assert_eq!(limits.take(start, IpAddr::from([10, 0, 0, 1])), Ok(()));
        }
        assert_eq!(limits.most_percent(), [50, 20]);
    }
}
