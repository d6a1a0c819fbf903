// SPDX-License-Identifier: GPL-2.0-only
/* How the kernel numbers the tasks of the PID namespace that the reader is in. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "ids.h"

char LICENSE[] SEC("license") = "GPL";

/* Has the type in the object's BTF, from which user space gets it. */
struct pt_task_ids unused_task_ids;

/* struct upid numbers[] of a struct pid begins with the number, one a level of nested namespaces.
 */
static __always_inline __u32 number_at(struct pid *pid, __u32 level)
{
	void *numbers = (void *)pid + bpf_core_field_offset(struct pid, numbers);
	__u32 number = 0;

	bpf_probe_read_kernel(&number, sizeof(number),
			      numbers + level * bpf_core_type_size(struct upid));
	return number;
}

/* The kernel walks the tasks of the reader's own namespace (kernel/bpf/task_iter.c). */
SEC("iter/task")
int task_ids(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *reader = (void *)bpf_get_current_task();
	struct pt_task_ids ids;

	if (!task)
		return 0;
	ids.kernel = BPF_CORE_READ(task, pid);
	ids.own = number_at(BPF_CORE_READ(task, thread_pid),
			    BPF_CORE_READ(reader, thread_pid, level));
	bpf_seq_write(ctx->meta->seq, &ids, sizeof(ids));
	return 0;
}
