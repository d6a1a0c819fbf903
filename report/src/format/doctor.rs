//! What was found on a host, for people: the worst first, each with its remedy; then the hooks.

use crate::model::{Finding, Hook, HookUser, HostReport, Level, Measured};
use crate::printable::printable_lines;
use std::fmt::Write as _;

/// Columns before the remedy of a finding.
const INDENT: &str = "         ";

/// Subjects of one finding that are named; where there are at least two more, these are counted.
const MANY: usize = 8;

/// All of it.
pub fn text(report: &HostReport) -> String {
    let parts = [
        headline(report),
        findings(report),
        fine(report),
        points(report),
        companions(report),
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    printable_lines(&parts.collect::<Vec<_>>().join("\n"))
}

/// `web1, Linux 6.18.0: 1 fault, 2 warnings, 3 notes`
fn headline(report: &HostReport) -> String {
    let host = report.host.as_deref().unwrap_or("this host");
    let count = |level: Level, name: &str| match groups(report, level).len() {
        0 => None,
        n => Some(plural(n as u64, name)),
    };
    let counts = [
        count(Level::Fault, "fault"),
        count(Level::Warning, "warning"),
        count(Level::Note, "note"),
    ];
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    let counts = if counts.is_empty() {
        "all is well".to_owned()
    } else {
        counts.join(", ")
    };
    format!("{host}, Linux {}: {counts}\n", report.kernel)
}

/// Findings that differ in nothing but their subjects, with all of these.
fn groups(report: &HostReport, level: Level) -> Vec<(&Finding, Vec<&str>)> {
    let mut groups: Vec<(&Finding, Vec<&str>)> = Vec::new();
    for finding in report.of_level(level) {
        let said = |f: &Finding| (f.check, f.found.clone(), general_remedy(f));
        let same = |(other, _): &&mut (&Finding, _)| said(other) == said(finding);
        let subject = finding.subject.as_deref();
        match groups.iter_mut().find(same) {
            Some((_, subjects)) => subjects.extend(subject),
            None => groups.push((finding, subject.into_iter().collect())),
        }
    }
    groups
}

/// The remedy for any of several devices.
fn general_remedy(finding: &Finding) -> Option<String> {
    let remedy = finding.remedy.as_deref()?;
    let subject = finding.subject.as_deref().unwrap_or_default();
    let general = |word| if word == subject { "DEV" } else { word };
    Some(remedy.split(' ').map(general).collect::<Vec<_>>().join(" "))
}

fn findings(report: &HostReport) -> String {
    let mut text = String::new();
    for level in [Level::Fault, Level::Warning, Level::Note] {
        let word = match level {
            Level::Fault => "FAULT",
            Level::Warning => "WARNING",
            Level::Note | Level::Ok => "note",
        };
        for (finding, subjects) in groups(report, level) {
            let name = name(finding, &subjects);
            let _ = writeln!(text, "{word:<8} {name}: {}", finding.found);
            let remedy = match subjects.len() {
                0 | 1 => finding.remedy.clone(),
                _ => general_remedy(finding),
            };
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "{INDENT}-> {remedy}");
            }
        }
    }
    text
}

/// What is as it should be, in one paragraph.
fn fine(report: &HostReport) -> String {
    let one = |(finding, subjects): (&Finding, Vec<&str>)| {
        format!("{}: {}", name(finding, &subjects), finding.found)
    };
    let fine: Vec<_> = groups(report, Level::Ok).into_iter().map(one).collect();
    if fine.is_empty() {
        return String::new();
    }
    format!("ok       {}\n", fine.join("; "))
}

/// `echo IPv4`
fn name(finding: &Finding, subjects: &[&str]) -> String {
    let check = finding.check.name().replace('_', " ");
    match subjects {
        [] => check,
        [first @ .., _, _] if first.len() >= MANY => {
            let shown = subjects[..MANY].join(", ");
            format!("{check} {shown} and {} more", subjects.len() - MANY)
        }
        subjects => format!("{check} {}", subjects.join(", ")),
    }
}

/// A row each; the hooks that stamp no point are last.
fn points(report: &HostReport) -> String {
    let of_roles = [HookUser::Client, HookUser::Server];
    let hooks = report.hooks.iter().filter(|h| of_roles.contains(&h.user));
    let hooks: Vec<_> = hooks.collect();
    if hooks.is_empty() {
        return String::new();
    }
    let probes = report.probes.map_or(String::new(), |(sent, answered)| {
        format!(
            " ({answered} of {} over the loopback answered)",
            plural(sent.into(), "probe")
        )
    });
    let mut text = format!(
        "{:<16} {:<7} {:<34} {:>9} {:>8}{probes}\n",
        "point", "role", "hook", "ns/run", "runs"
    );
    for hook in hooks {
        let point = hook.point.map_or("-", |point| point.name());
        let role = hook.user.name();
        let (ns, runs) = cost(hook);
        let row = format!("{point:<16} {role:<7} {:<34} {ns:>9} {runs:>8}", hook.hook);
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

fn cost(hook: &Hook) -> (String, String) {
    match hook.cost {
        Some(Measured { runs, mean_ns }) => (mean_ns.to_string(), runs.to_string()),
        None => ("?".to_owned(), "-".to_owned()),
    }
}

/// A line each: its hooks with ns a run.
fn companions(report: &HostReport) -> String {
    let mut text = String::new();
    for user in HookUser::ALL {
        let hooks = report.hooks.iter().filter(|hook| hook.user == *user);
        if matches!(user, HookUser::Client | HookUser::Server) {
            continue;
        }
        let hooks: Vec<_> = hooks.map(of_companion).collect();
        if !hooks.is_empty() {
            let _ = writeln!(text, "{:<9} {}", user.name(), hooks.join(", "));
        }
    }
    if !text.is_empty() {
        text.insert_str(
            0,
            "companion hooks, ns/run (? did not run while it was measured)\n",
        );
    }
    text
}

/// `sched_switch 210`
fn of_companion(hook: &Hook) -> String {
    let short = hook.hook.rsplit('/').next().unwrap_or(&hook.hook);
    match hook.cost {
        Some(cost) => format!("{short} {}", cost.mean_ns),
        None => format!("{short} ?"),
    }
}

/// `1 fault`, `2 faults`
fn plural(count: u64, name: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {name}{ending}")
}
