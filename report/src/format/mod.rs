//! The formats that a run is written in.

pub mod glossary;
pub mod json;
pub mod saved;
pub mod style;
pub mod text;
