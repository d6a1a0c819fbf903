//! What kind of code a stack is of.

use serde::Serialize;

/// What a CPU ran, or why a task did not have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// A task, in user space or in the kernel on its behalf.
    Task,
    /// A softirq, in whatever task it interrupted or in `ksoftirqd`.
    Softirq,
    /// A hard interrupt.
    Hardirq,
    /// The idle task.
    Idle,
    /// Off the CPU: the task waited for something.
    Blocked,
    /// Off the CPU: the task could run, and others had the CPU.
    Preempted,
}

/// Functions that run softirqs (kernel/softirq.c), by their names from 5.10 on.
const SOFTIRQ: [&str; 3] = [
    "handle_softirqs",
    "__do_softirq",
    "__softirqentry_text_start",
];
/// Beginnings of the names of interrupt entries (arch/x86/entry, arch/arm64/kernel/entry.S).
const HARDIRQ: [&str; 6] = [
    "asm_sysvec_",
    "sysvec_",
    "asm_common_interrupt",
    "common_interrupt",
    "el1h_64_irq",
    "el0t_64_irq",
];
/// Functions that a task runs on its way out of an interrupt (kernel/entry/common.c).
const WAY_OUT: [&str; 3] = ["irqentry_exit", "exit_to_user_mode", "preempt_schedule_irq"];

impl Context {
    /// What ran on a CPU, by the functions of its kernel stack, the innermost first. An interrupt handler
    /// during which interrupts are off is not sampled, so only what the handler calls with interrupts on
    /// and what follows it is seen as `hardirq`.
    pub fn of_kernel_stack<'a>(functions: impl Iterator<Item = &'a str>) -> Self {
        let starts = |name: &str, with: &[&str]| with.iter().any(|start| name.starts_with(start));
        for name in functions {
            if SOFTIRQ.contains(&name) {
                return Self::Softirq;
            }
            if starts(name, &WAY_OUT) {
                return Self::Task;
            }
            if starts(name, &HARDIRQ) {
                return Self::Hardirq;
            }
        }
        Self::Task
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Softirq => "softirq",
            Self::Hardirq => "hardirq",
            Self::Idle => "idle",
            Self::Blocked => "blocked",
            Self::Preempted => "preempted",
        }
    }

    /// The frame that stands for it between a task and its stack; a task's own code needs none.
    pub fn frame(self) -> Option<&'static str> {
        match self {
            Self::Task | Self::Idle | Self::Blocked => None,
            Self::Softirq => Some("[softirq]"),
            Self::Hardirq => Some("[hardirq]"),
            Self::Preempted => Some("[preempted]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_entry_says_what_ran() {
        for (stack, context) in [
            ("", Context::Task),
            (
                "do_syscall_64 entry_SYSCALL_64_after_hwframe",
                Context::Task,
            ),
            (
                "clear_page do_anonymous_page asm_exc_page_fault",
                Context::Task,
            ),
            (
                "net_rx_action handle_softirqs __irq_exit_rcu sysvec_apic_timer_interrupt \
                 asm_sysvec_apic_timer_interrupt spin",
                Context::Softirq,
            ),
            ("net_rx_action __do_softirq run_ksoftirqd", Context::Softirq),
            (
                "tick_irq_exit irq_exit_rcu common_interrupt asm_common_interrupt net_rx_action \
                 handle_softirqs",
                Context::Hardirq,
            ),
            (
                "__schedule irqentry_exit asm_sysvec_reschedule_ipi",
                Context::Task,
            ),
            (
                "task_work_run exit_to_user_mode_loop asm_sysvec_apic_timer_interrupt",
                Context::Task,
            ),
        ] {
            let found = Context::of_kernel_stack(stack.split_whitespace());
            assert_eq!(found, context, "{stack}");
        }
    }
}
