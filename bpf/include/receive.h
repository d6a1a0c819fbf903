/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What began the poll that receives a packet, and since when: the NET_RX softirq of a CPU, or a
 * kernel thread (threaded NAPI), which waits for its CPU like any other task.
 *
 * Either is raised by an interrupt, which waits as long as interrupts are off on its CPU. A timer
 * that expires late shows that they were: the raise then counts from when that timer was due. That
 * they were on before is known from a timer that expires in time, from the begin of a NET_RX
 * softirq, and of an idle CPU.
 */
#pragma once

enum { MAX_CPUS = 1024, NAPI_THREADS = 1024 };

/*
 * A timer that is as late as this, ns, found interrupts off; an interrupt that comes as soon as
 * this after it, ns, was pending meanwhile. One that comes later may have been, too: a late timer
 * does not show that they were on.
 */
enum { LATE_NS = 100000, SOON_NS = 100000 };

/* For a raise as long as this, ns, after interrupts were known to be on, they may have been off. */
enum { UNKNOWN_NS = 1100000 };

struct pt_softirq softirqs[MAX_CPUS] __attribute__((aligned(64)));

/* By thread id; of two in one place the last one counts. */
struct pt_napi_thread napi_threads[NAPI_THREADS];
/* A probe was received by a thread that is not followed: user space attaches the programs. */
bool napi_thread_seen;

/* CPUs that have received a probe: on these, user space that explains starts timers. */
bool receiving[MAX_CPUS];

/* What began a poll: its raise, 0 if unknown, and its begin. */
struct poll {
	__u64 raised_ns, entered_ns;
	bool on_unknown; /* interrupts may have been off before the raise */
};

static __always_inline struct pt_softirq *this_softirq(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	if (cpu >= MAX_CPUS)
		return 0;
	/* For verifiers before 6.2: the index itself must carry the bound, not a copy of it. */
	barrier_var(cpu);
	return &softirqs[cpu & (MAX_CPUS - 1)];
}

/* When the interrupt that came now was due, as far as that is known. */
static __always_inline __u64 raise_time(const struct pt_softirq *irq)
{
	const __u64 now = pt_now();
	const bool was_pending = now - irq->late_ns < SOON_NS && irq->on_ns < irq->late_ns;

	return was_pending ? irq->off_ns : now;
}

/*
 * Whether interrupts may have been off for long before a raise now, as far as that is not in its
 * time.
 */
static __always_inline bool is_on_unknown(const struct pt_softirq *irq, __u64 raised_ns)
{
	return raised_ns - irq->on_ns >= UNKNOWN_NS && (__u32)bpf_get_current_pid_tgid();
}

/* A softirq can be raised again while it runs: keep the first raise since the last entry. */
SEC("tp_btf/softirq_raise")
int BPF_PROG(on_softirq_raise, unsigned int vec)
{
	struct pt_softirq *irq;

	if (vec == NET_RX_SOFTIRQ && (irq = this_softirq()) && !irq->raised_ns) {
		irq->raised_ns = raise_time(irq);
		irq->raised_unknown = is_on_unknown(irq, irq->raised_ns);
	}
	return 0;
}

SEC("tp_btf/softirq_entry")
int BPF_PROG(on_softirq_entry, unsigned int vec)
{
	struct pt_softirq *irq;

	if (vec == NET_RX_SOFTIRQ && (irq = this_softirq())) {
		irq->poll_raised_ns = irq->raised_ns;
		irq->poll_unknown = irq->raised_unknown;
		irq->raised_ns = 0;
		irq->entered_ns = irq->on_ns = pt_now();
	}
	return 0;
}

/*
 * A packet can be received outside the softirq (by the writer of a tap): it waited for none. To
 * read the clock here would cost each poll more than all the rest: that interrupts are on now is
 * known from the next timer.
 */
SEC("tp_btf/softirq_exit")
int BPF_PROG(on_softirq_exit, unsigned int vec)
{
	struct pt_softirq *irq;

	if (vec == NET_RX_SOFTIRQ && (irq = this_softirq()))
		irq->entered_ns = 0;
	return 0;
}

/* Of several timers that are late at once, the one that was due first counts. */
static __always_inline void note_late(struct pt_softirq *irq, __u64 now, __u64 due)
{
	/* A timer may be started when it is due already. */
	if (due < irq->on_ns)
		due = irq->on_ns;
	if (now - irq->late_ns >= SOON_NS || due < irq->off_ns)
		irq->off_ns = due;
	irq->late_ns = now;
	/* The interrupt that raised was served before that of the timer, which was due already. */
	if (irq->raised_ns > irq->off_ns) {
		irq->raised_ns = irq->off_ns;
		irq->raised_unknown = is_on_unknown(irq, irq->raised_ns);
	}
}

/*
 * Not in the idle task, of which waking is late too. A raw tracepoint, because older kernels let no
 * tp_btf program read through `now`, which is of the timer's own clock.
 */
