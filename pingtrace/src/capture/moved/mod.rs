//! `--explain`: counters of this host that moved while probes were slow or lost. A thread reads them at a bounded
//! pace; each target says when its probes were slow or lost.

mod proc;
mod readings;
mod request;
mod sampler;
mod target;

pub use sampler::Sampler;
pub use target::OfTarget;
