// SPDX-License-Identifier: GPL-2.0-only
/*
 * The recorder: what ran on each CPU, who waited for it, and what held it up, in rings that user
 * space reads in place (recorder.h). It feeds irqoff, nosched, runqlat, and the blame for a slow
 * probe. User space loads those of the programs that a question needs.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "recorder.h"
#include "bucket.h"

char LICENSE[] SEC("license") = "GPL";

/* Limits, ns, from which on an event is recorded; shorter ones are only counted. */
const volatile __u64 min_wait_ns = ~0ULL, min_resched_ns = 50000, min_softirq_ns = 50000;
const volatile __u64 min_softirq_delay_ns = 50000, min_irq_ns = 20000, min_late_ns = 100000;

const volatile struct pt_sizes sizes = { .switches = 4096, .others = 1024 };

/* runqlat: the tasks whose waits count; 0 or empty: all. */
const volatile int only_tgid = 0, only_tid = 0;
const volatile __u32 only_cgroup = 0;
const volatile char only_comm[PT_COMM] = {};

enum pt_hist_by { HIST_OFF, HIST_ALL, HIST_TGID, HIST_CGROUP };
const volatile enum pt_hist_by hist_by = HIST_OFF;
const volatile bool lengths = false;

/* Whether the flags of the running thread are sampled, instead of traced where they are set. */
const volatile bool sampled = false;

/* The flag that calls the scheduler at once; 0: unknown, and every traced flag counts as such. */
__u64 hard_bit;
/* Where a timer's interrupt enters the kernel, on x86; 0: unknown. */
const volatile __u64 timer_entry = 0, timer_entry_end = 0;

/* Calibration of hard_bit: the flags that a wake-up of this process on this CPU sets. */
bool calibrating, is_own_sleep;
__u32 calibrated_cpu, calibrated_tgid;
__u64 flags_before, flags_set;

__u64 hist_refused, throttles_refused;

/* Only so that the skeleton has these types. */
struct pt_event event_type;
struct pt_cpu cpu_type;
enum pt_event_type event_kind;
enum pt_event_flag flag_type;
enum pt_ring_of ring_type;
enum pt_vector vector_type;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pt_cpu);
} cpus SEC(".maps");

/* For each CPU: `switches` events of the first ring, then `others` of each other ring. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pt_event);
} events SEC(".maps");

/* For each CPU: PT_STACKS stacks of each ring. */
struct pt_stack {
	__u64 frames[PT_FRAMES];
} stack_type;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pt_stack);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct pt_hist_key);
	__type(value, struct pt_hist);
} hists SEC(".maps");

/* By the address of the cgroup's run queue. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct pt_throttle);
} throttles SEC(".maps");

struct pt_hist empty_hist; /* too large for the stack */

static __always_inline struct pt_cpu *this_cpu(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&cpus, &cpu);
}

/* The place of a ring's next event; it counts once publish() was called. */
static __always_inline struct pt_event *next_event(struct pt_cpu *c, enum pt_ring_of ring)
{
	__u32 index = bpf_get_smp_processor_id() * (sizes.switches + (PT_RINGS - 1) * sizes.others);

	if (ring == PT_RING_SWITCH)
		index += c->rings[ring].head & (sizes.switches - 1);
	else
		index += sizes.switches + (ring - 1) * sizes.others +
			 (c->rings[ring].head & (sizes.others - 1));
	return bpf_map_lookup_elem(&events, &index);
}

static __always_inline void publish(struct pt_cpu *c, enum pt_ring_of ring)
{
	asm volatile("" ::: "memory");
	*(volatile __u64 *)&c->rings[ring].head += 1;
}

/* The number of the stack, or 0. The kernel zeroes unused frames. */
static __always_inline __u32 take_stack(void *ctx, struct pt_cpu *c, enum pt_ring_of ring)
{
	__u32 number = c->rings[ring].stacks;
	__u32 index = (bpf_get_smp_processor_id() * PT_RINGS + ring) * PT_STACKS +
		      (number & (PT_STACKS - 1));
	struct pt_stack *stack = bpf_map_lookup_elem(&stacks, &index);

	if (!stack || bpf_get_stack(ctx, stack, sizeof(*stack), 0) <= 0) {
		c->rings[ring].refused++;
		return 0;
	}
	c->rings[ring].stacks = number + 1;
	return number + 1;
}

