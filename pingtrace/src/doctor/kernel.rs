//! The kernel: what BPF programs need of it, and what it hides.

use super::reading::{Setting, Unread, file, number, sysctl, unread};
use crate::kernel::{features, symbols};
use report::model::{Check, Finding};
use rustix::process::{Resource, getrlimit};
use rustix::thread::CapabilitySet;

/// The first kernel that the programs load on.
const FIRST: (u32, u32) = (5, 10);
/// The first kernel that does not count BPF memory as locked memory of the user.
const NO_MEMLOCK: (u32, u32) = (5, 11);
/// Bytes of the tables of a client at its highest rate, about.
const TABLES: u64 = 64 << 20;
/// A function that every kernel with IPv4 has.
const KNOWN_FUNCTION: &str = "icmp_rcv";

/// What was read.
pub struct Kernel {
    /// As uname(1) says it.
    pub release: String,
    /// Of it.
    pub version: (u32, u32),
    /// Its types; else why not.
    pub btf: Result<(), String>,
    /// `none [integrity] confidentiality`.
    pub lockdown: Setting,
    /// Whether securityfs is mounted.
    pub securityfs: bool,
    /// 0 off, 1 on, 2 on, and programs are logged.
    pub jit: Setting,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Setting,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Setting,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Setting,
    /// `kernel.yama.ptrace_scope`.
    pub ptrace_scope: Setting,
    /// /proc/kallsyms has addresses.
    pub has_symbols: bool,
    /// Hard limit of locked memory, bytes; `None`: none.
    pub memlock: Option<u64>,
    /// What this process may do.
    pub held: CapabilitySet,
}

