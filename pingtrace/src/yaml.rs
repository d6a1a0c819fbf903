//! Files in YAML, of which JSON is a part.

use anyhow::{Result, bail};
use serde::de::DeserializeOwned;
use serde_saphyr::Error;

/// Reads a document. The error is one line that says the line of the mistake.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    match serde_saphyr::from_str(text) {
        Ok(document) => Ok(document),
        Err(e) => bail!("{}", said(&e)),
    }
}

/// `line 3: why`, without the parser's picture of the place.
fn said(error: &Error) -> String {
    let text = error.to_string();
    let why = text.lines().next().unwrap_or_default();
    // The place again, in the parser's words.
    let place = why
        .strip_prefix("error: line ")
        .and_then(|w| w.split_once(": "));
    let why = place.map_or(why, |(_, why)| why);
    match error.location() {
        Some(at) => format!("line {}: {why}", at.line()),
        None => why.to_owned(),
    }
}
