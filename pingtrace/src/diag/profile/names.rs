//! The names of the functions of stacks, looked up while their processes are there.

use super::programs::Programs;
use crate::kernel::ids::Ids;
use crate::kernel::symbols::Symbols;
use anyhow::Result;
use bpf::profile::types::{pr_flag, pr_key};
use report::companion::profile::{Context, Measure, NO_STACK, Stack, UNKNOWN, function};
use report::companion::{Frame, beyond_tracing};
use std::collections::HashMap;

/// Names of stacks, each looked up once.
pub struct Names {
    symbols: Symbols,
    ids: Ids,
    kernel: HashMap<u64, Vec<String>>,
    /// By process: addresses mean something in it only.
    user: HashMap<(u32, u64), Vec<String>>,
}

impl Names {
    /// Knows none.
    pub fn new(ids: Ids) -> Self {
        Self {
            symbols: Symbols::default(),
            ids,
            kernel: HashMap::new(),
            user: HashMap::new(),
        }
    }

    /// Looks up the stacks that are new, as long as there is time.
    pub fn learn(&mut self, programs: &Programs<'_>, has_time: impl Fn() -> bool) -> Result<()> {
        let mut keys = programs.keys().take_while(|_| has_time());
        keys.try_for_each(|key| self.learn_stacks(programs, &key))
    }

    fn learn_stacks(&mut self, programs: &Programs<'_>, key: &pr_key) -> Result<()> {
        if key.user != 0 && !self.user.contains_key(&(key.tgid, key.user)) {
            let addresses = calls(programs.stack(key.user)?);
            let frames = match self.ids.shown(key.tgid) {
                Some(pid) => self.symbols.user(pid, &addresses),
                None => vec![
                    Frame {
                        address: 0,
                        name: None
                    };
                    addresses.len()
                ],
            };
            self.user.insert((key.tgid, key.user), functions(&frames));
        }
        if key.kernel != 0 && !self.kernel.contains_key(&key.kernel) {
            let frames = self.symbols.kernel(&calls(programs.stack(key.kernel)?));
            let names = functions(&beyond_tracing(frames));
            self.kernel.insert(key.kernel, names);
        }
        Ok(())
    }

    /// A stack with its names.
    pub fn stack(
        &mut self,
        programs: &Programs<'_>,
        measure: Measure,
        key: &pr_key,
        (count, ns): (u64, u64),
    ) -> Result<Stack> {
        self.learn_stacks(programs, key)?;
        let flags = u32::from(key.flags);
        let failed = |flag: pr_flag| (flags & flag.0 != 0).then(|| vec![NO_STACK.to_owned()]);
        let kernel = self.kernel.get(&key.kernel).cloned();
        let kernel = kernel.or_else(|| failed(pr_flag::PR_NO_KERNEL));
        let kernel = kernel.unwrap_or_default();
        let user = self.user.get(&(key.tgid, key.user)).cloned();
        let user = user.or_else(|| failed(pr_flag::PR_NO_USER));
        let comm = key.comm.iter().take_while(|c| **c != 0);
        Ok(Stack {
            companion: "profile",
            comm: comm.map(|c| c.cast_unsigned() as char).collect(),
            pid: self.ids.number(key.tgid),
            context: context(measure, key, &kernel),
            count,
            ns,
            share: 0.0,
            kernel,
            user: user.unwrap_or_default(),
        })
    }
}

/// What kind of code a stack is of.
fn context(measure: Measure, key: &pr_key, kernel: &[String]) -> Context {
    use bpf::profile::types::pr_how;
    if measure == Measure::OffCpu {
        let is_preempted = u32::from(key.how) == pr_how::PR_PREEMPTED.0;
        return if is_preempted {
            Context::Preempted
        } else {
            Context::Blocked
        };
    }
    match Context::of_kernel_stack(kernel.iter().map(String::as_str)) {
        Context::Task if key.tgid == 0 => Context::Idle,
        context => context,
    }
}

/// Addresses within the calls instead of behind them: a function that does not return may be called by the last
/// instruction of its caller.
fn calls(mut stack: Vec<u64>) -> Vec<u64> {
    for address in stack.iter_mut().skip(1) {
        *address -= 1;
    }
    stack
}

/// The functions of frames; of several without a name in a row one remains.
fn functions(frames: &[Frame]) -> Vec<String> {
    let mut names: Vec<String> = frames.iter().map(function).collect();
    names.dedup_by(|a, b| a == UNKNOWN && b == UNKNOWN);
    names
}
