//! Which part of a slow segment explains it.

use super::rank::rank;
use crate::model::{Blame, Class, Part};

/// A class explains a segment if it took at least this percentage of it.
const ENOUGH: u64 = 60;

impl Blame {
    /// Unexplained time, ns.
    pub fn unexplained_ns(&self) -> u64 {
        self.window_ns.saturating_sub(sum_ns(&self.parts))
    }

    /// The part that explains the segment, if one does. The parts of a task count together, and so do
    /// those of a class; of a task, the class closest to the hardware is named.
    pub fn culprit(&self) -> Option<&Part> {
        let enough = |alike: &dyn Fn(&Part) -> bool| {
            let alike = self.parts.iter().filter(|part| alike(part));
            u128::from(sum_ns(alike)) * 100 >= u128::from(self.window_ns) * u128::from(ENOUGH)
        };
        let of_task =
            |part: &&Part| part.is_task() && enough(&|p| p.is_task() && p.tid == part.tid);
        let of_class = |part: &&Part| enough(&|p| p.class == part.class);
        let by_rank = self
            .parts
            .iter()
            .filter(of_task)
            .min_by_key(|part| rank(part.class));
        by_rank.or_else(|| self.parts.iter().find(of_class))
    }
}

/// The sum of several parts, ns, without overflow: another host's values can be anything.
fn sum_ns<'a>(parts: impl IntoIterator<Item = &'a Part>) -> u64 {
    let ns = parts.into_iter().map(|part| part.ns);
    ns.fold(0, u64::saturating_add)
}

impl Part {
    /// Whether a task is the cause.
    fn is_task(&self) -> bool {
        matches!(
            self.class,
            Class::Irqoff | Class::Hard | Class::Lazy | Class::Cpu | Class::Own
        )
    }
}
