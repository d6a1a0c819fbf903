//! What the thread that reads counters is asked.

use report::model::Moved;
use std::sync::mpsc::SyncSender;

/// A request to the thread.
pub(super) enum Request {
    /// Probes pass the device with this index.
    Device(u32),
    /// A probe to this target was slow or lost from when to when, `CLOCK_MONOTONIC` ns.
    Slow(u32, (u64, u64)),
    /// What moved while probes to this target were slow or lost, until now.
    Result(u32, SyncSender<Option<Moved>>),
}
