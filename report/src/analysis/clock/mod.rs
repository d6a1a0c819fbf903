//! The time on the wire between two hosts: how much, in which direction, and how sure.
//!
//! Only differences within one host mean anything when the hosts have a clock each. With `F` the
//! request's arrival minus its departure and `B` the reply's, both across the two clocks,
//! `R = F + B` is free of offset and drift and so exact; its split into the two directions is an
//! estimate, the one of [`ClockModel`]. [`WireSplit`] is the one place where times on the wire are
//! made of it: half of the base round trip in each direction, as no measurement can see the
//! asymmetry of the base path, and the excess over it shared as the model says.

mod base;
mod belief;
mod crossing;
mod estimate;
mod filter;
mod gaussian;
mod split;

pub use crossing::Crossing;
pub use estimate::{Estimate, Event, Glitch, Queue};
pub use filter::ClockModel;
pub(crate) use gaussian::below;
pub use split::{Leg, WireSplit};
