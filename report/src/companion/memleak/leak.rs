//! The answer to whether memory leaks.

use serde::Serialize;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// Nothing that stays.
    No,
    /// Too little was seen for an answer.
    Unknown,
    /// It grows, but that it is never given back is not shown.
    Growing,
    /// It grows steadily, and what is old is not given back.
    Yes,
}

impl Leak {
    /// In text.
    pub fn words(self) -> &'static str {
        match self {
            Self::No => "no leak",
            Self::Unknown => "unknown",
            Self::Growing => "growing",
            Self::Yes => "leak",
        }
    }
}