static __always_inline void copy_comm(char *to, const char *from)
{
	__builtin_memcpy(to, from, PT_COMM);
}

/* An interval that ended now in the current task. */
static __always_inline struct pt_event *current_event(struct pt_cpu *c, enum pt_ring_of ring,
						      enum pt_event_type type, __u64 now, __u64 ns)
{
	struct pt_event *e = next_event(c, ring);
	__u64 id = bpf_get_current_pid_tgid();

	if (!e)
		return NULL;
	e->end_ns = now;
	e->ns = ns;
	e->wait_ns = 0;
	e->tid = id;
	e->tgid = id >> 32;
	e->other = 0;
	e->stack = 0;
	e->type = type;
	e->flags = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	return e;
}

/* ---- the scheduler ---- */

static __always_inline bool is_runnable(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return !task->__state;
	return !((struct task_struct___o *)task)->state;
}

static __always_inline __u32 cgroup_of(struct task_struct *task)
{
	int subsystem;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, cpu_cgrp_id))
		return 0;
	subsystem = bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id);
	return BPF_CORE_READ(task, cgroups, subsys[subsystem], cgroup, kn, id);
}

static __always_inline bool is_comm(const char *comm)
{
	const volatile __u64 *wanted = (const volatile __u64 *)only_comm;
	const __u64 *is = (const __u64 *)comm;

	return !wanted[0] || (wanted[0] == is[0] && wanted[1] == is[1]);
}

static __always_inline void count_wait(struct task_struct *next, __u32 cgroup, __u64 ns)
{
	struct pt_hist_key key = {};
	struct pt_hist *hist;

	if (hist_by == HIST_TGID)
		key.id = next->tgid;
	else if (hist_by == HIST_CGROUP)
		key.id = cgroup;
	else
		key.cpu = bpf_get_smp_processor_id();
	hist = bpf_map_lookup_elem(&hists, &key);
	if (!hist) {
		bpf_map_update_elem(&hists, &key, &empty_hist, BPF_ANY);
		hist = bpf_map_lookup_elem(&hists, &key);
		if (!hist) {
			__sync_fetch_and_add(&hist_refused, 1);
			return;
		}
		copy_comm(hist->comm, next->comm);
	}
	__sync_fetch_and_add(&hist->counts[bucket_of(ns) & (PT_HIST - 1)], 1);
}

/* For how long, ns, a cgroup's run queue has been throttled in all, without a throttling under way.
 */
static __always_inline __u64 throttled_ns(struct cfs_rq *cfs)
{
	if (bpf_core_field_exists(cfs->throttled_clock_self_time))
		return cfs->throttled_clock_self_time;
	if (bpf_core_field_exists(cfs->throttled_clock_pelt_time))
		return cfs->throttled_clock_pelt_time;
	if (bpf_core_field_exists(cfs->throttled_clock_task_time))
		return cfs->throttled_clock_task_time;
	return 0;
}

/*
 * The part of a wait, ns, that was for the quota of the task's cgroup (kernel/sched/fair.c): from
 * the time when a task of the cgroup left this CPU throttled, for as long as the kernel counted. A
 * task enqueued meanwhile waits for the quota too; after that time it waits for other tasks.
 */
static __always_inline __u64 quota_ns(struct task_struct *task, __u64 now, __u64 wait)
{
	struct cfs_rq *cfs = task->se.cfs_rq;
	__u64 key = (__u64)cfs, from, to;
	struct pt_throttle *t;

	if (task->prio < MAX_RT_PRIO)
		return 0;
	t = bpf_map_lookup_elem(&throttles, &key);
	if (!t)
		return 0;
	to = t->from_ns + (throttled_ns(cfs) - t->before_ns);
	if (to > now)
		to = now;
	from = now - wait > t->from_ns ? now - wait : t->from_ns;
	return to > from ? to - from : 0;
}

/* The tasks leave one by one; the first one gives the beginning. */
static __noinline void note_throttle(struct cfs_rq *cfs, __u64 now)
{
	struct pt_throttle new = { .from_ns = now, .before_ns = throttled_ns(cfs) }, *t;
	__u64 key = (__u64)cfs;

	t = bpf_map_lookup_elem(&throttles, &key);
	if (t && t->before_ns == new.before_ns)
		return;
	if (bpf_map_update_elem(&throttles, &key, &new, BPF_ANY))
		throttles_refused++;
}

