//! How high a panel is.

/// Height of a panel's heading, pixels.
pub(super) const HEADING: i32 = 28;

/// How high a panel wants to be, pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Height {
    /// Minimum height: below it, content is lost.
    pub(super) min: i32,
    /// Sufficient height: above it, little is gained.
    pub(super) enough: i32,
    /// Whether it takes room that is left over.
    pub(super) grows: bool,
}

impl Height {
    /// Of a box that says why there is nothing to see.
    pub(super) const EMPTY: Self = Self {
        min: HEADING + 40,
        enough: HEADING + 72,
        grows: false,
    };
}
