/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Keeps a CPU busy for a known time. Needs bpf_loop: Linux 5.17.
 */
#pragma once

/* About 100 ms where the clock takes 25 ns. */
enum { TURNS = 1 << 22 };

static long burn_on(__u32 turn, __u64 *until)
{
	return bpf_ktime_get_ns() >= *until;
}

static __always_inline void burn(__u64 from, __u64 ns)
{
	__u64 until = from + ns;

	bpf_loop(TURNS, burn_on, &until, 0);
}
