//! Why a line could not be read.

use crate::printable::printable;

/// Version of the format, in the `run` line.
pub const VERSION: u32 = 1;

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not what the schema says.
    #[error("read JSON line: {}", shortened(.0))]
    Json(#[from] serde_json::Error),
    /// Written by a later version of the format.
    #[error("read JSON line: format version {0}, this reads up to {VERSION}")]
    Version(u32),
    /// A value that no run can have.
    #[error("read JSON line: {0}")]
    Implausible(String),
}

/// Longest text of an error, which can quote a value of any length, in characters.
const MAX_ERROR: usize = 200;

/// An error in one line, of which the middle is left out if it is long.
fn shortened(error: &serde_json::Error) -> String {
    let text: Vec<char> = printable(&error.to_string()).chars().collect();
    let (start, end) = (MAX_ERROR / 2, text.len().saturating_sub(MAX_ERROR / 2));
    if start >= end {
        return text.iter().collect();
    }
    let [start, end]: [String; 2] = [&text[..start], &text[end..]].map(|t| t.iter().collect());
    format!("{start} ... {end}")
}

impl Error {
    /// The line ends too early: its writer was interrupted.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Json(error) if error.is_eof())
    }
}
