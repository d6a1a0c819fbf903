//! What the running kernel has, by its version and its type information (BTF, /sys/kernel/btf/vmlinux): read
//! once, kept as plain data. What to do with it is decided elsewhere, so that a kernel can be made up in a test.

use anyhow::{Context as _, Result, anyhow};
use libbpf_rs::btf::types::{Enum, EnumMember, FuncProto, Ptr, Struct, Typedef};
use libbpf_rs::btf::{Btf, BtfKind, TypeId};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// Members of structs of which the program has to know whether they exist.
const MEMBERS: [(&str, &str); 2] = [("sched_info", "last_queued"), ("sched_entity", "cfs_rq")];

/// A parameter of a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// No pointer.
    Value,
    /// A pointer to anything but a struct.
    Pointer,
    /// A pointer to this struct.
    Struct(String),
}

/// What a kernel has.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// Its version, such as (6, 18). What cannot be read counts as the latest.
    pub version: (u32, u32),
    /// Parameters of each tracepoint, as in its `TP_PROTO`.
    tracepoints: HashMap<String, Vec<Parameter>>,
    /// Those of [`MEMBERS`] that exist.
    members: HashSet<(&'static str, &'static str)>,
    /// `enum skb_drop_reason` by number, without the prefix.
    drop_reasons: HashMap<u64, String>,
}

static RUNNING: LazyLock<Result<Features, String>> =
    LazyLock::new(|| Features::read().map_err(|e| format!("{e:#}")));
static NONE: LazyLock<Features> = LazyLock::new(Features::default);

/// The running kernel; an error if it has no BTF.
pub fn running() -> Result<&'static Features> {
    RUNNING.as_ref().map_err(|e| anyhow!("{e}"))
}

/// The running kernel; one with nothing if it has no BTF.
pub fn known() -> &'static Features {
    RUNNING.as_ref().unwrap_or(&NONE)
}

impl Features {
    fn read() -> Result<Self> {
        let btf = Btf::from_vmlinux().context(
            "read this kernel's types (needs CONFIG_DEBUG_INFO_BTF: /sys/kernel/btf/vmlinux)",
        )?;
        let has = |(name, member): &(&str, &str)| {
            let found = btf.type_by_name::<Struct<'_>>(name);
            found.is_some_and(|s| s.iter().any(|m| m.name.is_some_and(|name| name == *member)))
        };
        let tracepoints = btf.type_by_kind::<Typedef<'_>>();
        Ok(Self {
            version: version(),
            tracepoints: tracepoints.filter_map(|t| tracepoint(&btf, &t)).collect(),
            members: MEMBERS.into_iter().filter(has).collect(),
            drop_reasons: drop_reasons(&btf),
        })
    }

    /// Whether it has this tracepoint.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoints.contains_key(name)
    }

    /// The parameters of a tracepoint; none if it does not exist.
    pub fn parameters(&self, tracepoint: &str) -> &[Parameter] {
        self.tracepoints.get(tracepoint).map_or(&[], Vec::as_slice)
    }

    /// Whether a parameter of a tracepoint, counted from 0, points to this struct.
    pub fn points_to(&self, tracepoint: &str, parameter: usize, name: &str) -> bool {
        let parameter = self.parameters(tracepoint).get(parameter);
        matches!(parameter, Some(Parameter::Struct(to)) if to == name)
    }

    /// Whether a struct has a member, one of [`MEMBERS`].
    pub fn has_member(&self, name: &str, member: &str) -> bool {
        debug_assert!(MEMBERS.contains(&(name, member)), "{name}.{member}");
        self.members.contains(&(name, member))
    }

    /// The kernel's name of a reason for a drop.
    pub fn drop_reason(&self, number: u64) -> Option<&str> {
        self.drop_reasons.get(&number).map(String::as_str)
    }
}

/// The version of a kernel whose release cannot be read: it counts as the latest.
pub const UNKNOWN_VERSION: (u32, u32) = (u32::MAX, 0);

/// The version of the running kernel, also without BTF.
pub fn version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => UNKNOWN_VERSION,
    }
}

/// Name and parameters of a tracepoint: `typedef void (*btf_trace_NAME)(void *, ...)`, where the first
/// parameter is the program's own data.
fn tracepoint(btf: &Btf<'_>, named: &Typedef<'_>) -> Option<(String, Vec<Parameter>)> {
    let name = named.name()?.to_str()?.strip_prefix("btf_trace_")?;
    let pointer = Ptr::try_from(named.next_type()?).ok()?;
    let function = FuncProto::try_from(pointer.next_type()?).ok()?;
    let parameters = function.iter().skip(1).map(|p| parameter(btf, p.ty));
    Some((name.to_owned(), parameters.collect()))
}

fn parameter(btf: &Btf<'_>, id: TypeId) -> Parameter {
    let Some(pointer) = btf.type_by_id::<Ptr<'_>>(id) else {
        return Parameter::Value;
    };
    let target = pointer.next_type().map(|t| t.skip_mods_and_typedefs());
    let of_struct = target.filter(|t| t.kind() == BtfKind::Struct);
    match of_struct.and_then(|t| t.name()?.to_str()) {
        Some(name) => Parameter::Struct(name.to_owned()),
        None => Parameter::Pointer,
    }
}

fn drop_reasons(btf: &Btf<'_>) -> HashMap<u64, String> {
    let named = |member: EnumMember<'_>| {
        let name = member.name?.to_str()?;
        let name = name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name);
        Some((member.value.cast_unsigned(), name.to_owned()))
    };
    let reasons = btf.type_by_name::<Enum<'_>>("skb_drop_reason");
    reasons.map_or_else(HashMap::new, |r| r.iter().filter_map(named).collect())
}

#[cfg(test)]
impl Features {
    /// A kernel of this version with these tracepoints, whose parameters are written as `TP_PROTO` would: `*` is a pointer,
    /// `*name` one to a struct, anything else a value.
    pub fn made_up(version: (u32, u32), tracepoints: &[(&str, &[&str])]) -> Self {
        let parameter = |text: &&str| match text.strip_prefix('*') {
            None => Parameter::Value,
            Some("") => Parameter::Pointer,
            Some(name) => Parameter::Struct(name.to_owned()),
        };
        let one = |(name, parameters): &(&str, &[&str])| {
            (
                (*name).to_owned(),
                parameters.iter().map(parameter).collect(),
            )
        };
        Self {
            version,
            tracepoints: tracepoints.iter().map(one).collect(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These have not changed from Linux 5.10 to 7.2.
    #[test]
    fn the_running_kernel_is_read() {
        let kernel = running().unwrap();
        assert!(kernel.version >= (5, 10) && kernel.version < (u32::MAX, 0));
        assert!(kernel.has_tracepoint("sched_wakeup"));
        assert!(!kernel.has_tracepoint("no_such_tracepoint"));
        let softirq = kernel.parameters("softirq_entry");
        assert_eq!(softirq, [Parameter::Value]);
        assert!(kernel.points_to("sched_wakeup", 0, "task_struct"));
        assert!(!kernel.points_to("sched_wakeup", 1, "task_struct"));
        assert_eq!(kernel.parameters("kfree")[1], Parameter::Pointer);
        assert!(kernel.has_member("sched_entity", "cfs_rq"));
        assert!(!Features::default().has_member("sched_entity", "cfs_rq"));
        assert!(kernel.tracepoints.len() > 100);
    }
}
