/* SPDX-License-Identifier: GPL-2.0-only */
/* Buckets of a quarter of an octave. The inverse is in pingtrace/src/kernel/recorder/buckets.rs. */
#pragma once

#include "recorder.h"

/* The buckets begin at 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20 ... ns. */
static __always_inline __u32 bucket_of(__u64 ns)
{
	__u32 log = 0;
	__u64 v = ns;

	if (ns < PT_HIST_STEPS)
		return ns;
	for (int step = 32; step; step >>= 1) {
		if (v >> step) {
			v >>= step;
			log += step;
		}
	}
	return (log - 1) * PT_HIST_STEPS + (ns >> (log - 2) & (PT_HIST_STEPS - 1));
}
