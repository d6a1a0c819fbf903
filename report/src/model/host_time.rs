//! The times of two hosts are two types. Each host has a clock of its own, so a time of one minus
//! a time of the other means nothing. Where both are one kernel's, `ClockRelation` converts them; else only
//! the clock model ([`crate::analysis::clock`]) joins them.
//!
//! ```
//! use report::model::host_time::{ClientNs, ServerNs};
//! assert_eq!(ClientNs(300).since(ClientNs(100)), 200);
//! assert_eq!(ServerNs(300).since(ServerNs(100)), 200);
//! ```
//!
//! ```compile_fail,E0308
//! use report::model::host_time::{ClientNs, ServerNs};
//! ServerNs(300).since(ClientNs(100));
//! ```
//!
//! ```compile_fail,E0369
//! use report::model::host_time::{ClientNs, ServerNs};
//! ServerNs(300) - ClientNs(100);
//! ```

/// A time of one host's clock.
pub(crate) trait HostTime: Copy + Ord {
    /// Before any other.
    const MIN: Self;
    /// After any other.
    const MAX: Self;

    /// Nanoseconds from an earlier time to this one; 0 if it is not earlier.
    fn since(self, earlier: Self) -> u64;
}

macro_rules! host_time {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// Nanoseconds from an earlier time to this one; 0 if it is not earlier.
            #[must_use]
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }

            /// Nanoseconds from an earlier time to this one; `None` if it is later.
            #[must_use]
            pub const fn checked_since(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }
        }

        impl HostTime for $name {
            const MIN: Self = Self(0);
            const MAX: Self = Self(u64::MAX);

            fn since(self, earlier: Self) -> u64 {
                self.since(earlier)
            }
        }
    };
}

host_time!(ClientNs, "`CLOCK_MONOTONIC` of the client, nanoseconds.");
host_time!(ServerNs, "`CLOCK_MONOTONIC` of the server, nanoseconds.");
