//! `pingtrace mesh`: the runs of many hosts as one matrix.

mod logs; // what logs say
mod prometheus; // whom to ask
mod series; // what it says

use crate::exit::Usage;
use crate::output::picture;
use crate::output::printer;
use crate::output::screen::Screen;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use report::analysis::mesh::{Builder, Matrix, judge};
use report::draw::{self, Picture};
use report::format::mesh::{json, text};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::SavedFile;
use prometheus::Fetched;

/// Show which host is slow, or loses probes, for all its peers: from the logs of many hosts, or from Prometheus
///
/// Each FILE is the output of `-o json` of one host, or its log: FILE.stat, or FILE.seq for the FILE.stat beside it; with one
/// or many targets, also compressed with gzip or zstd. Of several runs of a target the last one counts. A host has the name
/// that its log says (of logs with the same name: its address); a target is the host with its name, else with its
/// address. Exit status: 0 whatever stands out; 1 if a file could not be read, or Prometheus does not answer.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The saved runs of many hosts
    #[arg(value_name = "FILE", required_unless_present = "prometheus")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    prometheus: prometheus::Question,

    /// The label of a target that says what hosts have in common
    #[arg(long, value_name = "LABEL", default_value = "rack")]
    group: String,

    /// Names and addresses of the same host on one line each, as in /etc/hosts
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// A picture, too: .png, .svg or .html; strftime fields (%Y%m%d-%H%M) are replaced
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Sentences and tables
    Text,
    /// A JSON line with the answer, and one for each pair
    Json,
}

/// Where it is from. Nothing is parsed yet.
enum Source {
    /// The files of each host.
    Logs(Vec<Vec<SavedFile>>),
    Prometheus(Box<Fetched>),
}

/// Its files and answers.
pub struct Opened {
    source: Source,
    /// Hosts that are the same.
    hosts: Vec<Vec<String>>,
    image: Option<PathBuf>,
}

impl Opened {
    /// Opens the files; asks.
    pub fn new(args: &Args) -> Result<Self> {
        let image = args.image.as_deref().map(picture::resolve).transpose()?;
        let hosts = args.hosts.as_deref().map(same_hosts).transpose()?;
        let logs = || args.files.iter().map(|path| logs::open(path));
        let source = match &args.prometheus.prometheus {
            Some(url) => {
                let fetched = prometheus::fetch(&args.prometheus, url, &args.group)?;
                Source::Prometheus(Box::new(fetched))
            }
            None => Source::Logs(logs().collect::<Result<_>>()?),
        };
        Ok(Self {
            source,
            hosts: hosts.unwrap_or_default(),
            image,
        })
    }

    /// Where files will be written.
    pub fn written(&self) -> Vec<PathBuf> {
        let image = self.image.iter();
        let directory = |path: &PathBuf| crate::output::files::directory(path).to_owned();
        image.map(directory).collect()
    }
}

/// Reads, judges, and writes to stdout.
pub fn run(args: &Args, opened: &Opened) -> Result<()> {
    let mut builder = Builder::default();
    match &opened.source {
        Source::Logs(logs) => logs::read(logs, &args.group, &mut builder)?,
        Source::Prometheus(fetched) => series::read(fetched, &mut builder)?,
    }
    for names in &opened.hosts {
        builder.same(names);
    }
    let matrix = judge(builder.mesh());
    check(&matrix)?;
    if let Some(path) = &opened.image {
        draw::write(Picture::Mesh(&matrix), path)?;
        log::info!("picture: {}", path.display());
    }
    let result = match args.output {
        Output::Text => Screen::Stdout.style().render(&text(&matrix)),
        Output::Json => json(&matrix),
    };
    printer::to_stdout(&result)
}

/// Whether there is anything to compare.
fn check(matrix: &Matrix) -> Result<()> {
    let mesh = &matrix.mesh;
    if mesh.cells.iter().all(|cell| cell.sent == 0) {
        bail!(
            "no probe from one host to another: wanted are the results of hosts that probe each other"
        );
    }
    let clients: BTreeSet<_> = mesh.cells.iter().map(|cell| cell.from).collect();
    if clients.len() == 1 {
        log::warn!(
            "the results of one host only: a matrix needs those of the others too, so that each is seen by several"
        );
    } else if !mesh.cells.iter().any(|cell| clients.contains(&cell.to)) {
        log::warn!(
            "no target is known as a host that probes: if they are the same hosts by other names or addresses, --hosts \
             FILE says so"
        );
    }
    Ok(())
}

/// The lines of a file like /etc/hosts.
fn same_hosts(path: &Path) -> Result<Vec<Vec<String>>> {
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("read {} (--hosts)", path.display()))?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or(""));
    let names = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let all: Vec<_> = lines.map(names).filter(|names| !names.is_empty()).collect();
    if all.iter().all(|names| names.len() < 2) {
        let why = format!(
            "{} (--hosts) has no line with two names or addresses of a host, as /etc/hosts has",
            path.display()
        );
        return Err(Usage(why).into());
    }
    Ok(all)
}
