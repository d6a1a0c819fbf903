//! What this host's programs saw of a probe.

use bpf::pingtrace::types::{pt_stamp, pt_stamp_slot};
use report::model::{KernelDrop, Stamp};
use std::mem::offset_of;

/// Upper bound on a server's stamps of a probe: those of a slot, in both directions.
pub const MAX_REMOTE: usize =
    (size_of::<pt_stamp_slot>() - offset_of!(pt_stamp_slot, stamp)) / size_of::<pt_stamp>();

/// What the slot of a probe in the kernel's table held. Its memory is used again.
#[derive(Clone, Debug, Default)]
pub struct SlotStamps {
    /// Stamps of the request, in their order.
    pub request: Vec<Stamp>,
    /// Of the reply.
    pub reply: Vec<Stamp>,
    /// The last packet of the probe that this host's kernel dropped.
    pub drop: Option<KernelDrop>,
    /// Number of stamps with an unknown point.
    pub unknown: u64,
}

impl SlotStamps {
    /// Makes room for another probe's.
    pub fn clear(&mut self) {
        self.request.clear();
        self.reply.clear();
        self.drop = None;
        self.unknown = 0;
    }

    /// Nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.reply.is_empty() && self.drop.is_none()
    }
}
