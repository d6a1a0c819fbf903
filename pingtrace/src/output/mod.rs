//! Outputs: results and messages to stdout, stderr, rotating files and pictures.

pub mod companion;
pub mod run;

pub mod destinations;
pub mod entry;

pub mod logs;
pub mod picture;
pub mod printer;

pub mod files;
pub mod names;
pub mod rotate;
pub mod screen;
pub mod story;
pub mod stream;
