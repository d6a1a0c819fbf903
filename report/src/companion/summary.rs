//! The last row of any companion.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use super::time::Time;
use crate::printable::printable_lines;

/// The summary of a companion: its counts, and what it could not see.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The subcommand's name.
    pub companion: &'static str,
    /// When it was written.
    pub time: Time,
    /// Length of the run, ns.
    pub elapsed_ns: u64,
    /// One sentence that answers the question, if there is an answer.
    pub headline: String,
    /// What was counted, by name, in order.
    #[serde(serialize_with = "as_map")]
    pub counts: Vec<(String, u64)>,
    /// Events that could not be shown: overwritten, refused, truncated.
    pub lost: u64,
    /// The parts of `lost`, by name.
    #[serde(serialize_with = "as_map")]
    pub losses: Vec<(String, u64)>,
    /// What a reader has to know to understand the rows.
    pub notes: Vec<String>,
}

fn as_map<S: Serializer>(pairs: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, count)| (name, count)))
}

impl Summary {
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "-- {} for {:.1} s",
            self.companion,
            self.elapsed_ns as f64 / 1e9
        );
        for (name, count) in &self.counts {
            let _ = write!(text, ", {count} {name}");
        }
        let _ = write!(text, ", {} lost", self.lost);
        let losses: Vec<String> = self
            .losses
            .iter()
            .map(|(name, n)| format!("{n} {name}"))
            .collect();
        if !losses.is_empty() {
            let _ = write!(text, " ({})", losses.join(", "));
        }
        let more = self
            .notes
            .iter()
            .chain(Some(&self.headline))
            .filter(|line| !line.is_empty());
        more.fold(text + "\n", |text, line| {
            text + &printable_lines(line) + "\n"
        })
    }
}
