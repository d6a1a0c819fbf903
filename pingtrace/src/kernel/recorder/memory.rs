//! The recorder's rings, read in place while the kernel writes them.

use crate::kernel::map::{Field, Mapping, field};
use anyhow::Result;
use bpf::recorder::types::{pt_cpu, pt_event, pt_ring, pt_ring_of, pt_stack};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

/// Rings of a CPU.
pub const RINGS: usize = pt_ring_of::PT_RINGS.0 as usize;
/// Stacks of a ring.
const STACKS: u32 = 128;
/// Stacks of a CPU.
pub const STACKS_OF_CPU: u32 = STACKS * RINGS as u32;

/// An event of the recorder, and where it is from.
#[derive(Clone, Copy)]
pub struct CpuEvent {
    /// Which CPU.
    pub cpu: u32,
    /// Which ring.
    pub ring: usize,
    /// What the kernel wrote.
    pub event: pt_event,
}

impl CpuEvent {
    /// When the event's interval began, `CLOCK_MONOTONIC` ns.
    pub fn begin_ns(&self) -> u64 {
        self.event.end_ns.saturating_sub(self.event.ns)
    }

    /// The task's name.
    pub fn comm(&self) -> String {
        comm(&self.event.comm)
    }
}

/// The name of a task as the kernel stores it.
pub fn comm(bytes: &[i8; 16]) -> String {
    text(&bytes.map(i8::cast_unsigned))
}

/// Text up to the first zero byte.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// The memory that the recorder's programs write.
pub struct Memory {
    cpus: Mapping<pt_cpu>,
    events: Mapping<pt_event>,
    stacks: Mapping<pt_stack>,
    switches: u32,
    others: u32,
}

fn elements<const N: usize>(
    all: Field<pt_cpu, [u64; N]>,
) -> impl Iterator<Item = Field<pt_cpu, u64>> {
    (0..N).map(move |n| all.element(n))
}

impl Memory {
    /// Maps the memory for `count` CPUs and rings of these sizes (switches, each other ring).
    pub fn map(
        cpus: BorrowedFd<'_>,
        events: BorrowedFd<'_>,
        stacks: BorrowedFd<'_>,
        (count, (switches, others)): (usize, (u32, u32)),
    ) -> Result<Self> {
        let per_cpu = switches + (RINGS as u32 - 1) * others;
        Ok(Self {
            cpus: Mapping::shared(cpus, count)?,
            events: Mapping::read_only(events, count * per_cpu as usize)?,
            stacks: Mapping::read_only(stacks, count * STACKS_OF_CPU as usize)?,
            switches,
            others,
        })
    }

    /// Number of possible CPUs.
    pub fn cpus(&self) -> u32 {
        self.cpus.count() as u32
    }

    /// Counters of a CPU, and the task that has it. Its parts may be of slightly different moments.
    pub fn cpu(&self, cpu: u32) -> pt_cpu {
        self.cpus.get(cpu as usize)
    }

    /// No CPU has a task, an interrupt or a softirq that is known to have begun; while no program runs.
    pub fn forget_what_is_under_way(&self) {
        let single = [
            field!(pt_cpu, since_ns),
            field!(pt_cpu, resched_ns),
            field!(pt_cpu, hard_ns),
            field!(pt_cpu, resched_clear_ns),
            field!(pt_cpu, irq_entry_ns),
            field!(pt_cpu, vector_entry_ns),
            field!(pt_cpu, timer_ns),
            field!(pt_cpu, length_ns),
        ];
        let by_vector = [field!(pt_cpu, raise_ns), field!(pt_cpu, entry_ns)];
        let fields = single
            .into_iter()
            .chain(by_vector.into_iter().flat_map(elements));
        for field in fields {
            (0..self.cpus.count()).for_each(|cpu| self.cpus.write(cpu, field, 0));
        }
    }

    /// Stacks that the kernel could not take.
    pub fn refused_stacks(&self) -> u64 {
        let of_cpu = |cpu| self.cpu(cpu).rings.map(|ring| u64::from(ring.refused));
        (0..self.cpus()).flat_map(of_cpu).sum()
    }