SEC("raw_tp/hrtimer_expire_entry")
int on_hrtimer_expire(struct bpf_raw_tracepoint_args *ctx)
{
	struct hrtimer *timer = (void *)ctx->args[0];
	struct pt_softirq *irq = this_softirq();
	__u64 now = pt_now();
	__s64 late = 0;

	if (!irq || BPF_CORE_READ(timer, is_soft) ||
	    bpf_probe_read_kernel(&late, sizeof(late), (void *)ctx->args[1]))
		return 0;
	late -= BPF_CORE_READ(timer, node.expires);
	if (late >= LATE_NS && (__u32)bpf_get_current_pid_tgid())
		note_late(irq, now, now - late);
	else if (now - irq->late_ns >= SOON_NS)
		irq->on_ns = now;
	return 0;
}

/* --- threaded NAPI; attached when the first of its threads is seen --- */

/* net/core/dev.c: napi/DEVICE-ID. */
static __always_inline bool is_napi_name(const char *comm)
{
	return *(const __u32 *)comm == bpf_htonl(0x6e617069);
}

static __always_inline bool is_napi_thread(const struct task_struct *task)
{
	return is_napi_name(task->comm) && task->flags & PF_KTHREAD;
}

static __always_inline struct pt_napi_thread *napi_thread_at(__u32 tid)
{
	tid &= NAPI_THREADS - 1;
	barrier_var(tid);
	return &napi_threads[tid & (NAPI_THREADS - 1)];
}

static __always_inline struct pt_napi_thread *napi_thread_of(const struct task_struct *task)
{
	struct pt_napi_thread *thread = napi_thread_at(task->pid);

	if (thread->tid != task->pid) {
		thread->tid = task->pid;
		thread->runnable_ns = thread->oncpu_ns = 0;
	}
	return thread;
}

/* The NAPI thread that runs now, if it is followed. */
static __always_inline struct pt_napi_thread *this_napi_thread(void)
{
	int tid = (int)bpf_get_current_pid_tgid();
	struct pt_napi_thread *thread = napi_thread_at(tid);

	return tid && thread->tid == tid ? thread : 0;
}

/* It waits for no interrupt. */
static __always_inline void is_runnable_now(struct pt_napi_thread *thread)
{
	thread->runnable_ns = pt_now();
	thread->runnable_unknown = 0;
}

/* In the interrupt, also where the thread is then enqueued by another CPU. */
SEC("tp_btf/sched_waking")
int BPF_PROG(on_napi_waking, struct task_struct *task)
{
	struct pt_napi_thread *thread;
	struct pt_softirq *irq;

	if (is_napi_thread(task) && (irq = this_softirq())) {
		thread = napi_thread_of(task);
		thread->runnable_ns = raise_time(irq);
		thread->runnable_unknown = is_on_unknown(irq, thread->runnable_ns);
	}
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_napi_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	if (preempt && is_napi_thread(prev))
		is_runnable_now(napi_thread_of(prev));
	if (is_napi_thread(next))
		napi_thread_of(next)->oncpu_ns = pt_now();
	return 0;
}

/*
 * A thread can go on without a switch. What it receives after a poll that left nothing behind came
 * after that; behind a full poll it may have waited as long as what that took.
 */
SEC("tp_btf/napi_poll")
int BPF_PROG(on_napi_poll, const void *napi, int work, int budget)
{
	struct pt_softirq *irq = this_softirq();
	struct pt_napi_thread *thread;

	/* A softirq on top of the thread polls for itself. */
	if (work < budget && irq && !irq->entered_ns && (thread = this_napi_thread())) {
		is_runnable_now(thread);
		thread->oncpu_ns = thread->runnable_ns;
	}
	return 0;
}

/* Whether the current task is a NAPI thread, followed or not. */
static __always_inline bool in_napi_thread(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	char comm[16];

	return !bpf_get_current_comm(comm, sizeof(comm)) && is_napi_name(comm) &&
	       BPF_CORE_READ(task, flags) & PF_KTHREAD;
}

/*
 * The poll that receives a packet here and now; false if it is unknown. A thread that is woken
 * before it has gone to sleep goes on without a switch.
 */
static __always_inline bool this_poll(struct poll *poll)
{
	struct pt_softirq *irq = this_softirq();
	struct pt_napi_thread *thread;

	if (irq && irq->entered_ns) {
		poll->raised_ns = irq->poll_raised_ns;
		poll->on_unknown = irq->poll_unknown;
		poll->entered_ns = irq->entered_ns;
		return true;
	}
	thread = this_napi_thread();
	if (!thread || !thread->oncpu_ns)
		return false;
	poll->raised_ns = thread->runnable_ns;
	poll->on_unknown = thread->runnable_unknown;
	poll->entered_ns =
		thread->oncpu_ns > thread->runnable_ns ? thread->oncpu_ns : thread->runnable_ns;
	return true;
}
