//! The output options of runs and companions.

use crate::exit::Usage;
use crate::units;
use clap::ValueEnum;
use report::analysis::slo::Objectives;
use report::draw;
use std::path::PathBuf;
use std::time::Duration;

/// Headings of the help, in the order of the help.
pub mod heading {
    /// Of the options of a run.
    pub const PROBE: &str = "What to probe";
    /// Of the options of a run.
    pub const SPAN: &str = "How often and how long";
    /// Of the options of a run.
    pub const RECORD: &str = "What to record";
    /// Of the options of a run.
    pub const OUTPUT: &str = "Output";
    /// Of the options of a run.
    pub const METRICS: &str = "Metrics for Prometheus, of a client or a server";
    /// Of the options of a run.
    pub const DIAGNOSIS: &str = "Diagnosis";
    /// Of the options of a run.
    pub const ADDRESSING: &str = "Addressing";
    /// Of the options of a run.
    pub const TRUST: &str = "Who learns what";
    /// Of the options of a run.
    pub const SERVER: &str = "Server";
    /// Of all options.
    pub const FILE: &str = "Options from a file";
}

// The help is that of a run; a companion has its own for what differs. A doc comment would be the
// help of the program.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the program"
)]
pub struct Output {
    /// What to write: one or more, separated by commas; text and json go to stdout (text to stderr
    /// if both are given)
    #[arg(short = 'o', long = "output", id = "output", value_name = "OUTPUT", value_enum, value_delimiter = ',', default_value = "text", help_heading = heading::OUTPUT)]
    pub formats: Vec<Format>,

    /// Log files: FILE.seq has a JSON line for each recorded probe, FILE.stat the summaries
    /// [default: ./pingtrace.log]
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub log: Option<PathBuf>,

    /// Size at which a log file is rotated, with K, M or G
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = units::bytes, help_heading = heading::OUTPUT)]
    pub logsize: u64,

    /// Rotated log files to keep
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = heading::OUTPUT)]
    pub logbackup: u32,

    /// Save the run in this file, a tenth as long as JSON, less if its name ends in .gz or .zst: `pingtrace report`
    /// reads it. strftime fields (%Y%m%d-%H%M%S) are replaced; it must not exist
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub save: Option<PathBuf>,

    /// Draw a picture to this file: .png, .svg or .html; strftime fields (%Y%m%d-%H%M) are replaced
    /// [default with -o image: ./pingtrace.png, with --schedule ./pingtrace-%Y%m%d-%H%M%S.png]
    #[arg(long, value_name = "FILE", value_parser = image, help_heading = heading::OUTPUT)]
    pub image: Option<PathBuf>,
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line for each recorded probe or each row, and a summary
    Text,
    /// JSON lines
    Json,
    /// Rotating log files
    Log,
    /// A picture at the end: .png, or as --image says
    Image,
    /// A picture at the end of this kind, whatever else --image names
    Png,
    /// The same
    Svg,
    /// The same
    Html,
    /// A table of the recorded probes on stdout, comma separated, a column for each segment
    Csv,
    /// Of a saved run: a trace for Perfetto (ui.perfetto.dev)
    Perfetto,
    /// Log and image
    Imagelog,
    /// Slow, late and lost probes (rows of a companion) as JSON lines to systemd-journald
    Journald,
    /// The same to /dev/log
    Syslog,
}

/// The origin of the results, which gives the default names of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A run on this host, now.
    LiveRun,
    /// A saved run. Its results wait for a slow reader.
    SavedRun,
    /// The companion of this name.
    Companion(&'static str),
}

impl Output {
    /// Whether a kind of output is asked for.
    pub fn wants(&self, format: Format) -> bool {
        self.formats.contains(&format)
            || (matches!(format, Format::Log | Format::Image)
                && self.formats.contains(&Format::Imagelog))
    }

    /// The name of the log, if one is wanted; a companion writes one as soon as a name is given.
    pub fn log(&self, of: Origin) -> Option<PathBuf> {
        let is_named = self.log.is_some() && matches!(of, Origin::Companion(_));
        let name = || self.log.clone().unwrap_or_else(|| of.file("log"));
        (is_named || self.wants(Format::Log)).then(name)
    }

    /// The names of the pictures that are wanted, with their strftime fields: a name alone asks for one.
    pub fn images(&self, of: Origin) -> Vec<PathBuf> {
        let named = self.image.clone();
        let mut images: Vec<_> = named
            .or_else(|| self.wants(Format::Image).then(|| of.file("png")))
            .into_iter()
            .collect();
        for (format, ending) in [
            (Format::Png, "png"),
            (Format::Svg, "svg"),
            (Format::Html, "html"),
        ] {
            let is_there = |path: &PathBuf| path.extension().is_some_and(|is| is == ending);
            if self.wants(format) && !images.iter().any(is_there) {
                images.push(of.file(ending));
            }
        }
        images
    }