static __noinline void record_wait(struct pt_cpu *c, struct task_struct *next, __u64 now,
				   __u64 wait, __u32 runnable)
{
	__u32 cgroup = cgroup_of(next);
	struct pt_event *e;

	if ((only_tgid && next->tgid != only_tgid) || (only_tid && next->pid != only_tid) ||
	    (only_cgroup && cgroup != only_cgroup) || !is_comm(next->comm))
		return;
	if (hist_by != HIST_OFF)
		count_wait(next, cgroup, wait);
	if (wait < min_wait_ns)
		return;
	e = next_event(c, PT_RING_EVENT);
	if (!e)
		return;
	e->end_ns = now;
	e->ns = wait;
	e->wait_ns = quota_ns(next, now, wait);
	e->tid = next->pid;
	e->tgid = next->tgid;
	e->other = 0;
	e->stack = 0;
	e->cgroup = cgroup;
	e->runnable = runnable;
	e->type = PT_WAIT;
	e->flags = 0;
	copy_comm(e->comm, next->comm);
	publish(c, PT_RING_EVENT);
}

/* The length of the run queue was `c->length` until now. */
static __always_inline void count_length(struct pt_cpu *c, __u64 now, __u32 length)
{
	if (c->length_ns && c->length < PT_LENGTHS)
		c->lengths_ns[c->length] += now - c->length_ns;
	c->length_ns = now;
	c->length = length < PT_LENGTHS ? length : PT_LENGTHS - 1;
}

/* The length of the run queue of the CPU that the current task is on. */
static __always_inline __u32 my_queue(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (!bpf_core_field_exists(task->se.cfs_rq))
		return 0;
	return BPF_CORE_READ(task, se.cfs_rq, rq, nr_running);
}

static __always_inline bool is_late(__u64 since, __u64 now)
{
	return since && since <= now && now - since >= min_resched_ns;
}

/*
 * The tick turns a lazy reschedule into a hard one. It counts as lazy, unless it took too long
 * after that as well.
 */
static __noinline void record_resched(void *ctx, struct pt_cpu *c, __u64 now, __u8 flags)
{
	bool lazy = !is_late(c->hard_ns, now);
	__u64 since = lazy ? c->resched_ns : c->hard_ns;
	struct pt_event *e;

	c->resched_ns = c->hard_ns = 0;
	if (!is_late(since, now))
		return;
	e = current_event(c, PT_RING_EVENT, PT_RESCHED, now, now - since);
	if (!e)
		return;
	e->flags = flags | (lazy ? PT_LAZY : 0);
	if (flags & PT_SAMPLED && c->resched_clear_ns)
		e->wait_ns = since - c->resched_clear_ns;
	e->stack = take_stack(ctx, c, PT_RING_EVENT);
	publish(c, PT_RING_EVENT);
}

/*
 * Follows the offset of the run queue's clock. That clock is read at the beginning of __schedule,
 * or at the wake-up that asked for this switch (rq_clock_skip_update), which may be long ago. So
 * the smallest offset counts, with an allowance for drift, until too many in a row were larger.
 */
static __always_inline void follow_clock(struct pt_cpu *c, struct rq *rq, __u64 now)
{
	enum { DRIFT_SHIFT = 11, TOO_MANY = 16 }; /* 488 ppm */
	__s64 offset = now - rq->clock;
	__s64 most = c->clock_offset_ns + ((now - c->since_ns) >> DRIFT_SHIFT);

	if (c->since_ns && offset > most && ++c->clock_late < TOO_MANY) {
		c->clock_offset_ns = most;
		return;
	}
	c->clock_offset_ns = offset;
	c->clock_late = 0;
}

