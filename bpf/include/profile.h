/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a profile counts: per task name, process and pair of stacks, how often it was sampled on a
 * CPU, or for how long it was off the CPU. Both tables refuse what does not fit, and that is
 * counted.
 */
#pragma once

enum { PR_FRAMES = 127, PR_COMM = 16 };

/* How a task was seen. */
enum pr_how { PR_RAN, PR_BLOCKED, PR_PREEMPTED };

enum pr_flag {
	PR_NO_KERNEL = 1 << 0, /* the kernel stack was wanted, and could not be taken or kept */
	PR_NO_USER = 1 << 1, /* the same of the user stack */
};

struct pr_stack {
	__u64 frames[PR_FRAMES]; /* the innermost first; 0 behind the last */
};

/* Stacks by their hash; 0: there is none. */
struct pr_key {
	__u64 kernel, user;
	__u32 tgid; /* in the initial PID namespace; 0: the idle task */
	__u16 how, flags;
	char comm[PR_COMM];
};

struct pr_sum {
	__u64 count;
	__u64 ns; /* off the CPU */
};

/* A task that is off its CPU, since `since_ns` (CLOCK_MONOTONIC). */
struct pr_left {
	struct pr_key key;
	__u64 since_ns;
};