    /// Refuses what cannot be written of these results, or not at once.
    pub fn check(&self, of: Origin) -> Result<(), Usage> {
        let (csv, trace) = (self.wants(Format::Csv), self.wants(Format::Perfetto));
        let why = match of {
            Origin::Companion(name) if csv || trace => format!(
                "-o csv and -o perfetto are of a run's probes, and {name} has none: take -o json"
            ),
            Origin::LiveRun if trace => {
                "-o perfetto is of a saved run: write a log (-o log), then: \
                 pingtrace report pingtrace.log.seq -o perfetto"
                    .to_owned()
            }
            _ if csv && self.wants(Format::Json) => {
                "-o csv and -o json both go to stdout: choose one".to_owned()
            }
            _ => return Ok(()),
        };
        Err(Usage(why))
    }
}

impl Origin {
    /// The default name of its file.
    pub fn file(self, extension: &str) -> PathBuf {
        let companion = match self {
            Self::LiveRun | Self::SavedRun => String::new(),
            Self::Companion(name) => format!("-{name}"),
        };
        format!("./pingtrace{companion}.{extension}").into()
    }
}

// Options of the analysis of a live or saved run. A doc comment would be the help.
#[derive(Clone, Debug, clap::Args)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the program"
)]
pub struct Results {
    #[command(flatten)]
    pub output: Output,

    /// Summarise each interval of this length, and in the log also the run so far; a plain number
    /// is in s, 0 turns it off [default: 60s, in the log only]
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = units::seconds, help_heading = heading::OUTPUT)]
    pub stat_interval: Option<Duration>,

    /// Exit with 4 unless the run meets these objectives: `p99(total)<500us,loss<0.1%`
    ///
    /// One or more, separated by commas, each METRIC<LIMIT or METRIC<=LIMIT. METRIC is min(..),
    /// mean(..), max(..) or a percentile such as p99.9(..) of `total` or of a segment by its name;
    /// jitter(out), jitter(in) or jitter(rtt); or loss, late or dup. LIMIT is a time in ns, us,
    /// ms or s, or a percentage of the probes sent. An objective without a value (no probe had the segment) is missed.
    #[arg(long, value_name = "OBJECTIVES", value_parser = str::parse::<Objectives>, help_heading = heading::DIAGNOSIS)]
    pub slo: Option<Objectives>,

    /// Show the hops by network namespace and device
    #[arg(short, long, help_heading = heading::DIAGNOSIS)]
    pub namespace: bool,
}

/// A file name that stands for a format of pictures.
fn image(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    draw::Format::from_path(&path).map_err(|e| e.to_string())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        output: Output,
    }

    #[test]
    fn a_log_is_asked_for_or_of_a_companion_named() {
        for (args, run, companion) in [
            ("", None, None),
            ("--log x", None, Some("x")),
            (
                "-o log",
                Some("./pingtrace.log"),
                Some("./pingtrace-irqoff.log"),
            ),
            ("-o json,imagelog --log x", Some("x"), Some("x")),
        ] {
            let Cli { output } = Cli::parse_from(["p"].into_iter().chain(args.split_whitespace()));
            let log = |of| output.log(of);
            let path = |name: Option<&str>| name.map(PathBuf::from);
            assert_eq!(log(Origin::LiveRun), path(run), "{args}");
            assert_eq!(log(Origin::SavedRun), path(run), "{args}");
            assert_eq!(log(Origin::Companion("irqoff")), path(companion), "{args}");
        }
    }

    #[test]
    fn a_picture_is_called_after_whose_it_is() {
        let Cli { output } = Cli::parse_from(["p", "-o", "imagelog"]);
        assert_eq!(
            output.images(Origin::SavedRun),
            [Path::new("./pingtrace.png")]
        );
        let companion = output.images(Origin::Companion("memleak"));
        assert_eq!(companion, [Path::new("./pingtrace-memleak.png")]);
        for (args, names) in [
            ("-o json", &[][..]),
            ("--image x.svg", &["x.svg"]),
            ("-o json --image x.svg", &["x.svg"]),
            ("-o html,svg", &["./pingtrace.svg", "./pingtrace.html"]),
            ("-o html --image x.html", &["x.html"]),
            ("-o html --image x.png", &["x.png", "./pingtrace.html"]),
        ] {
            let Cli { output } = Cli::parse_from(["p"].into_iter().chain(args.split_whitespace()));
            for of in [Origin::LiveRun, Origin::SavedRun] {
                let names: Vec<_> = names.iter().map(PathBuf::from).collect();
                assert_eq!(output.images(of), names, "{args}");
            }
        }
    }
}
