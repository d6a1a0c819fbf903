//! When a counter has moved.
//!
//! What was counted outside, and [`UNSEEN`] more, is an upper bound on the usual rate: a counter that stood
//! still for a time has, with 95 %, a mean of at most three in that time. What that rate would bring in the time
//! inside is what is usual there. A counter of trouble (drops, errors, retransmissions, exceeded allowances) has
//! moved if it grew by more than [`TROUBLE`] times that. Any other, such as of packets, comes in bursts for many
//! reasons: it must have grown by more than [`TRAFFIC`] times that, in at least two windows and in half of all.

/// Events that may have failed to happen by chance.
const UNSEEN: u64 = 3;
/// How many times the usual rate trouble must exceed.
const TROUBLE: u64 = 3;
/// How many times all else must.
const TRAFFIC: u64 = 10;

/// Parts of the names of counters of trouble, in lower case.
const WORDS: [&str; 24] = [
    "drop",
    "error",
    "errs",
    "_err",
    "miss",
    "fail",
    "discard",
    "overflow",
    "overrun",
    "overlimit",
    "exceed",
    "squeez",
    "timeout",
    "retrans",
    "lost",
    "pause",
    "no_buf",
    "nobuf",
    "requeue",
    "prune",
    "abort",
    "collision",
    "fifo",
    "flow_limit",
];

/// What was counted of one counter, inside and outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) inside: u64,
    pub(super) outside: u64,
    /// In how many windows it grew.
    pub(super) windows: u64,
}

/// The times of a run, and its windows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) inside_ns: u64,
    pub(super) outside_ns: u64,
    pub(super) windows: u64,
}

/// Whether it grows only when something goes wrong, by its name.
pub(super) fn is_trouble(name: &str) -> bool {
    let name = name.to_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Whether it moved.
pub(super) fn has_moved(name: &str, counted: Counted, times: Times) -> bool {
    let excess = excess(counted, times);
    if is_trouble(name) {
        excess > TROUBLE as f64
    } else {
        let often = counted.windows >= 2 && 2 * counted.windows >= times.windows;
        often && excess > TRAFFIC as f64
    }
}

/// How many times the most that is usual inside it grew there; 0 if nothing is known of what is usual.
pub(super) fn excess(counted: Counted, times: Times) -> f64 {
    if times.outside_ns == 0 || times.inside_ns == 0 {
        return 0.0;
    }
    let share = times.inside_ns as f64 / times.outside_ns as f64;
    let usual = (counted.outside.saturating_add(UNSEEN)) as f64 * share;
    counted.inside as f64 / usual
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        inside_ns: 1_000_000_000,
        outside_ns: 10_000_000_000,
        windows: 3,
    };

    #[track_caller]
    fn check(name: &str, (inside, windows, outside): (u64, u64, u64), moved: bool) {
        let counted = Counted {
            inside,
            outside,
            windows,
        };
        assert_eq!(has_moved(name, counted, TIMES), moved, "{name} {counted:?}");
    }

    #[test]
    fn trouble_moves_if_it_exceeds_its_usual_rate() {
        check("rx_missed_errors", (412, 3, 0), true);
        check("drops", (1, 1, 0), true);
        check("drops", (0, 0, 0), false);
        // 31 in the tenfold time outside are 3 here, or 4 with luck.
        check("drops", (4, 3, 31), false);
        check("drops", (40, 3, 31), true);
        check("bw_in_allowance_exceeded", (20, 1, 2), true);
    }

    #[test]
    fn traffic_must_do_so_in_most_windows() {
        check("rx_packets", (1000, 3, 10_000), false);
        check("rx_packets", (9000, 3, 10_000), false);
        check("rx_packets", (11_000, 3, 10_000), true);
        check("InEchos", (20, 1, 0), false);
        check("InEchos", (20, 2, 0), true);
    }

    #[test]
    fn nothing_is_known_without_quiet_time() {
        let never = Times {
            outside_ns: 0,
            ..TIMES
        };
        let counted = Counted {
            inside: 1000,
            outside: 0,
            windows: 1,
        };
        assert!(!has_moved("drops", counted, never));
        // As much time inside as outside: the chance of a few is not small.
        let half = Times {
            outside_ns: TIMES.inside_ns,
            ..TIMES
        };
        let few = Counted {
            inside: 9,
            ..counted
        };
        assert!(!has_moved("drops", few, half));
        assert!(has_moved("drops", counted, half));
    }

    #[test]
    fn names_of_trouble() {
        for name in [
            "rx_missed_errors",
            "TCPRetransSegs",
            "RetransSegs",
            "time_squeeze",
            "TCPBacklogDrop",
            "rx_pause_ctrl_phy",
            "pps_allowance_exceeded",
            "conntrack_allowance_exceeded",
            "rx_out_of_buffer_drop",
            "tbf overlimits",
            "ListenOverflows",
        ] {
            assert!(is_trouble(name), "{name}");
        }
        for name in ["rx_packets", "interrupts", "InEchos", "OutMsgs", "tx_bytes"] {
            assert!(!is_trouble(name), "{name}");
        }
    }
}