    /// Appends the events of a ring from number `from` on, the oldest first. Returns the number of the
    /// next event, and how many were overwritten.
    pub fn read(&self, cpu: u32, ring: usize, from: u64, into: &mut Vec<CpuEvent>) -> (u64, u64) {
        let size = u64::from(self.size(ring));
        let head = self.head(cpu, ring);
        // An event being written takes the place of the oldest.
        let oldest = |head: u64| (head + 1).saturating_sub(size);
        let first = from.max(oldest(head)).min(head);
        let before = into.len();
        into.extend((first..head).map(|number| CpuEvent {
            cpu,
            ring,
            event: self.events.get(self.place(cpu, ring, number)),
        }));
        fence(Ordering::Acquire);
        let overtaken = oldest(self.head(cpu, ring))
            .saturating_sub(first)
            .min(head - first);
        into.drain(before..before + overtaken as usize);
        (head, (first + overtaken).saturating_sub(from))
    }

    /// Appends the events of a ring whose intervals ended at `from_ns` or later, the newest first. The
    /// intervals of a ring end in order, so older events are not read.
    pub fn since(&self, cpu: u32, ring: usize, from_ns: u64, into: &mut Vec<CpuEvent>) {
        let size = u64::from(self.size(ring));
        let head = self.head(cpu, ring);
        let first = (head + 1).saturating_sub(size).min(head);
        let before = into.len();
        let record = |number| CpuEvent {
            cpu,
            ring,
            event: self.events.get(self.place(cpu, ring, number)),
        };
        let young = |record: &CpuEvent| record.event.end_ns >= from_ns;
        into.extend((first..head).rev().map(record).take_while(young));
        fence(Ordering::Acquire);
        // The oldest ones may have been overwritten meanwhile.
        let overwritten = (self.head(cpu, ring) + 1).saturating_sub(size);
        let safe = head.saturating_sub(overwritten.max(first));
        into.truncate(before + safe as usize);
    }

    /// The addresses of an event's stack, the innermost first; empty if it was overwritten.
    pub fn stack(&self, record: &CpuEvent) -> Vec<u64> {
        let number = record.event.stack;
        if number == 0 {
            return Vec::new();
        }
        let place = (record.cpu * RINGS as u32 + record.ring as u32) * STACKS;
        let stack = self.stacks.get((place + (number - 1) % STACKS) as usize);
        fence(Ordering::Acquire);
        let last = self.cpu(record.cpu).rings[record.ring].stacks;
        // An event being written takes the place of the oldest.
        if last.wrapping_sub(number) >= STACKS - 1 {
            return Vec::new();
        }
        stack.frames.into_iter().take_while(|ip| *ip != 0).collect()
    }

    fn size(&self, ring: usize) -> u32 {
        if ring == pt_ring_of::PT_RING_SWITCH.0 as usize {
            self.switches
        } else {
            self.others
        }
    }

    fn place(&self, cpu: u32, ring: usize, number: u64) -> usize {
        let per_cpu = self.switches + (RINGS as u32 - 1) * self.others;
        let offset = match ring as u32 {
            0 => 0,
            ring => self.switches + (ring - 1) * self.others,
        };
        let within = (number % u64::from(self.size(ring))) as u32;
        (cpu * per_cpu + offset + within) as usize
    }

    fn head(&self, cpu: u32, ring: usize) -> u64 {
        let field = field!(pt_cpu, rings)
            .element(ring)
            .then(field!(pt_ring, head));
        let head = self.cpus.read(cpu as usize, field);
        fence(Ordering::Acquire);
        head
    }
}

/// Reads each event of some rings once.
pub struct Reader {
    rings: Vec<usize>,
    next: Vec<u64>,
    /// Events that were overwritten before they were read.
    pub overwritten: u64,
}

impl Reader {
    /// Starts with events from now on.
    pub fn new(memory: &Memory, rings: &[pt_ring_of]) -> Self {
        let rings: Vec<usize> = rings.iter().map(|ring| ring.0 as usize).collect();
        let cpus = 0..memory.cpus();
        let heads = |cpu| rings.iter().map(move |ring| (cpu, *ring));
        let next = cpus
            .flat_map(heads)
            .map(|(cpu, ring)| memory.head(cpu, ring));
        Self {
            next: next.collect(),
            rings,
            overwritten: 0,
        }
    }

    /// The events of all CPUs since the last call, in the order of their end.
    pub fn read(&mut self, memory: &Memory) -> Vec<CpuEvent> {
        let mut records = Vec::new();
        let mut next = self.next.iter_mut();
        for cpu in 0..memory.cpus() {
            for (ring, next) in self.rings.iter().zip(&mut next) {
                let (head, lost) = memory.read(cpu, *ring, *next, &mut records);
                *next = head;
                self.overwritten += lost;
            }
        }
        records.sort_by_key(|record| record.event.end_ns);
        records
    }
}
