//! Folded stacks: a line each, from the task to the innermost function, with a weight. What other
//! programs draw flame graphs from.

use super::measure::Profile;
use super::stack::Stack;
use crate::printable::printable;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How the kernel's functions are told from those of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folding {
    /// `_[k]` behind each function of the kernel.
    pub annotated: bool,
    /// A frame `-` between both stacks.
    pub delimited: bool,
}

/// The lines, in the order of their text. Their weights add up to the profile's total.
pub fn folded(profile: &Profile, folding: Folding) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for stack in profile.stacks() {
        let weight = profile.measure.weight(stack);
        *lines.entry(line(stack, folding)).or_default() += weight;
    }
    lines.iter().fold(String::new(), |mut all, (line, weight)| {
        let _ = writeln!(all, "{line} {weight}");
        all
    })
}

fn line(stack: &Stack, folding: Folding) -> String {
    let mut line = frame(&stack.comm);
    let mut push = |name: &str| {
        line.push(';');
        line.push_str(name);
    };
    if let Some(context) = stack.context.frame() {
        push(context);
    }
    for name in stack.user.iter().rev() {
        push(&frame(name));
    }
    if folding.delimited && !stack.user.is_empty() && !stack.kernel.is_empty() {
        push("-");
    }
    for name in stack.kernel.iter().rev() {
        let end = if folding.annotated { "_[k]" } else { "" };
        push(&(frame(name) + end));
    }
    line
}

/// A name as it may stand between semicolons.
fn frame(name: &str) -> String {
    printable(name).replace(';', ":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::companion::profile::{Context, Measure};

    fn stack(pid: u32, context: Context, user: &[&str], kernel: &[&str]) -> Stack {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
        Stack {
            companion: "profile",
            comm: "a b;c".to_owned(),
            pid,
            context,
            count: 3,
            ns: 30,
            share: 0.0,
            kernel: names(kernel),
            user: names(user),
        }
    }

    #[test]
    fn a_line_leads_from_the_task_to_the_innermost_function() {
        let stacks = [
            stack(
                1,
                Context::Task,
                &["read", "main"],
                &["vfs_read", "sys_read"],
            ),
            stack(
                2,
                Context::Task,
                &["read", "main"],
                &["vfs_read", "sys_read"],
            ),
            stack(1, Context::Softirq, &["f<a;b>\n"], &["net_rx"]),
            stack(3, Context::Task, &[], &[]),
        ];
        let profile = |measure| Profile::new(measure, stacks.iter().cloned());
        let samples = profile(Measure::Samples);
        assert_eq!(
            folded(&samples, Folding::default()),
            "a b:c 3\n\
             a b:c;[softirq];f<a:b>\\x0a;net_rx 3\n\
             a b:c;main;read;sys_read;vfs_read 6\n"
        );
        assert_eq!(samples.total(), 12);
        let marked = Folding {
            annotated: true,
            delimited: true,
        };
        let off_cpu = folded(&profile(Measure::OffCpu), marked);
        let last = "a b:c;main;read;-;sys_read_[k];vfs_read_[k] 60";
        assert_eq!(off_cpu.lines().last(), Some(last));
    }
}
