//! What the terminal can show, and in which zone times are.

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use report::format::style::Style;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use terminal_size::{Width, terminal_size_of};

/// When text has colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Everywhere, also in a file or a pipe
    Always,
    /// Nowhere
    Never,
}

impl Color {
    /// From now on [`Output::style`] follows it.
    pub fn choose(self) {
        let choice = match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Where text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The results.
    Stdout,
    /// The results, where JSON has stdout.
    Stderr,
}

impl Output {
    /// How text is shown there now: a terminal may be resized.
    pub fn style(self) -> Style {
        match self {
            Self::Stdout => Style {
                width: width(io::stdout()),
                color: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            },
            Self::Stderr => Style {
                width: width(io::stderr()),
                color: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
            },
        }
    }
}

/// Columns, if it is a terminal that says so.
fn width(out: impl AsFd + IsTerminal) -> Option<usize> {
    let size = terminal_size_of(out.is_terminal().then_some(out)?);
    let (Width(columns), _) = size?;
    (columns > 0).then_some(usize::from(columns))
}

/// From now on local time is UTC, in all that this process writes and in its schedules. To be called
/// before there is a second thread.
#[expect(unsafe_code, reason = "the environment is the only place for the zone")]
pub fn use_utc() {
    // SAFETY: there is no other thread yet that could read the environment.
    unsafe { std::env::set_var("TZ", "UTC0") };
}
