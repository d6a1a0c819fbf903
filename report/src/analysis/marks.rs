//! What qualifies the times of segments: the marks behind their names.

use crate::model::{Delay, Mark, Segment};

/// Which segments were ever estimated, merged or clamped: what a summary must explain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks([u32; Mark::ALL.len()]);

impl Marks {
    /// Those of one segment of a probe.
    pub fn from_delay(delay: &Delay) -> Self {
        let mut marks = Self::default();
        marks.note(delay);
        marks
    }

    /// Notes the marks of one segment of a probe.
    pub fn note(&mut self, delay: &Delay) {
        let bit = 1 << delay.segment as u32;
        for mark in Mark::ALL.into_iter().filter(|mark| mark.is_on(delay)) {
            self.0[mark as usize] |= bit;
        }
    }

    /// Those of a single segment.
    #[must_use]
    pub fn of(self, segment: Segment) -> Self {
        let bit = 1 << segment as u32;
        Self(self.0.map(|segments| segments & bit))
    }

    /// Those that some segment has.
    pub fn used(self) -> impl Iterator<Item = Mark> {
        let is_used = move |mark: &Mark| self.0[*mark as usize] != 0;
        Mark::ALL.into_iter().filter(is_used)
    }

    /// Their symbols.
    pub fn symbols(self) -> String {
        self.used().map(Mark::symbol).collect()
    }
}
