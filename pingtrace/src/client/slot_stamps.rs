//! What this host's programs saw of a probe.

use report::model::{KernelDrop, Stamp};

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