/* `next` has been queued since last_queued, by the run queue's clock (kernel/sched/stats.h). */
SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 now = bpf_ktime_get_ns(), wait = 0, queued = next->sched_info.last_queued;
	struct pt_cpu *c = this_cpu();
	struct pt_event *e;
	__u32 runnable = 0;

	if (!c)
		return 0;
	e = next_event(c, PT_RING_SWITCH);
	if (!e)
		return 0;
	if (sampled) {
		if (c->resched_ns)
			record_resched(ctx, c, now, PT_SAMPLED);
		c->resched_clear_ns = now;
	}
	if (bpf_core_field_exists(next->se.cfs_rq)) {
		struct rq *rq = next->se.cfs_rq->rq;

		follow_clock(c, rq, now);
		if (next->pid && queued && (__s64)(now - c->clock_offset_ns - queued) > 0)
			wait = now - c->clock_offset_ns - queued;
		runnable = rq->nr_running;
		if (bpf_core_field_exists(prev->se.cfs_rq->throttle_count) &&
		    prev->se.cfs_rq->throttle_count && prev->prio >= MAX_RT_PRIO)
			note_throttle(prev->se.cfs_rq, now);
	}
	e->end_ns = now;
	e->wait_ns = wait;
	e->tid = prev->pid;
	/* A kernel may run no programs in a task: then the beginning of this task's run is unknown.
	 */
	e->ns = c->since_ns && e->tid == c->tid ? now - c->since_ns : 0;
	e->tgid = prev->tgid;
	e->other = next->pid;
	e->stack = 0;
	e->runnable = runnable;
	e->type = PT_SWITCH;
	e->flags = is_runnable(prev) ? PT_PREEMPTED : 0;
	copy_comm(e->comm, prev->comm);
	publish(c, PT_RING_SWITCH);
	c->since_ns = now;
	c->tid = next->pid;
	c->tgid = next->tgid;
	copy_comm(c->comm, next->comm);
	if (lengths)
		count_length(c, now, next->pid ? runnable : 0);
	if (next->pid && (wait >= min_wait_ns || hist_by != HIST_OFF))
		record_wait(c, next, now, wait, runnable);
	return 0;
}

/* Since Linux 6.17. `cpu` is the CPU that is to call its scheduler, often another one. */
SEC("?tp_btf/sched_set_need_resched_tp")
int BPF_PROG(on_set_need_resched, struct task_struct *task, int cpu, int bit)
{
	__u64 now = bpf_ktime_get_ns(), asked = 1ULL << (bit & 63);
	__u32 key = cpu;
	struct pt_cpu *c;

	c = bpf_map_lookup_elem(&cpus, &key);
	if (!c)
		return 0;
	/* A flag set and cleared within the scheduler does not count. */
	if (!c->resched_ns || !(task->thread_info.flags & c->resched_bits)) {
		c->resched_ns = now;
		c->hard_ns = 0;
		c->resched_bits = 0;
	}
	c->resched_bits |= asked;
	if (!c->hard_ns && (!hard_bit || asked == hard_bit))
		c->hard_ns = now;
	return 0;
}

static __always_inline unsigned long current_flags(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, thread_info.flags);
}

/* The scheduler clears flags that were set on its way; no other tracepoint shows that. */
static __always_inline bool is_asked_for(struct pt_cpu *c)
{
	return current_flags() & c->resched_bits;
}

/* At the beginning of __schedule, so also if the same task goes on. */
SEC("?tp_btf/sched_entry_tp")
int BPF_PROG(on_sched_entry)
{
	struct pt_cpu *c = this_cpu();

	if (!c || !c->resched_ns)
		return 0;
	if (is_asked_for(c))
		record_resched(ctx, c, bpf_ktime_get_ns(), 0);
	c->resched_ns = 0;
	return 0;
}

/*
 * Samples whether the scheduler is to be called, where the recorder runs anyway: at the end of
 * interrupts and softirqs, which are the usual causes, and at each timer. Not in the idle task,
 * which delays nobody.
 */
static __always_inline void sample_resched(struct pt_cpu *c, __u64 now)
{
	if (!sampled)
		return;
	if (!(__u32)bpf_get_current_pid_tgid() || !(current_flags() & hard_bit)) {
		c->resched_ns = 0;
		c->resched_clear_ns = now;
	} else if (!c->resched_ns) {
		c->resched_ns = c->hard_ns = now;
	}
}

/* ---- softirqs ---- */

SEC("?tp_btf/softirq_raise")
int BPF_PROG(on_softirq_raise, unsigned int vector)
{
	struct pt_cpu *c = this_cpu();

	/* The first raise since the last entry. */
	vector &= PT_SOFTIRQS - 1;
	if (c && !c->raise_ns[vector])
		c->raise_ns[vector] = bpf_ktime_get_ns();
	return 0;
}

SEC("?tp_btf/softirq_entry")
int BPF_PROG(on_softirq_entry, unsigned int vector)
{
	struct pt_cpu *c = this_cpu();

	if (c)
		c->entry_ns[vector & (PT_SOFTIRQS - 1)] = bpf_ktime_get_ns();
	return 0;
}

