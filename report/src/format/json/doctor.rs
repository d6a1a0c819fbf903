//! The line of what was found on a host.

use super::error::VERSION;
use super::value::Time;
use super::write::to_string;
use crate::model::{Finding, Hook, HostReport, Level};
use serde::Serialize;

#[derive(Serialize)]
struct DoctorLine<'a> {
    r#type: &'static str,
    version: u32,
    tool: &'static str,
    time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    kernel: &'a str,
    worst: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<Probes>,
    findings: Vec<&'a Finding>,
    hooks: &'a [Hook],
}

#[derive(Serialize)]
struct Probes {
    sent: u32,
    answered: u32,
}

/// The line of `pingtrace doctor`: every finding in the order of the checks, and every hook with its cost.
pub fn doctor_line(report: &HostReport) -> String {
    let mut findings: Vec<_> = report.findings.iter().collect();
    findings.sort_by_key(|finding| finding.check);
    to_string(&DoctorLine {
        r#type: "doctor",
        version: VERSION,
        tool: concat!("pingtrace ", env!("CARGO_PKG_VERSION")),
        time: Time(report.time_unix_ns),
        host: report.host.as_deref(),
        kernel: &report.kernel,
        worst: report.worst(),
        probes: report
            .probes
            .map(|(sent, answered)| Probes { sent, answered }),
        findings,
        hooks: &report.hooks,
    })
}
