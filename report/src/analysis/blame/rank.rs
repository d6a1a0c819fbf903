//! What goes first where several had a CPU.

use crate::model::Class;

/// Which of two that overlap had the CPU: the lower.
pub(super) fn rank(class: Class) -> usize {
    match class {
        Class::Quota => 0,
        Class::Hardirq => 1,
        Class::Irqoff | Class::Outside | Class::Stolen => 2,
        Class::SoftirqRun | Class::SoftirqDelay => 3,
        Class::Hard | Class::Lazy => 4,
        Class::Cpu | Class::Own => 5,
    }
}

pub(super) const RANKS: usize = 6;
