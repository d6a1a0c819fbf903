//! A row of profile: a stack and its weight.

use super::context::Context;
use crate::companion::event::Frame;
use crate::printable::printable;
use serde::Serialize;
use std::fmt::Write as _;

/// Stands for an address that has no name.
pub const UNKNOWN: &str = "[unknown]";
/// Stands for a stack that could not be taken or kept.
pub const NO_STACK: &str = "[no stack]";

/// Beginnings of the names of functions through which a task leaves its CPU.
const SCHEDULER: [&str; 6] = [
    "__schedule",
    "schedule",
    "preempt_schedule",
    "__cond_resched",
    "io_schedule",
    "do_sched_yield",
];

/// A stack of a process, and how often or how long it was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stack {
    /// `profile`.
    pub companion: &'static str,
    /// Name of the thread.
    pub comm: String,
    /// Its process, as in /proc; 0: the idle task.
    pub pid: u32,
    /// What it is of.
    pub context: Context,
    /// Samples on a CPU; times that a task left its CPU.
    pub count: u64,
    /// Time that the samples stand for; time off the CPU. ns.
    pub ns: u64,
    /// Its part of all, from 0 to 1.
    pub share: f64,
    /// Functions of the kernel, the innermost first.
    pub kernel: Vec<String>,
    /// Functions of the process, the innermost first; they called the kernel's.
    pub user: Vec<String>,
}

/// The header of its text.
pub fn stack_header() -> String {
    format!(
        "{:>6} {:>10} {:>12} {:<9} {:>7} COMM\n",
        "SHARE", "COUNT", "TIME(us)", "CONTEXT", "PID"
    )
}

/// The function of a frame, without the offset.
pub fn function(frame: &Frame) -> String {
    let Some(name) = &frame.name else {
        return UNKNOWN.to_owned();
    };
    // A name may contain a plus itself.
    let function = name.rsplit_once("+0x").map_or(name.as_str(), |(f, _)| f);
    function.to_owned()
}

impl Stack {
    /// The function that ran, or that called the scheduler to wait.
    pub fn leaf(&self) -> &str {
        let waits = matches!(self.context, Context::Blocked | Context::Preempted);
        let schedules = |name: &str| SCHEDULER.iter().any(|start| name.starts_with(start));
        let mut all = self.kernel.iter().chain(&self.user);
        let leaf = all.find(|name| !waits || !schedules(name));
        leaf.unwrap_or(&self.comm)
    }

    /// Whether nothing is known but the task, although a stack was wanted.
    pub fn is_missing(&self) -> bool {
        let mut all = self.kernel.iter().chain(&self.user).peekable();
        all.peek().is_some() && all.all(|name| name == NO_STACK)
    }

    /// A row, and its functions indented below.
    pub(in crate::companion) fn text(&self) -> String {
        let mut text = format!(
            "{:>5.1}% {:>10} {:>12.1} {:<9} {:>7} {}\n",
            100.0 * self.share,
            self.count,
            self.ns as f64 / 1e3,
            self.context.name(),
            self.pid,
            printable(&self.comm)
        );
        for (of, functions) in [("kernel", &self.kernel), ("user", &self.user)] {
            for function in functions {
                let _ = writeln!(text, "    {of:<6} {}", printable(function));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_who_called_the_scheduler() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
        let mut stack = Stack {
            companion: "profile",
            comm: "tail".to_owned(),
            pid: 1,
            context: Context::Blocked,
            count: 1,
            ns: 1,
            share: 1.0,
            kernel: names(&["__schedule", "schedule", "do_nanosleep"]),
            user: names(&["main"]),
        };
        assert_eq!(stack.leaf(), "do_nanosleep");
        stack.context = Context::Task;
        assert_eq!(stack.leaf(), "__schedule");
        stack.kernel.clear();
        assert_eq!(stack.leaf(), "main");
        stack.user.clear();
        assert_eq!(stack.leaf(), "tail");
        assert!(!stack.is_missing(), "none was wanted");
        stack.user = names(&[NO_STACK]);
        assert!(stack.is_missing());
    }

    #[test]
    fn a_function_is_named_without_its_offset() {
        for (name, expected) in [
            (Some("spin+0x12"), "spin"),
            (Some("a::operator+(int)+0x1f"), "a::operator+(int)"),
            (Some("plain"), "plain"),
            (None, UNKNOWN),
        ] {
            let name = name.map(str::to_owned);
            assert_eq!(function(&Frame { address: 7, name }), expected);
        }
    }
}
