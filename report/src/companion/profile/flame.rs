//! The tree of all stacks, which a flame graph shows.

use super::measure::{Measure, Profile};
use super::stack::{NO_STACK, Stack, UNKNOWN};
use std::collections::BTreeMap;

/// A flame graph: what it is of, and its frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Flame {
    /// What was measured where: `profile on web1, 10 s, 99 samples a second`.
    pub title: String,
    /// The answer, one sentence.
    pub headline: String,
    /// What was lost, and what the reader has to know.
    pub notes: String,
    /// Of its values.
    pub measure: Measure,
    /// All of it.
    pub root: Node,
}

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A task, or all of them.
    Task,
    /// A softirq, a hard interrupt, or a task that was preempted.
    Context,
    /// A function of a process.
    User,
    /// A function of the kernel.
    Kernel,
    /// No name, or no stack.
    Unknown,
}

/// A frame, and what it called.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name of the function or the task.
    pub name: String,
    /// Whose it is.
    pub kind: Kind,
    /// Its weight, with that of all it called.
    pub value: u64,
    /// In the order of their names.
    pub children: Vec<Node>,
}

/// A node while stacks are added.
#[derive(Default)]
struct Growing {
    value: u64,
    children: BTreeMap<(Kind, String), Growing>,
}

impl Node {
    /// The tree of a profile.
    pub fn new(profile: &Profile) -> Self {
        let mut root = Growing::default();
        for stack in profile.stacks() {
            let weight = profile.measure.weight(stack);
            root.value += weight;
            let mut node = &mut root;
            for frame in path(stack) {
                node = node.children.entry(frame).or_default();
                node.value += weight;
            }
        }
        root.done(Kind::Task, "all".to_owned())
    }

    /// How many frames stand above each other.
    pub fn depth(&self) -> usize {
        1 + self.children.iter().map(Self::depth).max().unwrap_or(0)
    }
}

impl Growing {
    fn done(self, kind: Kind, name: String) -> Node {
        let children = self.children.into_iter();
        Node {
            name,
            kind,
            value: self.value,
            children: children
                .map(|((kind, name), child)| child.done(kind, name))
                .collect(),
        }
    }
}

/// The frames of a stack, from the task on.
fn path(stack: &Stack) -> Vec<(Kind, String)> {
    let mut path = vec![(Kind::Task, stack.comm.clone())];
    let context = stack.context.frame();
    path.extend(context.map(|name| (Kind::Context, name.to_owned())));
    for (kind, names) in [(Kind::User, &stack.user), (Kind::Kernel, &stack.kernel)] {
        path.extend(names.iter().rev().map(|name| {
            let has_name = name != UNKNOWN && name != NO_STACK;
            let kind = if has_name { kind } else { Kind::Unknown };
            (kind, name.clone())
        }));
    }
    path
}
