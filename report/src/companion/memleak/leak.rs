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
    /// It grows, but it is not shown that it is never freed.
    Growing,
    /// It grows steadily, and old objects are not freed.
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