impl Kernel {
    /// Reads this one.
    pub fn read(held: CapabilitySet) -> Self {
        let uname = rustix::system::uname();
        let [known] = symbols::addresses([KNOWN_FUNCTION]);
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            version: features::version(),
            btf: features::running().map(drop).map_err(|e| format!("{e:#}")),
            lockdown: file("/sys/kernel/security/lockdown"),
            securityfs: std::fs::read_dir("/sys/kernel/security")
                .is_ok_and(|mut d| d.next().is_some()),
            jit: sysctl("net.core.bpf_jit_enable"),
            perf_event_paranoid: sysctl("kernel.perf_event_paranoid"),
            unprivileged_bpf_disabled: sysctl("kernel.unprivileged_bpf_disabled"),
            kptr_restrict: sysctl("kernel.kptr_restrict"),
            ptrace_scope: sysctl("kernel.yama.ptrace_scope"),
            has_symbols: known.is_some(),
            memlock: getrlimit(Resource::Memlock).maximum,
            held,
        }
    }

    /// What it says.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![
            self.version(),
            self.btf(),
            self.lockdown(),
            self.jit(),
            self.perf_event_paranoid(),
            self.unprivileged_bpf(),
            self.symbols(),
            self.ptrace_scope(),
        ];
        findings.extend(self.memlock());
        findings
    }

    fn version(&self) -> Finding {
        let (check, release) = (Check::Kernel, &self.release);
        if self.version == features::UNKNOWN_VERSION {
            return Finding::unknown(check, format!("release {release}"));
        }
        if self.version < FIRST {
            let (major, minor) = FIRST;
            return Finding::warning(check, format!("{release}: too old for the BPF programs"))
                .remedy(format!("Linux {major}.{minor} or newer"));
        }
        Finding::ok(check, release.clone())
    }

    fn btf(&self) -> Finding {
        match &self.btf {
            Ok(()) => Finding::ok(Check::Btf, "there"),
            Err(why) => Finding::warning(Check::Btf, format!("no types of this kernel: {why}"))
                .remedy("a kernel with CONFIG_DEBUG_INFO_BTF=y"),
        }
    }

    fn lockdown(&self) -> Finding {
        let check = Check::Lockdown;
        let modes = match &self.lockdown {
            Ok(modes) => modes,
            Err(Unread::Absent(_)) if self.securityfs => {
                return Finding::ok(check, "not in this kernel");
            }
            Err(why) => {
                return Finding::unknown(check, why)
                    .remedy("mount -t securityfs securityfs /sys/kernel/security");
            }
        };
        let mode = modes
            .split('[')
            .nth(1)
            .and_then(|rest| rest.split(']').next());
        match mode {
            Some("none") => Finding::ok(check, "none"),
            Some("integrity") => Finding::ok(check, "integrity, which BPF programs pass"),
            Some(mode) => Finding::warning(
                check,
                format!("{mode}: programs that read kernel memory and kprobes are refused"),
            )
            .remedy("boot with lockdown=integrity, or without lockdown"),
            None => Finding::unknown(check, format!("'{modes}'")),
        }
    }

    fn jit(&self) -> Finding {
        let check = Check::Jit;
        match (number(&self.jit), &self.jit) {
            (Some(0), _) => Finding::warning(
                check,
                "BPF programs are interpreted (net.core.bpf_jit_enable is 0): tp_btf and fentry cannot be attached",
            )
            .remedy("sysctl -w net.core.bpf_jit_enable=1"),
            (Some(1), _) => Finding::ok(check, "on"),
            (Some(2), _) => Finding::note(
                check,
                "on, and each program is written to the kernel's log (net.core.bpf_jit_enable is 2)",
            )
            .remedy("sysctl -w net.core.bpf_jit_enable=1"),
            (_, Ok(other)) => Finding::unknown(check, format!("net.core.bpf_jit_enable is '{other}'")),
            // Only the initial namespace shows it.
            (_, Err(Unread::Absent(_))) => {
                Finding::ok(check, "not shown in this network namespace; what loads tells")
            }
            (_, Err(why)) => Finding::unknown(check, why),
        }
    }

    fn perf_event_paranoid(&self) -> Finding {
        let check = Check::PerfEventParanoid;
        let Some(value) = number(&self.perf_event_paranoid) else {
            return unread(check, &self.perf_event_paranoid);
        };
        let may = self
            .held
            .intersects(CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN);
        if may || value < 0 {
            Finding::ok(check, format!("{value}, which does not bind this process"))
        } else {
            Finding::note(
                check,
                format!("{value}: without CAP_PERFMON no kprobe and no timer of the companions"),
            )
            .remedy("CAP_PERFMON")
        }
    }

    fn unprivileged_bpf(&self) -> Finding {
        let check = Check::UnprivilegedBpf;
        match number(&self.unprivileged_bpf_disabled) {
            Some(0) => Finding::note(
                check,
                "ordinary users may load BPF programs (kernel.unprivileged_bpf_disabled is 0); pingtrace does not need that",
            )
            .remedy("sysctl -w kernel.unprivileged_bpf_disabled=2"),
            Some(value) => Finding::ok(check, format!("disabled ({value}), as it should be")),
            None => unread(check, &self.unprivileged_bpf_disabled),
        }
    }

    fn symbols(&self) -> Finding {
        let check = Check::Symbols;
        if self.has_symbols {
            return Finding::ok(check, "/proc/kallsyms has addresses");
        }
        let restricted = self.kptr_restrict.as_deref().unwrap_or("unknown");
        let remedy = match number(&self.kptr_restrict) {
            Some(2..) => "sysctl -w kernel.kptr_restrict=1",
            _ => "CAP_SYSLOG",
        };
        let found = format!(
            "/proc/kallsyms has no addresses (kernel.kptr_restrict is {restricted}): functions in stacks and drops have no names, \
             and headers that a driver left in pages are not seen"
        );
        Finding::warning(check, found).remedy(remedy)
    }

    fn ptrace_scope(&self) -> Finding {
        let check = Check::PtraceScope;
        match &self.ptrace_scope {
            Ok(scope) if scope == "0" => Finding::ok(check, "0"),
            Ok(scope) => Finding::ok(
                check,
                format!(
                    "{scope}, which does not bind memleak: it reads maps and attaches to no process"
                ),
            ),
            Err(Unread::Absent(_)) => Finding::ok(check, "no Yama here"),
            Err(why) => Finding::unknown(check, why),
        }
    }

    fn memlock(&self) -> Option<Finding> {
        let limit = self.memlock?;
        let is_bound =
            self.version < NO_MEMLOCK && !self.held.contains(CapabilitySet::SYS_RESOURCE);
        (is_bound && limit < TABLES).then(|| {
            let (limit, tables) = (limit >> 10, TABLES >> 10);
            Finding::warning(
                Check::Memlock,
                format!("before Linux 5.11 BPF tables count as locked memory, and the limit is {limit} KiB"),
            )
            .remedy(format!("ulimit -l {tables}, LimitMEMLOCK=64M in the unit, or CAP_SYS_RESOURCE"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use report::model::Level;

    /// A host on which nothing is wrong.
    fn fine() -> Kernel {
        let setting = |value: &str| Ok(value.to_owned());
        Kernel {
            release: "6.18.0".into(),
            version: (6, 18),
            btf: Ok(()),
            lockdown: setting("none [integrity] confidentiality"),
            securityfs: true,
            jit: setting("1"),
            perf_event_paranoid: setting("4"),
            unprivileged_bpf_disabled: setting("2"),
            kptr_restrict: setting("1"),
            ptrace_scope: setting("1"),
            has_symbols: true,
            memlock: Some(8 << 20),
            held: CapabilitySet::all(),
        }
    }

    fn worst(kernel: &Kernel) -> Vec<Finding> {
        let found = kernel.findings().into_iter();
        found.filter(|finding| finding.level != Level::Ok).collect()
    }

    #[track_caller]
    fn one(kernel: &Kernel, check: Check, level: Level, remedy: &str) {
        let found = worst(kernel);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(
            (found[0].check, found[0].level),
            (check, level),
            "{found:#?}"
        );
        let said = found[0].remedy.as_deref().unwrap_or_default();
        assert!(said.contains(remedy), "{found:#?}");
    }

    #[test]
    fn a_good_kernel_has_nothing_to_say() {
        assert_eq!(worst(&fine()), []);
    }

    #[test]
    fn what_keeps_programs_from_running_is_named_with_its_remedy() {
        let old = Kernel {
            version: (5, 4),
            memlock: None,
            ..fine()
        };
        one(&old, Check::Kernel, Level::Warning, "5.10");
        let bare = Kernel {
            btf: Err("no file".into()),
            ..fine()
        };
        one(&bare, Check::Btf, Level::Warning, "CONFIG_DEBUG_INFO_BTF");
        let locked = Kernel {
            lockdown: Ok("none integrity [confidentiality]".into()),
            ..fine()
        };
        one(
            &locked,
            Check::Lockdown,
            Level::Warning,
            "lockdown=integrity",
        );
        let slow = Kernel {
            jit: Ok("0".into()),
            ..fine()
        };
        one(&slow, Check::Jit, Level::Warning, "bpf_jit_enable=1");
        let open = Kernel {
            unprivileged_bpf_disabled: Ok("0".into()),
            ..fine()
        };
        one(&open, Check::UnprivilegedBpf, Level::Note, "=2");
    }

    #[test]
    fn what_is_hidden_depends_on_the_setting() {
        let hidden = |restrict: &str| Kernel {
            has_symbols: false,
            kptr_restrict: Ok(restrict.into()),
            ..fine()
        };
        one(&hidden("1"), Check::Symbols, Level::Warning, "CAP_SYSLOG");
        one(
            &hidden("2"),
            Check::Symbols,
            Level::Warning,
            "kptr_restrict=1",
        );
    }

    #[test]
    fn what_binds_only_the_unprivileged_is_said_to_them_only() {
        let user = Kernel {
            held: CapabilitySet::empty(),
            ..fine()
        };
        one(&user, Check::PerfEventParanoid, Level::Note, "CAP_PERFMON");
    }

    #[test]
    fn locked_memory_counts_on_old_kernels_only() {
        let tight = |version| Kernel {
            version,
            memlock: Some(64 << 10),
            held: CapabilitySet::all() - CapabilitySet::SYS_RESOURCE,
            ..fine()
        };
        one(
            &tight((5, 10)),
            Check::Memlock,
            Level::Warning,
            "LimitMEMLOCK",
        );
        assert_eq!(worst(&tight((5, 11))), []);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let refused = || Err(Unread::Refused("read x: permission denied".into()));
        let closed = Kernel {
            lockdown: refused(),
            perf_event_paranoid: refused(),
            ..fine()
        };
        let found = worst(&closed);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found.iter().all(|f| f.found.starts_with("unknown: ")),
            "{found:#?}"
        );
        let none = Kernel {
            lockdown: Err(Unread::Absent("x".into())),
            ..fine()
        };
        assert_eq!(worst(&none), []);
    }
}
