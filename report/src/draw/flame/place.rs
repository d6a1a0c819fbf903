//! Where each frame stands: its level, and its part of the width in units of weight.

use crate::companion::profile::{Flame, Node};
use crate::units::share;

/// Frames of less than this part of all are left out: they would be a tenth of a pixel wide.
const FINEST: u64 = 14_000;

/// A frame in its place.
pub(super) struct Frame<'a> {
    /// The frame.
    pub node: &'a Node,
    /// How many frames stand above it.
    pub level: usize,
    /// The weight of everything to its left.
    pub start: u64,
}

/// All frames that are wide enough, callers before what they call.
pub(super) fn frames(flame: &Flame) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    let min = flame.root.value / FINEST;
    let mut open = vec![Frame {
        node: &flame.root,
        level: 0,
        start: 0,
    }];
    while let Some(frame) = open.pop() {
        let mut start = frame.start;
        for child in &frame.node.children {
            if child.value > min {
                open.push(Frame {
                    node: child,
                    level: frame.level + 1,
                    start,
                });
            }
            start += child.value;
        }
        frames.push(frame);
    }
    frames
}

/// What is under the pointer: `vfs_read: 12 samples (1.20 %)`.
pub(super) fn words(flame: &Flame, node: &Node) -> String {
    let value = flame.measure.text(node.value);
    format!(
        "{}: {value}{}",
        node.name,
        share(node.value, flame.root.value, 2)
    )
}
