//! What `pingtrace doctor` finds on a host.

use super::point::Point;
use serde::Serialize;
use strum::VariantArray;

/// How bad a finding is, the worst last.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    VariantArray,
    strum::IntoStaticStr,
    Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Good to know, or not known.
    Note,
    /// Something is measured less well, or in one role or family only.
    Warning,
    /// A role cannot run here, or is not answered.
    Fault,
}

/// What was looked at, in the order of the report.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    VariantArray,
    strum::IntoStaticStr,
    Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Whether a client can probe from here.
    Client,
    /// Whether a server can stamp here.
    Server,
    /// A point of the path.
    Point,
    /// Stamping replies in place.
    Inband,
    /// A companion.
    Companion,
    /// The run times of programs.
    Cost,
    /// The version of the kernel.
    Kernel,
    /// The kernel's types.
    Btf,
    /// The compiler of BPF programs.
    Jit,
    /// Lockdown, a security module.
    Lockdown,
    /// `kernel.perf_event_paranoid`.
    PerfEventParanoid,
    /// `kernel.unprivileged_bpf_disabled`.
    UnprivilegedBpf,
    /// Names of kernel functions.
    Symbols,
    /// The limit on locked memory, of old kernels.
    Memlock,
    /// A capability.
    Capability,
    /// `kernel.yama.ptrace_scope`.
    PtraceScope,
    /// The clock that stamps are read from.
    ClockSource,
    /// The discipline of the clock.
    Ntp,
    /// Idle states of the CPUs.
    IdleStates,
    /// What sets the frequency of the CPUs.
    Governor,
    /// Whether echo requests are answered.
    Echo,
    /// The limit on echo replies.
    EchoRate,
    /// The limit on ICMP errors.
    ErrorRate,
    /// Who may have a ping socket.
    PingGroup,
    /// Whether requests from elsewhere are dropped (`rp_filter`).
    RpFilter,
    /// Queueing disciplines.
    Qdisc,
    /// Filters at clsact and ingress.
    TcFilter,
    /// Programs at TCX.
    Tcx,
    /// XDP programs.
    Xdp,
    /// What a device joins or splits.
    Offload,
    /// Interrupts that wait for more packets.
    Coalescing,
    /// Devices whose packets leave in others.
    Tunnel,
    /// Network namespaces.
    Namespaces,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Which of several: a device, a capability, a point, an address family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How bad it is.
    pub level: Level,
    /// What was found; where it is unknown, why.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Who uses a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, VariantArray, Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HookUser {
    /// The client.
    Client,
    /// The server.
    Server,
    /// The companion of this name.
    Irqoff,
    /// The companion of this name.
    Nosched,
    /// The companion of this name.
    Runqlat,
    /// The companion of this name.
    Memleak,
    /// The companion of this name.
    Iofsstat,
}

/// A hook that would be used on this host, and what it takes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Who uses it.
    pub user: HookUser,
    /// The point that it stamps, if it stamps one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<Point>,
    /// Such as `tp_btf/net_dev_queue`.
    pub hook: String,
    /// The BPF program; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// What it took; absent if it did not run or was not measured.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Measured>,
}

/// A measured cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// How often it ran.
    pub runs: u64,
    /// The mean of these runs, ns, with the kernel's accounting itself.
    pub mean_ns: u64,
}

/// What was found on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// The host's name.
    pub host: Option<String>,
    /// Release of its kernel.
    pub kernel: String,
    /// When, ns since the Unix epoch.
    pub time_unix_ns: i64,
    /// Probes with which the points were measured, and those of them that were answered.
    pub probes: Option<(u32, u32)>,
    /// In any order.
    pub findings: Vec<Finding>,
    /// In path order for each user.
    pub hooks: Vec<Hook>,
}

impl Level {
    /// All, the worst last.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// As in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Check {
    /// All, in order.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// As in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl HookUser {
    /// All, in order.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// As in JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Finding {
    /// As it should be.
    pub fn ok(check: Check, found: impl Into<String>) -> Self {
        Self {
            check,
            subject: None,
            level: Level::Ok,
            found: found.into(),
            remedy: None,
        }
    }

    /// Good to know.
    pub fn note(check: Check, found: impl Into<String>) -> Self {
        Self {
            level: Level::Note,
            ..Self::ok(check, found)
        }
    }

    /// What could not be looked at, and why.
    pub fn unknown(check: Check, why: impl std::fmt::Display) -> Self {
        Self::note(check, format!("unknown: {why}"))
    }

    /// Something is measured less well.
    pub fn warning(check: Check, found: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            ..Self::ok(check, found)
        }
    }

    /// A role cannot run.
    pub fn fault(check: Check, found: impl Into<String>) -> Self {
        Self {
            level: Level::Fault,
            ..Self::ok(check, found)
        }
    }

    /// Of this one of several.
    #[must_use]
    pub fn of(self, subject: impl Into<String>) -> Self {
        Self {
            subject: Some(subject.into()),
            ..self
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

impl HostReport {
    /// The worst level.
    pub fn worst(&self) -> Level {
        let levels = self.findings.iter().map(|finding| finding.level);
        levels.max().unwrap_or(Level::Ok)
    }

    /// Findings of this level, in the order of their checks.
    pub fn of_level(&self, level: Level) -> Vec<&Finding> {
        let found = self
            .findings
            .iter()
            .filter(|finding| finding.level == level);
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|finding| finding.check);
        found
    }
}
