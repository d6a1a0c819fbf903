//! The companions as subcommands: a line each.

use super::args::Common;
use super::{iofsstat, irqoff, memleak, nosched, profile, runqlat};
use crate::control::Control;
use crate::options::Origin;
use anyhow::Result;
use clap::Subcommand;

/// A subcommand that looks at one host.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "the arguments of each say what it does")]
pub enum Companion {
    Iofsstat(iofsstat::Args),
    Irqoff(irqoff::Args),
    Memleak(memleak::Args),
    Nosched(nosched::Args),
    Profile(profile::Args),
    Runqlat(runqlat::Args),
}

impl Companion {
    /// Does what it is for, until its time is over or a signal ends it.
    pub fn run(&self, control: &Control) -> Result<()> {
        match self {
            Self::Iofsstat(args) => iofsstat::run(args, control),
            Self::Irqoff(args) => irqoff::run(args, control),
            Self::Memleak(args) => memleak::run(args, control),
            Self::Nosched(args) => nosched::run(args, control),
            Self::Profile(args) => profile::run(args, control),
            Self::Runqlat(args) => runqlat::run(args, control),
        }
    }

    fn common(&self) -> (&'static str, &Common) {
        match self {
            Self::Iofsstat(args) => ("iofsstat", &args.common),
            Self::Irqoff(args) => ("irqoff", &args.watching.common),
            Self::Memleak(args) => ("memleak", &args.common),
            Self::Nosched(args) => ("nosched", &args.watching.common),
            Self::Profile(args) => ("profile", &args.common),
            Self::Runqlat(args) => ("runqlat", &args.watching.common),
        }
    }

    /// Whether libbpf's messages are wanted.
    pub fn debug(&self) -> bool {
        self.common().1.debug
    }

    /// Whether there is a log, which SIGHUP opens anew.
    pub fn has_log(&self) -> bool {
        let (name, common) = self.common();
        common.output.log(Origin::Companion(name)).is_some()
    }
}
