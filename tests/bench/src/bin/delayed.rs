//! For scripts/bench.sh: runs of the client over a wire of a known delay.
//!
//! Usage: delayed BINARY MICROSECONDS PREFIX RUNS SECONDS; writes the JSON of each run to PREFIX0,
//! PREFIX1, …

use anyhow::{Context, Result, bail};
use netns::{Lab, TapLab};
use pingtrace::selftest::inject::forwarder::{Forwarder, Plan};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, delay, prefix, runs, seconds] = arguments.as_slice() else {
        bail!("usage: delayed BINARY MICROSECONDS PREFIX RUNS SECONDS");
    };
    let delay = Duration::from_micros(delay.parse().context("MICROSECONDS")?);
    let runs: u32 = runs.parse().context("RUNS")?;

    let TapLab {
        lab,
        client_tap,
        server_tap,
    } = Lab::tap_pair()?;
    let wire = Forwarder::start(client_tap, server_tap, Plan::new(delay, []))?;
    let mut server = serve(&lab, binary)?;
    let measured = (0..runs).try_for_each(|run| {
        let file = File::create(format!("{prefix}{run}")).context("create a run's file")?;
        measure(&lab, binary, seconds, file)
    });
    server.kill()?;
    server.wait()?;
    wire.stop();
    measured
}

/// Returns when the server is ready.
fn serve(lab: &Lab, binary: &str) -> Result<Child> {
    let mut command = Command::new(binary);
    command.args(["-s", "--nslocal"]).stderr(Stdio::piped());
    let mut server = lab.server.ns.run(|| command.spawn())??;
    let lines = BufReader::new(server.stderr.take().context("its stderr")?).lines();
    for line in lines.map_while(Result::ok) {
        if line.contains("serving") {
            return Ok(server);
        }
    }
    bail!("the server ended: {}", server.wait()?);
}

fn measure(lab: &Lab, binary: &str, seconds: &str, output: File) -> Result<()> {
    let to = lab.server.v4.to_string();
    let mut command = Command::new(binary);
    command.args(["-c", &to, "--nslocal", "-i", "2ms", "-o", "json", "-t"]);
    command.arg(seconds).stdout(output).stderr(Stdio::null());
    let status = lab.client.ns.run(|| command.status())??;
    if !status.success() {
        bail!("the client ended: {status}");
    }
    Ok(())
}
