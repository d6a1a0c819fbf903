// SPDX-License-Identifier: GPL-2.0-only
/*
 * For the tests of the companions: a CPU that is held up for a known time, once an order, while
 * something is off. A thread gives the order and then does what passes the tracepoint, where the
 * kernel has turned off what is wanted:
 *
 *   irq_off        timerfd_settime starts a timer below the lock of its clock base
 *   preempt_off    a system call begins; tracepoints run their programs with preemption off
 *   softirq_delay  sendto over the loopback has raised NET_RX and still has softirqs off
 *   softirq_run    and that NET_RX then begins
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "burn.h"

char LICENSE[] SEC("license") = "GPL";

/* By user space, `armed` last; whoever fulfils the order takes that back. */
struct stall_order {
	__u64 ns;
	__u32 tid, cpu, syscall, armed;
} order;

/* What was done, CLOCK_MONOTONIC ns, and the task that was held up. `count` is written last. */
struct stall_span {
	__u64 from, to;
	__u32 cpu, tid, count;
} span;

static __always_inline __u32 my_tid(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

static __always_inline bool ordered_by_me(void)
{
	return order.armed && order.tid == my_tid();
}

static __always_inline int fulfil(void)
{
	__u64 from = bpf_ktime_get_ns();

	order.armed = 0;
	burn(from, order.ns);
	span.to = bpf_ktime_get_ns();
	span.from = from;
	span.cpu = bpf_get_smp_processor_id();
	span.tid = my_tid();
	__sync_fetch_and_add(&span.count, 1);
	return 0;
}

SEC("?tp_btf/hrtimer_start")
int BPF_PROG(irq_off)
{
	return ordered_by_me() ? fulfil() : 0;
}

SEC("?tp_btf/sys_enter")
int BPF_PROG(preempt_off, const void *regs, long syscall)
{
	return ordered_by_me() && syscall == order.syscall ? fulfil() : 0;
}

SEC("?tp_btf/net_dev_xmit")
int BPF_PROG(softirq_delay)
{
	return ordered_by_me() ? fulfil() : 0;
}

/* Of the CPU and not the thread: the softirq daemon may have taken over. */
SEC("?tp_btf/softirq_entry")
int BPF_PROG(softirq_run, unsigned int vec)
{
	if (!order.armed || vec != NET_RX_SOFTIRQ || bpf_get_smp_processor_id() != order.cpu)
		return 0;
	return fulfil();
}