SEC("?tp_btf/softirq_exit")
int BPF_PROG(on_softirq_exit, unsigned int vector)
{
	struct pt_cpu *c = this_cpu();
	__u64 now, entry, raise, ran, waited;
	struct pt_event *e;

	vector &= PT_SOFTIRQS - 1;
	if (!c)
		return 0;
	now = bpf_ktime_get_ns();
	sample_resched(c, now);
	if (!c->entry_ns[vector])
		return 0;
	entry = c->entry_ns[vector];
	raise = c->raise_ns[vector];
	ran = now - entry;
	waited = raise && raise < entry ? entry - raise : 0;
	c->entry_ns[vector] = 0;
	/* Raised again while it ran: that raise waits from now on. */
	if (raise <= entry)
		c->raise_ns[vector] = 0;
	if (ran < min_softirq_ns && waited < min_softirq_delay_ns)
		return 0;
	e = current_event(c, PT_RING_SOFTIRQ, PT_SOFTIRQ, now, ran);
	if (!e)
		return 0;
	e->wait_ns = waited;
	e->other = vector;
	publish(c, PT_RING_SOFTIRQ);
	return 0;
}

/* ---- hard interrupts ---- */

static __always_inline int end_irq(struct pt_cpu *c, __u64 entry, __u32 number, __u8 flags)
{
	__u64 now = bpf_ktime_get_ns();
	struct pt_event *e;

	sample_resched(c, now);
	if (!entry || now - entry < min_irq_ns)
		return 0;
	e = current_event(c, PT_RING_HARDIRQ, PT_IRQ, now, now - entry);
	if (!e)
		return 0;
	e->other = number;
	e->flags = flags;
	publish(c, PT_RING_HARDIRQ);
	return 0;
}

