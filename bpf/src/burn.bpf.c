// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests alone: a fault with a known size. Keeps one CPU busy inside any softirq but NET_RX, so
 * that packets which raise NET_RX meanwhile wait for it.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

enum { SPANS = 32, TURNS = 1 << 22 };

const volatile __u32 target_cpu = 0;
const volatile __u64 burn_ns = 0;
const volatile __u64 period_ns = 0;

/* What was really done, CLOCK_MONOTONIC ns. */
struct span {
	__u64 from, to;
} spans[SPANS];
__u32 burnt;

static long burn_on(__u32 turn, __u64 *until)
{
	return bpf_ktime_get_ns() >= *until;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(burn, unsigned int vec)
{
	__u64 now, until;
	__u32 n = burnt;

	if (vec == NET_RX_SOFTIRQ || bpf_get_smp_processor_id() != target_cpu || n >= SPANS)
		return 0;
	now = bpf_ktime_get_ns();
	if (n && now < spans[(n - 1) & (SPANS - 1)].to + period_ns)
		return 0;
	until = now + burn_ns;
	bpf_loop(TURNS, burn_on, &until, 0);
	spans[n].from = now;
	spans[n].to = bpf_ktime_get_ns();
	burnt = n + 1;
	return 0;
}
