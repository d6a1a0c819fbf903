//! The vocabulary of pingtrace, in the order of the flow. Plain data and its names: nothing here imports
//! another room.

mod blame;
mod breakdown;
mod capture;
mod clock;
mod cost;
mod counters;
mod delay_stat;
mod direction;
mod doubt;
mod drop;
mod finding;
mod flow;
mod host;
pub mod host_time;
mod loss;
mod names;
mod objective;
pub(crate) mod path;
mod point;
mod probe;
mod probe_result;
mod run;
mod segment;
pub mod send_error;
mod stamp;
mod summary;
#[cfg(test)]
mod tests;
mod verdict;
mod way;

pub use blame::{Blame, BlameCount, BlameSummary, Class, Part};
pub use breakdown::{Breakdown, Delay, Mark, Marks, WireExcess};
pub use capture::{Bucket, Capture};
pub use clock::{ClockSummary, Counts, State};
pub use cost::{OwnCost, ProgramCost};
pub use counters::Counters;
pub use delay_stat::DelayStat;
pub use direction::Direction;
pub use doubt::{Doubt, Unseen};
pub use drop::{KernelDrop, Symbol};
pub use finding::{Check, Finding, Hook, HookUser, HostReport, Level, Measured};
pub use flow::{Above, FlowStat};
pub use host::Host;
pub use loss::{Loss, LossCount, Place};
pub use names::Names;
pub use objective::{Judged, Value};
pub use point::Point;
pub use probe::{ClockRelation, Probe, Status, Ttl};
pub use probe_result::ProbeResult;
pub use run::{Endpoint, Run, Saved, Target};
pub use segment::{Owner, Segment};
pub use stamp::{AtDevice, Device, Ifindex, Netns, Stamp, StampFlags};
pub use summary::{Slow, Spread, Summary, Trip, Variation};
pub use verdict::{Cause, Certainty, Verdict};
pub use way::{Kept, Stretch, WayPart, WayTime};
