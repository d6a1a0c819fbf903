//! Metrics for Prometheus: served on request, and written to a file for the node exporter. Nothing listens and
//! nothing is written without being asked.
//!
//! A probe waits for none of it: the receiver counts into memory of its own, and once a second hands a copy
//! (some kilobytes) to the output thread, as it does a result. That puts it on the [`Board`], from which the
//! threads of this module make pages.

pub mod board; // what is known of each target
mod file; // the file, written anew and renamed
pub(crate) mod http; // requests, and which format they ask for
mod server; // connections
mod tls; // certificates
pub(crate) mod web_config; // who may connect, and how

pub use board::{Board, Target};

use crate::kernel::confine;
use crate::output::files::directory;
use anyhow::{Result, anyhow};
use file::MetricsFile;
use netns::reason;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use web_config::WebConfig;

use crate::options::heading;

// Options of a client and of a server. A doc comment would be the help of the program.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
#[expect(
    missing_docs,
    reason = "a doc comment here would be the help of the program"
)]
pub struct Args {
    /// Serve metrics for Prometheus at http://ADDR:PORT/metrics; a port alone is one of this host only
    /// (127.0.0.1)
    #[arg(long = "metrics", id = "metrics", value_name = "[ADDR:]PORT", value_parser = address, help_heading = heading::METRICS)]
    pub listen: Option<SocketAddr>,

    /// TLS and passwords for --metrics: a file as Prometheus' exporter toolkit has it
    /// (`tls_server_config`, `basic_auth_users`), read again when it changes
    #[arg(long, value_name = "FILE", requires = "metrics", help_heading = heading::METRICS)]
    pub web_config: Option<PathBuf>,

    /// Write metrics to this file every 10 s and at the end, for the textfile collector of the
    /// node exporter
    #[arg(long, value_name = "FILE", help_heading = heading::METRICS)]
    pub metrics_file: Option<PathBuf>,

    /// Give histograms classic buckets, too: 18 series more of each, for a Prometheus without native histograms
    #[arg(long, help_heading = heading::METRICS)]
    pub metrics_classic: bool,
}

/// What serves and writes metrics, until [`Metrics::finish`].
#[derive(Debug)]
pub struct Metrics {
    board: Arc<Board>,
    file: Option<MetricsFile>,
}

impl Metrics {
    /// Opens what was asked for, before this process is confined; `None` if nothing was.
    pub fn start(args: &Args) -> Result<Option<Self>> {
        if args.listen.is_none() && args.metrics_file.is_none() {
            return Ok(None);
        }
        let board = Arc::new(Board::new(args.metrics_classic));
        if let Some(address) = args.listen {
            listen(address, args.web_config.as_ref(), &board)?;
        }
        let file = args.metrics_file.as_deref();
        let file = file.map(|path| {
            confine::allow_writing(directory(path));
            MetricsFile::start(path, Arc::clone(&board))
        });
        let file = file.transpose()?;
        Ok(Some(Self { board, file }))
    }

    /// Where targets and the server are put.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Writes the file for the last time.
    pub fn finish(self) -> Result<()> {
        self.file.map_or(Ok(()), MetricsFile::finish)
    }
}

fn listen(address: SocketAddr, web_config: Option<&PathBuf>, board: &Arc<Board>) -> Result<()> {
    let web = web_config.map(|path| WebConfig::open(path)).transpose()?;
    let listener = TcpListener::bind(address).map_err(|e| {
        let why = reason(&e);
        anyhow!("cannot listen on {address} (--metrics): {why}; choose an address of this host and a free port")
    })?;
    let bound = listener.local_addr().unwrap_or(address);
    let is_secret = web.as_ref().is_some_and(WebConfig::asks_who);
    if !address.ip().is_loopback() && !is_secret {
        log::warn!(
            "--metrics: whoever reaches {bound} reads the names of targets and all metrics; --web-config asks who it is"
        );
    }
    let scheme = web.as_ref().map_or("http", WebConfig::scheme);
    confine::allow_accepting();
    server::start(listener, web, Arc::clone(board))?;
    log::info!("metrics: {scheme}://{bound}/metrics");
    Ok(())
}

/// An address and a port; a port alone is of this host.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    if let Some(port) = text.strip_prefix(':') {
        return Err(format!(
            "name the address: {port} or 127.0.0.1:{port} is for this host alone, [::]:{port} for everybody"
        ));
    }
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|_| format!("'{text}' is no address with a port, such as 127.0.0.1:9500"))?;
    addresses
        .next()
        .ok_or_else(|| format!("'{text}' has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_host() {
        assert_eq!(address("9500").unwrap().to_string(), "127.0.0.1:9500");
        assert_eq!(address("[::]:9500").unwrap().to_string(), "[::]:9500");
        for bad in [":9500", "", "x", "99999", "10.0.0.1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(address(":9500").unwrap_err().contains("127.0.0.1:9500"));
    }
}
