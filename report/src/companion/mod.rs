//! What the companions find: rows of text and JSON lines, one enum for all of them, and the chart
//! that a companion's picture is drawn from.
//!
//! Times are integer nanoseconds and sizes bytes; what is unknown is absent in JSON and `-` in
//! text. Every companion ends with a [`Summary`], which says what was lost.

mod time;

// What they find.
mod event; // irqoff, nosched, runqlat: something took longer than it may
pub mod iofsstat;
pub mod memleak;
pub mod profile;
mod waits; // runqlat: distributions

// How it is shown.
mod chart; // a picture
mod row; // a row of any of them
mod summary; // the last one
mod tally; // events so far, and their picture

pub use crate::units::Unit;
pub use chart::{Bar, Bars, Chart, Histogram, Mark, Panel, Series, Stacked, Timeline};
pub use event::{
    Event, Frame, Kind, Ran, beyond_interrupt, beyond_tracing, event_header, function_of,
};
pub use row::Row;
pub use summary::Summary;
pub use tally::Tally;
pub use time::Time;
pub use waits::{Form, Group, Lengths, Waits};
