//! Where results and the story go: stdout, stderr, rotating files and pictures.

pub mod destinations;
pub mod files;
pub mod names;
pub mod pictures;
pub mod printer;
pub mod rotate;
pub mod screen;
pub mod story;
pub mod stream;
