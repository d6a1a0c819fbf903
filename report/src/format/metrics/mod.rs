//! Metrics for Prometheus: from what is known of each target to a page in one of its formats. Pure.

mod encode; // families in a format
mod family; // families of metrics, as plain data
mod page; // what families there are
mod room; // how many series there may be
mod view; // what a page is made from

pub use encode::{Form, encode};
pub use family::{Family, Kind, Sample, Value};
pub use page::page;
pub use room::Room;
pub use view::{ArmingView, NodeTotals, NodeView, Process, ServerView, TargetView};

#[cfg(test)]
mod deployed; // what others name of it
#[cfg(test)]
mod tests;
