//! One way to open, choose, load and attach the programs of a BPF object, and to find out which of them
//! the kernel refuses.

use crate::kernel::privileges;
use anyhow::{Context as _, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, Object, OpenObject, ProgramMut};
use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;

/// Memory for a loaded object, kept by the caller as long as its programs are in use.
pub type Storage = MaybeUninit<OpenObject>;
/// The second is for another attempt, with fewer programs.
pub type Storages = [Storage; 2];

/// Room for two attempts.
pub const fn storages() -> Storages {
    [Storage::uninit(), Storage::uninit()]
}

/// A program that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name.
    pub program: String,
    why: String,
}

impl Refusal {
    /// `step`: what was tried, such as `load` or `attach`.
    pub fn new(program: &str, step: &str, error: &dyn fmt::Display) -> Self {
        let error = error.to_string();
        let reason = error.split(" (os error").next().unwrap_or_default();
        Self {
            program: program.to_owned(),
            why: format!("{step}: {reason}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, why } = self;
        write!(f, "the kernel refuses the program {program} ({why})")
    }
}

impl Error for Refusal {}

/// The loaded skeleton that this builder leads to.
pub type Loaded<'o, B> = <<B as SkelBuilder<'o>>::Output as OpenSkel<'o>>::Output;

/// Opens an object, lets `configure` set its constants and the sizes of its maps, and loads the
/// programs that are wanted, all or none. `what` names the object in errors.
pub fn load<'o, B: SkelBuilder<'o>>(
    what: &str,
    builder: B,
    storage: &'o mut Storage,
    is_wanted: impl Fn(&str) -> bool,
    configure: impl FnOnce(&mut B::Output) -> Result<()>,
) -> Result<Loaded<'o, B>> {
    privileges::OBJECT.check(&format!("loading {what}"))?;
    let opened = builder.open(storage);
    let mut open = opened.with_context(|| format!("open {what}"))?;
    for mut program in open.open_object_mut().progs_mut() {
        let on = program.name().to_str().is_some_and(&is_wanted);
        program.set_autoload(on);
    }
    configure(&mut open).with_context(|| format!("set up {what}"))?;
    open.load().with_context(|| {
        format!("load {what} (needs Linux 5.10 or newer with BTF; --debug says more)")
    })
}

/// Attaches a loaded program to the hook that its section names, until the link is dropped.
pub fn attach(program: &ProgramMut<'_>) -> Result<Link, Refusal> {
    let refusal = |e| Refusal::new(&program.name().to_string_lossy(), "attach", &e);
    program.attach().map_err(refusal)
}

/// [`attach`], by name.
pub fn attach_by_name(object: &Object, name: &str) -> Result<Link, Refusal> {
    let program = object.progs_mut().find(|program| program.name() == name);
    let program = program.ok_or_else(|| Refusal::new(name, "attach", &"no such program"))?;
    attach(&program)
}

/// Which of these programs the kernel refuses when `load` tries each alone: the only reliable test.
pub fn find_refused(names: &[&str], load: impl Fn(&str) -> Result<()>) -> Vec<Refusal> {
    let refusal = |name: &&str| {
        let error = load(name).err()?;
        let known = error.downcast_ref::<Refusal>().cloned();
        Some(known.unwrap_or_else(|| Refusal::new(name, "load", &error.root_cause())))
    };
    names.iter().filter_map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn what_is_refused_is_found_alone_and_says_at_which_step() {
        let denied = || std::io::Error::from_raw_os_error(1);
        let refused = find_refused(&["a", "b", "c"], |name| match name {
            "a" => Ok(()),
            "b" => Err(denied()).context("load the programs"),
            _ => bail!(Refusal::new("c", "attach", &denied())),
        });
        let words: Vec<_> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "the kernel refuses the program b (load: Operation not permitted)",
                "the kernel refuses the program c (attach: Operation not permitted)",
            ]
        );
    }
}
