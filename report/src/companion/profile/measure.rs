//! All stacks of a run.

use super::stack::Stack;
use crate::units::duration;
use std::collections::HashMap;

/// What the weight of a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Samples on a CPU.
    Samples,
    /// Time off the CPU, ns.
    OffCpu,
}

/// The stacks of a run, the heaviest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Of their weights.
    pub measure: Measure,
    stacks: Vec<Stack>,
    total: u64,
}

impl Measure {
    /// The weight of a stack.
    pub fn weight(self, stack: &Stack) -> u64 {
        match self {
            Self::Samples => stack.count,
            Self::OffCpu => stack.ns,
        }
    }

    /// A weight for people: `12 samples`, `1.20 s`.
    pub fn text(self, weight: u64) -> String {
        match self {
            Self::Samples if weight == 1 => "1 sample".to_owned(),
            Self::Samples => format!("{weight} samples"),
            Self::OffCpu => duration(weight),
        }
    }
}

impl Profile {
    /// Adds up what differs in nothing that is shown, and gives each its share.
    pub fn new(measure: Measure, stacks: impl Iterator<Item = Stack>) -> Self {
        let mut merged: HashMap<_, Stack> = HashMap::new();
        for stack in stacks {
            let key = (
                stack.comm.clone(),
                stack.pid,
                stack.context,
                stack.kernel.clone(),
                stack.user.clone(),
            );
            if let Some(same) = merged.get_mut(&key) {
                same.count += stack.count;
                same.ns += stack.ns;
            } else {
                merged.insert(key, stack);
            }
        }
        let mut stacks: Vec<Stack> = merged.into_values().collect();
        let total = stacks.iter().map(|stack| measure.weight(stack)).sum();
        for stack in &mut stacks {
            stack.share = measure.weight(stack) as f64 / u64::max(total, 1) as f64;
        }
        stacks.sort_by(|a, b| {
            let heavier = measure.weight(b).cmp(&measure.weight(a));
            let name = |stack: &Stack| (stack.comm.clone(), stack.pid, stack.user.clone());
            heavier.then_with(|| name(a).cmp(&name(b)))
        });
        Self {
            measure,
            stacks,
            total,
        }
    }

    /// The heaviest first.
    pub fn stacks(&self) -> &[Stack] {
        &self.stacks
    }

    /// The weight of all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The part of the stacks of which this is so, from 0 to 1.
    pub fn share(&self, is_so: impl Fn(&Stack) -> bool) -> f64 {
        self.stacks
            .iter()
            .filter(|stack| is_so(stack))
            .map(|stack| stack.share)
            .sum()
    }

    /// The functions that ran or waited, with their tasks and weights, the heaviest first.
    pub fn leaves(&self) -> Vec<(&str, &str, u64)> {
        let mut weights: HashMap<(&str, &str), u64> = HashMap::new();
        for stack in &self.stacks {
            let weight = self.measure.weight(stack);
            *weights.entry((stack.leaf(), &stack.comm)).or_default() += weight;
        }
        let mut leaves: Vec<_> = weights
            .into_iter()
            .map(|((leaf, comm), weight)| (leaf, comm, weight))
            .collect();
        leaves.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
        leaves
    }

    /// The answer in one sentence: the function with the most weight.
    pub fn headline(&self) -> String {
        let Some((leaf, comm, weight)) = self.leaves().into_iter().next() else {
            return match self.measure {
                Measure::Samples => "Nothing was sampled on a CPU".to_owned(),
                Measure::OffCpu => "No task left its CPU and came back".to_owned(),
            };
        };
        let share = 100.0 * weight as f64 / self.total.max(1) as f64;
        let of = self.measure.text(self.total);
        match self.measure {
            Measure::Samples => format!("{share:.1} % of {of} in {leaf} ({comm})"),
            Measure::OffCpu => format!("{share:.1} % of {of} off the CPU in {leaf} ({comm})"),
        }
    }
}
