//! The order of precedence where several spans overlap.

use crate::model::Class;

/// Of two overlapping spans, the one with the lower rank had the CPU.
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