SEC("?tp_btf/irq_handler_entry")
int BPF_PROG(on_irq_entry, int irq)
{
	struct pt_cpu *c = this_cpu();

	if (c)
		c->irq_entry_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("?tp_btf/irq_handler_exit")
int BPF_PROG(on_irq_exit, int irq)
{
	struct pt_cpu *c = this_cpu();
	__u64 entry;

	if (!c)
		return 0;
	entry = c->irq_entry_ns;
	c->irq_entry_ns = 0;
	return end_irq(c, entry, irq, 0);
}

static __always_inline int enter_vector(void)
{
	struct pt_cpu *c = this_cpu();

	if (c)
		c->vector_entry_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int exit_vector(enum pt_vector vector)
{
	struct pt_cpu *c = this_cpu();
	__u64 entry;

	if (!c)
		return 0;
	entry = c->vector_entry_ns;
	c->vector_entry_ns = 0;
	return end_irq(c, entry, vector, PT_VECTOR);
}

SEC("?tp_btf/local_timer_entry")
int BPF_PROG(on_local_timer_entry)
{
	return enter_vector();
}

SEC("?tp_btf/local_timer_exit")
int BPF_PROG(on_local_timer_exit)
{
	return exit_vector(PT_LOCAL_TIMER);
}

SEC("?tp_btf/reschedule_exit")
int BPF_PROG(on_reschedule_exit)
{
	struct pt_cpu *c = this_cpu();

	if (c)
		sample_resched(c, bpf_ktime_get_ns());
	return 0;
}

SEC("?tp_btf/call_function_entry")
int BPF_PROG(on_call_function_entry)
{
	return enter_vector();
}

SEC("?tp_btf/call_function_exit")
int BPF_PROG(on_call_function_exit)
{
	return exit_vector(PT_CALL_FUNCTION);
}

SEC("?tp_btf/call_function_single_entry")
int BPF_PROG(on_call_function_single_entry)
{
	return enter_vector();
}

SEC("?tp_btf/call_function_single_exit")
int BPF_PROG(on_call_function_single_exit)
{
	return exit_vector(PT_CALL_FUNCTION_SINGLE);
}

static __always_inline void take_sample(void *ctx, struct pt_cpu *c, __u64 now)
{
	struct pt_event *e = current_event(c, PT_RING_HARDIRQ, PT_SAMPLE, now, 0);

	if (!e)
		return;
	e->stack = take_stack(ctx, c, PT_RING_HARDIRQ);
	publish(c, PT_RING_HARDIRQ);
}

/*
 * Whether the timer's interrupt came where interrupts had just been turned on: a pending interrupt
 * comes right after popf, or one instruction after sti. Else interrupts were on all the time, and
 * this kernel did not delay the timer. x86 only.
 */
static __always_inline __u8 interrupted(struct pt_event *e)
{
	__u32 index = (bpf_get_smp_processor_id() * PT_RINGS + PT_RING_HARDIRQ) * PT_STACKS +
		      ((e->stack - 1) & (PT_STACKS - 1));
	struct pt_stack *stack = e->stack ? bpf_map_lookup_elem(&stacks, &index) : NULL;
	const __u8 sti = 0xfb, popf = 0x9d;
	__u8 code[8] = {};

	if (!stack || !timer_entry)
		return 0;
	for (int i = 0; i < PT_FRAMES - 1; i++) {
		if (stack->frames[i] < timer_entry || stack->frames[i] >= timer_entry_end)
			continue;
		if (!stack->frames[i + 1])
			return PT_ENTRY;
		if (bpf_probe_read_kernel(code, sizeof(code),
					  (void *)(stack->frames[i + 1] - sizeof(code))))
			return 0;
		if (code[7] == popf)
			return PT_ENTRY | PT_ENABLED;
		for (int k = 0; k < 8; k++) {
			if (code[k] == sti)
				return PT_ENTRY | PT_ENABLED;
		}
		return PT_ENTRY;
	}
	return 0;
}

/*
 * If a timer expires late, interrupts were off when it was due (kernel/time/hrtimer.c): the stack
 * goes through the code that turned them on again. Not in the idle task: waking from a halt is late
 * too. A raw tracepoint, because older kernels let no tp_btf program read through `now`.
 */
SEC("?raw_tp/hrtimer_expire_entry")
int on_hrtimer_expire(struct bpf_raw_tracepoint_args *ctx)
{
	struct hrtimer *timer = (void *)ctx->args[0];
	__u64 now = bpf_ktime_get_ns(), last;
	struct pt_cpu *c = this_cpu();
	struct pt_event *e;
	__s64 late, expired = 0;
	__u32 tid = bpf_get_current_pid_tgid();

	if (!c || BPF_CORE_READ(timer, is_soft))
		return 0;
	if (calibrating && bpf_get_smp_processor_id() == calibrated_cpu) {
		__u32 tgid = BPF_CORE_READ((struct hrtimer_sleeper *)timer, task, tgid);

		is_own_sleep = !calibrated_tgid || tgid == calibrated_tgid;
		flags_before = current_flags();
	}
	last = c->timer_ns;
	c->timer_ns = now;
	if (lengths)
		count_length(c, now, tid ? my_queue() : 0);
	if (!tid)
		return 0;
	sample_resched(c, now);
	/* Shows where the kernel is that does not call the scheduler. */
	if (c->resched_ns && now > c->resched_ns && now - c->resched_ns >= min_resched_ns / 4 &&
	    (sampled || is_asked_for(c)))
		take_sample(ctx, c, now);
	bpf_probe_read_kernel(&expired, sizeof(expired), (void *)ctx->args[1]);
	late = expired - BPF_CORE_READ(timer, node.expires);
	if (late < (__s64)min_late_ns)
		return 0;
	e = current_event(c, PT_RING_HARDIRQ, PT_LATE, now, late);
	if (!e)
		return 0;
	/* Interrupts were on at the expiry before. */
	e->wait_ns = last && now - late > last ? now - late - last : 0;
	e->stack = take_stack(ctx, c, PT_RING_HARDIRQ);
	e->flags = interrupted(e);
	publish(c, PT_RING_HARDIRQ);
	return 0;
}

/* Only during calibration of hard_bit. */
SEC("?raw_tp/hrtimer_expire_exit")
int on_hrtimer_expired(void *ctx)
{
	if (calibrating && is_own_sleep && bpf_get_smp_processor_id() == calibrated_cpu)
		flags_set |= current_flags() & ~flags_before;
	return 0;
}

/* Armed: the software clock of a CPU. Its timer also bounds the error of late timers. */
SEC("?perf_event")
int on_clock(void *ctx)
{
	struct pt_cpu *c = this_cpu();

	if (c && (__u32)bpf_get_current_pid_tgid())
		take_sample(ctx, c, bpf_ktime_get_ns());
	return 0;
}
