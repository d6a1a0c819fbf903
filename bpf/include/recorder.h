/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The recorder's memory, shared with user space: what ran on each CPU, and what was held up there.
 *
 * A CPU has four rings, each with a single writer, so that none needs an atomic: two for what is
 * written inside the scheduler (every switch; rare events), one for softirqs, one for hard
 * interrupts. The newest event overwrites the oldest. User space maps the memory and reads it
 * without a system call: it reads `head`, copies, reads `head` again, and drops what may have been
 * overwritten meanwhile.
 */
#pragma once

enum pt_ring_of {
	PT_RING_SWITCH, /* one event a switch */
	PT_RING_EVENT, /* waits, late reschedules */
	PT_RING_SOFTIRQ,
	PT_RING_HARDIRQ, /* handlers, late timers, samples */
	PT_RINGS
};

enum pt_event_type {
	PT_SWITCH =
		1, /* `tid` ran for `ns`, then `other` got the CPU after it had waited `wait_ns` */
	PT_WAIT, /* `tid` waited for `ns` and got the CPU; `wait_ns` of it for its quota */
	PT_RESCHED, /* `tid` went on for `ns`, or up to `wait_ns` longer, after it was to call the
		       scheduler */
	PT_SOFTIRQ, /* vector `other` ran for `ns` in `tid`, `wait_ns` after its raise */
	PT_IRQ, /* interrupt `other` ran for `ns` in `tid` */
	PT_LATE, /* a timer ran `ns` late in `tid`; irqs may be off `wait_ns` longer */
	PT_SAMPLE, /* `tid` was on the CPU */
};

enum pt_event_flag {
	PT_PREEMPTED = 1 << 0, /* SWITCH: `tid` remained runnable */
	PT_LAZY = 1 << 1, /* RESCHED: a lazy one */
	PT_SAMPLED = 1 << 2, /* RESCHED: began up to `wait_ns` before, as it was sampled */
	PT_VECTOR = 1 << 3, /* IRQ: `other` is an enum pt_vector, not the number of a line */
	PT_ENTRY = 1 << 4, /* LATE: what the timer interrupted is known */
	PT_ENABLED = 1 << 5, /* LATE: that instruction had just turned interrupts on */
};

/* Interrupts without a line, on x86. */
enum pt_vector { PT_LOCAL_TIMER, PT_CALL_FUNCTION, PT_CALL_FUNCTION_SINGLE };

enum { PT_COMM = 16, PT_FRAMES = 24, PT_STACKS = 128, PT_SOFTIRQS = 16, PT_LENGTHS = 64 };

/* Times in ns of CLOCK_MONOTONIC; one cache line. */
struct pt_event {
	__u64 end_ns; /* of the interval */
	__u64 ns;
	__u64 wait_ns;
	__u32 tid, tgid; /* in the initial PID namespace */
	__u32 other;
	__u32 stack; /* number of its stack in its ring, from 1 on; 0: none */
	__u32 cgroup; /* WAIT: low half of the id of its cgroup of the CPU controller */
	__u16 runnable; /* SWITCH, WAIT: tasks on this CPU, that one included */
	__u8 type, flags;
	char comm[PT_COMM];
};

/* Wait-time histogram: buckets of a quarter of an octave, from 0 ns on. */
enum { PT_HIST_STEPS = 4, PT_HIST = 64 * PT_HIST_STEPS };

struct pt_hist_key {
	__u64 id; /* a tgid, or a cgroup, or 0 */
	__u32 cpu, pad;
};

struct pt_hist {
	__u64 counts[PT_HIST];
	char comm[PT_COMM];
};

/* The run queue of a throttled cgroup on a CPU. */
struct pt_throttle {
	__u64 from_ns;
	__u64 before_ns; /* the sum of earlier throttlings */
};

struct pt_ring {
	__u64 head; /* events so far */
	__u32 stacks; /* stacks so far */
	__u32 refused; /* stacks that could not be taken */
};

/* Sizes of the rings, powers of two; set before loading, with max_entries of their maps. */
struct pt_sizes {
	__u32 switches, others;
};

struct pt_cpu {
	struct pt_ring rings[PT_RINGS];

	/* Who has the CPU now, and since when. */
	__u64 since_ns;
	__u32 tid, tgid;
	char comm[PT_COMM];

	/* Since when the scheduler is to be called; 0: it is not. Other CPUs set it. */
	__u64 resched_ns;
	__u64 hard_ns; /* since when at once, not only at the next tick */
	__u64 resched_clear_ns; /* sampled: when the flag was last seen clear */
	__s64 clock_offset_ns; /* CLOCK_MONOTONIC less the run queue's clock */
	__u32 clock_late; /* switches in a row at which that clock seemed to be late */

	__u64 resched_bits; /* the flags of its task that call the scheduler */

	__u64 irq_entry_ns, vector_entry_ns;
	__u64 timer_ns; /* the last time when irqs were certainly on: a timer expired */
	__u64 raise_ns[PT_SOFTIRQS], entry_ns[PT_SOFTIRQS];

	__u32 length; /* of the run queue, since length_ns */
	__u64 length_ns;
	__u64 lengths_ns[PT_LENGTHS]; /* time that the run queue had each length */
} __attribute__((aligned(64)));
