// SPDX-License-Identifier: GPL-2.0-only
/*
 * profile: where CPUs spend their time, by samples of a clock of each CPU; or what tasks wait for,
 * by the stacks with which they leave their CPU. One of the two programs is loaded.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "profile.h"

char LICENSE[] SEC("license") = "GPL";

/* include/linux/sched.h: of a task that ends. */
enum { TASK_DEAD = 0x80 };

/* Set before loading. 0: all. */
const volatile __u32 only_tgid = 0, only_tid = 0;
const volatile bool skip_user_tasks = false, skip_kernel_tasks = false;
const volatile bool with_kernel = true, with_user = true;
/* Off the CPU: the states that count, as bits; -1: all; 0: those that were preempted. */
const volatile __s32 only_state = -1;
const volatile __u64 min_ns = 0, max_ns = ~0ULL;

/* What found no room. */
__u64 stacks_full, sums_full, left_full;

/* Only so that the skeleton has these types. */
enum pr_how how_type;
enum pr_flag flag_type;
struct pr_left left_type;
struct pr_key key_type;
struct pr_sum sum_type;
struct pr_stack stack_type;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct pr_stack);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct pr_key);
	__type(value, struct pr_sum);
} sums SEC(".maps");

/* By thread. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pr_left);
} left SEC(".maps");

/* A stack is too large for that of a program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pr_stack);
} taken SEC(".maps");

/* FNV-1a by words; never 0. */
static __always_inline __u64 hash_of(const struct pr_stack *stack)
{
	__u64 h = 14695981039346656037ull;

	for (int i = 0; i < PR_FRAMES; i++) {
		if (!stack->frames[i])
			break;
		h = (h ^ stack->frames[i]) * 1099511628211ull;
		/* The high bits of an address reach the low bits of the hash. */
		h ^= h >> 29;
	}
	return h | 1;
}

/* Keeps the current stack; returns its hash, or 0 where there is none. `failed` is set if there is
 * one. */
static __always_inline __u64 take(void *ctx, struct pr_key *key, __u64 flags, __u16 failed)
{
	__u32 zero = 0;
	struct pr_stack *stack = bpf_map_lookup_elem(&taken, &zero);
	long bytes;
	__u64 hash;

	if (!stack)
		return 0;
	/* The kernel zeroes unused frames. */
	bytes = bpf_get_stack(ctx, stack, sizeof(*stack), flags);
	if (bytes <= 0) {
		if (bytes < 0)
			key->flags |= failed;
		return 0;
	}
	hash = hash_of(stack);
	if (bpf_map_lookup_elem(&stacks, &hash))
		return hash;
	bpf_map_update_elem(&stacks, &hash, stack, BPF_NOEXIST);
	if (bpf_map_lookup_elem(&stacks, &hash))
		return hash;
	__sync_fetch_and_add(&stacks_full, 1);
	key->flags |= failed;
	return 0;
}

static __always_inline void take_both(void *ctx, struct pr_key *key, bool has_user)
{
	if (with_kernel)
		key->kernel = take(ctx, key, 0, PR_NO_KERNEL);
	if (with_user && has_user)
		key->user = take(ctx, key, BPF_F_USER_STACK, PR_NO_USER);
}

static __always_inline void add(const struct pr_key *key, __u64 ns)
{
	struct pr_sum *sum = bpf_map_lookup_elem(&sums, key), first = {};

	if (!sum) {
		bpf_map_update_elem(&sums, key, &first, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&sums, key);
		if (!sum) {
			__sync_fetch_and_add(&sums_full, 1);
			return;
		}
	}
	__sync_fetch_and_add(&sum->count, 1);
	__sync_fetch_and_add(&sum->ns, ns);
}

static __always_inline bool is_wanted(__u32 tgid, __u32 tid, bool is_kernel)
{
	return (!only_tgid || tgid == only_tgid) && (!only_tid || tid == only_tid) &&
	       !(is_kernel ? skip_kernel_tasks : skip_user_tasks);
}

/* The software clock of a CPU. */
SEC("?perf_event")
int on_sample(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	bool is_kernel = BPF_CORE_READ(task, flags) & PF_KTHREAD;
	__u64 id = bpf_get_current_pid_tgid();
	struct pr_key key = { .tgid = id >> 32, .how = PR_RAN };

	if (!is_wanted(id >> 32, id, is_kernel))
		return 0;
	bpf_get_current_comm(key.comm, sizeof(key.comm));
	take_both(ctx, &key, !is_kernel);
	add(&key, 0);
	return 0;
}

static __always_inline __u32 state_of(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state;
	return ((struct task_struct___o *)task)->state;
}

static __always_inline void leave(void *ctx, struct task_struct *task, bool preempt, __u64 now)
{
	bool is_kernel = task->flags & PF_KTHREAD;
	struct pr_left off = { .since_ns = now };
	__u32 tid = task->pid, state = preempt ? 0 : state_of(task);

	if (!tid || state == TASK_DEAD || !is_wanted(task->tgid, tid, is_kernel))
		return;
	if (only_state >= 0 && (only_state ? !(state & only_state) : state))
		return;
	off.key.tgid = task->tgid;
	off.key.how = state ? PR_BLOCKED : PR_PREEMPTED;
	__builtin_memcpy(off.key.comm, task->comm, PR_COMM);
	take_both(ctx, &off.key, !is_kernel);
	if (bpf_map_update_elem(&left, &tid, &off, BPF_ANY))
		__sync_fetch_and_add(&left_full, 1);
}

static __always_inline void come_back(__u32 tid, __u64 now)
{
	struct pr_left *off = tid ? bpf_map_lookup_elem(&left, &tid) : NULL;
	struct pr_key key;
	__u64 ns;

	if (!off)
		return;
	key = off->key;
	ns = now - off->since_ns;
	bpf_map_delete_elem(&left, &tid);
	if (ns >= min_ns && ns <= max_ns)
		add(&key, ns);
}

SEC("?tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 now = bpf_ktime_get_ns();

	leave(ctx, prev, preempt, now);
	come_back(next->pid, now);
	return 0;
}
