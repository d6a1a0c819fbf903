//! When something was found.

use chrono::SecondsFormat;
use serde::{Serialize, Serializer};

/// A moment, nanoseconds since the Unix epoch; RFC 3339 in UTC with microseconds in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    /// Local date and time with microseconds, for people.
    pub fn text(self) -> String {
        let utc = chrono::DateTime::from_timestamp_nanos(self.0);
        utc.with_timezone(&chrono::Local)
            .format("%Y-%m-%d_%H:%M:%S%.6f")
            .to_string()
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let utc = chrono::DateTime::from_timestamp_nanos(self.0);
        serializer.serialize_str(&utc.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}
