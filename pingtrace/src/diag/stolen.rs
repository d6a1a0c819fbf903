//! Stolen time by CPU: what the hypervisor gave to others (proc(5), `/proc/stat`). The kernel counts it in
//! clock ticks, some time after it was taken.

use std::collections::HashMap;
use std::fs;

/// Time stolen between two readings.
pub struct Stolen {
    before: HashMap<u32, u64>,
    taken_ns: HashMap<u32, u64>,
}

impl Stolen {
    /// Starts with the counters as they are now.
    pub fn new() -> Self {
        Self {
            before: read_steal(),
            taken_ns: HashMap::new(),
        }
    }

    /// Reads the counters, and keeps what was stolen since the last reading.
    pub fn update(&mut self) {
        let now = read_steal();
        let taken = |(cpu, ns): (&u32, &u64)| {
            let before = self.before.get(cpu).copied().unwrap_or(*ns);
            (*cpu, ns.saturating_sub(before))
        };
        self.taken_ns = now.iter().map(taken).collect();
        self.before = now;
    }

    /// Whether at least half of `ns` may be stolen time.
    pub fn explains(&self, cpu: u32, ns: u64) -> bool {
        self.taken_ns.get(&cpu).copied().unwrap_or(0) * 2 >= ns
    }
}

/// Stolen time since boot by CPU, ns.
fn read_steal() -> HashMap<u32, u64> {
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    steal(
        &fs::read_to_string("/proc/stat").unwrap_or_default(),
        tick_ns,
    )
}

/// The same of the text of `/proc/stat`, whose clock ticks take `tick_ns`.
pub(crate) fn steal(stat: &str, tick_ns: u64) -> HashMap<u32, u64> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split_whitespace();
        let cpu = words.next()?.parse().ok()?;
        let steal: u64 = words.nth(7)?.parse().ok()?;
        Some((cpu, steal.saturating_mul(tick_ns)))
    };
    stat.lines().filter_map(line).collect()
}
